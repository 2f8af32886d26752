"""What a word such as a habitat or a month says of a species: smoothed counts of the training part. No torch.

Shapes: N training observations, O observations, C classes, W words, P pairs of class and word that occur.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from taxakey.errors import BadInput
from taxakey.metadata.categories import plain_words

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
_STRENGTHS = (0.01, 10_000.0)

SAYS_TOO_MUCH = (
    *("occurrenceID", "image_id", "path", "identifier", "scientificName", "scientificNameAuthorship", "verbatimScientificName"),
    *("taxonID", "taxonRank", "kingdom", "phylum", "class", "order", "family", "genus", "vernacularName", "poisonous"),
    *("catalogNumber", "recordNumber", "gbifID", "split", "masked", "width", "height"),
)
"""Columns that are the answer itself, or name a single record."""


@dataclass(frozen=True, eq=False)
class WordEvidence:
    """Counts of observations by class and word, in one column; what isn't known changes nothing.

    p(word | class) = (n(class, word) + strength · p(word)) / (n(class) + strength), counts over the training observations whose
    word is known: a class with few observations, or none, is taken to be like all others. By Bayes p(class | word) / p(class)
    = p(word | class) / p(word), which is the ratio that an answer is multiplied by.
    """

    column: str
    words: tuple[str, ...]
    classes: int
    strength: float
    class_P: Integers
    word_P: Integers
    count_P: Integers

    @classmethod
    def fit(cls, column: str, training: pa.Table, class_N: NDArray[np.integer], classes: int) -> WordEvidence:
        """From one row a training observation; rows whose class is negative or whose word isn't known are left out.

        Raises BadInput for a column that isn't there, that is empty, or that holds the answer.
        """
        text = _words(training, column)
        known_N = np.asarray(pc.is_valid(text)) & (np.asarray(class_N) >= 0)
        if not known_N.any():
            raise BadInput(f"the training part says no {column} of any observation; leave `{column}` out")
        encoded = text.filter(pa.array(known_N)).combine_chunks().dictionary_encode()
        words = encoded.dictionary.to_pylist()
        pairs, count_P = np.unique(np.asarray(class_N)[known_N] * len(words) + np.asarray(encoded.indices), return_counts=True)
        class_P, word_P = pairs // len(words), pairs % len(words)
        return cls(column, tuple(words), classes, best_strength(class_P, word_P, count_P), class_P, word_P, count_P)

    @property
    def name(self) -> str:
        return self.column

    def known(self, table: pa.Table) -> NDArray[np.bool_]:
        """Of which rows [O] it says anything."""
        return self._places(table) >= 0

    def log_ratio(self, table: pa.Table) -> Floats:
        """log(p(class | word) / p(class)) of each row, [O, C]; 0 where the word is missing or didn't occur in training."""
        place_O = self._places(table)
        used, row_O = np.unique(place_O, return_inverse=True)
        return np.stack([np.zeros(self.classes) if place < 0 else self._of(int(place)) for place in used])[row_O]

    def _of(self, word: int) -> Floats:
        count_C = np.bincount(self.class_P, self.count_P, self.classes)
        here = self.word_P == word
        with_word_C = np.bincount(self.class_P[here], self.count_P[here], self.classes)
        share = with_word_C.sum() / count_C.sum()
        return np.asarray(np.log((with_word_C / share + self.strength) / (count_C + self.strength)))

    def _places(self, table: pa.Table) -> Integers:
        if self.column not in table.column_names:
            return np.full(table.num_rows, -1)
        place = pc.index_in(_words(table, self.column), value_set=pa.array(self.words, pa.string()))
        return np.asarray(pc.fill_null(place, -1)).astype(np.int64)

    def to_json(self) -> dict[str, Any]:
        pairs = {name: getattr(self, name).tolist() for name in ("class_P", "word_P", "count_P")}
        return {"column": self.column, "words": list(self.words), "strength": self.strength, **pairs}

    @classmethod
    def from_json(cls, content: dict[str, Any], classes: int) -> WordEvidence:
        """Raises KeyError, TypeError or ValueError for what `to_json` can't have written."""
        class_P, word_P, count_P = (integers(content[name]) for name in ("class_P", "word_P", "count_P"))
        words, strength = tuple(content["words"]), float(content["strength"])
        if not len(class_P) == len(word_P) == len(count_P) or not len(class_P) or not strength > 0:
            raise ValueError("counts of unlike lengths, or none, or a strength of 0")
        if class_P.min() < 0 or class_P.max() >= classes or count_P.min() < 1:
            raise ValueError("a count of a class that isn't there")
        if set(word_P.tolist()) != set(range(len(words))) or any(not isinstance(word, str) for word in words):
            raise ValueError("counts of other words than it lists")
        return cls(str(content["column"]), words, classes, strength, class_P, word_P, count_P)


def best_strength(class_P: Integers, word_P: Integers, count_P: Integers) -> float:
    """How many observations like all others each class is lent: by the leave-one-out likelihood of the training words.

    Each observation's word is foretold from the others of its class: Σ n(class, word) · log((n(class, word) - 1 + strength ·
    p(word)) / (n(class) - 1 + strength)). A column that says nothing of the class ends at the upper edge, where its ratios are
    all 1, without a look at validation.
    """
    from scipy.optimize import minimize_scalar

    count_C, count_W = np.bincount(class_P, count_P), np.bincount(word_P, count_P)
    share_P, others_P = count_W[word_P] / count_W.sum(), count_C[class_P] - 1

    def loss(log_strength: float) -> float:
        strength = np.exp(log_strength)
        return float(-(count_P * np.log((count_P - 1 + strength * share_P) / (others_P + strength))).sum())

    return float(np.exp(minimize_scalar(loss, bounds=np.log(_STRENGTHS), method="bounded").x))


def integers(values: Sequence[int]) -> Integers:
    """A list of JSON's whole numbers; ValueError for anything else."""
    if any(not isinstance(value, int) or isinstance(value, bool) for value in values):
        raise ValueError("a count or a place that isn't a whole number")
    return np.array(values, dtype=np.int64)


def _words(table: pa.Table, column: str) -> pa.ChunkedArray:
    if column in SAYS_TOO_MUCH:
        raise BadInput(f"{column} is the answer itself or names a single record; fuse a column such as habitat or month")
    if column not in table.column_names:
        others = sorted({*table.column_names} - {*SAYS_TOO_MUCH})
        raise BadInput(f"no column {column!r} in this dataset; it has {', '.join(others)}")
    if pa.types.is_nested(table[column].type) or pa.types.is_floating(table[column].type):
        raise BadInput(f"the column {column} isn't one of words; fuse a column such as habitat or month")
    return plain_words(table[column])
