"""The shards of a dataset, made by Spark: each is written by the task that prepares its pictures.

So the folder of the dataset and the paths of the records must lead to the same files from every machine, and Taxakey must be
installed there. A task that Spark runs twice writes the same bytes twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import pyarrow as pa

from taxakey.dataset.shards import write_shard
from taxakey.progress import working
from taxakey.records.engines import spark_session


def write_shards_on_spark(folder: Path, shards: Mapping[str, pa.Table], process: Callable[[pa.Table], pa.Table]) -> None:
    """Write `folder`/name for each of `shards`, name -> rows of records; `process` prepares their pictures."""
    if not shards:
        return
    rows = pa.array([_packed(table) for table in shards.values()], pa.binary())
    frame = spark_session().createDataFrame(pa.table({"name": pa.array(shards, pa.string()), "rows": rows}))
    write = partial(_write, folder=folder.resolve(), process=process)
    with working(f"{len(shards):,} shards of pictures, on Spark"):
        frame.repartition(len(shards)).mapInArrow(write, "name string").collect()


def _write(batches: Iterator[pa.RecordBatch], folder: Path, process: Callable[[pa.Table], pa.Table]) -> Iterator[pa.RecordBatch]:
    """On a worker: each row is a shard."""
    for batch in batches:
        for row in batch.to_pylist():
            write_shard(folder / row["name"], process(_unpacked(row["rows"])))
        yield batch.select(["name"])


def _packed(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as stream:
        stream.write_table(table)
    return sink.getvalue().to_pybytes()


def _unpacked(data: bytes) -> pa.Table:
    with pa.ipc.open_stream(data) as stream:
        return stream.read_all()
