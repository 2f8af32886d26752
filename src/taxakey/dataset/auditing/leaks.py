"""Findings of an audit: what of a later part an earlier one has seen, and what else makes a dataset's figures doubtful.

A leak is told once for each picture of the later part (of train, validation, test) and each earlier part that has its like,
with the nearest or first of these. So findings grow with the number of pictures, however many pairs there are.

Shapes: N pictures, U distinct perceptual hashes, P pairs of those; 3: the parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from taxakey.dataset.build import PARTS
from taxakey.dataset.duplicates import NEAR_DISTANCE, Pairs, distinct_hashes, near_pairs
from taxakey.dataset.inspection import InspectOptions
from taxakey.errors import BadInput
from taxakey.records.groups import CELL_DEGREES, codes_of, keys_of

LEAKS = ("exact duplicate", "near duplicate", "same observation", "same specimen")
"""Kinds of findings that make a figure measured on the later part too good."""

KINDS = (*LEAKS, "same place and date", "other label", "one institution", "untrained", "unreadable")

FINDINGS = pa.schema(
    [
        pa.field("kind", pa.string(), nullable=False),
        ("image_id", pa.string()),
        ("part", pa.string()),
        ("scientificName", pa.string()),
        ("other_image_id", pa.string()),
        ("other_part", pa.string()),
        ("other_scientificName", pa.string()),
        ("distance", pa.int32()),
        ("key", pa.string()),
    ]
)
"""`kind`: one of `KINDS`: `LEAKS`, "same place and date", "other label" (the same picture under another name, in whatever
part), "one institution" (a species that only one has), "untrained" (a species without training picture), "unreadable" (a
picture that can't be decoded). `key`: what both have in common, the institution, or the reason. `distance`: bits of 256."""

_FAR = np.iinfo(np.int64).max
_ROW_BITS = 40
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class AuditOptions:
    """`near_distance`: bits in which near duplicates may differ; `cell_degrees`: edge of a place."""

    near_distance: int = NEAR_DISTANCE
    cell_degrees: float = CELL_DEGREES

    def __post_init__(self) -> None:
        InspectOptions(near_distance=self.near_distance)
        if not self.cell_degrees > 0:
            raise BadInput(f"a cell of {self.cell_degrees} degrees is none; choose one above 0")


def find(rows: pa.Table, options: AuditOptions | None = None) -> pa.Table:
    """All findings, with the columns of `FINDINGS`. `rows`: observations with part, sha256, perceptual_hash and failure,
    [N]."""
    options = options or AuditOptions()
    exact = across_parts(rows, rows["sha256"], "exact duplicate")
    near = _Nearest(rows, options.near_distance)
    found = [
        exact,
        near.across_parts(exact),
        across_parts(rows, rows["occurrenceID"], "same observation"),
        across_parts(rows, keys_of(rows, "specimen"), "same specimen"),
        across_parts(rows, keys_of(rows, "place and date", options.cell_degrees), "same place and date"),
        near.other_labels(),
        _one_institution(rows),
        _untrained(rows),
        _unreadable(rows),
    ]
    return pa.concat_tables(found).combine_chunks()


def across_parts(rows: pa.Table, key: pa.ChunkedArray, kind: str) -> pa.Table:
    """Pictures whose key a picture of an earlier part has, with the least image_id there."""
    table = rows.select(["image_id", "part", "scientificName"]).append_column("key", key)
    table = table.filter(pc.is_valid(table["key"])).sort_by("image_id")
    found = []
    for number, earlier in enumerate(PARTS[:-1]):
        there = table.filter(pc.equal(table["part"], earlier))
        later = table.filter(pc.is_in(table["part"], pa.array(PARTS[number + 1 :])))
        other = pc.index_in(later["key"], there["key"].combine_chunks())  # the first of equal ones
        later, other = later.filter(pc.is_valid(other)), other.drop_null()
        found.append(_findings(kind, later, there.take(other), key=later["key"]))
    return pa.concat_tables(found)


def _findings(kind: str, own: pa.Table, other: pa.Table | None = None, **more: Any) -> pa.Table:
    columns: dict[str, Any] = {"kind": pa.array([kind] * len(own), pa.string())}
    for name in ("image_id", "part", "scientificName"):
        if name in own.column_names:
            columns[name] = own[name]
        if other is not None:
            columns[f"other_{name}"] = other[name]
    columns |= more
    filled = [columns.get(field.name, pa.nulls(len(own), field.type)) for field in FINDINGS]
    return pa.table(filled, names=FINDINGS.names).cast(FINDINGS)


class _Nearest:
    """The nearest hash that each hash has in each part and under another name, found in one pass over all near pairs.

    Distance and hash of the nearest are kept as one number, so that a minimum keeps both: memory is that of the hashes.
    """

    def __init__(self, rows: pa.Table, distance: int) -> None:
        self.rows = rows
        hashes, self.code_N = distinct_hashes(rows["perceptual_hash"])
        self.part_N = pc.index_in(rows["part"], pa.array(PARTS)).to_numpy().astype(np.int64)
        self.name_N = codes_of(rows["scientificName"])[0]
        self._index(len(hashes))
        itself = np.arange(len(hashes))
        self.near_U3 = np.where(self.row_U3 < _FAR, itself[:, None], _FAR)
        self.renamed_U = np.where(self.low_U[:, 0] < self.high_U[:, 0], itself, _FAR)
        for pairs in near_pairs(hashes, distance):
            self._meet(pairs)
            self._meet(Pairs(pairs.right, pairs.left, pairs.distance))

    def _index(self, hashes: int) -> None:
        """First row of each hash in each part, [U, 3]; its least and its greatest name, each with a row that has it, [U,
        2]."""
        rows = np.flatnonzero(self.code_N >= 0)
        code, name = self.code_N[rows], self.name_N[rows]
        self.row_U3 = np.full((hashes, len(PARTS)), _FAR)
        np.minimum.at(self.row_U3, (code, self.part_N[rows]), rows)
        low_U, high_U = np.full(hashes, _FAR), np.full(hashes, -1)
        np.minimum.at(low_U, code, name << _ROW_BITS | rows)
        np.maximum.at(high_U, code, name << _ROW_BITS | rows)
        self.low_U, self.high_U = (np.stack([both >> _ROW_BITS, both & _row_mask()], axis=1) for both in (low_U, high_U))

    def _meet(self, pairs: Pairs) -> None:
        own, other, near = pairs.left, pairs.right, pairs.distance << _ROW_BITS | pairs.right
        for part in range(len(PARTS)):
            there = self.row_U3[other, part] < _FAR
            np.minimum.at(self.near_U3[:, part], own[there], near[there])
        least, greatest = (np.stack([side[own, 0], side[other, 0]]) for side in (self.low_U, self.high_U))
        differs = least.min(axis=0) < greatest.max(axis=0)
        np.minimum.at(self.renamed_U, own[differs], near[differs])

    def across_parts(self, exact: pa.Table) -> pa.Table:
        """Near duplicates in an earlier part, but for pictures whose very bytes are there."""
        found = []
        for earlier, part in enumerate(PARTS[:-1]):
            told = exact["image_id"].filter(pc.equal(exact["other_part"], part)).combine_chunks()
            new_N = pc.invert(pc.is_in(self.rows["image_id"], told)).to_numpy()
            near_N = self._of_rows(self.near_U3[:, earlier])
            own = np.flatnonzero((self.part_N > earlier) & new_N & (near_N < _FAR))
            other = self.row_U3[near_N[own] & _row_mask(), earlier]
            found.append(self._told("near duplicate", own, other, near_N[own] >> _ROW_BITS))
        return pa.concat_tables(found)

    def other_labels(self) -> pa.Table:
        """Pictures of which a copy, in whatever part, bears another name."""
        near_N = self._of_rows(self.renamed_U)
        own = np.flatnonzero(near_N < _FAR)
        nearest = near_N[own] & _row_mask()
        low, high = self.low_U[nearest], self.high_U[nearest]
        other = np.where(low[:, 0] != self.name_N[own], low[:, 1], high[:, 1])
        return self._told("other label", own, other, near_N[own] >> _ROW_BITS)

    def _of_rows(self, values_U: Integers) -> Integers:
        return np.where(self.code_N < 0, _FAR, values_U[self.code_N]) if len(values_U) else np.full(len(self.code_N), _FAR)

    def _told(self, kind: str, own: Integers, other: Integers, bits: Integers) -> pa.Table:
        rows = (self.rows.select(["image_id", "part", "scientificName"]).take(pa.array(numbers)) for numbers in (own, other))
        return _findings(kind, *rows, distance=pa.array(bits.astype(np.int32)))


def _row_mask() -> int:
    return (1 << _ROW_BITS) - 1


# ---- facts of species and pictures ----


def _one_institution(rows: pa.Table) -> pa.Table:
    """Species all of whose pictures with an institution are of one; nothing where the dataset knows one institution at
    most."""
    known = rows.filter(pc.is_valid(rows["institutionCode"]))
    counted = known.group_by("scientificName").aggregate([("institutionCode", "count_distinct"), ("institutionCode", "min")])
    several = pc.count_distinct(known["institutionCode"]).as_py() > 1
    alone = counted.filter(pc.equal(counted["institutionCode_count_distinct"], 1)).sort_by("scientificName")
    alone = alone if several else alone.slice(0, 0)
    return _findings("one institution", alone.select(["scientificName"]), key=alone["institutionCode_min"])


def _untrained(rows: pa.Table) -> pa.Table:
    """Species of validation and test without a training picture."""
    trained = rows["scientificName"].filter(pc.equal(rows["part"], "train")).combine_chunks()
    names = rows["scientificName"].filter(pc.invert(pc.is_in(rows["scientificName"], trained))).unique().sort()
    return _findings("untrained", pa.table({"scientificName": names}))


def _unreadable(rows: pa.Table) -> pa.Table:
    bad = rows.filter(pc.is_valid(rows["failure"]))
    return _findings("unreadable", bad, key=bad["failure"])
