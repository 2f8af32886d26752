"""Figures in which a rare species weighs as much as a common one. Letters and conventions as in `accuracy`."""

from __future__ import annotations

import numpy as np

from taxakey.errors import BadInput
from taxakey.metrics.accuracy import Floats, Integers


def macro_f1(true_O: Integers, predicted_O: Integers) -> float:
    """Unweighted mean of the F1 of each class, over the union of the classes true or predicted; 0/0 counts as 0.

    The same as scikit-learn's `f1_score(average="macro")` and Kaggle's score: a class that is predicted and never true
    counts as 0. Rows whose true label is negative (not known) are left out.

    >>> macro_f1([0, 0, 1], [0, 2, 1])          # F1: 2/3, 1 and, for class 2 that is only predicted, 0
    0.5555555555555555
    """
    return float(_f1_per_class(true_O, predicted_O)[0].mean())


def macro_f1_present(true_O: Integers, predicted_O: Integers) -> float:
    """The same mean over the classes PRESENT in `true_O` only; wrong answers outside them lower recall, not the divisor.

    >>> macro_f1_present([0, 0, 1], [0, 2, 1])
    0.8333333333333333
    """
    f1_L, present_L = _f1_per_class(true_O, predicted_O)
    return float(f1_L[present_L].mean())


def _f1_per_class(true_O: Integers, predicted_O: Integers) -> tuple[Floats, np.ndarray]:
    """F1 [L] of every class true or predicted, and which of them are present among the true ones."""
    true_O, predicted_O = np.asarray(true_O), np.asarray(predicted_O)
    known = true_O >= 0
    true_O, predicted_O = true_O[known], predicted_O[known]
    if not len(true_O):
        raise BadInput("no row to measure: the part is empty, or none of its rows has a known name at this rank")
    labels_L, both = np.unique(np.concatenate([true_O, predicted_O]), return_inverse=True)
    true_K, predicted_K = both[: len(true_O)], both[len(true_O) :]
    right_L = np.bincount(true_K[true_K == predicted_K], minlength=len(labels_L))
    true_L = np.bincount(true_K, minlength=len(labels_L))
    predicted_L = np.bincount(predicted_K, minlength=len(labels_L))
    # F1 = 2 TP / (2 TP + FP + FN); the divisor is never 0, since each label is true or predicted at least once.
    return 2 * right_L / (true_L + predicted_L), true_L > 0
