"""What people have -> Observations: Darwin Core Archives, layouts of known datasets, a folder per species, a table.

A picture is given by a path or an address. Absolute paths and file: URLs are taken as they are, because the records are the
user's own; a relative path of an archive begins at the folder that holds the zip (or at the unpacked folder) and may not
leave it; a relative path of a CSV is tried from the CSV's folder, then from its parent. An http address stays in
`identifier`, with `path` null.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from taxakey.artifacts import hash_of
from taxakey.errors import BadInput, BadRecords
from taxakey.records.layouts import reader_named, recognised
from taxakey.records.reading.archives import TABLE_SUFFIXES, holds_tables, is_occurrences
from taxakey.records.reading.containers import is_packed
from taxakey.records.reading.folders import read_folder
from taxakey.records.reading.merging import merge, with_source
from taxakey.records.reading.occurrences import read_archive, read_snapshot
from taxakey.records.reading.parquet import column_names, parts_of
from taxakey.records.reading.tables import read_csv, read_parquet, sniff_table
from taxakey.records.table import Observations

__all__ = ["read_archive", "read_csv", "read_folder", "read_parquet", "read_source", "read_sources", "source_hash"]

_PICTURE_COLUMNS = ("path", "image_path", "file_name", "url", "image_url")


def read_source(path: Path | str, columns: Mapping[str, str] | None = None, *, layout: str | None = None) -> Observations:
    """Read whatever `path` is; `columns` (ours -> theirs) is for a CSV or a Parquet file, `layout` one of `LAYOUTS`.

    Raises BadRecords or BadInput with the next step.
    """
    path = Path(path)
    if not path.exists():
        raise BadRecords(f"{path}: no such file or folder; name an archive (zip), a folder with a folder per species, or a CSV")
    if layout is not None:
        return reader_named(layout).read(path)
    if not columns and (found := recognised(path)):
        return found.read(path)
    if path.is_file() and path.suffix.lower() in TABLE_SUFFIXES:
        return _read_table(path, columns)
    if parts_of(path):
        return read_snapshot(path) if not columns and is_occurrences(column_names(path)) else read_parquet(path, columns)
    if columns:
        raise BadInput(f"{path}: --column is for a CSV or a Parquet file, and this is none; leave it out")
    if path.is_dir():
        return read_archive(path) if holds_tables(path) else read_folder(path)
    if is_packed(path):
        return read_archive(path)
    raise BadRecords(f"{path}: not a zip, a folder or a table ({', '.join(TABLE_SUFFIXES)}); convert or unpack it")


def read_sources(
    paths: Sequence[Path | str], columns: Mapping[str, str] | None = None, *, layout: str | None = None
) -> Observations:
    """Read several sources into one, the first going before the others where they disagree (see `merging`).

    `columns` and `layout` are for the first. The column `source` says which of them delivered a picture, by its name.
    """
    found = [
        with_source(read_source(path, columns if not at else None, layout=layout if not at else None), label)
        for at, (path, label) in enumerate(zip(paths, _labels(paths), strict=True))
    ]
    return merge(found)


def _labels(paths: Sequence[Path | str]) -> list[str]:
    """A name for each source: that of its file or folder, with as much of the path in front as it takes to tell them apart."""
    whole = [Path(path).resolve() for path in paths]
    if repeated := {path for path in whole if whole.count(path) > 1}:
        raise BadInput(f"{min(repeated)}: given twice as a source; name it once")
    depth = 1
    while len({path.parts[-depth:] for path in whole}) < len(whole):
        depth += 1
    return ["/".join(path.parts[-depth:]) for path in whole]


def _read_table(path: Path, columns: Mapping[str, str] | None) -> Observations:
    if not columns:
        _, header = sniff_table(path)
        if is_occurrences(header) and not {name.lower() for name in header} & set(_PICTURE_COLUMNS):
            return read_archive(path)
    return read_csv(path, columns)


def source_hash(path: Path | str) -> str:
    """SHA-256 that changes when a source does: of a file's bytes; of a folder's tables and of names and sizes of the rest."""
    path = Path(path)
    if path.is_file():
        return hash_of(path)
    digest = hashlib.sha256()
    for file in sorted(found for found in path.rglob("*") if found.is_file()):
        small = file.suffix.lower() in (*TABLE_SUFFIXES, ".xml", ".json")
        digest.update(f"{file.relative_to(path)}\n{hash_of(file) if small else file.stat().st_size}\n".encode())
    return digest.hexdigest()
