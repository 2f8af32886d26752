"""Accuracy: how often the true taxon is among the first k answers, over all rows and as a mean over classes.

Shapes: O observations (or images), L classes present among the labels.

Everywhere in this folder `true_rank_O` is the position of the true taxon among ALL taxa of the model, from 1; 0 says that
the model doesn't hold the taxon, which is always wrong. Ties were broken by the class index when the ranks were made.
`true_index_O` is any integer label of the true taxon, also one outside the model; a NEGATIVE label says that the taxon isn't
known, and such rows are left out of every mean over classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from taxakey.errors import BadInput

Integers = NDArray[np.integer]
Floats = NDArray[np.float64]


def top_k(true_rank_O: Integers, k: int) -> float:
    """Share of rows whose true taxon is among the k most probable. Raises BadInput where there are no rows.

    >>> top_k([1, 3, 0, 2], 2)
    0.5
    """
    hits_O = hits(true_rank_O, k)
    if not len(hits_O):
        raise BadInput("no row to measure: the part is empty, or none of its rows has a known name at this rank")
    return float(hits_O.mean())


def macro_top_k(true_rank_O: Integers, true_index_O: Integers, k: int) -> float:
    """Mean over the classes PRESENT of the share of their rows that are among the k most probable.

    A class that stands nowhere in `true_index_O` isn't counted, neither as 0 nor as 1. In the example class 7 has one hit
    of two rows and class 4 one of one.

    >>> macro_top_k([1, 2, 1], [7, 7, 4], k=1)
    0.75
    """
    return class_mean(hits(true_rank_O, k), true_index_O)


def hits(true_rank_O: Integers, k: int) -> Floats:
    """1.0 for each row [O] whose true taxon is among the k most probable, else 0.0.

    >>> hits([1, 3, 0], 1)
    array([1., 0., 0.])
    """
    if k < 1:
        raise BadInput(f"top {k}: at least one answer must be looked at")
    true_rank_O = np.asarray(true_rank_O)
    return ((true_rank_O >= 1) & (true_rank_O <= k)).astype(np.float64)


def class_mean(values_O: Floats, labels_O: Integers) -> float:
    """Mean over the classes present of the mean of each class; rows with a negative label are left out.

    Raises BadInput where no row has a label.

    >>> class_mean(np.array([1.0, 0.0, 1.0, 1.0]), np.array([7, 7, 4, -1]))
    0.75
    """
    values_O, labels_O = np.asarray(values_O, dtype=np.float64), np.asarray(labels_O)
    known = labels_O >= 0
    _, label_K, count_L = np.unique(labels_O[known], return_inverse=True, return_counts=True)
    if not len(count_L):
        raise BadInput("no row to measure: the part is empty, or none of its rows has a known name at this rank")
    return float((np.bincount(label_K, values_O[known]) / count_L).mean())
