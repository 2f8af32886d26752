"""Answers with all that any metric may want of them, and the table of the whole family."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
from hypothesis import strategies as st

from taxakey.errors import BadInput
from taxakey.metrics import accuracy, average_k, bins, costs, detection, long_tail, ranking, taxonomic
from taxakey.metrics.calibration_error import brier, expected_calibration_error, negative_log_likelihood
from taxakey.metrics.confusion import confusions
from taxakey.metrics.variance import one_way
from taxakey.predictions import rank_of, top_k

CLASSES = 6


class Answers:
    """Scores [O, C] and truths. Class 5 is outside the model: it has no score.

    `place` says where each class stands, so that what is known of the classes (poisonous, genus, training images) goes with
    them when they are renamed: by nature, classes 1, 3 and 5 are poisonous and classes 0-1, 2-3 and 4-5 share a genus.
    """

    def __init__(self, scores_OC: np.ndarray, true_O: np.ndarray, place: np.ndarray | None = None) -> None:
        self.scores_OC, self.true_O = scores_OC, true_O
        self.rank_O = rank_of(scores_OC, np.where(true_O < scores_OC.shape[1], true_O, -1))[0]
        self.predicted_O = top_k(scores_OC, 1)[:, 0]
        self.confidence_O = scores_OC.max(axis=1)
        nature_L = np.argsort(np.arange(CLASSES) if place is None else place)
        self.poisonous_L = nature_L % 2 == 1
        self.genus_L = nature_L // 2
        self.family_L = nature_L // 4
        self.images_L = np.array([100, 7, 7, 30, 2, 0])[nature_L]

    @cached_property
    def probability_OC(self) -> np.ndarray:
        return (self.scores_OC + 0.01) / (self.scores_OC + 0.01).sum(axis=1, keepdims=True)

    @cached_property
    def ranked_OC(self) -> np.ndarray:
        return -np.sort(-self.probability_OC, axis=1)

    @cached_property
    def true_probability_O(self) -> np.ndarray:
        held = self.true_O < self.scores_OC.shape[1]
        return np.where(held, self.probability_OC[np.arange(len(held)), np.where(held, self.true_O, 0)], 0.0)

    @cached_property
    def threshold(self) -> float:
        return average_k.average_k_threshold(self.ranked_OC, 2, classes=self.scores_OC.shape[1])

    @cached_property
    def distance_O(self) -> np.ndarray:
        table = np.array([[0, 1, 4], [1, 0, 2], [4, 2, 0]])
        return taxonomic.genus_distance(self.genus_L[self.true_O], self.genus_L[self.predicted_O], table)


def _sometimes(figure: Callable[[Answers], float]) -> Callable[[Answers], float]:
    """Figures that some answers leave undefined: the same words for all of them, and never a number."""

    def figure_or_words(answers: Answers) -> float:
        try:
            return figure(answers)
        except BadInput as error:
            if "no row to measure" in str(error):
                return -1.0
            raise

    return figure_or_words


def _bin(a: Answers, bin_L: np.ndarray) -> float:
    """All figures of all bins as one number."""
    figures = bins.by_bin(accuracy.hits(a.rank_O, 1), a.true_O, bin_L)
    return sum((1 + each.bin) * (each.mean + each.classes) + (each.standard_error or 0) for each in figures)


def _pairs(a: Answers) -> float:
    """Shares of all confused pairs, by their place in the list."""
    found = confusions(a.true_O, a.predicted_O)
    return float((found.count / found.observations / (1 + np.arange(len(found.count)))).sum())


def _variance(a: Answers) -> float:
    """Of the classes' recall over genera; a number of its own where there is nothing to analyse."""
    table = bins.per_class(a.true_O, a.predicted_O)
    try:
        found = one_way(table.recall, a.genus_L[table.label])
    except BadInput:
        return -9.0
    return found.omega_squared + found.p_value


BETWEEN_0_AND_1: dict[str, Callable[[Answers], float]] = {
    "top_1": lambda a: accuracy.top_k(a.rank_O, 1),
    "top_3": lambda a: accuracy.top_k(a.rank_O, 3),
    "macro_top_1": lambda a: accuracy.macro_top_k(a.rank_O, a.true_O, 1),
    "macro_top_3": lambda a: accuracy.macro_top_k(a.rank_O, a.true_O, 3),
    "macro_f1": lambda a: long_tail.macro_f1(a.true_O, a.predicted_O),
    "macro_f1_present": lambda a: long_tail.macro_f1_present(a.true_O, a.predicted_O),
    "ma_mrr": lambda a: ranking.ma_mrr(a.rank_O, a.true_O, cutoff=4),
    "ece": lambda a: expected_calibration_error(a.confidence_O, a.rank_O == 1, bins=4),
    "average_2": lambda a: average_k.average_k(a.true_probability_O, a.rank_O, a.threshold),
    "macro_average_2": lambda a: average_k.macro_average_k(a.true_probability_O, a.rank_O, a.true_O, a.threshold),
    "track1": lambda a: costs.track1(a.true_O, a.predicted_O),
    "poison_accuracy": lambda a: costs.poison_accuracy(a.true_O, a.predicted_O, a.poisonous_L),
    "mean recall of the classes": lambda a: float(bins.per_class(a.true_O, a.predicted_O).recall.mean()),
    "mean precision of the classes": lambda a: float(bins.per_class(a.true_O, a.predicted_O).precision.mean()),
    "genus top_1": lambda a: float((a.genus_L[a.true_O] == a.genus_L[a.predicted_O]).mean()),
}

OTHERS: dict[str, Callable[[Answers], float]] = {
    "track2": lambda a: costs.track2(a.true_O, a.predicted_O, a.poisonous_L),
    "track3": lambda a: costs.track3(a.true_O, a.predicted_O, a.poisonous_L),
    "track4": lambda a: costs.track4(np.where(a.true_O == a.scores_OC.shape[1], -1, a.true_O), a.predicted_O),
    "poison_confusion": _sometimes(lambda a: costs.poison_confusion(a.true_O, a.predicted_O, a.poisonous_L)),
    "edible_confusion": _sometimes(lambda a: costs.edible_confusion(a.true_O, a.predicted_O, a.poisonous_L)),
    "taxonomic distance": _sometimes(lambda a: taxonomic.mean_taxonomic_distance(a.distance_O, a.true_O != a.predicted_O)),
    "ancestor height": lambda a: float(taxonomic.ancestor_height(a.true_O, a.predicted_O, [a.genus_L, a.family_L]).mean()),
    "brier": lambda a: brier(a.ranked_OC, a.true_probability_O),
    "nll": lambda a: negative_log_likelihood(a.true_probability_O),
    "set size": lambda a: float(average_k.set_sizes(a.ranked_OC, a.threshold, classes=a.scores_OC.shape[1]).mean()),
    "auroc": _sometimes(lambda a: detection.auroc(a.confidence_O, a.true_O < 4)),
    "fpr at 80 %": _sometimes(lambda a: detection.fpr_at_tpr(a.confidence_O, a.true_O < 4, 0.8)),
    "bins": lambda a: _bin(a, bins.bin_of(a.images_L, (0, 5, 10, 50))),
    "thirds": lambda a: _bin(a, bins.quantile_bin_of(a.images_L, 3)),
    "omega squared of genera": lambda a: _variance(a),
    "confused pairs": lambda a: _pairs(a),
    "classes above": lambda a: bins.classes_above(bins.per_class(a.true_O, a.predicted_O).recall, 0.5),
}

METRICS = BETWEEN_0_AND_1 | OTHERS
NOT_OF_NAMES = {"auroc", "fpr at 80 %"}
"""In the table above they call classes from 4 on unknown, by their number."""


@st.composite
def answers(draw: st.DrawFn) -> Answers:
    """Few different scores, so that ties are common; some truths outside the model."""
    rows = draw(st.integers(1, 25))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scores_OC = generator.integers(0, 4, (rows, CLASSES - 1)) / 4
    return Answers(scores_OC, generator.integers(0, CLASSES, rows))
