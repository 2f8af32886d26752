"""Which taxa are taken for which others. Shapes: O observations, E different errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from taxakey.metrics.accuracy import Integers


@dataclass(frozen=True, eq=False)
class Confusions:
    """Each pair truth -> wrong answer that occurs, the most frequent first; all [E]."""

    true: NDArray[np.int64]
    predicted: NDArray[np.int64]
    count: NDArray[np.int64]
    observations: NDArray[np.int64]
    """Observations of the true taxon, right ones included."""


def confusions(true_O: Integers, predicted_O: Integers) -> Confusions:
    """By number of observations, then by share of the true taxon, then by the labels; rows with a negative label are left out.

    No table of all pairs is held: there are at most as many pairs as rows.

    >>> found = confusions([0, 0, 1, 2, -1], [1, 1, 2, 2, 2])
    >>> found.true.tolist(), found.predicted.tolist(), found.count.tolist(), found.observations.tolist()
    ([0, 1], [1, 2], [2, 1], [2, 1])
    """
    true_O, predicted_O = np.asarray(true_O, dtype=np.int64), np.asarray(predicted_O, dtype=np.int64)
    known_O = (true_O >= 0) & (predicted_O >= 0)
    true_O, predicted_O = true_O[known_O], predicted_O[known_O]
    labels = int(max(true_O.max(initial=0), predicted_O.max(initial=0))) + 1
    total_L = np.bincount(true_O, minlength=labels)
    wrong_O = true_O != predicted_O
    key_E, count_E = np.unique(true_O[wrong_O] * labels + predicted_O[wrong_O], return_counts=True)
    true_E, predicted_E = np.divmod(key_E, labels)
    order = np.lexsort((key_E, -count_E / total_L[true_E], -count_E))
    return Confusions(true_E[order], predicted_E[order], count_E[order].astype(np.int64), total_L[true_E[order]])
