"""The same figure in parts of the classes or rows: class by class, by training images, in thirds, by institution or month.

Shapes: O observations, L labels, P labels that are present, M bins.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from taxakey.errors import BadInput
from taxakey.metrics.accuracy import Floats, Integers

NAFLORA_EDGES = (0, 5, *range(10, 91, 10))
"""Bins of NAFlora-1M: below 5, [5, 10), [10, 20) … [80, 90), and from 90 on."""

Value = TypeVar("Value")


@dataclass(frozen=True, eq=False)
class ClassTable:
    """One row for each class that is present among the truths, in the order of the labels; all [P]."""

    label: NDArray[np.int64]
    observations: NDArray[np.int64]
    answers: NDArray[np.int64]
    """How often the class was answered, rightly or wrongly."""
    recall: Floats
    """Share of its observations that were named rightly: its top-1."""
    precision: Floats
    """Share of right ones among the answers that name it; 0 where none does."""
    f1: Floats


def per_class(true_O: Integers, predicted_O: Integers) -> ClassTable:
    """Recall, precision and F1 of each class present; rows with a negative label are left out.

    >>> per_class([0, 0, 1], [0, 2, 1]).f1.round(3)
    array([0.667, 1.   ])
    """
    true_O, predicted_O = np.asarray(true_O), np.asarray(predicted_O)
    known_O = true_O >= 0
    true_O, predicted_O = true_O[known_O], predicted_O[known_O]
    label_P, place_O, observations_P = np.unique(true_O, return_inverse=True, return_counts=True)
    if not len(label_P):
        raise BadInput("no row to measure: the part is empty, or none of its rows has a known name at this rank")
    right_P = np.bincount(place_O[true_O == predicted_O], minlength=len(label_P))
    answer_O = np.minimum(np.searchsorted(label_P, predicted_O), len(label_P) - 1)
    answers_P = np.bincount(answer_O[label_P[answer_O] == predicted_O], minlength=len(label_P))
    return ClassTable(
        label_P.astype(np.int64),
        observations_P,
        answers_P,
        recall=right_P / observations_P,
        precision=right_P / np.maximum(answers_P, 1),
        f1=2 * right_P / (observations_P + answers_P),
    )


def classes_above(values_P: ArrayLike, share: float = 0.9) -> int:
    """How many classes have MORE than `share`, e.g. of `per_class(...).recall`.

    >>> classes_above([1.0, 0.9, 0.95])
    2
    """
    return int((np.asarray(values_P) > share).sum())


def images_by_percent(accuracy_P: ArrayLike, images_P: ArrayLike) -> dict[int, float]:
    """Mean number of training images of the classes of each whole per cent of accuracy that occurs, rounded down.

    >>> images_by_percent([0.5, 0.509, 1.0], [10, 20, 300])
    {50: 15.0, 100: 300.0}
    """
    # A share like 0.29 is stored a little too small, and 100 times it must not fall into the per cent below.
    percent_P = np.floor(np.asarray(accuracy_P, dtype=np.float64) * 100 + 1e-9).astype(np.int64)
    percents, place_P, count = np.unique(percent_P, return_inverse=True, return_counts=True)
    mean = np.bincount(place_P, np.asarray(images_P, dtype=np.float64)) / count
    return dict(zip(percents.tolist(), mean.tolist(), strict=True))


# ---- bins of classes ----


@dataclass(frozen=True)
class BinFigure:
    """A figure of the classes of one bin, each weighing the same."""

    bin: int
    classes: int
    observations: int
    mean: float
    standard_error: float | None
    """Of the mean over the classes (their standard deviation / √classes); None for a single class."""


def bin_of(images_L: ArrayLike, edges: Sequence[float]) -> NDArray[np.int64]:
    """The bin [edge, next edge) of each class [L]; the last goes on for ever, and -1 is below the first edge.

    >>> bin_of([4, 5, 19, 90], NAFLORA_EDGES)
    array([ 0,  1,  2, 10])
    """
    if list(edges) != sorted(set(edges)) or not edges:
        raise BadInput(f"the edges of bins must rise, these don't: {list(edges)}")
    return np.searchsorted(np.asarray(edges), np.asarray(images_L), side="right").astype(np.int64) - 1


def quantile_bin_of(images_L: ArrayLike, bins: int) -> NDArray[np.int64]:
    """Bins of about equally many classes, from the fewest images to the most [L].

    Classes with equally many images stay together, in the bin of the first of them; so a bin may be empty.

    >>> quantile_bin_of([30, 1, 2, 2, 2, 90], 3)
    array([2, 0, 0, 0, 0, 2])
    """
    images_L = np.asarray(images_L)
    if bins < 1:
        raise BadInput(f"{bins} bins of classes: at least one is needed")
    return np.searchsorted(np.sort(images_L), images_L).astype(np.int64) * bins // max(len(images_L), 1)


THIRDS = ("tail", "middle", "head")
"""Names of `quantile_bin_of(images_L, 3)`: the rarest third of the classes, the middle one, the most frequent one."""


def by_bin(values_O: ArrayLike, labels_O: Integers, bin_L: Integers) -> list[BinFigure]:
    """Mean over the classes present of each bin of their means, e.g. of `accuracy.hits`; bins without a class don't appear.

    Rows with a negative label, and classes in bin -1, are left out.

    >>> by_bin([1, 0, 1, 0], [0, 0, 1, 2], [1, 1, 0])[1]
    BinFigure(bin=1, classes=2, observations=3, mean=0.75, standard_error=0.25)
    """
    values_O, labels_O, bin_L = np.asarray(values_O, dtype=np.float64), np.asarray(labels_O), np.asarray(bin_L)
    known_O = labels_O >= 0
    labels_P, place_O, observations_P = np.unique(labels_O[known_O], return_inverse=True, return_counts=True)
    mean_P = np.bincount(place_O, values_O[known_O], len(labels_P)) / observations_P
    figures = []
    for number in np.unique(bin_L[bin_L >= 0]).tolist():
        inside_P = bin_L[labels_P] == number
        if classes := int(inside_P.sum()):
            error = float(mean_P[inside_P].std(ddof=1) / np.sqrt(classes)) if classes > 1 else None
            figures.append(BinFigure(number, classes, int(observations_P[inside_P].sum()), float(mean_P[inside_P].mean()), error))
    return figures


# ---- groups of rows ----


def by_group(figure: Callable[[NDArray[np.int64]], Value], group_O: Sequence[Hashable | None]) -> dict[Hashable, Value]:
    """The same figure for the rows of each institution, organ or month, in the order of the groups.

    figure: takes the numbers of the rows. Rows without a group (None) are left out.

    >>> right = np.array([1, 0, 1])
    >>> by_group(lambda rows: float(right[rows].mean()), ["leaf", "flower", "leaf"])
    {'flower': 0.0, 'leaf': 1.0}
    """
    rows: dict[Hashable, list[int]] = {}
    for row, group in enumerate(group_O):
        if group is not None:
            rows.setdefault(group, []).append(row)
    return {group: figure(np.array(rows[group])) for group in sorted(rows, key=lambda group: (str(type(group)), group))}
