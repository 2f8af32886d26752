"""Calibration: whether answers given with probability p are right in a share p of cases.

Shapes: O observations, K stored answers of each, the most probable first, M bins that hold something.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from taxakey.errors import BadInput

BINS = 15
_SMALLEST = float(np.finfo(np.float32).tiny)  # the tables store float32: a stored 0 may be anything below this


@dataclass(frozen=True)
class ReliabilityPoint:
    """One bin of a reliability curve: what was promised, what was kept, and for how many."""

    confidence: float
    accuracy: float
    observations: int


def reliability(confidence_O: ArrayLike, correct_O: ArrayLike, *, bins: int = BINS) -> list[ReliabilityPoint]:
    """Mean confidence and share of right answers in `bins` groups of equal size, from the least sure to the surest.

    Ties: equal confidences never come apart, they all go to the group of the first of them; so the order of rows doesn't
    matter, a group may be larger than another, and there may be fewer groups than asked for. Empty groups don't appear.

    >>> reliability([0.9, 0.2, 0.8, 0.3], [1, 0, 1, 1], bins=2)[0]
    ReliabilityPoint(confidence=0.25, accuracy=0.5, observations=2)
    """
    confidence_O, correct_O = np.asarray(confidence_O, dtype=np.float64), np.asarray(correct_O, dtype=np.float64)
    if not len(confidence_O) or bins < 1:
        raise BadInput(f"reliability of {len(confidence_O)} answers in {bins} bins: at least one of each is needed")
    first_of_equal_O = np.searchsorted(np.sort(confidence_O), confidence_O)
    bin_O = first_of_equal_O * bins // len(confidence_O)
    count_M = np.bincount(bin_O)
    confidence_M, correct_M = np.bincount(bin_O, confidence_O), np.bincount(bin_O, correct_O)
    return [
        ReliabilityPoint(float(confidence_M[m] / count_M[m]), float(correct_M[m] / count_M[m]), int(count_M[m]))
        for m in np.flatnonzero(count_M)
    ]


def expected_calibration_error(confidence_O: ArrayLike, correct_O: ArrayLike, *, bins: int = BINS) -> float:
    """Mean distance between promised and kept, over groups of equal size weighted by what they hold (equal-mass ECE).

    confidence_O: probability of the first answer; correct_O: whether it is right. 0 is perfect. Ties as in `reliability`.
    Groups of equal size, because on a good model groups of equal width are nearly empty but for the last (Nixon et al., 2019).

    >>> round(expected_calibration_error([0.9, 0.2, 0.8, 0.3], [1, 0, 1, 1], bins=2), 6)
    0.2
    """
    points = reliability(confidence_O, correct_O, bins=bins)
    rows = sum(point.observations for point in points)
    return sum(point.observations * abs(point.confidence - point.accuracy) for point in points) / rows


def calibration_error_by_chance(points: Sequence[ReliabilityPoint]) -> float:
    """What `expected_calibration_error` would come to in these groups had every promise been kept.

    Each group counts as n draws at its mean confidence p; the mean deviation of their share from p is 2·k·(1 − p)·b(k; n, p)/n
    with k = floor(n·p) + 1 (de Moivre; Diaconis & Zabell, 1991). That the error can't be 0 in small groups is its bias (Roelofs
    et al., 2022).

    >>> calibration_error_by_chance([ReliabilityPoint(0.5, 1.0, 2)])  # 0, 1, 1, 2 of 2 right: off by 0.5 every second time
    0.25
    """
    from scipy.stats import binom  # a second to load

    n_M = np.array([point.observations for point in points])
    p_M = np.array([point.confidence for point in points])
    k_M = np.floor(n_M * p_M) + 1
    return float((2 * k_M * (1 - p_M) * binom.pmf(k_M, n_M, p_M)).sum() / n_M.sum())


def negative_log_likelihood(true_probability_O: ArrayLike) -> float:
    """Mean of -log(probability of the true taxon); only rows whose taxon the model holds belong here.

    A probability stored as 0 counts as 1.2e-38, the smallest normal number of the table's float32.

    >>> round(negative_log_likelihood([0.5, 0.25]), 6)
    1.039721
    """
    true_probability_O = np.asarray(true_probability_O, dtype=np.float64)
    if not len(true_probability_O):
        raise BadInput("no row to measure: no true taxon is one of the model's")
    return float(-np.log(np.maximum(true_probability_O, _SMALLEST)).mean())


def brier(
    probability_OK: NDArray[np.floating],
    true_probability_O: ArrayLike,
    tail_O: ArrayLike | None = None,
    *,
    tolerance: float = 0.0005,
) -> float:
    """Mean of the squared distance between the probabilities and the truth, summed over classes; 0 is perfect, 2 the worst.

    true_probability_O: that of the true class, 0 where the model doesn't hold it. `tail_O` is what wasn't stored (None:
    nothing): its squares sum to at most tail · (last stored), and half of that is added. Raises BadInput where this leaves
    more than `tolerance` open (Brier, 1950).

    >>> brier(np.array([[0.75, 0.25], [0.5, 0.5]]), [0.75, 0.5])
    0.3125
    """
    true_probability_O = np.asarray(true_probability_O, dtype=np.float64)
    if not len(true_probability_O):
        raise BadInput("no row to measure: the part is empty")
    squares_O = np.einsum("ok,ok->o", probability_OK, probability_OK, dtype=np.float64)
    rest_O = np.zeros(1) if tail_O is None else np.asarray(tail_O) * np.asarray(probability_OK)[:, -1].astype(np.float64) / 2
    if rest_O.mean() > tolerance:
        raise BadInput(
            f"the {np.shape(probability_OK)[1]} stored answers leave the Brier score open by ±{rest_O.mean():.2g}; "
            "predict again with more stored answers"
        )
    return float((squares_O + rest_O + 1 - 2 * true_probability_O).mean())
