"""A folder per species -> Observations: each picture is an observation of its own. N pictures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from taxakey.errors import BadRecords
from taxakey.records.reading.checking import observations
from taxakey.records.reading.names import Columns, name_rows
from taxakey.records.reading.pictures import SUFFIXES, ids_by_path
from taxakey.records.table import Observations

_SPLIT_FOLDERS = ("train", "training", "validation", "val", "valid", "test")
_BLOCK = 2**16
_PICTURE = rf"(?i)(?:{'|'.join(SUFFIXES)})$".replace(".", r"\.")


def read_folder(path: Path | str) -> Observations:
    """Read `path`/<Genus_species>/…/<picture>: each picture is an observation of its own.

    Underscores in a folder's name are spaces. Folders train, val (validation) and test above those of the species give the
    split. Pictures elsewhere and other files beside pictures are rejected, hidden ones ignored. Raises BadRecords where no
    picture is left.
    """
    path = Path(path).resolve()
    files = files_below(path)
    below = pc.match_substring(files, "/")
    first = pc.replace_substring_regex(files.filter(below), "(?s)/.*$", "")
    tops = {top.lower() for top in pc.unique(first).to_pylist()}
    with_split = bool(tops) and tops <= set(_SPLIT_FOLDERS)
    is_picture = pc.match_substring_regex(files, _PICTURE)
    pictures = files.filter(is_picture)
    names = _folder_names(pictures, with_split)
    if names.null_count == len(names):
        tables = sorted(file.name for file in path.iterdir() if file.suffix.lower() in (".csv", ".tsv", ".txt", ".parquet"))
        hint = f"; it holds tables ({', '.join(tables[:3])}): name one of them, with --column where its columns differ"
        example = path / "Bellis_perennis" / "1.jpg"
        raise BadRecords(f"{path}: no pictures in folders named by species (such as {example}){hint if tables else ''}")
    part = pc.replace_substring_regex(pictures, "(?s)/.*$", "")
    columns: Columns = {
        "image_id": ids_by_path(pictures),
        "path": pc.binary_join_element_wise(str(path), pictures, "/"),
        "scientificName": names,
        "split": pc.if_else(pc.and_(with_split, pc.match_substring(pictures, "/")), part, None),
    }
    columns["occurrenceID"] = columns["image_id"]
    reasons = pc.if_else(pc.is_valid(names), None, "not in a folder of a species")
    name_rows(columns, len(pictures))
    others = files.filter(pc.and_not(below, is_picture)).to_pylist()
    return observations(columns, reasons, columns["path"]).add_rejected(
        "not a picture file", [str(path / file) for file in others]
    )


def _folder_names(pictures: pa.ChunkedArray, with_split: bool) -> pa.ChunkedArray:
    pattern = r"(?s)^[^/]+/(?P<name>[^/]+)/" if with_split else "(?s)^(?P<name>[^/]+)/"
    name = pc.struct_field(pc.extract_regex(pictures, pattern), "name")
    spaced = pc.utf8_trim_whitespace(pc.replace_substring_regex(name, r"[_\s]+", " "))
    return pc.if_else(pc.equal(spaced, ""), None, spaced)


def files_below(folder: Path) -> pa.ChunkedArray:
    """Relative paths of all files in a folder and those below it that aren't hidden, in the order of their names."""
    blocks: list[pa.Array] = []
    names: list[str] = []
    for name in _walk(str(folder), ""):
        names.append(name)
        if len(names) == _BLOCK:
            blocks.append(pa.array(names, pa.string()))
            names = []
    return pa.chunked_array([*blocks, pa.array(names, pa.string())])


def _walk(folder: str, relative: str) -> Iterator[str]:
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if entry.name.startswith(".") or entry.name == "Thumbs.db":
            continue
        if entry.is_dir():
            yield from _walk(entry.path, f"{relative}{entry.name}/")
        elif entry.is_file():
            yield f"{relative}{entry.name}"
