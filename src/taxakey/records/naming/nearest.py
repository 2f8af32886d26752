"""Names of a checklist that are spelled nearly as a delivered one: in the same genus, or in a genus spelled nearly the same.

Shapes: N delivered names, R rows of the checklist, P pairs of a delivered name and a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from rapidfuzz import process
from rapidfuzz.distance import OSA

from taxakey.records.naming.spelling import spelling_key

_NEAR = 0.6
"""Similarity from which on a name is shown as a candidate."""
_LOOKED_AT = 12
_GENERA_AT_ONCE = 256

# Farthest distance (edits: a letter more, less, another, or two swapped) that counts as a misspelling, by the length of the
# longer epithet, for each agreement of authors. Chosen by leaving the species of the WCVP extract out of it: within these limits
# 1.2 % (with author) and 2.5 % (without) of 1,491 were taken for another species; benchmarks/name_matching.py.
LIMITS = {
    "equal": ((4, 1), (8, 2), (13, 3)),
    "compatible": ((4, 1), (8, 2), (13, 3)),
    "unknown": ((7, 1), (12, 2)),
    "differs": ((10, 1),),
}


def allowed_distance(length: int, agreement: str) -> int:
    """Edits allowed in a word of this length.

    >>> allowed_distance(11, "equal"), allowed_distance(6, "unknown")
    (2, 0)
    """
    return max((edits for least, edits in LIMITS[agreement] if length >= least), default=0)


@dataclass(frozen=True, eq=False)
class Index:
    """The words [R] of a checklist, by genus. Built once, used for every unmatched name."""

    words: pa.ChunkedArray

    @cached_property
    def genus(self) -> pa.Array:
        return first_word(self.words).combine_chunks().dictionary_encode()

    @cached_property
    def _place(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.genus.dictionary.to_pylist())}

    @cached_property
    def _rows_by_genus(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows in the order of their genus, and where each genus begins."""
        code_R = self.genus.indices.to_numpy()
        order = np.argsort(code_R, kind="stable")
        return order, np.searchsorted(code_R[order], np.arange(len(self.genus.dictionary) + 1))

    def rows_of(self, genus: str) -> NDArray[np.int64]:
        """Rows of a genus, folded; none where it isn't in the checklist."""
        place = self._place.get(genus)
        order, begins = self._rows_by_genus
        return order[begins[place] : begins[place + 1]] if place is not None else order[:0]

    def in_genus(self, words: Sequence[str], genera: Sequence[str]) -> Iterator[tuple[int, int, int]]:
        """(name, row, edits) of the nearest names in each delivered name's own genus, the nearest first."""
        groups: dict[tuple[str, int], list[int]] = {}
        for number, (text, genus) in enumerate(zip(words, genera, strict=True)):
            groups.setdefault((genus, text.count(" ")), []).append(number)
        for (genus, spaces), numbers in groups.items():
            rows, texts = self._of_rank(genus, spaces)
            for number in numbers if texts else ():
                query = words[number][len(genus) + 1 :]
                found = process.extract(query, texts, scorer=OSA.normalized_similarity, score_cutoff=_NEAR, limit=_LOOKED_AT)
                for text, _, place in found:
                    yield number, int(rows[place]), int(OSA.distance(query, text))

    def _of_rank(self, genus: str, spaces: int) -> tuple[NDArray[np.int64], list[str]]:
        """Rows of a genus whose names have so many spaces, and what stands behind the genus."""
        rows = self.rows_of(genus)
        words = self.words.take(pa.array(rows))
        same = pc.equal(pc.count_substring(words, " "), spaces).to_numpy()
        texts = pc.utf8_slice_codeunits(words.filter(pa.array(same)), len(genus) + 1)
        return rows[same], texts.to_pylist()

    def near_genera(self, genera: Sequence[str]) -> dict[str, list[tuple[str, int]]]:
        """Genera of the checklist within two edits (one below eight letters) of each that it doesn't hold, with the edits."""
        known = self.genus.dictionary.to_pylist()
        near: dict[str, list[tuple[str, int]]] = {}
        for start in range(0, len(genera), _GENERA_AT_ONCE):
            some = genera[start : start + _GENERA_AT_ONCE]
            edits = process.cdist(some, known, scorer=OSA.distance, score_cutoff=2, dtype=np.uint8)
            for place, other in zip(*np.nonzero(edits <= 2), strict=True):
                one, two = some[place], known[other]
                if edits[place, other] <= (2 if len(one) >= 8 else 1 if len(one) >= 4 else 0):
                    near.setdefault(one, []).append((two, int(edits[place, other])))
        return near


def first_word(words: pa.ChunkedArray) -> pa.ChunkedArray:
    """The genus of folded words [N]."""
    return pc.list_element(pc.split_pattern(words, " ", max_splits=1), 0)


def key_within_genus(words: pa.ChunkedArray) -> pa.ChunkedArray:
    """The genus as it is and the spelling key of the rest. Epithets recur, so that each is looked at once."""
    parts = pc.split_pattern(words, " ", max_splits=1)
    rest = pc.list_element(parts, 1).combine_chunks().dictionary_encode()
    keys = spelling_key(pa.chunked_array([rest.dictionary])).combine_chunks().take(rest.indices)
    return pc.binary_join_element_wise(pc.list_element(parts, 0), pa.chunked_array([keys]), " ")
