"""When an answer is "unknown": a threshold on how sure the model is, learned on validation.

Shapes: O observations, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from taxakey.errors import BadInput
from taxakey.metrics.costs import track4, unknown_costs

Integers = NDArray[np.integer]
Floats = NDArray[np.float64]
UNKNOWN = -1


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


def keep_known(sureness_O: ArrayLike, answer_O: Integers, true_O: Integers, kept: float) -> UnknownRule:
    """The highest threshold that the share `kept` of the known species' observations reaches at least.

    >>> keep_known([0.9, 0.8, 0.4, 0.1], np.array([0, 1, 0, 0]), np.array([0, 1, 0, -1]), 0.66).threshold
    0.8
    """
    sureness_O, true_O = np.asarray(sureness_O, dtype=np.float64), np.asarray(true_O)
    known_O = np.sort(sureness_O[true_O >= 0])[::-1]
    if not 0 < kept <= 1 or not len(known_O):
        raise BadInput(f"keeping {kept} of {len(known_O)} known observations: a share above 0, of at least one")
    # 0.95 · 20 must be 19, though as floating-point numbers it is a little more.
    threshold = float(known_O[int(np.ceil(kept * len(known_O) - 1e-9)) - 1])
    rule = UnknownRule(threshold, 0.0, track4(true_O, answer_O))
    return UnknownRule(threshold, track4(true_O, rule.apply(np.asarray(answer_O), sureness_O)), rule.track4_without)
