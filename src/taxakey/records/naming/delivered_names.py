"""Names as delivered: from a CSV or Parquet file, and the distinct ones of a table with a row a record."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from taxakey.errors import BadInput, BadRecords
from taxakey.records.naming.checklist_files import Open, sniff
from taxakey.records.reading.delimited import plain, read_delimited

DELIVERED = {
    "scientificName": "verbatimScientificName",
    "scientificNameAuthorship": "verbatimAuthorship",
    "taxonRank": "verbatimTaxonRank",
    "kingdom": "verbatimKingdom",
    "family": "verbatimFamily",
}
"""Columns that make a delivered name, and what they are called in the two tables of results."""

_ALSO = {
    "scientificName": ("scientific_name",),
    "scientificNameAuthorship": ("authorship", "authors", "author"),
    "taxonRank": ("rank",),
}


def read_names(path: Path | str, columns: Mapping[str, str] | None = None) -> pa.Table:
    """The columns of `DELIVERED` that a table has, as strings; `columns` maps ours to the table's own where these differ.

    Raises BadRecords, with the columns found, where there is no name, and BadInput for a column that isn't there.
    """
    path, chosen = Path(path), columns or {}
    if not path.is_file():
        raise BadRecords(f"{path}: no such file; name records, or a CSV or Parquet file with a column scientificName")
    if path.suffix.lower() == ".parquet":
        header = pq.read_schema(path).names
        places = _places(header, chosen, path)
        table = pq.read_table(path, columns=[header[place] for place in places.values()])
        return pa.table({ours: table[header[place]].cast(pa.string()) for ours, place in places.items()})
    open_file: Open = partial(open, path, "rb")  # type: ignore[assignment]
    dialect, header = sniff(str(path), open_file)
    places = _places(header, chosen, path)
    found = read_delimited(open_file, dialect, {ours: [place] for ours, place in places.items()}, str(path))
    if long := found.too_long:
        raise BadRecords(f"{path}: {len(long):,} lines have more columns than the header (first: {long[0][:80]}); correct them")
    return pa.table({ours: plain(found.table[ours]) for ours in places})


def _places(header: list[str], chosen: Mapping[str, str], path: Path) -> dict[str, int]:
    """Our columns -> positions in the table."""
    for ours, theirs in chosen.items():
        if ours not in DELIVERED:
            raise BadInput(f"--column {ours}={theirs}: {ours!r} is no part of a name; one of {', '.join(DELIVERED)}")
        if theirs not in header:
            raise BadInput(f"{path}: no column {theirs!r} (--column {ours}={theirs}); its columns are {', '.join(header)}")
    lower = [column.lower() for column in header]
    places = {}
    for ours in DELIVERED:
        known = [chosen[ours]] if ours in chosen else [ours.lower(), *_ALSO.get(ours, ())]
        where = header if ours in chosen else lower
        if found := next((name for name in known if name in where), None):
            places[ours] = where.index(found)
    if "scientificName" not in places:
        raise BadRecords(
            f"{path}: no column scientificName; its columns are {', '.join(header)}; say --column scientificName=<column>"
        )
    return places


def distinct_names(table: pa.Table) -> pa.Table:
    """The distinct names of a table: the columns of `DELIVERED` as strings, and `count`, of rows or of its own; sorted."""
    if "scientificName" not in table.column_names:
        raise BadInput(f"no column scientificName; the columns are {', '.join(table.column_names)}")
    nothing = pa.nulls(table.num_rows, pa.string())
    columns = {name: table[name].cast(pa.string()) if name in table.column_names else nothing for name in DELIVERED}
    once = pa.array(np.ones(table.num_rows, dtype=np.int64))
    names = pa.table({**columns, "count": table["count"].cast(pa.int64()) if "count" in table.column_names else once})
    grouped = names.group_by(list(DELIVERED), use_threads=False).aggregate([("count", "sum")])
    return grouped.rename_columns([*DELIVERED, "count"]).sort_by([(name, "ascending") for name in DELIVERED])
