"""Fetching a prepared download: resumed with Range, its size checked, kept with its DOI and citation."""

from __future__ import annotations

import itertools
import os
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO

import httpx

from taxakey import progress
from taxakey.artifacts import write_json
from taxakey.errors import BadInput, DownloadFailed
from taxakey.records.gbif.service import BUSY, Download, Gbif, refuse_unless_prepared, retry_after

_BYTES = 2**20


def fetch(gbif: Gbif, download: Download, folder: Path) -> Path:
    """Fetch a prepared download to `folder`/{key}.zip, going on where an earlier attempt stopped; a JSON beside it has the DOI.

    Raises DownloadFailed where it isn't prepared, breaks off again and again, or isn't the zip that GBIF described.
    """
    refuse_unless_prepared(download)
    file = folder / f"{download.key}.zip"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".{download.key}.zip.partial"
        _refuse_too_large(download, folder, _size(partial))
        _complete(gbif, download, partial)
        _refuse_broken(partial)
        os.replace(partial, file)
    write_json(file.with_suffix(".json"), {**asdict(download), "citation": download.citation()})
    return file


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def _complete(gbif: Gbif, download: Download, partial: Path) -> None:
    """Stream until all is there; gives up after as many attempts in a row as the options allow that brought no new byte."""
    failures, most = 0, _size(partial)
    while not most or _size(partial) != download.size:
        reason = "the connection ended early"
        try:
            if _stream(gbif, download, partial) and download.size is None:
                return
        except httpx.HTTPError as error:
            reason = f"{type(error).__name__} ({error})"
        now = _size(partial)
        failures, most = (0, now) if now > most else (failures + 1, most)
        if failures >= gbif.options.attempts:
            raise DownloadFailed(
                f"{download.link}: {reason} at {now:,} bytes of {download.size or 0:,}, {failures} times; run the same command "
                "again, it goes on there"
            )
        if now != download.size:
            gbif.sleep(min(gbif.options.first_pause * 2**failures, gbif.options.longest_pause))


def _stream(gbif: Gbif, download: Download, partial: Path) -> bool:
    """Append what comes behind the bytes that are there; returns whether the server sent all that it announced."""
    begin = _size(partial)
    headers = {"Range": f"bytes={begin}-"} if begin else {}
    with gbif.client.stream("GET", str(download.link), headers=headers) as answer:
        if answer.status_code in BUSY:
            gbif.sleep(retry_after(answer, gbif.options.longest_pause))
            return False
        if answer.status_code == 416:  # there are more bytes here than there: begin anew
            partial.unlink()
            return False
        if answer.status_code not in (200, 206):
            raise DownloadFailed(f"{download.link}: answered {answer.status_code}; ask GBIF whether {download.key} is still kept")
        going_on = answer.status_code == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {begin}-")
        with open(partial, "ab" if going_on else "wb") as file:
            _write(answer, file, download, begin if going_on else 0)
    return True


def _write(answer: httpx.Response, file: IO[bytes], download: Download, written: int) -> None:
    total = -(-download.size // _BYTES) if download.size else None
    try:
        done = _megabytes(answer, file, download, written)
        for _ in progress.track(done, f"fetching {download.key}, MB", total=total, done=written // _BYTES):
            pass
    finally:
        file.flush()
        os.fsync(file.fileno())


def _megabytes(answer: httpx.Response, file: IO[bytes], download: Download, written: int) -> Iterator[None]:
    """Write the pieces as they come, so that none is lost where they end early; yields once for each MB."""
    for piece in answer.iter_raw():
        before, written = written, written + len(piece)
        if download.size is not None and written > download.size:
            raise DownloadFailed(f"{download.link}: sends more than the {download.size:,} bytes announced; try again later")
        file.write(piece)
        yield from itertools.repeat(None, written // _BYTES - before // _BYTES)


def _refuse_too_large(download: Download, folder: Path, there: int) -> None:
    free, needed = shutil.disk_usage(folder).free, (download.size or 0) - there
    if needed > free:
        raise BadInput(f"{folder}: {free / 1e9:.1f} GB are free and {download.key} needs {needed / 1e9:.1f}; name another place")


def _refuse_broken(partial: Path) -> None:
    try:
        with zipfile.ZipFile(partial) as archive:
            archive.namelist()
    except zipfile.BadZipFile as error:
        partial.unlink()
        raise DownloadFailed(f"{partial}: not a whole zip ({error}), so it was deleted; run the same command again") from None
