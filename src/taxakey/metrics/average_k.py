"""Average-k accuracy: answer sets of k classes on average, larger for hard pictures and smaller for easy ones.

Shapes: O observations, B of them at a time, C classes, K stored answers of each row, the most probable first.

One threshold λ for all rows makes the sets {c: p_c ≥ λ}. λ_k is the mean of the (O·k)-th and the (O·k+1)-th largest of all O·C
probabilities of VALIDATION (λ_C = 0), and is applied to the test part as it is (Lorieul, Joly and Shasha, 2021). Those O·C
numbers are never held: from the K largest of each row λ_k is exact if it lies above every row's K-th, for then nothing that
wasn't stored can reach it; else an error says how many columns are enough.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from taxakey.errors import BadInput
from taxakey.metrics.accuracy import Floats, Integers, class_mean


def average_k_threshold(probability_OK: NDArray[np.floating], k: int, *, classes: int) -> float:
    """λ_k from the K most probable classes of each row. Raises BadInput where K columns are too few.

    >>> average_k_threshold(np.array([[0.75, 0.25], [0.5, 0.25]]), 1, classes=2)
    0.375
    """
    probability_OK = np.asarray(probability_OK)
    thresholds = AverageK(len(probability_OK), [k], classes=classes)
    thresholds.add(probability_OK)
    return thresholds.threshold(k)


class AverageK:
    """λ_k for several k from a table that comes in portions; holds a few times O·max(k) numbers, whatever K is."""

    def __init__(self, rows: int, ks: Sequence[int], *, classes: int) -> None:
        if rows < 1 or not ks or min(ks) < 1 or max(ks) > classes:
            raise BadInput(f"sets of {list(ks)} classes on average, of {classes} classes and {rows} rows: k goes from 1 to C")
        self.rows, self.classes = rows, classes
        self.columns = self._seen = 0
        self._kept = rows * max((k for k in ks if k < classes), default=0) + 1
        self._parts: list[NDArray[np.floating]] = []
        self._last = -np.inf

    def add(self, probability_BK: NDArray[np.floating]) -> None:
        """The next rows [B, K]."""
        probability_BK = np.asarray(probability_BK)
        if not len(probability_BK):
            return
        self._seen += len(probability_BK)
        self.columns = probability_BK.shape[1]
        self._last = max(self._last, float(probability_BK[:, -1].max()))
        self._parts.append(probability_BK.ravel())
        if sum(map(len, self._parts)) > 2 * self._kept:
            self._parts = [_largest(np.concatenate(self._parts), self._kept)]

    def threshold(self, k: int) -> float:
        """λ_k. Raises BadInput where it isn't exact, or where not all the rows have come."""
        if self._seen != self.rows:
            raise BadInput(f"{self._seen:,} rows came where {self.rows:,} were announced")
        if k == self.classes:
            return 0.0
        if self.rows * k + 1 > self._kept:
            raise BadInput(f"the threshold for sets of {k} classes wasn't announced; name k when the counting begins")
        if k >= self.columns:
            raise BadInput(f"sets of {k} classes on average from {self.columns} stored ones: store more than {k}")
        two = _largest(np.concatenate(self._parts), self.rows * k + 1)
        two = np.partition(two, 1)[:2].astype(np.float64)
        threshold = float(two.mean())
        _require_columns(threshold, self._last, self.columns, self.classes)
        return threshold


def average_k_hits(true_probability_O: ArrayLike, true_rank_O: Integers, threshold: float) -> Floats:
    """1.0 for each row [O] whose true taxon is in the set of its threshold; never for one outside the model (rank 0).

    >>> average_k_hits([0.5, 0.25, 0.0], [1, 2, 0], 0.25)
    array([1., 1., 0.])
    """
    held_O = np.asarray(true_rank_O) > 0
    return (held_O & (np.asarray(true_probability_O, dtype=np.float64) >= threshold)).astype(np.float64)


def average_k(true_probability_O: ArrayLike, true_rank_O: Integers, threshold: float) -> float:
    """Share of rows whose true taxon is in the set made by `threshold`, which was fitted on validation.

    >>> average_k([0.5, 0.25, 0.0, 0.5], [1, 2, 0, 1], 0.3)
    0.5
    """
    hits_O = average_k_hits(true_probability_O, true_rank_O, threshold)
    if not len(hits_O):
        raise BadInput("no row to measure: the part is empty, or none of its rows has a known name at this rank")
    return float(hits_O.mean())


def macro_average_k(true_probability_O: ArrayLike, true_rank_O: Integers, true_index_O: Integers, threshold: float) -> float:
    """Mean over the classes present of the same share; rows with a negative label are left out.

    >>> macro_average_k([0.5, 0.25, 0.5], [1, 2, 1], [7, 7, 4], 0.3)
    0.75
    """
    return class_mean(average_k_hits(true_probability_O, true_rank_O, threshold), true_index_O)


def set_sizes(probability_OK: NDArray[np.floating], threshold: float, *, classes: int) -> NDArray[np.int64]:
    """How many classes the set of each row [O] holds; their mean is reported beside the accuracy, for on test it isn't k.

    Raises BadInput where a set may reach beyond the K stored columns.

    >>> set_sizes(np.array([[0.75, 0.25], [0.5, 0.25]]), 0.5, classes=5)
    array([1, 1])
    """
    probability_OK = np.asarray(probability_OK)
    if threshold <= 0:
        return np.full(len(probability_OK), classes)
    if len(probability_OK):
        _require_columns(threshold, float(probability_OK[:, -1].max()), probability_OK.shape[1], classes)
    # As float64, like the threshold: rounded to float32 it could pass what lies just below it.
    return (probability_OK.astype(np.float64) >= threshold).sum(axis=1)


def _largest(values: NDArray[np.floating], count: int) -> NDArray[np.floating]:
    return np.partition(values, len(values) - count)[len(values) - count :] if len(values) > count else values


def _require_columns(threshold: float, last: float, columns: int, classes: int) -> None:
    """Raise unless no class beyond the stored ones can reach the threshold; `last`: the largest K-th probability of a row."""
    if columns >= classes or last < threshold:
        return
    # Of probabilities that sum to 1, the n-th largest is at most 1/n; and with more columns the threshold can only rise.
    enough = classes if threshold * classes <= 1 else min(classes, int(1 / threshold) + 1)
    raise BadInput(
        f"{columns} stored answers a row are too few: one row's last has {last:.3g}, and the threshold {threshold:.3g} must lie "
        f"above it; predict again with {enough:,} stored answers"
    )
