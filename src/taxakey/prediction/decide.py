"""What to answer, given probabilities: the least expected cost, "unknown", a genus instead of a species, a set of species.

Shapes: O observations, N of them known, C classes, G taxa of a rank, k stored answers.

Every rule looks at probabilities and adds a decision; the ranked answers themselves stay as they are and stand beside it.
Thresholds and guarantees are learned on VALIDATION and hold for observations of the same kind.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from taxakey.errors import BadInput
from taxakey.metrics.cost_matrix import Costs
from taxakey.metrics.costs import HARMLESS_ACCUSED, POISONOUS_MISSED, track4, unknown_costs

Integers = NDArray[np.integer]
Floats = NDArray[np.float64]
UNKNOWN = -1


# ---- one name ----


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


# ---- unknown ----


def entropy(probabilities_OC: NDArray[np.floating]) -> Floats:
    """Entropy [O] in nats: 0 where all is on one class, log C where nothing is told apart; minus it is a sureness.

    >>> entropy(np.array([[1.0, 0.0], [0.5, 0.5]])).round(4)
    array([0.    , 0.6931])
    """
    p_OC = np.asarray(probabilities_OC, dtype=np.float64)
    return -(p_OC * np.log(np.where(p_OC > 0, p_OC, 1))).sum(axis=1) + 0.0


@dataclass(frozen=True)
class UnknownRule:
    """Below `threshold` the answer is "unknown". A sureness is high for what the model knows: see `metrics.detection`."""

    threshold: float
    track4: float
    """What it cost on validation, beside what answering always would have."""
    track4_without: float

    def apply(self, answer_O: Integers, sureness_O: ArrayLike) -> NDArray[np.int64]:
        """The answers [O] with UNKNOWN in place of the unsure ones."""
        return np.where(np.asarray(sureness_O, dtype=np.float64) >= self.threshold, answer_O, UNKNOWN)


def fit_unknown(sureness_O: ArrayLike, answer_O: Integers, true_O: Integers) -> UnknownRule:
    """The threshold with the least Track 4 cost on validation; true_O is negative for species unknown to the model.

    Of thresholds that cost the same the lowest is taken, which answers most.
    """
    sureness_O = np.asarray(sureness_O, dtype=np.float64)
    answer_O, true_O = np.asarray(answer_O), np.asarray(true_O)
    if not len(sureness_O) or np.isnan(sureness_O).any():
        raise BadInput("a threshold for the unknown needs validation observations, each with its sureness")
    named_O, silent_O = unknown_costs(true_O, answer_O), unknown_costs(true_O, np.full(len(true_O), UNKNOWN))
    order = np.argsort(sureness_O, kind="stable")
    # Cost when the n least sure are called unknown, for n from none to all.
    cost = np.concatenate([[0.0], np.cumsum((silent_O - named_O)[order])]) + named_O.sum()
    ordered = sureness_O[order]
    allowed = np.concatenate([[True], np.diff(ordered) > 0, [True]])
    best = int(np.flatnonzero(allowed & np.isclose(cost, cost[allowed].min(), rtol=0, atol=1e-9))[0])
    threshold = -np.inf if best == 0 else np.inf if best == len(ordered) else float(ordered[best])
    rule = UnknownRule(threshold, 0.0, track4(true_O, answer_O))
    return UnknownRule(threshold, track4(true_O, rule.apply(answer_O, sureness_O)), rule.track4_without)


# ---- sets of species with a stated coverage ----


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
