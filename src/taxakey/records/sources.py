"""What people have -> Observations: a Darwin Core Archive, a folder per species, a CSV.

A picture is given by a path or an address. Absolute paths and file: URLs are taken as they are, because the records are the
user's own; a relative path of an archive begins at the folder that holds the zip (or at the unpacked folder) and may not
leave it; a relative path of a CSV is tried from the CSV's folder, then from its parent. An http address stays in
`identifier`, with `path` null.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taxakey.artifacts import hash_of
from taxakey.errors import BadInput, BadRecords
from taxakey.records.archives import open_archive
from taxakey.records.delimited import Dialect, first_rows, read_delimited
from taxakey.records.names import PARTS as NAME_PARTS
from taxakey.records.names import Columns, name_rows
from taxakey.records.pictures import SUFFIXES, ids_by_path, ids_by_stem, ids_of_table, locate
from taxakey.records.table import NOT_TO_SPECIES, SCHEMA, Observations

_TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".tab")
_SPLIT_FOLDERS = ("train", "training", "validation", "val", "valid", "test")

# Other names under which columns of a CSV are known, in the order of preference; case doesn't matter.
_ALIASES = {
    "path": ("path", "file", "file_name", "filename", "filepath", "file_path", "image_path", "image"),
    "identifier": ("identifier", "url", "image_url"),
    "image_id": ("image_id", "imageid"),
    "occurrenceID": ("occurrenceid", "occurrence_id", "observation_id", "observationid", "specimen_id", "gbifid"),
    "scientificName": ("scientificname", "scientific_name"),
    "scientificNameAuthorship": ("scientificnameauthorship", "author", "authors"),
    "verbatimScientificName": ("verbatimscientificname", "scientific_name_verbatim", "species_verbatim"),
    "taxonRank": ("taxonrank", "rank"),
    "vernacularName": ("vernacularname", "vernacular_name", "common_name"),
    "eventDate": ("eventdate", "event_date", "date"),
    "decimalLatitude": ("decimallatitude", "latitude", "lat"),
    "decimalLongitude": ("decimallongitude", "longitude", "lon", "lng"),
    "license": ("license", "licence"),
    "rightsHolder": ("rightsholder", "rights_holder"),
}
_KNOWN = (*SCHEMA.names, *NAME_PARTS)


def read_source(path: Path | str, columns: Mapping[str, str] | None = None) -> Observations:
    """Read whatever `path` is; `columns` (ours -> theirs) is for a CSV. Raises BadRecords or BadInput with the next step."""
    path = Path(path)
    if not path.exists():
        raise BadRecords(f"{path}: no such file or folder; name an archive (zip), a folder with a folder per species, or a CSV")
    if path.is_file() and path.suffix.lower() in _TABLE_SUFFIXES:
        return read_csv(path, columns)
    if columns:
        raise BadInput(f"{path}: --column is for a CSV, and this is none; leave it out")
    if path.is_dir():
        return read_archive(path) if (path / "meta.xml").is_file() else read_folder(path)
    if path.suffix.lower() == ".zip":
        return read_archive(path)
    raise BadRecords(f"{path}: not a zip, a folder or a table ({', '.join(_TABLE_SUFFIXES)}); convert or unpack it")


def source_hash(path: Path | str) -> str:
    """SHA-256 that changes when a source does: of a file's bytes; of a folder's tables and of names and sizes of the rest."""
    path = Path(path)
    if path.is_file():
        return hash_of(path)
    digest = hashlib.sha256()
    for file in sorted(found for found in path.rglob("*") if found.is_file()):
        small = file.suffix.lower() in (*_TABLE_SUFFIXES, ".xml")
        digest.update(f"{file.relative_to(path)}\n{hash_of(file) if small else file.stat().st_size}\n".encode())
    return digest.hexdigest()


# ---- a Darwin Core Archive ----


def read_archive(path: Path | str) -> Observations:
    """Read a Darwin Core Archive, zip or folder: occurrences with the extension Simple Multimedia (or Image, or Audubon Core).

    The image_id is the file's name without suffix where these differ throughout, else "{occurrenceID}_{number}".
    `dynamicProperties` may hold JSON with the truth value "poisonous". Raises BadRecords where it isn't an archive of
    occurrences.
    """
    archive = open_archive(Path(path))
    table, reasons = _join(archive.core, archive.media)
    columns = dict(zip(table.column_names, table.columns, strict=True))
    columns["occurrenceID"] = _first_of(columns, "occurrenceID", "gbifID", "id")
    columns["taxonID"] = _first_of(columns, "speciesKey", "taxonID", "taxonKey", "nothing")
    if "poisonous" not in columns and "dynamicProperties" in columns:
        columns["poisonous"] = _strings([_poisonous(text) for text in columns["dynamicProperties"].to_pylist()])
    unnamed = name_rows(columns, table.num_rows)
    identifiers = columns["identifier"].to_pylist()
    places = [locate(text, [archive.folder], confined=True) for text in identifiers]
    columns["path"] = _strings([place.path for place in places])
    columns["image_id"] = _strings(ids_by_stem(identifiers, columns["occurrenceID"].to_pylist()))
    reasons = [first or place.reason or third for first, place, third in zip(reasons, places, unnamed, strict=True)]
    return _observations(columns, reasons, columns["identifier"]).add_rejected("too many columns in the line", archive.too_long)


def _join(core: pa.Table, media: pa.Table | None) -> tuple[pa.Table, list[str | None]]:
    """One row a picture, then one for each occurrence without any; and what is wrong with each row, as far as the join tells."""
    if media is None:
        media = pa.table({"id": pa.array([], pa.string()), "identifier": pa.array([], pa.string())})
    media = media.rename_columns(["id", *(f"media {name}" for name in media.column_names[1:])])
    ids = core["id"].combine_chunks()
    at = pc.index_in(media["id"], ids, skip_nulls=True)
    pictured = pc.is_in(ids, media["id"].combine_chunks(), skip_nulls=True)
    first = pc.or_(pc.is_null(ids), pc.equal(pc.index_in(ids, ids), pa.array(np.arange(len(ids), dtype=np.int32))))
    left_out = core.filter(pc.invert(pc.and_(pictured, first)))
    joined = core.take(at)
    for name in media.column_names[1:]:
        joined = joined.append_column(name, media[name])
    rows = pa.concat_tables([joined, left_out], promote_options="default")
    repeated = pc.invert(first).filter(pc.invert(pc.and_(pictured, first))).to_pylist()
    kinds = joined["media type"].to_pylist() if "media type" in joined.column_names else [None] * len(joined)
    orphans = pc.is_null(at).to_pylist()
    reasons = ["picture of no occurrence" if orphan else _not_still(kind) for orphan, kind in zip(orphans, kinds, strict=True)]
    reasons += ["occurrence given twice" if again else None for again in repeated]
    return _with_media_columns(rows), reasons


def _with_media_columns(rows: pa.Table) -> pa.Table:
    """What is said of the picture goes before what is said of the occurrence."""
    found = dict(zip(rows.column_names, rows.columns, strict=True))
    columns = {name: column for name, column in found.items() if not name.startswith("media ")}
    columns["nothing"] = pa.chunked_array([pa.nulls(rows.num_rows, pa.string())])
    found["nothing"] = columns["nothing"]
    choices = {
        "identifier": ("media accessURI", "media identifier"),
        "organ": ("media organ", "media subjectPart", "organ"),
        "license": ("media license", "license"),
        "rightsHolder": ("media rightsHolder", "rightsHolder"),
        "creator": ("media creator",),
    }
    return pa.table(columns | {name: _first_of(found, *names, "nothing") for name, names in choices.items()})


def _not_still(kind: str | None) -> str | None:
    text = (kind or "image").lower().replace(" ", "")
    return None if "image" in text and "moving" not in text else "not a still image"


def _poisonous(text: str | None) -> str | None:
    try:
        properties = json.loads(text) if text else None
    except ValueError:  # free text is allowed there
        return None
    value = properties.get("poisonous") if isinstance(properties, dict) else None
    return None if value is None else str(value)


# ---- a folder per species ----


def read_folder(path: Path | str) -> Observations:
    """Read `path`/<Genus_species>/…/<picture>: each picture is an observation of its own.

    Underscores in a folder's name are spaces. Folders train, val (validation) and test above those of the species give the
    split. Pictures elsewhere and other files beside pictures are rejected, hidden ones ignored. Raises BadRecords where no
    picture is left.
    """
    path = Path(path).resolve()
    files = sorted(PurePosixPath(file.relative_to(path)) for file in path.rglob("*") if file.is_file())
    files = [file for file in files if not _hidden(file)]
    folders = {file.parts[0].lower() for file in files if len(file.parts) > 1}
    with_split = bool(folders) and folders <= set(_SPLIT_FOLDERS)
    pictures = [file for file in files if file.suffix.lower() in SUFFIXES]
    names = [_folder_name(file.parts[with_split:]) for file in pictures]
    if not any(names):
        raise BadRecords(f"{path}: no pictures in folders named by species (such as {path / 'Bellis_perennis' / '1.jpg'})")
    paths = [str(path / file) for file in pictures]
    columns = {
        "image_id": _strings(ids_by_path([str(file) for file in pictures])),
        "path": _strings(paths),
        "scientificName": _strings(names),
        "split": _strings([file.parts[0] if with_split and len(file.parts) > 1 else None for file in pictures]),
    }
    columns["occurrenceID"] = columns["image_id"]
    reasons = [None if name else "not in a folder of a species" for name in names]
    name_rows(columns, len(pictures))
    others = [str(path / file) for file in files if len(file.parts) > 1 and file.suffix.lower() not in SUFFIXES]
    return _observations(columns, reasons, columns["path"]).add_rejected("not a picture file", others)


def _hidden(file: PurePosixPath) -> bool:
    return any(part.startswith(".") for part in file.parts) or file.name == "Thumbs.db"


def _folder_name(parts: Sequence[str]) -> str | None:
    return " ".join(parts[0].replace("_", " ").split()) or None if len(parts) > 1 else None


# ---- a CSV ----


def read_csv(path: Path | str, columns: Mapping[str, str] | None = None) -> Observations:
    """Read a table with a header: comma, semicolon or tab, UTF-8. `columns` maps our names to the table's where these differ.

    Needed are a name (scientificName or species) and a picture (path or url). image_id is the path without suffix where it
    isn't given or not unique; occurrenceID is the image_id where it isn't given. Raises BadRecords, with the columns found,
    where a name or a picture is lacking.
    """
    path, chosen = Path(path), columns or {}
    dialect, header = _sniff(path)
    positions = _match_columns(header, chosen, path)
    table, too_long = read_delimited(partial(_open, path), dialect, positions, str(path))
    if not table.num_rows:
        raise BadRecords(f"{path}: a header and no rows; name a table with records")
    cells: Columns = dict(zip(table.column_names, table.columns, strict=True))
    delivered = _first_of(cells, "path", "identifier")
    folder = path.parent.resolve()
    places = [locate(text, [folder, folder.parent], confined=False) for text in delivered.to_pylist()]
    cells["path"] = _strings([place.path for place in places])
    cells["identifier"] = pc.coalesce(cells.get("identifier", delivered), delivered)
    given = cells["image_id"].to_pylist() if "image_id" in cells else None
    cells["image_id"] = _strings(ids_of_table(given, delivered.to_pylist()))
    cells["occurrenceID"] = _first_of(cells, "occurrenceID", "image_id")
    unnamed = name_rows(cells, table.num_rows)
    reasons = [place.reason or reason for place, reason in zip(places, unnamed, strict=True)]
    return _observations(cells, reasons, delivered).add_rejected("too many columns in the line", too_long)


def _open(path: Path) -> IO[bytes]:
    return open(path, "rb")


def _sniff(path: Path) -> tuple[Dialect, list[str]]:
    try:
        with open(path, "rb") as file:
            start = file.read(2**20)
    except FileNotFoundError:
        raise BadRecords(f"{path}: no such file; check the path") from None
    if not start.strip():
        raise BadRecords(f"{path}: empty; name a table with records")
    line = next(line for line in start.removeprefix(b"\xef\xbb\xbf").splitlines() if line.strip())
    delimiter = max(",;\t", key=lambda mark: line.count(mark.encode()))
    dialect = Dialect(delimiter)
    with open(path, "rb") as file:
        header = [name.strip() for name in first_rows(file, dialect, str(path))[0]]
    if repeated := {name for name in header if name and header.count(name) > 1}:
        raise BadRecords(f"{path}: the column {min(repeated)!r} stands twice in the header; rename one")
    return dialect, header


def _match_columns(header: Sequence[str], chosen: Mapping[str, str], path: Path) -> dict[str, int]:
    """Our columns -> their positions in the table."""
    found = f"its columns are {', '.join(header)}"
    for ours, theirs in chosen.items():
        if ours not in _KNOWN:
            raise BadInput(f"--column {ours}={theirs}: {ours!r} is no column of ours; one of {', '.join(_KNOWN)}")
        if theirs not in header:
            raise BadInput(f"{path}: no column {theirs!r} (--column {ours}={theirs}); {found}")
    lower = {name.lower(): position for position, name in reversed([*enumerate(header)])}
    positions = {}
    for ours in _KNOWN:
        names = (ours.lower(), *_ALIASES.get(ours, ()))
        position = header.index(chosen[ours]) if ours in chosen else next((lower[name] for name in names if name in lower), None)
        if position is not None and not ("scientificName" in chosen and ours == "species"):
            positions[ours] = position
    if "scientificName" not in positions and "species" not in positions:
        raise BadRecords(f"{path}: no column scientificName or species; {found}; say --column scientificName=<column>")
    if "path" not in positions and "identifier" not in positions:
        raise BadRecords(f"{path}: no column path; {found}; say --column path=<column>")
    return positions


# ---- common to all ----


def _strings(values: Sequence[str | None]) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, pa.string())])


def _first_of(columns: Columns, *names: str) -> pa.ChunkedArray:
    """The first of several columns that has a value, row by row; one of them must be there."""
    return pc.coalesce(*(columns[name] for name in names if name in columns))


def _observations(columns: Columns, reasons: Sequence[str | None], details: pa.ChunkedArray) -> Observations:
    table = pa.table({name: columns[name] for name in SCHEMA.names if name in columns})
    reason = pa.array(reasons, pa.string())
    of_name = pc.fill_null(pc.equal(reason, NOT_TO_SPECIES), False)
    detail = pc.if_else(of_name, columns["verbatimScientificName"], details)
    return Observations.from_table(table, reason=reason, detail=detail)
