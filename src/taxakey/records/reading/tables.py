"""A CSV or a Parquet file with a row for each picture -> Observations; its columns are known by their names, or named. N rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc

from taxakey.errors import BadInput, BadRecords
from taxakey.records.reading.checking import TOO_LONG, first_of, observations
from taxakey.records.reading.delimited import Dialect, plain, read_delimited, sniff
from taxakey.records.reading.names import PARTS as NAME_PARTS
from taxakey.records.reading.names import Columns, name_rows
from taxakey.records.reading.parquet import column_names, read_columns
from taxakey.records.reading.pictures import ids_of_table, locate_all
from taxakey.records.table import SCHEMA, Observations

# Other names under which columns are known, in the order of preference; case doesn't matter.
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


def read_csv(path: Path | str, columns: Mapping[str, str] | None = None) -> Observations:
    """Read a table with a header: comma, semicolon or tab, UTF-8. `columns` maps our names to the table's where these differ.

    Needed are a name (scientificName or species) and a picture (path or url). image_id is the path without suffix where it
    isn't given or not unique; occurrenceID is the image_id where it isn't given. Raises BadRecords, with the columns found,
    where a name or a picture is lacking.
    """
    path = Path(path)
    dialect, header = sniff_table(path)
    positions = _match_columns(header, columns or {}, path)
    found = read_delimited(partial(open_table, path), dialect, {name: (at,) for name, at in positions.items()}, str(path))
    return _of_table(found.table, path).add_rejected(TOO_LONG, found.too_long)


def read_parquet(path: Path | str, columns: Mapping[str, str] | None = None) -> Observations:
    """Read a Parquet file, or a folder of its parts, as `read_csv` does a CSV."""
    path = Path(path)
    header = column_names(path)
    positions = _match_columns(header, columns or {}, path)
    return _of_table(read_columns(path, {name: (header[at],) for name, at in positions.items()}), path)


def _of_table(table: pa.Table, path: Path) -> Observations:
    if not table.num_rows:
        raise BadRecords(f"{path}: a header and no rows; name a table with records")
    cells: Columns = dict(zip(table.column_names, table.columns, strict=True))
    delivered = plain(first_of(cells, "path", "identifier"))
    folder = (path if path.is_dir() else path.parent).resolve()
    cells["path"], misplaced = locate_all(delivered, [folder, folder.parent], confined=False)
    cells["identifier"] = pc.coalesce(plain(cells.get("identifier", delivered)), delivered)
    cells["image_id"] = ids_of_table(plain(cells["image_id"]) if "image_id" in cells else None, delivered)
    cells["occurrenceID"] = first_of(cells, "occurrenceID", "image_id")
    unnamed = name_rows(cells, table.num_rows)
    return observations(cells, pc.coalesce(misplaced, unnamed), delivered)


def open_table(path: Path) -> IO[bytes]:
    """The file, for reading as a stream."""
    return open(path, "rb")


def sniff_table(path: Path) -> tuple[Dialect, list[str]]:
    """Dialect and header of a table; raises BadRecords where it is empty, no text, or has two columns of one name."""
    try:
        with open(path, "rb") as file:
            dialect, header = sniff(file, str(path))
    except FileNotFoundError:
        raise BadRecords(f"{path}: no such file; check the path") from None
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
