"""How long a whole evaluation takes, and with how much memory: figures, analyses and page of a large table of predictions.

    python benchmarks/evaluate.py [--rows 200000] [--answers 100] [--classes 20000] [--resamples 100] [--out RESULT.json]

Predictions are made here: at each of three ranks the most probable names of every row, and what is known of its true one; three
in four are right. No dataset and no pictures. They are then evaluated in a process of its own; memory is the peak of its resident
pages (VmHWM), beside what the two tables take when they are read whole.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from taxakey import artifacts
from taxakey.evaluation import evaluate
from taxakey.predictions import Predictions
from taxakey.report.write import write_report
from taxakey.taxonomy import RANKS, Taxonomy

BLOCK = 20_000


def make_taxonomy(classes: int) -> Taxonomy:
    """Ten species a genus, twenty genera a family, one species in twenty poisonous."""
    return Taxonomy.from_rows(
        {
            "scientificName": f"Genus{number // 10:05d} species{number:06d}", "genus": f"Genus{number // 10:05d}",
            "family": f"Family{number // 200:04d}aceae", "poisonous": number % 20 == 0,
        }
        for number in range(classes)
    )  # fmt: skip


def write_predictions(folder: Path, rows: int, answers: int, taxonomy: Taxonomy) -> None:
    plan = artifacts.Plan("predictions", {}, {"part": "test"})
    artifacts.start(folder, plan)
    artifacts.write_parquet(folder / "taxonomy.parquet", taxonomy.table)
    for level in ("observation", "image"):
        rng, writer = np.random.default_rng(0), None
        facts = {"taxakey.taxonomy": taxonomy.fingerprint, "taxakey.level": level}
        for first in range(0, rows, BLOCK):
            table = block(rng, first, min(BLOCK, rows - first), answers, taxonomy).replace_schema_metadata(facts)
            writer = writer or pq.ParquetWriter(folder / f"{level}s.parquet", table.schema, compression="zstd")
            writer.write_table(table)
        assert writer is not None
        writer.close()
    artifacts.finish(folder, plan, counts={}, taxonomy=taxonomy.fingerprint)


def block(rng: np.random.Generator, first: int, rows: int, answers: int, taxonomy: Taxonomy) -> pa.Table:
    true_O = np.minimum(rng.zipf(1.2, rows) * 7 % len(taxonomy), len(taxonomy) - 1)
    ids = pa.array([f"observation {number}" for number in range(first, first + rows)])
    columns: dict[str, pa.Array] = {"observation_id": ids, "image_id": ids, "images": pa.array(np.ones(rows, np.int32))}
    right_O = rng.random(rows) < 0.75
    for rank in RANKS:
        taxa, code_O = taxonomy.taxa(rank), taxonomy.codes(rank)[true_O]
        k = min(answers, len(taxa))
        share_Ok = np.exp(-rng.uniform(0.02, 0.3, (rows, 1)) * np.arange(k))
        share_Ok *= 0.95 / share_Ok.sum(axis=1, keepdims=True)
        index_Ok = (code_O[:, None] + np.arange(k) + ~right_O[:, None]) % len(taxa)
        columns |= {
            f"{rank}_index": _lists(index_Ok.astype(np.int32)),
            f"{rank}_probability": _lists(share_Ok.astype(np.float32)),
            f"true_{rank}": pa.array(taxa).take(pa.array(code_O)),
            f"true_{rank}_index": pa.array(code_O.astype(np.int32)),
            f"true_{rank}_probability": pa.array(np.where(right_O, share_Ok[:, 0], 0.001).astype(np.float32)),
            f"true_{rank}_rank": pa.array(np.where(right_O, 1, len(taxa)).astype(np.int32)),
        }
    rest = {name: pa.array(np.zeros(rows, np.float32)) for name in ("poisonous_probability", "tail", "logsumexp")}
    return pa.table(columns | rest)


def _lists(values_Ok: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(values_Ok.reshape(-1)), values_Ok.shape[1])


def measure(folder: Path, resamples: int, results: multiprocessing.Queue) -> None:
    began = time.perf_counter()
    report = evaluate(folder, resamples=resamples)
    measured = time.perf_counter()
    write_report(report, folder.parent / "report")
    results.put({
        "seconds_measuring": measured - began, "seconds_writing": time.perf_counter() - measured, "peak_MiB": peak(),
        "top_1": report.figures["species"]["top_1"].value,
    })  # fmt: skip


def read_whole(folder: Path, results: multiprocessing.Queue) -> None:
    tables = [Predictions.read(folder / f"{level}.parquet") for level in ("observations", "images")]
    results.put({"peak_MiB_of_both_tables_read_whole": peak(), "rows": sum(map(len, tables)) // 2})


def peak() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def in_a_process(target, *arguments: object) -> dict[str, object]:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=target, args=(*arguments, results))
    process.start()
    found = results.get()
    process.join()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("rows", 200_000), ("answers", 100), ("classes", 20_000), ("resamples", 100)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "predictions"
        write_predictions(folder, options.rows, options.answers, make_taxonomy(options.classes))
        result = {
            "date": datetime.now(UTC).date().isoformat(), "machine": f"{platform.machine()}, {multiprocessing.cpu_count()} cores",
            "answers": options.answers, "classes": options.classes, "resamples": options.resamples,
        } | in_a_process(measure, folder, options.resamples) | in_a_process(read_whole, folder)  # fmt: skip
    print(json.dumps(result, indent=2))
    if options.out:
        artifacts.write_json(options.out, result)


if __name__ == "__main__":
    main()
