"""Pl@ntNet-300K (Garcin et al., 2021): images/{train,val,test}/<species id>/<picture>.jpg and two JSON files.

    plantnet300K_species_id_2_name.json   {"1355868": "Lactuca virosa L.", …} (plantnet300K_species_names.json in older copies)
    plantnet300K_metadata.json            {"<picture without .jpg>": {species_id, obs_id, organ, author, license, split}, …}

The second may be absent: then each picture is an observation of its own. https://doi.org/10.5281/zenodo.5645731
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from taxakey.artifacts import read_json
from taxakey.errors import BadRecords
from taxakey.records.reading.checking import first_of, look_up, observations
from taxakey.records.reading.distinct import by_distinct
from taxakey.records.reading.folders import files_below
from taxakey.records.reading.json_stream import read_members
from taxakey.records.reading.names import Columns, author_of, name_rows, without_author
from taxakey.records.table import Observations

_NAMES = ("*species_id_2_name.json", "*species_names.json")
_PATH = r"(?is)^(?P<split>train|val|test)/(?P<taxonID>\d+)/(?P<image_id>[^/]+)\.jpe?g$"
_MEMBERS = ("species_id", "obs_id", "organ", "author", "license", "split")


def recognises(path: Path) -> bool:
    """Whether it is the dataset's folder: images/ with parts, and the names beside it or in it."""
    return path.is_dir() and (path / "images").is_dir() and _beside(path, *_NAMES) is not None


def _beside(folder: Path, *patterns: str) -> Path | None:
    places = (folder, folder / "images")
    return next((file for place in places for pattern in patterns for file in sorted(place.glob(pattern))), None)


def read(path: Path) -> Observations:
    """Read the folder; raises BadRecords where names or pictures are lacking."""
    names = _beside(path, *_NAMES)
    if names is None or not (path / "images").is_dir():
        raise BadRecords(f"{path}: no images/ or no plantnet300K_species_id_2_name.json in it; name the folder that holds both")
    files = files_below((path / "images").resolve())
    parts = pc.extract_regex(files, _PATH)
    pictures = files.filter(pc.is_valid(parts))
    if not len(pictures):
        raise BadRecords(f"{path / 'images'}: no pictures such as train/1355868/<name>.jpg; unpack them there")
    parts = parts.filter(pc.is_valid(parts))
    rows = pa.table({name: pc.struct_field(parts, name) for name in ("split", "taxonID", "image_id")})
    said = _beside(path, "*metadata.json")
    if said is not None:
        rows = look_up(rows, "image_id", read_members(said, "image_id", _MEMBERS))
    columns: Columns = dict(zip(rows.column_names, rows.columns, strict=True))
    columns["path"] = pc.binary_join_element_wise(str((path / "images").resolve()), pictures, "/")
    columns["occurrenceID"] = first_of(columns, "obs_id", "image_id")
    columns["verbatimScientificName"] = by_distinct(_names(names).get, columns["taxonID"])
    columns["scientificName"] = by_distinct(without_author, columns["verbatimScientificName"])
    columns["scientificNameAuthorship"] = by_distinct(author_of, columns["verbatimScientificName"])
    if "author" in columns:
        columns["creator"] = columns["author"]
    unnamed = name_rows(columns, len(rows))
    others = files.filter(pc.invert(pc.match_substring_regex(files, _PATH))).to_pylist()
    left = [file for file in others if not file.lower().endswith(".json")]
    return observations(columns, unnamed, columns["path"]).add_rejected("not a picture of a species' folder", left)


def _names(file: Path) -> dict[str | None, str]:
    found = read_json(file)
    if not isinstance(found, dict):
        raise BadRecords(f"{file}: not an object of names by species id; download it again")
    return {str(key): str(name).replace("_", " ").strip() for key, name in found.items()}
