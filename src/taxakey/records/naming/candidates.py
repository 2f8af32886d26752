"""Pairs of a delivered name and a row of the checklist that may be meant by it, and how well they agree.

Shapes: N delivered names, R rows of the checklist, P pairs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from rapidfuzz.distance import OSA

from taxakey.records.naming.authorship import compare_authors
from taxakey.records.naming.checklist import Checklist
from taxakey.records.naming.nearest import Index, allowed_distance, key_within_genus
from taxakey.records.naming.scientific_name import INFRASPECIFIC_RANKS
from taxakey.records.naming.spelling import spelling_key

AGREEMENTS = ("equal", "compatible", "unknown", "differs")
"""Of authors, in the order of the codes in `Pairs.author_P`."""

_FEW = 3
_KINGDOMS = {"metazoa": "animalia", "viridiplantae": "plantae", "archaeplastida": "plantae", "incertae sedis": None}


class Pairs(NamedTuple):
    """`name_P`: numbers of names; `row_P`: rows of the checklist; `edits_P`: letters apart; `sign_P`, `rank_P`: 1 where hybrid
    signs or ranks differ; `author_P`: codes of `AGREEMENTS`."""

    name_P: NDArray[np.int64]
    row_P: NDArray[np.int64]
    edits_P: NDArray[np.int64]
    sign_P: NDArray[np.int64]
    rank_P: NDArray[np.int64]
    author_P: NDArray[np.int64]

    def keep(self, mask_P: NDArray[np.bool_]) -> Pairs:
        return Pairs(*(values[mask_P] for values in self))


@dataclass(frozen=True, eq=False)
class Search:
    """A checklist prepared for matching: what is looked up, by exact words, by spelling key and by genus."""

    checklist: Checklist

    @cached_property
    def index(self) -> Index:
        return Index(self.checklist.table["words"])

    @cached_property
    def _rows(self) -> pa.Table:
        """Rows that a name may mean: a misapplied name is found by nobody, because its records belong elsewhere."""
        table = self.checklist.table
        misapplied = pc.fill_null(pc.match_substring(table["taxonomicStatus"], "misapplied"), False)
        rows = pa.table({"row": pa.array(np.arange(len(table))), "key": table["words"]})
        return rows.filter(pc.invert(misapplied))

    @cached_property
    def _spellings(self) -> pa.Table:
        return self._rows.set_column(1, "key", key_within_genus(self._rows["key"]))

    @cached_property
    def _kingdom(self) -> pa.ChunkedArray:
        return normal_kingdom(self.checklist.table["kingdom"])

    # ---- the four steps; `names` has the columns number, words, author, rank, hybrid, kingdom, family ----

    def exact(self, names: pa.Table) -> Pairs:
        """Pairs with the same words."""
        return self._joined(names, names["words"], self._rows)

    def spelled(self, names: pa.Table) -> Pairs:
        """Pairs whose words are spellings of one name."""
        return self._joined(names, key_within_genus(names["words"]), self._spellings)

    def nearly(self, names: pa.Table) -> Pairs:
        """The nearest names in the same genus; far ones too, to show what was nearest. See `near_enough`."""
        words = names["words"].to_pylist()
        return self._compared(names, list(self.index.in_genus(words, [text.partition(" ")[0] for text in words])))

    def nearly_genus(self, names: pa.Table) -> Pairs:
        """The same epithet in a genus that is spelled nearly like one that isn't in the checklist; families must not differ."""
        words = names["words"].to_pylist()
        genera = sorted({genus for text in words if not len(self.index.rows_of(genus := text.partition(" ")[0]))})
        near = self.index.near_genera(genera)
        tried = [
            (place, f"{genus} {text.partition(' ')[2]}")
            for place, text in enumerate(words)
            for genus, _ in near.get(text.partition(" ")[0], ())
        ]
        again = names.take(pa.array([place for place, _ in tried], pa.int64()))
        again = again.set_column(1, "words", pa.chunked_array([[text for _, text in tried]], pa.string()))
        pairs = self._joined(again, key_within_genus(again["words"]), self._spellings, written=names)
        mine = _of(names, pairs.name_P, "family")
        theirs = self.checklist.table["family"].take(pa.array(pairs.row_P))
        return pairs.keep(pc.fill_null(pc.equal(mine, theirs), True).to_numpy())

    def elsewhere(self, names: pa.Table) -> Pairs:
        """Species with the same epithet in any genus, where these are few or the authors agree: a name may have moved there."""
        rest = spelling_key(pc.list_element(pc.split_pattern(names["words"], " ", max_splits=1), 1))
        pairs = self._joined(names, rest, self._epithets)
        _, place, number = np.unique(pairs.name_P, return_inverse=True, return_counts=True)
        return pairs.keep((number[place] <= _FEW) | (pairs.author_P < AGREEMENTS.index("unknown")))

    @cached_property
    def _epithets(self) -> pa.Table:
        keys = pc.list_element(pc.split_pattern(self._spellings["key"], " ", max_splits=1), 1)
        return self._rows.set_column(1, "key", keys)

    def near_enough(self, pairs: Pairs, names: pa.Table) -> NDArray[np.bool_]:
        """Mask [P] of pairs of one genus whose every word is within the limits for its length and the authors' agreement."""
        mine = _of(names, pairs.name_P, "words").to_pylist()
        theirs = self.checklist.table["words"].take(pa.array(pairs.row_P)).to_pylist()
        agreement = [AGREEMENTS[code] for code in pairs.author_P]
        return np.array([_near(*pair) for pair in zip(mine, theirs, agreement, strict=True)], dtype=bool)

    def same_genus_spelling(self, pairs: Pairs, names: pa.Table) -> NDArray[np.bool_]:
        """Mask [P] of pairs whose authors don't contradict, or whose genera are spellings of one."""
        genus = [
            spelling_key(pc.list_element(pc.split_pattern(words, " ", max_splits=1), 0))
            for words in (_of(names, pairs.name_P, "words"), self.checklist.table["words"].take(pa.array(pairs.row_P)))
        ]
        return (pairs.author_P < AGREEMENTS.index("differs")) | pc.equal(*genus).to_numpy()

    # ---- pairs ----

    def _joined(self, names: pa.Table, keys: pa.ChunkedArray, rows: pa.Table, written: pa.Table | None = None) -> Pairs:
        left = pa.table({"number": names["number"], "key": keys})
        found = left.join(rows, "key", join_type="inner").select(["number", "row"])
        written = names if written is None else written
        pairs = [column.to_numpy() for column in found.columns]
        mine = _of(written, pairs[0], "words").to_pylist()
        theirs = self.checklist.table["words"].take(pa.array(pairs[1])).to_pylist()
        edits = [0 if one == other else _edits(one, other) for one, other in zip(mine, theirs, strict=True)]
        return self._compared(written, zip(*pairs, edits, strict=True), by_number=True)

    def _compared(self, names: pa.Table, found: Iterable[tuple[int, int, int]], *, by_number: bool = False) -> Pairs:
        """Agreement of each pair; pairs of two kingdoms are left out. Sorted by name and row."""
        array = np.array(sorted(found), dtype=np.int64).reshape(-1, 3)
        name_P, row_P, edits_P = array.T
        if not by_number:
            name_P = names["number"].to_numpy()[name_P]
        rows = self.checklist.table.select(["hybrid", "taxonRank", "scientificNameAuthorship"]).take(pa.array(row_P))
        sign_P = pc.not_equal(_of(names, name_P, "hybrid"), rows["hybrid"])
        ranks = [_infraspecific(rank) for rank in (_of(names, name_P, "rank"), rows["taxonRank"])]
        rank_P = pc.fill_null(pc.not_equal(*ranks), False)
        author_P = _agreements(_of(names, name_P, "author"), rows["scientificNameAuthorship"])
        flags = [column.to_numpy().astype(np.int64) for column in (sign_P, rank_P)]
        elsewhere = pc.not_equal(_of(names, name_P, "kingdom"), self._kingdom.take(pa.array(row_P)))
        return Pairs(name_P, row_P, edits_P, flags[0], flags[1], author_P).keep(~pc.fill_null(elsewhere, False).to_numpy())


def normal_kingdom(kingdoms: pa.ChunkedArray) -> pa.ChunkedArray:
    """Kingdoms in lower case under one name each; null where nobody knows."""
    text = pc.utf8_lower(kingdoms)
    for other, meant in _KINGDOMS.items():
        text = pc.if_else(pc.equal(text, other), pa.scalar(meant, pa.string()), text)
    return text


def _infraspecific(ranks: pa.ChunkedArray) -> pa.ChunkedArray:
    """Only ranks below species are compared: lists also write "hybrid" or "nothospecies" for a species."""
    return pc.if_else(pc.is_in(ranks, pa.array(INFRASPECIFIC_RANKS)), ranks, None)


def _of(names: pa.Table, name_P: NDArray[np.int64], column: str) -> pa.ChunkedArray:
    """A column of the delivered names for each pair; `names` is sorted by number."""
    return names[column].take(pa.array(np.searchsorted(names["number"].to_numpy(), name_P)))


def _agreements(mine: pa.ChunkedArray, theirs: pa.ChunkedArray) -> NDArray[np.int64]:
    code = {agreement: number for number, agreement in enumerate(AGREEMENTS)}
    pairs = zip(mine.to_pylist(), theirs.to_pylist(), strict=True)
    return np.array([code[compare_authors(*pair)] for pair in pairs], dtype=np.int64)


def _edits(one: str, other: str) -> int:
    return int(OSA.distance(one, other))


def _near(one: str, other: str, agreement: str) -> bool:
    words, others = one.split(" "), other.split(" ")
    for word, its in zip(words, others, strict=True):
        edits = _edits(word, its)
        if edits > allowed_distance(max(len(word), len(its)), agreement) or (edits > 1 and word[0] != its[0]):
            return False
    return True


# ---- groups of pairs; `name_P` is sorted ----


def _starts(name_P: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each name's pairs begin, and the number of its group for each pair."""
    begins = np.diff(name_P, prepend=-1) != 0
    return np.flatnonzero(begins), np.cumsum(begins) - 1


def best_of_name(name_P: NDArray[np.int64], order: tuple[NDArray[np.int64], ...]) -> NDArray[np.bool_]:
    """Mask [P] of the pairs that come first by `order` (falling importance) among those of their name; ties stay together."""
    keep = np.ones(len(name_P), dtype=bool)
    for values_P in order:
        start, group_P = _starts(name_P)
        if len(start):
            left = np.where(keep, values_P, np.iinfo(np.int64).max)
            keep &= left == np.minimum.reduceat(left, start)[group_P]
    return keep


def several(name_P: NDArray[np.int64], taxon_P: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mask [P] of pairs whose name has more than one taxon."""
    start, group_P = _starts(name_P)
    if not len(start):
        return np.zeros(0, dtype=bool)
    return (np.minimum.reduceat(taxon_P, start) != np.maximum.reduceat(taxon_P, start))[group_P]


def first_of_name(name_P: NDArray[np.int64], order: tuple[NDArray[np.int64], ...]) -> NDArray[np.bool_]:
    """Mask [P] of one pair for each name, the first by `order`."""
    places = np.lexsort((*reversed(order), name_P))
    mask = np.zeros(len(name_P), dtype=bool)
    mask[places[_starts(name_P[places])[0]]] = True
    return mask
