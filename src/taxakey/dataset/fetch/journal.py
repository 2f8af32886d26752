"""What is to be fetched and what came of it: a row for each address, in a SQLite file that survives `kill -9` at any moment.

Why SQLite: an outcome is one small transaction of some thirty microseconds, a torn one is rolled back at the next opening, rows
are found by host without holding ten million of them in memory, and its lock, which dies with the process, keeps a second fetch
out of the folder. WAL with synchronous=NORMAL: a commit reaches the system at once (so the kill of a process loses nothing) and
the disk at the next checkpoint (so a power cut may lose the last outcomes, whose pictures are fetched again).
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from taxakey.dataset.fetch.outcomes import Fetched, NotFetched
from taxakey.errors import ArtifactError

Retry = Literal["none", "transient", "all"]
"""Which failures of earlier runs are tried again."""

_OPEN, _FETCHED, _FAILED = 0, 1, 2
_TABLES = f"""
CREATE TABLE IF NOT EXISTS address (
    number INTEGER PRIMARY KEY, image_id TEXT NOT NULL, url TEXT NOT NULL, host TEXT NOT NULL,
    state INTEGER NOT NULL DEFAULT {_OPEN}, attempts INTEGER NOT NULL DEFAULT 0, tried INTEGER,
    reason TEXT, detail TEXT, retry INTEGER,
    path TEXT, sha256 TEXT, bytes INTEGER, media_type TEXT, final_url TEXT);
CREATE INDEX IF NOT EXISTS waiting ON address (host, number) WHERE state = {_OPEN};
CREATE INDEX IF NOT EXISTS failed ON address (retry) WHERE state = {_FAILED};
CREATE TABLE IF NOT EXISTS repeat (place INTEGER PRIMARY KEY, image_id TEXT NOT NULL, number INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS pause (host TEXT PRIMARY KEY, until REAL NOT NULL);
"""
_FILLED = 1  # as the file's user_version: all addresses are in
_BATCH = 50_000
Batches = Iterator[list[tuple[Any, ...]]]


class Journal:
    """Open at most once at a time; a context manager. Times are Unix time, `tried` in milliseconds."""

    def __init__(self, file: Path) -> None:
        """Raises ArtifactError when another process is at work on it."""
        self._db = sqlite3.connect(file, timeout=0, isolation_level=None)
        try:
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute("PRAGMA wal_autocheckpoint = 10000")  # 40 MB: a checkpoint waits for the disk
            self._db.executescript(_TABLES)
            self._db.execute("BEGIN IMMEDIATE").execute("COMMIT")
        except sqlite3.OperationalError as error:
            self._db.close()
            if "locked" not in str(error):
                raise
            raise ArtifactError(f"{file.parent}: another fetch is at work here; wait for it, or end it") from None
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise ArtifactError(f"{file}: can't be read ({error}); delete the folder and fetch again") from None

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._db.close()

    def _one(self, sql: str, *values: Any) -> Any:
        return self._db.execute(sql, values).fetchone()[0]

    # ---- before a run ----

    def fill(self, addresses: Batches, repeats: Batches) -> None:
        """Take in all rows (tables.py says how they look), once: an interrupted filling begins anew, a finished one stays."""
        if self._one("PRAGMA user_version") == _FILLED:
            return
        self._db.execute("DELETE FROM address")
        self._db.execute("DELETE FROM repeat")
        self._insert("INSERT INTO address (number, image_id, url, host) VALUES (?, ?, ?, ?)", addresses)
        self._insert("INSERT INTO repeat (place, image_id, number) VALUES (?, ?, ?)", repeats)
        self._db.execute(f"PRAGMA user_version = {_FILLED}")

    def _insert(self, sql: str, batches: Batches) -> None:
        for batch in batches:
            self._db.execute("BEGIN")
            self._db.executemany(sql, batch)
            self._db.execute("COMMIT")

    def failures_to_retry(self, which: Retry) -> int:
        """How many failures of earlier runs a new run would try again."""
        return 0 if which == "none" else self._one(f"SELECT count(*) FROM address WHERE {_retried(which)}")

    def reopen(self, which: Retry, folder: Path) -> None:
        """Let failures be tried again, and pictures whose file is gone be fetched again."""
        if which != "none":
            self._db.execute(f"UPDATE address SET state = {_OPEN}, reason = NULL, detail = NULL WHERE {_retried(which)}")
        paths = self._db.execute(f"SELECT number, path FROM address WHERE state = {_FETCHED}")
        gone = [(number,) for number, path in paths if not os.path.isfile(f"{folder}/{path}")]  # pathlib takes five times as long
        self._db.executemany(f"UPDATE address SET state = {_OPEN} WHERE number = ?", gone)

    def pauses(self) -> dict[str, float]:
        """Host -> end of a pause that it asked for and that isn't over."""
        self._db.execute("DELETE FROM pause WHERE until < ?", (time.time(),))
        return dict(self._db.execute("SELECT host, until FROM pause"))

    # ---- during a run ----

    def count(self) -> tuple[int, int]:
        """How many addresses there are, and how many of them are still to be tried."""
        total = self._one("SELECT count(*) FROM address")
        return total, self._one(f"SELECT count(*) FROM address WHERE state = {_OPEN}")

    def hosts_waiting(self) -> list[str]:
        """Hosts with addresses to be tried, those with most first: they take longest."""
        rows = self._db.execute(f"SELECT host FROM address WHERE state = {_OPEN} GROUP BY host ORDER BY count(*) DESC, host")
        return [host for (host,) in rows]

    def waiting(self, host: str, batch: int = 32) -> Iterator[tuple[int, str]]:
        """Number and address of all that a host still has to be asked for, once each, in their order."""
        last = -1
        sql = f"SELECT number, url FROM address WHERE host = ? AND number > ? AND state = {_OPEN} ORDER BY number LIMIT {batch}"
        while rows := self._db.execute(sql, (host, last)).fetchall():
            yield from rows
            last = rows[-1][0]

    def fetched(self, number: int, url: str, picture: Fetched) -> None:
        """Note a picture, after its file stands in its place."""
        final = None if picture.final_url == url else picture.final_url
        self._db.execute(
            f"UPDATE address SET state = {_FETCHED}, attempts = attempts + 1, tried = ?, reason = NULL, detail = NULL, "
            "retry = NULL, path = ?, sha256 = ?, bytes = ?, media_type = ?, final_url = ? WHERE number = ?",
            (_now(), picture.path, picture.sha256, picture.bytes, picture.media_type, final, number),
        )

    def failed(self, number: int, failure: NotFetched) -> None:
        """Note a failure; the address stays open when it is to be tried again "soon"."""
        state = _OPEN if failure.again == "soon" else _FAILED
        self._db.execute(
            f"UPDATE address SET state = {state}, attempts = attempts + ?, tried = coalesce(?, tried), reason = ?, detail = ?, "
            "retry = ? WHERE number = ?",
            (failure.asked, _now() if failure.asked else None, failure.reason, failure.detail, failure.again != "never", number),
        )

    def remember_pause(self, host: str, until: float) -> None:
        """Note that a host wants to be left alone until then: a later run obeys too."""
        self._db.execute("INSERT OR REPLACE INTO pause VALUES (?, ?)", (host, until))

    # ---- after a run ----

    def close_run(self, left: Mapping[str, str]) -> None:
        """Whatever is still open failed for now. `left`: host that was left alone -> why."""
        self._db.execute("BEGIN")
        for host, why in left.items():
            self._db.execute(
                "UPDATE address SET reason = 'host left alone', detail = ? WHERE host = ? AND reason IS NULL AND "
                f"state = {_OPEN}", (f"{host}: {why}"[:300], host),
            )  # fmt: skip
        self._db.execute(f"UPDATE address SET state = {_FAILED}, retry = 1 WHERE state = {_OPEN}")
        self._db.execute("COMMIT")

    def pictures(self) -> Batches:
        """In batches, the rows of pictures.parquet, in the records' order."""
        return self._rows(_FETCHED, "path, sha256, bytes, media_type, coalesce(final_url, url), tried")

    def failures(self) -> Batches:
        """In batches, the rows of failures.parquet, in the records' order."""
        return self._rows(_FAILED, "host, reason, detail, attempts, tried, retry")

    def _rows(self, state: int, columns: str) -> Batches:
        """One row for each row of the records. Both halves come in order, so SQLite merges them and sorts nothing."""
        rows = self._db.execute(
            f"SELECT number AS place, image_id, url, {columns} FROM address WHERE state = {state} UNION ALL "
            f"SELECT place, repeat.image_id, url, {columns} FROM repeat CROSS JOIN address USING (number) WHERE state = {state} "
            "ORDER BY place"
        )
        while batch := rows.fetchmany(_BATCH):
            yield [row[1:] for row in batch]


def _retried(which: Retry) -> str:
    return f"state = {_FAILED}" + (" AND retry = 1" if which == "transient" else "")


def _now() -> int:
    return int(time.time() * 1000)
