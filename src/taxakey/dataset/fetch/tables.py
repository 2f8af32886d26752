"""From the records to a list of addresses, and from the journal to pictures.parquet and failures.parquet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from taxakey.artifacts import open_atomically

PICTURES = pa.schema(
    [
        ("image_id", pa.string()),
        ("identifier", pa.string()),
        ("path", pa.string()),
        ("sha256", pa.string()),
        ("bytes", pa.int64()),
        ("media_type", pa.string()),
        ("final_url", pa.string()),
        ("fetched_at", pa.timestamp("ms", "UTC")),
    ]
)
"""`path`: relative to the artifact's folder; `media_type`: by the bytes; `final_url`: after redirects."""

FAILURES = pa.schema(
    [
        ("image_id", pa.string()),
        ("identifier", pa.string()),
        ("host", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("attempts", pa.int64()),
        ("last_tried", pa.timestamp("ms", "UTC")),
        ("retry", pa.bool_()),
    ]
)
"""`retry`: whether a later run tries it again by itself; `attempts`: requests so far, over all runs."""

Batches = Iterator[list[tuple[Any, ...]]]

_HOST = r"^https?://(?:[^/?#@]*@)?(\[[^\]/?#]*\]|[^/?#:]+)"
_ROWS = 50_000
_MEMORY = "1GB"


class RecordRows:
    """The rows of the records that have no path; a context manager. What doesn't fit into memory goes to `scratch`."""

    def __init__(self, observations: Path, scratch: Path) -> None:
        self._db = duckdb.connect(config={"memory_limit": _MEMORY, "temp_directory": str(scratch)})
        self._db.execute(
            "CREATE VIEW wanted AS SELECT file_row_number AS place, image_id, identifier "
            f"FROM read_parquet({_quoted(observations)}, file_row_number = true) WHERE path IS NULL"
        )

    def __enter__(self) -> RecordRows:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def addresses(self) -> Batches:
        """(number, image_id, url, host) of every address, once each; its number is its first row's place in the records.

        The host is empty where it isn't an http or https address.
        """
        return self._batches(
            f"SELECT min(place), arg_min(image_id, place), identifier, lower(trim(regexp_extract(identifier, '{_HOST}', 1, 'i'), "
            "'[]')) FROM wanted GROUP BY identifier ORDER BY min(place)"
        )

    def repeats(self) -> Batches:
        """(place, image_id, number of the address) of the rows whose address an earlier row has."""
        return self._batches(
            "SELECT place, image_id, number FROM wanted JOIN (SELECT identifier, min(place) AS number FROM wanted "
            "GROUP BY identifier HAVING count(*) > 1) USING (identifier) WHERE place > number ORDER BY place"
        )

    def _batches(self, sql: str) -> Batches:
        rows: pa.RecordBatchReader = self._db.sql(sql).to_arrow_reader(_ROWS)
        for batch in rows:
            yield list(zip(*(column.to_pylist() for column in batch.columns), strict=True))


def write_rows(file: Path, schema: pa.Schema, batches: Batches) -> None:
    """A Parquet file of the journal's rows; times are Unix time in milliseconds, truths 0 or 1."""
    with open_atomically(file) as aside, pq.ParquetWriter(aside, schema, compression="zstd") as writer:
        for rows in batches:
            columns = [pa.array(values).cast(field.type) for values, field in zip(zip(*rows, strict=True), schema, strict=True)]
            writer.write_batch(pa.record_batch(columns, schema=schema))


def counts(out: Path, scratch: Path) -> dict[str, int]:
    """What the manifest says: pictures, files, bytes on disk, failures in all, to be retried, and by reason."""
    pictures, failures = (f"read_parquet({_quoted(out / name)})" for name in ("pictures.parquet", "failures.parquet"))
    with duckdb.connect(config={"memory_limit": _MEMORY, "temp_directory": str(scratch)}) as db:
        rows, files, size = db.execute(
            "SELECT coalesce(sum(rows), 0), count(*), coalesce(sum(size), 0) "
            f"FROM (SELECT count(*) AS rows, any_value(bytes) AS size FROM {pictures} GROUP BY sha256)"
        ).fetchall()[0]
        failed, retried = db.execute(f"SELECT count(*), count(*) FILTER (retry) FROM {failures}").fetchall()[0]
        reasons = db.execute(f"SELECT reason, count(*) FROM {failures} GROUP BY reason ORDER BY 2 DESC, 1").fetchall()
    found = {"pictures": rows, "files": files, "bytes": size, "failures": failed, "to retry": retried}
    return {name: int(number) for name, number in found.items()} | {f"failed: {reason}": number for reason, number in reasons}


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
