"""Fetches the pictures of records from the servers that hold them: politely, resumably, and with a reason for each that fails.

A record's address is tried until it is fetched or has failed; what came of it is in the journal (journal.py) the moment it is
known, so a run that was interrupted or killed goes on with the rest. A later run tries again what failed for a reason that may
have passed.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Generator
from pathlib import Path

from taxakey.artifacts import Manifest, Plan, finish, hash_of, read_manifest, start
from taxakey.dataset.fetch.crawl import crawl
from taxakey.dataset.fetch.download import PARTIAL
from taxakey.dataset.fetch.journal import Journal, Retry
from taxakey.dataset.fetch.options import FetchOptions
from taxakey.dataset.fetch.tables import FAILURES, PICTURES, RecordRows, counts, write_rows
from taxakey.errors import MissingArtifact
from taxakey.progress import track, working

__all__ = ["FetchOptions", "Retry", "fetch"]


def fetch(records_folder: Path | str, out: Path | str, options: FetchOptions, *, retry: Retry = "transient") -> Manifest:
    """Make the artifact "pictures" in `out` from the artifact "records", or try its failures again.

    Rows that have a path are left alone; of the others, every address is fetched once, however many rows name it. The folder gets
    `files/`, named by content, `pictures.parquet`, `failures.parquet` (tables.py has their columns) and the journal. `retry`:
    which failures of an earlier run are tried again; where there are none, a finished folder stays as it is.
    """
    records_folder, out = Path(records_folder), Path(out)
    read_manifest(records_folder, "records")
    observations = records_folder / "observations.parquet"
    if not observations.is_file():
        raise MissingArtifact(f"{observations}: no such file; write the records again")
    plan = Plan("pictures", {"records": hash_of(records_folder)}, options.deciding())
    state = start(out, plan)
    with Journal(out / "journal.sqlite") as journal:
        if state == "finished" and not journal.failures_to_retry(retry):
            return read_manifest(out, "pictures")
        (out / "manifest.json").unlink(missing_ok=True)  # not finished again before its tables say what this run did
        shutil.rmtree(out / PARTIAL, ignore_errors=True)
        (out / PARTIAL).mkdir()
        for leftover in out.glob(".*.partial"):
            leftover.unlink()  # of a run that was killed while it wrote a table
        try:
            with working("listing addresses"), RecordRows(observations, out / PARTIAL) as rows:
                journal.fill(rows.addresses(), rows.repeats())
                journal.reopen(retry, out)
            _run(journal, out, options)
            with working("writing tables"):
                write_rows(out / "pictures.parquet", PICTURES, journal.pictures())
                write_rows(out / "failures.parquet", FAILURES, journal.failures())
                found = counts(out, out / PARTIAL)
        finally:
            shutil.rmtree(out / PARTIAL, ignore_errors=True)
        return finish(out, plan, counts=found)


def _run(journal: Journal, out: Path, options: FetchOptions) -> None:
    total, left = journal.count()
    progress = track(range(left), "pictures", total=total, done=total - left)
    assert isinstance(progress, Generator)
    try:
        asyncio.run(crawl(journal, out, options, lambda: next(progress, None)))
        for _ in progress:  # what was left alone is settled too
            pass
    except BaseExceptionGroup as group:
        raise _first(group) from None  # a full disk is told as such, not as the trouble of two hundred tasks
    finally:
        progress.close()


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error
