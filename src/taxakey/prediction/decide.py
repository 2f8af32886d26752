"""What to answer, given probabilities: the most probable class, or the one that is expected to cost least.

Shapes: O observations, C classes.

Every rule looks at probabilities and adds a decision; the ranked answers themselves stay as they are and stand beside it.
Rules whose thresholds are learned on VALIDATION (roll-up, unknown, sets of species) stand in `calibration`: training fits them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from taxakey.metrics.cost_matrix import Costs
from taxakey.metrics.costs import HARMLESS_ACCUSED, POISONOUS_MISSED


def most_probable(probabilities_OC: NDArray[np.floating]) -> NDArray[np.int64]:
    """The class [O] with the largest probability, ties by index.

    >>> most_probable(np.array([[0.4, 0.4, 0.2]]))
    array([0])
    """
    return np.asarray(probabilities_OC).argmax(axis=1)


def least_cost(probabilities_OC: NDArray[np.floating], costs: Costs) -> NDArray[np.int64]:
    """The answer [O] that is expected to cost least, ties by index.

    >>> from taxakey.metrics.cost_matrix import track3_costs
    >>> least_cost(np.array([[0.95, 0.05]]), track3_costs([False, True]))
    array([1])
    """
    return costs.expected(probabilities_OC).argmin(axis=1)


def least_track3(probabilities_OC: NDArray[np.floating], poisonous_C: ArrayLike) -> NDArray[np.int64]:
    """The answer [O] that is expected to cost least in FungiCLEF's Track 3, in closed form.

    With P the sum over the poisonous, p_p the best of them and p_e the best other: the poisonous one iff
    101·P > 1 + p_e − p_p (its expected cost 1 − p_p + (1 − P) is below 1 − p_e + 100·P). Rows sum to 1.

    >>> least_track3(np.array([[0.995, 0.005], [0.98, 0.02]]), [False, True])
    array([0, 1])
    """
    probabilities_OC, poisonous_C = np.asarray(probabilities_OC, dtype=np.float64), np.asarray(poisonous_C, dtype=bool)
    if poisonous_C.all() or not poisonous_C.any():
        return most_probable(probabilities_OC)
    poisonous, others = np.flatnonzero(poisonous_C), np.flatnonzero(~poisonous_C)
    best_p, best_e = (group[probabilities_OC[:, group].argmax(axis=1)] for group in (poisonous, others))
    rows = np.arange(len(probabilities_OC))
    sum_O = probabilities_OC[:, poisonous].sum(axis=1)
    both = POISONOUS_MISSED + HARMLESS_ACCUSED
    accuse_O = both * sum_O > HARMLESS_ACCUSED + probabilities_OC[rows, best_e] - probabilities_OC[rows, best_p]
    return np.where(accuse_O, best_p, best_e)
