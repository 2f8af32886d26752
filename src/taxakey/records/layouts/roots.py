"""Where a dataset's pictures lie: its files name paths, and people unpack the pictures in several places."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

_TRIED = 50


def root_of(folder: Path, places: Sequence[str], relative: pa.ChunkedArray) -> Path:
    """The first of the folder and `places` in it (and of its parent) where one of the first paths exists; else the folder."""
    first = relative.slice(0, _TRIED).drop_null().to_pylist()
    folder = folder.resolve()
    for place in (folder, *(folder / name for name in places), folder.parent, *(folder.parent / name for name in places)):
        if any((place / path).is_file() for path in first if not Path(path).is_absolute() and ".." not in Path(path).parts):
            return place
    return folder
