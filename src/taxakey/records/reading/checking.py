"""The last step of every source: its columns, and what it found wrong with its rows, become Observations. N rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from taxakey.records.reading.delimited import plain
from taxakey.records.table import NOT_TO_SPECIES, SCHEMA, Observations

TOO_LONG = "too many columns in the line"


def observations(columns: Mapping[str, Any], reason: Any, detail: Any) -> Observations:
    """Check the columns; `reason` and `detail` [N] as of `Observations.from_table`."""
    table = pa.table({name: columns[name] for name in SCHEMA.names if name in columns})
    reason, detail = whole(reason), whole(detail)
    if pc.any(pc.equal(reason, NOT_TO_SPECIES)).as_py():
        of_name = pc.fill_null(pc.equal(reason, NOT_TO_SPECIES), False)
        detail = pc.if_else(of_name, whole(columns["verbatimScientificName"]), detail)
    return Observations.from_table(table, reason=reason, detail=detail)


def whole(column: Any) -> pa.Array:
    """A column of strings in one piece."""
    column = plain(column)
    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def look_up(rows: pa.Table, key: str, other: pa.Table) -> pa.Table:
    """The rows with the columns of the first row of `other` that has their key; those that they have already stay."""
    at = pc.index_in(whole(rows[key]), whole(other[key]), skip_nulls=True)
    found = other.combine_chunks().take(at)
    for name in other.column_names:
        if name not in rows.column_names:
            rows = rows.append_column(name, found[name])
    return rows


def first_of(columns: Mapping[str, Any], *names: str) -> pa.ChunkedArray:
    """The first of several columns that has a value, row by row; one of them must be there."""
    found = [columns[name] for name in names if name in columns]
    if not found[0].null_count or len(found) == 1:
        return found[0]
    first = pc.coalesce(*(plain(column) for column in found))
    dictionaries = all(pa.types.is_dictionary(column.type) or column.null_count == len(column) for column in found)
    return first.dictionary_encode() if dictionaries else first


def strings(values: Sequence[str | None]) -> pa.ChunkedArray:
    """A column of text from a list."""
    return pa.chunked_array([pa.array(values, pa.string())])
