"""Which pictures belong together, so that no split may part them: observation, specimen, institution, place and date,
duplicates.

Shapes: N pictures, G groups.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from taxakey.errors import BadInput

GROUPINGS = ("observation", "specimen", "institution", "place and date")
CELL_DEGREES = 0.1


def keys_of(table: pa.Table, by: str, cell_degrees: float = CELL_DEGREES) -> pa.ChunkedArray:
    """What pictures of one group have in common, as text [N]; null where the record doesn't say.

    observation: occurrenceID. specimen: "institutionCode|catalogNumber|recordNumber"; one without a collector's number may
    have none, the other two must be there. institution: institutionCode. place and date: latitude and longitude in whole
    cells of `cell_degrees`, and eventDate to the day, "{latitude}|{longitude}|{date}". Else the column of that name.
    """
    if by == "observation":
        return table["occurrenceID"]
    if by == "specimen":
        collector = pc.fill_null(table["recordNumber"], "")
        return pc.binary_join_element_wise(table["institutionCode"], table["catalogNumber"], collector, "|")
    if by == "institution":
        return table["institutionCode"]
    if by == "place and date":
        cells = [
            pc.round(pc.divide(table[name], cell_degrees)).cast(pa.int32()) for name in ("decimalLatitude", "decimalLongitude")
        ]
        return pc.binary_join_element_wise(
            *(cell.cast(pa.string()) for cell in cells), pc.utf8_slice_codeunits(table["eventDate"], 0, 10), "|"
        )
    if by not in table.column_names:
        raise BadInput(f"pictures can't be grouped by {by!r}; one of {', '.join(GROUPINGS)}, or a column of the records")
    return table[by].cast(pa.string())


def groups_of(
    table: pa.Table, by: str = "observation", *, cell_degrees: float = CELL_DEGREES, joined: pa.Table | None = None
) -> tuple[NDArray[np.int64], list[str]]:
    """Group of each picture [N], and the name of each group [G].

    A picture without a key goes by its occurrenceID. Pictures of one observation are of one group whatever `by` is, and so
    are those with the same `group` in `joined` (columns image_id and group; null: none), such as duplicates of each other. A
    group is named by the least of its keys.
    """
    observation, key = table["occurrenceID"], pc.coalesce(keys_of(table, by, cell_degrees), table["occurrenceID"])
    if by == "observation" and joined is None:
        return codes_of(observation)
    links = [codes_of(observation)[0], codes_of(key)[0]]
    if joined is not None:
        row_N = pc.index_in(table["image_id"], joined["image_id"].combine_chunks())
        links.append(codes_of(joined["group"].take(row_N))[0])
    group_N = _connected(links)
    named = pa.table({"group": group_N, "key": key}).group_by("group").aggregate([("key", "min")]).sort_by("group")
    return group_N, named["key_min"].to_pylist()


def codes_of(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], list[str]]:
    """Number of each row's value, −1 for null, and the values."""
    encoded = pc.dictionary_encode(column).combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):  # no rows, no chunk
        return np.zeros(0, dtype=np.int64), []
    codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    return codes, encoded.dictionary.to_pylist()


def _connected(links: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Component of each picture [N] in the graph that joins it to each of its codes; −1 joins nothing."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    first, size, edges = links[0], int(links[0].max(initial=-1)) + 1, []
    for codes in links[1:]:
        known = codes >= 0
        edges.append(np.stack([first[known], codes[known] + size]))
        size += int(codes.max(initial=-1)) + 1
    left, right = np.concatenate(edges, axis=1)
    graph = coo_array((np.ones(len(left), dtype=np.int8), (left, right)), shape=(size, size))
    component = connected_components(graph, directed=False)[1]
    return np.unique(component[first], return_inverse=True)[1].astype(np.int64)
