"""COCO-like JSON: iNaturalist 2017 to 2021, and Herbarium 2021 and 2022 (NAFlora-1M).

Arrays and the members that are read, whatever else there is:

    images        id or image_id, file_name, license (a number), rights_holder, date, latitude, longitude
    annotations   image_id, category_id, institution_id
    categories    id or category_id, name or scientificName, authors, kingdom … genus, specific_epithet or species, common_name
    licenses      id or license_id, url, name
    institutions  institution_id, collectionCode

Paths begin at the file's folder, or at train_images/ or images/ in it. In a folder of several files the part is what their names
begin with (train2021.json, val.json); a single file is to be split. Test files have no annotations: their pictures have no name.
iNaturalist 2018 and 2019 hide names behind numbers; they stand in a categories.json beside.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from taxakey.errors import BadRecords
from taxakey.records.layouts.roots import root_of
from taxakey.records.reading.checking import first_of, look_up, observations, whole
from taxakey.records.reading.delimited import plain, stack
from taxakey.records.reading.json_stream import read_arrays, read_elements
from taxakey.records.reading.names import Columns, name_rows
from taxakey.records.reading.pictures import ids_of_table, locate_all
from taxakey.records.table import Observations

_RANKS = ("kingdom", "phylum", "class", "order", "family", "genus")
_CATEGORY = ("id", "category_id", "name", "scientificName", "authors", *_RANKS, "specific_epithet", "species", "common_name")
_WANTED = {
    "images": ("id", "image_id", "file_name", "license", "rights_holder", "date", "latitude", "longitude"),
    "annotations": ("image_id", "category_id", "institution_id"),
    "categories": _CATEGORY,
    "licenses": ("id", "license_id", "url", "name"),
    "institutions": ("institution_id", "collectionCode"),
}
_OURS = {
    "name": "scientificName", "authors": "scientificNameAuthorship", "common_name": "vernacularName",
    "rights_holder": "rightsHolder", "specific_epithet": "specificEpithet", "species": "specificEpithet", "date": "eventDate",
    "latitude": "decimalLatitude", "longitude": "decimalLongitude", "category_id": "taxonID",
    "file_name": "identifier", "collectionCode": "institutionCode",
}  # fmt: skip
_ROOTS = ("train_images", "images")
_SIGNS = (b'"images"', b'"annotations"', b'"categories"')
_PEEKED = 2**20


def recognises(path: Path) -> bool:
    """Whether it is a JSON file of this kind, or a folder with some."""
    return bool(_files(path))


def _files(path: Path) -> list[Path]:
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    return [file for file in files if file.suffix.lower() == ".json" and _looks_right(file)]


def _looks_right(file: Path) -> bool:
    with open(file, "rb") as opened:
        start = opened.read(_PEEKED)
        opened.seek(max(0, file.stat().st_size - _PEEKED))
        end = opened.read()
    return start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") and any(sign in start or sign in end for sign in _SIGNS)


def read(path: Path) -> Observations:
    """Read a file, or all of a folder; raises BadRecords where an array or the names are lacking."""
    files = _files(path)
    if not files:
        raise BadRecords(f"{path}: no JSON with images, annotations and categories; name such a file or its folder")
    tables = [_rows(file) for file in files]
    if len(files) > 1:
        tables = [_with_part(table, file) for table, file in zip(tables, files, strict=True)]
    return _checked(stack(tables), path if path.is_dir() else path.parent)


def _rows(file: Path) -> pa.Table:
    """One row an annotation, then one for each picture without, with what the other arrays say of them."""
    arrays = {name: table for name, table in read_arrays(file, _WANTED).items() if len(table)}
    if "images" not in arrays:
        raise BadRecords(f"{file}: has no array 'images'; name the file of the training part")
    images = _keyed(arrays["images"], "image_id", file)
    notes = arrays.get("annotations", images.select([]).append_column("image_id", images["image_id"]).slice(0, 0))
    without = pc.invert(pc.is_in(plain(images["image_id"]), whole(notes["image_id"])))
    rows = look_up(stack([notes, images.filter(without).select(["image_id"])]), "image_id", images)
    if "category_id" in rows.column_names:
        rows = look_up(rows, "category_id", _categories(arrays, file))
    if "institution_id" in rows.column_names and "institutions" in arrays:
        rows = look_up(rows, "institution_id", arrays["institutions"])
    if "license" in rows.column_names and "licenses" in arrays:
        licences = _keyed(arrays["licenses"], "license", file)
        said = first_of(dict(zip(licences.column_names, licences.columns, strict=True)), "url", "name")
        rows = look_up(rows, "license", pa.table({"license": licences["license"], "terms": said}))
        rows = rows.drop_columns(["license"]).rename_columns({"terms": "license"})
    return rows


def _keyed(table: pa.Table, key: str, file: Path) -> pa.Table:
    """The table with its key (id, or image_id in images, and so on) under the name `key`."""
    given = next((name for name in (key, f"{key}_id", "id") if name in table.column_names), None)
    if given is None:
        raise BadRecords(f"{file}: objects without {key} and id; download the file again")
    return table.rename_columns({given: key} if given != key else {})


def _categories(arrays: dict[str, pa.Table], file: Path) -> pa.Table:
    if "categories" not in arrays:
        raise BadRecords(f"{file}: has annotations and no array 'categories'; name the file of the training part")
    table = _keyed(arrays["categories"], "category_id", file)
    named = "scientificName" if "scientificName" in table.column_names else "name"
    if named in table.column_names and not pc.all(pc.match_substring_regex(plain(table[named]), r"^\d+$")).as_py():
        return table
    beside = file.with_name("categories.json")
    if not beside.is_file():
        raise BadRecords(f"{file}: its categories have no names; put the challenge's categories.json beside it")
    return _keyed(read_elements(beside, _CATEGORY), "category_id", beside)


def _with_part(table: pa.Table, file: Path) -> pa.Table:
    part = next((part for part in ("train", "val", "test") if part in file.stem.lower()), None)
    return table.append_column("split", pa.repeat(pa.scalar(part, pa.string()), len(table)))


def _checked(rows: pa.Table, folder: Path) -> Observations:
    ours = {_OURS.get(name, name): column for name, column in zip(rows.column_names, rows.columns, strict=True)}
    columns: Columns = {name: column for name, column in ours.items() if name != "image_id"}
    identifier = plain(columns["identifier"]) if "identifier" in columns else pa.chunked_array([pa.nulls(len(rows), pa.string())])
    columns["identifier"] = identifier
    columns["path"], misplaced = locate_all(identifier, [root_of(folder, _ROOTS, identifier)], confined=True)
    columns["image_id"] = columns["occurrenceID"] = ids_of_table(plain(ours["image_id"]), identifier)
    unnamed = name_rows(columns, len(rows))
    return observations(columns, pc.coalesce(misplaced, unnamed), identifier)
