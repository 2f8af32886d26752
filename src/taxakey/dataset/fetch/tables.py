"""From the records to a list of addresses, and from their outcomes to pictures.parquet and failures.parquet."""

from __future__ import annotations

import re
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

_FETCHED = pa.schema([("url", pa.string()), *(PICTURES.field(name) for name in PICTURES.names[2:-1]), ("tried", pa.int64())])
_FAILED = pa.schema(
    [("url", pa.string()), ("reason", pa.string()), ("detail", pa.string())]
    + [(name, pa.int64()) for name in ("attempts", "tried", "retry")]
)
"""What the journal's batches hold."""

_HOST = r"^https?://(?:[^/?#@]*@)?(\[[^\]/?#]*\]|[^/?#:]+)"
_ROWS = 50_000
_MEMORY = "1GB"
Batches = Iterator[list[tuple[Any, ...]]]


class RecordTables:
    """SQL over the records' file; what doesn't fit into memory goes to `scratch`."""

    def __init__(self, observations: Path, scratch: Path) -> None:
        self._db = duckdb.connect(config={"memory_limit": _MEMORY, "temp_directory": str(scratch)})
        self._db.execute(
            "CREATE VIEW wanted AS SELECT image_id, identifier, file_row_number AS place, "
            f"lower(trim(regexp_extract(identifier, '{_HOST}', 1, 'i'), '[]')) AS host "
            f"FROM read_parquet('{_quoted(observations)}', file_row_number = true) WHERE path IS NULL"
        )

    def close(self) -> None:
        self._db.close()

    def addresses(self) -> Iterator[list[tuple[int, str, str]]]:
        """(number, url, host) of every address, once each, numbered as they first appear in the records."""
        sql = (
            "SELECT min(place), identifier, any_value(host) FROM wanted WHERE host <> '' GROUP BY identifier ORDER BY min(place)"
        )
        rows: pa.RecordBatchReader = self._db.sql(sql).to_arrow_reader(_ROWS)
        for batch in rows:
            yield list(zip(*(column.to_pylist() for column in batch.columns), strict=True))

    def write_pictures(self, file: Path, fetched: Batches) -> None:
        """One row for each row of the records whose picture lies in the folder, in the records' order."""
        self._write(
            file, PICTURES, _FETCHED, fetched,
            "SELECT image_id, identifier, path, sha256, bytes, media_type, final_url, epoch_ms(tried) "
            "FROM wanted JOIN outcome ON identifier = url ORDER BY place",
        )  # fmt: skip

    def write_failures(self, file: Path, failed: Batches) -> None:
        """One row for each row of the records without local picture that has none now either."""
        self._write(
            file, FAILURES, _FAILED, failed,
            "SELECT image_id, identifier, host, coalesce(reason, 'bad address'), "
            "coalesce(detail, 'not an http or https address'), coalesce(attempts, 0), epoch_ms(tried), coalesce(retry, 0) = 1 "
            "FROM wanted LEFT JOIN outcome ON identifier = url WHERE host = '' OR url IS NOT NULL ORDER BY place",
        )  # fmt: skip

    def _write(self, file: Path, schema: pa.Schema, given: pa.Schema, batches: Batches, sql: str) -> None:
        stream = pa.RecordBatchReader.from_batches(given, (_as_batch(rows, given) for rows in batches))
        self._db.register("outcome", stream)
        rows: pa.RecordBatchReader = self._db.sql(sql).to_arrow_reader(_ROWS)
        with open_atomically(file) as aside, pq.ParquetWriter(aside, schema, compression="zstd") as writer:
            for batch in rows:
                columns = [column.cast(field.type) for column, field in zip(batch.columns, schema, strict=True)]
                writer.write_batch(pa.record_batch(columns, schema=schema))
        self._db.unregister("outcome")

    def counts(self, out: Path) -> dict[str, int]:
        """What the manifest says: pictures, files, bytes on disk, failures in all, to be retried, and by reason."""
        pictures, failures = (f"read_parquet('{_quoted(out / name)}')" for name in ("pictures.parquet", "failures.parquet"))
        files = f"(SELECT DISTINCT path, bytes FROM {pictures})"
        counts = {
            "pictures": self._number(f"SELECT count(*) FROM {pictures}"),
            "files": self._number(f"SELECT count(*) FROM {files}"),
            "bytes": self._number(f"SELECT coalesce(sum(bytes), 0) FROM {files}"),
            "failures": self._number(f"SELECT count(*) FROM {failures}"),
            "to retry": self._number(f"SELECT count(*) FROM {failures} WHERE retry"),
        }
        wanted = self._number("SELECT count(*) FROM wanted")
        assert counts["pictures"] + counts["failures"] == wanted, f"{wanted} rows became {counts}"
        reasons = self._db.execute(f"SELECT reason, count(*) FROM {failures} GROUP BY reason ORDER BY 2 DESC, 1").fetchall()
        return counts | {f"failed: {reason}": number for reason, number in reasons}

    def _number(self, sql: str) -> int:
        row = self._db.execute(sql).fetchone()
        assert row is not None
        return int(row[0])


def _as_batch(rows: list[tuple[Any, ...]], schema: pa.Schema) -> pa.RecordBatch:
    columns = zip(*rows, strict=True)
    return pa.record_batch([pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema)


def _quoted(path: Path) -> str:
    return re.sub("'", "''", str(path))
