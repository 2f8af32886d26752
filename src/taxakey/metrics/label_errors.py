"""Labels that are likely wrong, by confident learning (Northcutt, Jiang and Chuang, 2021, J. Artif. Intell. Res. 70).

Shapes: O observations, k stored answers, C classes, R resamples.

A class's threshold is the mean probability that it gets where its name is given. An observation counts for the most probable
of the classes that reach their thresholds there: under its given name, that name is confirmed; under another, the label is in
doubt; under none, nothing is counted. Rare or hard classes have low thresholds, so that a model that is less sure of them
isn't held against their labels. It needs probabilities of a model that did NOT learn from these labels: it would only
repeat them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from taxakey.errors import BadInput
from taxakey.metrics.accuracy import Floats, Integers
from taxakey.metrics.intervals import Statistic, ratio_of

SUREST = 1 / 3
"""Share of the observations in which the surest answers are looked for."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model says of labelled observations. `index_Ok`, `probability_Ok`: classes and probabilities, most probable first;
    `given_O`: class of the label, 0 to C − 1; `given_probability_O`: its probability, stored or not.

    A class that isn't among the k stored can't be counted; with 100 stored its probability is 0.01 at most.
    """

    index_Ok: Integers
    probability_Ok: NDArray[np.floating]
    given_O: Integers
    given_probability_O: NDArray[np.floating]
    classes: int

    def __post_init__(self) -> None:
        if not len(self.given_O) or (self.given_O < 0).any() or (self.given_O >= self.classes).any():
            raise BadInput(
                f"{len(self.given_O):,} labelled observations, {int((self.given_O < 0).sum()):,} of no class of the model: "
                "confident learning needs some, and only those of its classes"
            )


@dataclass(frozen=True, eq=False)
class Confidence:
    """`threshold_C`: NaN where no label names the class; `counted_O`: the class each observation counts for, −1 for none;
    `share`: of the labels contested, an estimate of the wrong ones from above; `share_C`: of each class's labels, NaN where
    there are none."""

    threshold_C: Floats
    counted_O: NDArray[np.int64]
    share: float
    share_C: Floats


def confident_learning(answers: Answers) -> Confidence:
    """Thresholds, what each observation counts for, and the share of wrong labels.

    The counts of each given class are scaled to its number of labels ("calibrated joint", eq. 2 there); a class none of whose
    observations counts for anything is taken to be right.

    >>> said = Answers(np.array([[0, 1], [0, 1], [1, 0], [1, 0], [1, 0]]), np.array([[0.9, 0.1]] * 5),
    ...                np.array([0, 0, 0, 1, 1]), np.array([0.9, 0.9, 0.1, 0.9, 0.9]), 2)
    >>> found = confident_learning(said)
    >>> found.counted_O, found.share
    (array([0, 0, 1, 1, 1]), 0.2)
    """
    return _learned(answers, np.ones(len(answers.given_O)))


def share_of_wrong_labels(answers: Answers) -> Statistic:
    """The share of names contested as a figure of resamples [R, O] -> [R]: thresholds and counts are found anew in each.

    What the model confuses counts too, so that it estimates the share of wrong labels from above and no interval of it holds that
    share as often as it says; `share_among_surest` is the estimate.
    """
    return lambda weights_RO: np.array([_learned(answers, weights_O).share for weights_O in weights_RO])


def share_among_surest(answers: Answers, surest: float = SUREST) -> Statistic:
    """Share of labels that the first answer contradicts, among the observations whose first answer is most probable.

    There a model that names well hardly errs, so that what it contradicts is mostly wrong: the estimate of the share of wrong
    labels (anchor points: Liu and Tao, 2016). It speaks of all observations only if wrong names are as frequent among the easy
    ones, and is too high where a model errs even there. The observations are chosen once, before any resampling; ties go to the
    first.
    """
    first_O = answers.probability_Ok[:, 0]
    chosen_O = np.zeros(len(first_O))
    chosen_O[np.argsort(-first_O, kind="stable")[: max(1, round(surest * len(first_O)))]] = 1
    return ratio_of(chosen_O * (answers.index_Ok[:, 0] != answers.given_O), chosen_O)


def _learned(answers: Answers, weights_O: NDArray[np.floating]) -> Confidence:
    given_O, classes = answers.given_O, answers.classes
    labels_C = np.bincount(given_O, weights_O, classes)
    sums_C = np.bincount(given_O, weights_O * answers.given_probability_O, classes)
    threshold_C = np.divide(sums_C, labels_C, out=np.full(classes, np.nan), where=labels_C > 0)
    counted_O = _counted(answers, threshold_C)
    some_C = np.bincount(given_O, weights_O * (counted_O >= 0), classes)
    other_C = np.bincount(given_O, weights_O * ((counted_O >= 0) & (counted_O != given_O)), classes)
    share_C = np.divide(other_C, some_C, out=np.where(labels_C > 0, 0.0, np.nan), where=some_C > 0)
    return Confidence(threshold_C, counted_O, float(np.nansum(share_C * labels_C) / labels_C.sum()), share_C)


def _counted(answers: Answers, threshold_C: Floats) -> NDArray[np.int64]:
    """The most probable class that reaches its threshold; a comparison with NaN never holds. A mean in floating point may lie
    above equal numbers by its last digit."""
    with np.errstate(invalid="ignore"):
        reached_Ok = answers.probability_Ok >= threshold_C[answers.index_Ok] * (1 - 1e-9)
        given_reached_O = answers.given_probability_O >= threshold_C[answers.given_O] * (1 - 1e-9)
    first_O = reached_Ok.argmax(axis=1)
    found_O = answers.index_Ok[np.arange(len(first_O)), first_O].astype(np.int64)
    return np.where(reached_Ok.any(axis=1), found_O, np.where(given_reached_O, answers.given_O, -1))
