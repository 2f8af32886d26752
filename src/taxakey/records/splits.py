"""Train, validation and test by observation: pictures of one observation never stand on two sides.

Within a class its observations are put in the order of the hexadecimal MD5 of the UTF-8 text "{occurrenceID}:{seed}"; the
first go to test, the next to validation, the rest to train. So the side of an observation depends on its own id, its class
and the seed, not on the order of rows, and a colleague can compute it with any language. Shapes: O observations, N rows, n
observations of a class.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from taxakey.errors import BadInput
from taxakey.records.table import SPLITS, Observations

_TRAIN, _VALIDATION, _TEST = range(3)


@dataclass(frozen=True)
class SplitOptions:
    """Shares of the observations of each class, and the least number in test of a class that has `min_test_from` or more."""

    train: float = 0.7
    validation: float = 0.1
    test: float = 0.2
    seed: int = 0
    min_test: int = 2
    min_test_from: int = 5

    def __post_init__(self) -> None:
        shares = (self.train, self.validation, self.test)
        if min(shares) < 0 or not math.isclose(sum(shares), 1, abs_tol=1e-9):
            raise BadInput(f"the shares of train, validation and test are {shares}; none may be negative and their sum must be 1")
        if self.min_test < 0 or self.min_test_from < 0:
            raise BadInput(f"min_test {self.min_test} and min_test_from {self.min_test_from} must not be negative")


def split(observations: Observations, options: SplitOptions | None = None) -> Observations:
    """Fill the column `split`, stratified by scientificName; a value that is given is kept and doesn't count to the quotas.

    A class of n observations without a given split sends round(n · test) to test, halves up, but at least `min_test` from
    `min_test_from` on, and round(n · validation) to validation; one always stays in train. Pictures without a split follow those
    of their observation that have one.
    """
    options = options or SplitOptions()
    table = observations.table
    observed = pc.dictionary_encode(table["occurrenceID"]).combine_chunks()
    ids = observed.dictionary.to_pylist()
    code_N = observed.indices.to_numpy(zero_copy_only=False)
    class_N = pc.dictionary_encode(table["scientificName"]).combine_chunks().indices.to_numpy(zero_copy_only=False)
    given_N = pc.fill_null(pc.index_in(table["split"], pa.array(SPLITS)), -1).to_numpy().astype(np.int64)
    side_O, class_O = np.full(len(ids), -1, dtype=np.int64), np.zeros(len(ids), dtype=np.int64)
    class_O[code_N] = class_N
    np.maximum.at(side_O, code_N, given_N)
    free = np.flatnonzero(side_O < 0)
    side_O[free] = _assign(class_O[free], _order(ids, free, options.seed), options)
    sides = pa.array(np.array(SPLITS, dtype=object)[side_O[code_N]], pa.string())
    return observations.replace(table.set_column(table.schema.get_field_index("split"), table.schema.field("split"), sides))


def _order(ids: list[str], free: NDArray[np.int64], seed: int) -> NDArray[np.uint64]:
    """The 128 bits of each MD5 as two numbers, [n, 2], the more significant first."""
    digests = b"".join(hashlib.md5(f"{ids[row]}:{seed}".encode(), usedforsecurity=False).digest() for row in free)
    return np.frombuffer(digests, dtype=">u8").reshape(-1, 2).astype(np.uint64)


def _assign(class_n: NDArray[np.int64], order_n2: NDArray[np.uint64], options: SplitOptions) -> NDArray[np.int64]:
    """Side of each observation: its place within its class against the class's quotas."""
    by_class = np.lexsort((order_n2[:, 1], order_n2[:, 0], class_n))
    sorted_class = class_n[by_class]
    starts = np.flatnonzero(np.diff(sorted_class, prepend=-1))
    sizes = np.diff(np.append(starts, len(class_n)))
    place = np.arange(len(class_n)) - np.repeat(starts, sizes)
    test, validation = (np.repeat(quota, sizes) for quota in quotas(sizes, options))
    side = np.empty(len(class_n), dtype=np.int64)
    side[by_class] = np.where(place < test, _TEST, np.where(place < test + validation, _VALIDATION, _TRAIN))
    return side


def quotas(sizes: NDArray[np.int64], options: SplitOptions) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Observations for test and for validation of classes of the given sizes.

    >>> quotas(np.array([1, 3, 5, 10]), SplitOptions())
    (array([0, 1, 2, 2]), array([0, 0, 1, 1]))
    """
    test = np.maximum(_round(options.test * sizes), np.where(sizes >= options.min_test_from, options.min_test, 0))
    test = np.minimum(test, np.maximum(sizes - 1, 0))
    validation = np.minimum(_round(options.validation * sizes), np.maximum(sizes - 1 - test, 0))
    return test, validation


def _round(numbers: NDArray[np.floating]) -> NDArray[np.int64]:
    """Halves up; the little more is for shares that floating point can't hold, such as 0.15 of 10."""
    return np.floor(numbers + 0.5 + 1e-9).astype(np.int64)
