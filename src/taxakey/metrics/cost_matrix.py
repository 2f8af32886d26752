"""Costs of one's own: what it costs to take one species for another, also where a matrix of all pairs wouldn't fit.

Shapes: O observations, C classes, G groups of classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from taxakey.errors import BadInput
from taxakey.metrics import costs
from taxakey.metrics.accuracy import Floats, Integers


@dataclass(frozen=True, eq=False)
class Costs:
    """cost(true, answer) = wrong · [answer ≠ true] + between_GG[group of true, group of answer] + pairs_CC[true, answer].

    Whole groups (poisonous and harmless, unknown and known, protected, quarantined) are priced by a small table, single pairs
    one by one: 80,000 species of two groups take 80,000 numbers, not 6.4 billion. A right answer costs nothing, so the
    diagonals are 0. The example is Track 3 of FungiCLEF with species 1 poisonous.

    >>> costs = Costs(1.0, np.array([0, 1, 0]), np.array([[0, 1], [100, 0]]))
    >>> costs.of([0, 1, 2], [2, 0, 1])
    array([  1., 101.,   2.])
    """

    wrong: float = 1.0
    group_C: NDArray[np.integer] | None = None
    between_GG: NDArray[np.floating] | None = None
    pairs_CC: sparse.sparray | None = None

    def __post_init__(self) -> None:
        if (self.group_C is None) != (self.between_GG is None):
            raise BadInput("costs between groups need both the group of each class and the table of costs")
        if self.group_C is not None:
            group_C, between_GG = np.asarray(self.group_C), np.asarray(self.between_GG, dtype=np.float64)
            groups = len(between_GG)
            if between_GG.shape != (groups, groups) or not len(group_C) or group_C.min() < 0 or group_C.max() >= groups:
                raise BadInput(f"a table of costs of {between_GG.shape} doesn't fit groups up to {group_C.max(initial=-1)}")
            if np.diag(between_GG).any():
                raise BadInput("a cost within a group would be paid for right answers too; give single pairs their cost instead")
            object.__setattr__(self, "group_C", group_C)
            object.__setattr__(self, "between_GG", between_GG)
        if self.pairs_CC is not None:
            pairs_CC = sparse.csr_array(self.pairs_CC)
            if pairs_CC.shape[0] != pairs_CC.shape[1] or pairs_CC.diagonal().any():
                raise BadInput("costs of pairs stand in a square table of classes whose diagonal is 0: right answers are free")
            object.__setattr__(self, "pairs_CC", pairs_CC)

    def of(self, true_O: Integers, answer_O: Integers) -> Floats:
        """What each answer [O] costs. Both are classes from 0."""
        true_O, answer_O = np.asarray(true_O), np.asarray(answer_O)
        cost_O = self.wrong * (true_O != answer_O)
        if self.group_C is not None:
            assert self.between_GG is not None
            cost_O = cost_O + self.between_GG[self.group_C[true_O], self.group_C[answer_O]]
        if self.pairs_CC is not None:
            cost_O = cost_O + self.pairs_CC[true_O, answer_O]
        return np.asarray(cost_O, dtype=np.float64)

    def expected(self, probabilities_OC: NDArray[np.floating]) -> Floats:
        """What each answer is expected to cost, [O, C], given the probabilities of the truth [O, C].

        The part of a row's sum that is missing to 1 is taken for a truth outside the model, which makes every answer wrong.
        """
        probabilities_OC = np.asarray(probabilities_OC, dtype=np.float64)
        cost_OC = self.wrong * (1 - probabilities_OC)
        if self.group_C is not None:
            assert self.between_GG is not None
            member_CG = np.eye(len(self.between_GG))[self.group_C]
            cost_OC += (probabilities_OC @ member_CG @ self.between_GG)[:, self.group_C]
        if self.pairs_CC is not None:
            cost_OC += probabilities_OC @ self.pairs_CC
        return np.asarray(cost_OC, dtype=np.float64)


def track3_costs(poisonous_C: ArrayLike) -> Costs:
    """Costs of FungiCLEF's Track 3 among the classes of a model.

    >>> track3_costs([False, True]).of([1], [0])
    array([101.])
    """
    between_GG = np.array([[0.0, costs.HARMLESS_ACCUSED], [costs.POISONOUS_MISSED, 0.0]])
    return Costs(1.0, np.asarray(poisonous_C, dtype=np.int64), between_GG)


def track4_costs(unknown_C: ArrayLike) -> Costs:
    """Costs of FungiCLEF's Track 4 for a model that has classes for unknown species, which count as one.

    >>> track4_costs([False, False, True]).of([0, 0, 2], [1, 2, 0])
    array([ 1. ,  0.1, 10. ])
    """
    unknown_C = np.asarray(unknown_C, dtype=bool)
    between_GG = np.array([[0.0, costs.KNOWN_NOT_NAMED - 1], [costs.UNKNOWN_NAMED - 1, 0.0]])
    unknown = np.flatnonzero(unknown_C)
    first, second = (side.ravel() for side in np.meshgrid(unknown, unknown, indexing="ij"))
    alike = first != second
    free = sparse.coo_array((np.full(alike.sum(), -1.0), (first[alike], second[alike])), shape=(len(unknown_C),) * 2)
    return Costs(1.0, unknown_C.astype(np.int64), between_GG, sparse.csr_array(free))
