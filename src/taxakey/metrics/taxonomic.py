"""How far off an error is: along a table of distances between genera, or up to the last common ancestor.

Shapes: O observations, L labels, G genera (or taxa of another rank), C classes, k stored answers, t taxa of a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from taxakey.errors import BadInput
from taxakey.metrics.accuracy import Floats, Integers
from taxakey.predictions import top_k


def mean_taxonomic_distance(distance_O: ArrayLike, wrong_O: ArrayLike) -> float:
    """Mean distance of the errors. NaN distances (a genus that the tree doesn't hold) are left out.

    Raises BadInput where no error has a distance: the mean of nothing isn't 0, which would say that errors are near.

    >>> mean_taxonomic_distance([0.0, 1.0, 6.0, np.nan], [False, True, True, True])
    3.5
    """
    distance_O = np.asarray(distance_O, dtype=np.float64)
    counted_O = np.asarray(wrong_O, dtype=bool) & ~np.isnan(distance_O)
    if not counted_O.any():
        raise BadInput("no row to measure: there is no error whose distance is known")
    return float(distance_O[counted_O].mean())


def genus_distance(true_genus_O: Integers, predicted_genus_O: Integers, distances: Iterable[ArrayLike]) -> Floats:
    """Distance [O] between the genera of truth and answer; NaN where either is negative (not known) or the table has none.

    distances: rows [G] of a table in the order of the genera, as `records.phylogeny.tree_distances` and `rank_distances` give
    them; they are taken one by one, so that the table never stands in memory. Two species of a genus are 0 apart.

    >>> genus_distance([0, 1, -1], [1, 1, 0], [[0.0, 2.5], [2.5, 0.0]])
    array([2.5, 0. , nan])
    """
    true_O, predicted_O = np.asarray(true_genus_O), np.asarray(predicted_genus_O)
    distance_O = np.full(len(true_O), np.nan)
    known = np.flatnonzero((true_O >= 0) & (predicted_O >= 0))
    order = known[np.argsort(true_O[known], kind="stable")]
    wanted, starts = np.unique(true_O[order], return_index=True)
    rows_of = dict(zip(wanted.tolist(), np.split(order, starts[1:]), strict=True))
    for genus, distance_G in enumerate(distances):
        if (rows := rows_of.pop(genus, None)) is not None:
            distance_O[rows] = np.asarray(distance_G, dtype=np.float64)[predicted_O[rows]]
    if rows_of:
        raise BadInput(f"the table of distances ends before genus number {min(rows_of)}; make it from the same list of genera")
    return distance_O


def ancestor_height(true_O: Integers, predicted_O: Integers, codes_L: Sequence[Integers]) -> NDArray[np.int64]:
    """How many ranks lie up to the last common ancestor [O]: 0 the same species, 1 the same genus, 2 the same family …

    codes_L: for each rank above the species, from the finest, the taxon of each label [L], negative where it isn't known: an
    unknown parent is nobody's. One more than there are ranks where nothing is shared.

    >>> genus, family = np.array([0, 0, 1, 2]), np.array([0, 0, 0, 1])
    >>> ancestor_height([0, 0, 0, 0], [0, 1, 2, 3], [genus, family])
    array([0, 1, 2, 3])
    """
    true_O, predicted_O = np.asarray(true_O), np.asarray(predicted_O)
    height_O = np.full(len(true_O), len(codes_L) + 1, dtype=np.int64)
    for above, codes in reversed(list(enumerate(codes_L, 1))):
        codes = np.asarray(codes)
        height_O[(codes[true_O] >= 0) & (codes[true_O] == codes[predicted_O])] = above
    height_O[true_O == predicted_O] = 0
    return height_O


def taxon_sums(
    index_Ok: Integers, probability_Ok: NDArray[np.floating], codes_C: Integers, *, most: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The `most` probable taxa of a higher rank [O, t] and the sums of their species among the stored answers [O, t].

    They fall, ties by index; t is `most`, or k where that is less or None. Rows with fewer taxa end with taxon -1 and 0.
    codes_C: the taxon of each class, negative where it isn't known; such classes belong to none. Exact where all classes are
    stored; else every sum may lack up to the row's tail. (`Predictions` holds exact sums, made before the cut: this is for
    tables that end after k species.)

    >>> taxa, sums = taxon_sums(np.array([[3, 0, 1]]), np.array([[0.4, 0.3, 0.2]]), np.array([5, 5, 6, 7]))
    >>> taxa, sums.round(6)
    (array([[ 5,  7, -1]]), array([[0.5, 0.4, 0. ]]))
    """
    index_Ok = np.asarray(index_Ok)
    rows, k = index_Ok.shape
    # Sorting numbers made of taxon and column is several times faster than asking for the order of the taxa.
    taxon_Ok, column_Ok = np.divmod(np.sort(np.asarray(codes_C, dtype=np.int64)[index_Ok] * k + np.arange(k), axis=1), max(k, 1))
    value_Ok = np.take_along_axis(np.asarray(probability_Ok, dtype=np.float64), column_Ok, axis=1)
    first_Ok = np.diff(taxon_Ok, axis=1, prepend=-2) != 0
    starts = np.flatnonzero(first_Ok)
    sums_Ok = np.full((rows, k), -1.0)  # below every sum, so that what begins no taxon comes last
    if len(starts):
        sums_Ok.reshape(-1)[starts] = np.add.reduceat(value_Ok.reshape(-1), starts)
    sums_Ok[taxon_Ok < 0] = -1.0
    best_Ot = top_k(sums_Ok, k if most is None else min(most, k))
    sums_Ot, taxa_Ot = np.take_along_axis(sums_Ok, best_Ot, axis=1), np.take_along_axis(taxon_Ok, best_Ot, axis=1)
    return np.where(sums_Ot < 0, -1, taxa_Ot), np.maximum(sums_Ot, 0.0)
