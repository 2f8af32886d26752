"""Sets of species with a stated coverage.

Shapes: O observations, N of them known, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from taxakey.errors import BadInput

Integers = NDArray[np.integer]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ConformalSets:
    """Sets that hold the truth in a share of at least `coverage` of cases, on average over observations like validation's.

    The set of a row holds every class whose probability is at least `threshold`; with `threshold_C` each class has its own, and
    the promise holds for each class by itself (class-conditional), which costs larger sets. A class whose threshold is 0 had
    too few validation observations to leave it out of any set.
    """

    coverage: float
    threshold: float
    threshold_C: Floats | None = None

    def contains(self, probabilities_OC: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Which classes each set holds [O, C]; it may be empty: nothing in the model looks like it."""
        limit = self.threshold if self.threshold_C is None else self.threshold_C
        return np.asarray(probabilities_OC, dtype=np.float64) >= limit


def fit_conformal(
    true_probability_N: ArrayLike, true_N: Integers, *, coverage: float = 0.9, classes: int | None = None
) -> ConformalSets:
    """Split conformal sets (Vovk; Sadinle, Lei and Wasserman, 2019) from validation observations of species in the model.

    true_probability_N: the true class' probability. With n observations the threshold is the ⌊(n + 1)(1 − coverage)⌋-th
    smallest of them; where that is none, 0: everything belongs to the set. `classes` asks for a threshold for each class
    (class-conditional), from at least coverage / (1 − coverage) observations of it.

    >>> fit_conformal([0.9, 0.8, 0.2, 0.7], np.array([0, 0, 1, 1]), coverage=0.6).threshold
    0.7
    """
    p_N, true_N = np.asarray(true_probability_N, dtype=np.float64), np.asarray(true_N)
    if not 0 < coverage < 1 or not len(p_N) or (true_N < 0).any():
        raise BadInput(
            f"a coverage of {coverage} from {len(p_N)} observations: it lies between 0 and 1, and all are species of the model"
        )
    threshold = _conformal_threshold(p_N, coverage)
    if classes is None:
        return ConformalSets(coverage, threshold)
    threshold_C = np.zeros(classes)
    order = np.argsort(true_N, kind="stable")
    present, starts = np.unique(true_N[order], return_index=True)
    for label, rows in zip(present, np.split(order, starts[1:]), strict=True):
        threshold_C[label] = _conformal_threshold(p_N[rows], coverage)
    return ConformalSets(coverage, threshold, threshold_C)


def _conformal_threshold(p_N: Floats, coverage: float) -> float:
    # 10 · (1 − 0.9) is 0.9999999999999998 for a computer, and must be 1.
    place = int(np.floor((len(p_N) + 1) * (1 - coverage) + 1e-9))
    return float(np.partition(p_N, place - 1)[place - 1]) if place else 0.0


def mean_set_size(sets_OC: NDArray[np.bool_]) -> float:
    """Mean number of classes of the sets [O, C]; stands beside every coverage, for the set of all classes covers always.

    >>> mean_set_size(np.array([[True, False], [True, True]]))
    1.5
    """
    return float(np.asarray(sets_OC).sum(axis=1).mean())
