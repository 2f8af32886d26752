"""Where the pictures lie that were fetched."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from taxakey.artifacts import read_manifest
from taxakey.errors import BadRecords, MissingArtifact

_COLUMNS = ("image_id", "path", "sha256")


def fetched_paths(pictures_folder: Path | str) -> pa.Table:
    """image_id, absolute path and sha256 (hexadecimal; null: not known) of each picture of the finished artifact "pictures".

    A path that leads out of the folder is null. Raises MissingArtifact, ArtifactError or BadRecords for what isn't such a folder.
    """
    folder = Path(pictures_folder)
    read_manifest(folder, "pictures")
    file = folder / "pictures.parquet"
    if not file.is_file():
        raise MissingArtifact(f"{file}: no such file; fetch the pictures again")
    if missing := [name for name in _COLUMNS if name not in pq.read_schema(file).names]:
        raise BadRecords(f"{file}: lacks the columns {', '.join(missing)}; fetch the pictures again")
    table = pq.read_table(file, columns=list(_COLUMNS))
    root = os.path.realpath(folder)
    paths = [None if path is None else _inside(root, path) for path in table["path"].to_pylist()]
    return table.set_column(1, "path", pa.array(paths, pa.string()))


def _inside(root: str, path: str) -> str | None:
    whole = os.path.realpath(os.path.join(root, path))
    return whole if whole.startswith(root + os.sep) else None
