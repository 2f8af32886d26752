"""Which classes become neighbours in a tree: orders of classes, and groups of similar ones. numpy only.

Shapes: C classes, D features, K groups, N points near which each class looks for a group.

An order is a list of the classes [C] from the first position on.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from taxakey.taxonomy import Taxonomy

Ints = NDArray[np.int64]

_SAMPLED_PER_GROUP = 10
_TRIES = 3  # the best of several starts: one alone often leaves two families in a group
_ROWS_AT_ONCE = 4096  # × 8,000 groups × 4 bytes = 131 MB of distances


def taxonomic_order(taxonomy: Taxonomy) -> Ints:
    """By family, genus and name."""
    lineage = list(zip(taxonomy.column("family"), taxonomy.column("genus"), taxonomy.names, strict=True))
    return np.array(sorted(range(len(taxonomy)), key=lineage.__getitem__), dtype=np.int64)


def frequency_order(counts_C: NDArray[np.integer]) -> Ints:
    """By falling count of training pictures."""
    return np.argsort(-np.asarray(counts_C, dtype=np.int64), kind="stable")


def random_order(classes: int, seed: int) -> Ints:
    """Shuffled by the seed."""
    return np.random.default_rng(seed).permutation(classes)


def similar_groups(points_CD: NDArray[np.floating], groups: int, *, capacity: int | None = None, seed: int = 0) -> Ints:
    """Codes [C] of K groups of nearby points: k-means (Lloyd), with at most `capacity` points to a group where given.

    With a capacity, each point applies to its groups from the nearest on (deferred acceptance: Gale and Shapley, 1962), so no two
    points would both rather swap. A full group keeps those with the least |centre|² - 2·point·centre, that is, distance less the
    point's own square: keeping the nearest leaves far points to fend for themselves and makes worse groups. Empty groups may
    remain. Raises ValueError when the capacity can't hold the points.
    """
    points_CD = np.ascontiguousarray(points_CD, dtype=np.float32)
    if capacity is not None and capacity * groups < len(points_CD):
        raise ValueError(f"{groups} groups of at most {capacity} can't hold {len(points_CD)} classes")
    rng = np.random.default_rng(seed)
    tries = [_lloyd(points_CD, _scattered(points_CD, min(groups, len(points_CD)), rng)) for _ in range(_TRIES)]
    centres_KD, codes_C, _ = min(tries, key=lambda found: found[2])
    if capacity is not None:
        for _ in range(3):
            codes_C = _with_capacity(points_CD, centres_KD, capacity)
            centres_KD = _means(points_CD, codes_C, centres_KD)
    return codes_C


def _lloyd(points_CD: NDArray[np.float32], centres_KD: NDArray[np.float32]) -> tuple[NDArray[np.float32], Ints, float]:
    """k-means from these centres: centres, codes, and the points' mean squared distance (up to a constant)."""
    codes_C = _nearest(points_CD, centres_KD, 1)[0][:, 0]
    for _ in range(12):
        centres_KD = _means(points_CD, codes_C, centres_KD)
        near_C1, distance_C1 = _nearest(points_CD, centres_KD, 1)
        before_C, codes_C = codes_C, near_C1[:, 0]
        if (before_C == codes_C).mean() > 0.995:
            break
    return centres_KD, codes_C, float(distance_C1.mean())


def _scattered(points_CD: NDArray[np.float32], groups: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """K points to start from, each drawn with a chance that grows with its squared distance from those before it [K, D].

    k-means++ (Arthur and Vassilvitskii, 2007), on a sample of ten points a group: starts drawn evenly miss groups that lie apart.
    """
    sample_SD = points_CD[rng.permutation(len(points_CD))[: _SAMPLED_PER_GROUP * groups]]
    chosen = [0]
    distance_S = ((sample_SD - sample_SD[0]) ** 2).sum(1)
    for _ in range(groups - 1):
        total_S = np.cumsum(distance_S, dtype=np.float64)
        chosen.append(min(int(np.searchsorted(total_S, rng.random() * total_S[-1], side="right")), len(sample_SD) - 1))
        np.minimum(distance_S, ((sample_SD - sample_SD[chosen[-1]]) ** 2).sum(1), out=distance_S)
    return sample_SD[chosen].copy()


def _means(points_CD: NDArray[np.float32], codes_C: Ints, before_KD: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean of each group; an empty one stays where it was."""
    order_C = np.argsort(codes_C, kind="stable")
    present, starts, sizes = np.unique(codes_C[order_C], return_index=True, return_counts=True)
    after_KD = before_KD.copy()
    after_KD[present] = np.add.reduceat(points_CD[order_C], starts, axis=0) / sizes[:, None]
    return after_KD


def _nearest(points_CD: NDArray[np.float32], centres_KD: NDArray[np.float32], choices: int) -> tuple[Ints, NDArray[np.float32]]:
    """The nearest groups of each point, nearest first, and their distances (up to a term that is the point's own), [C, N]."""
    squares_K = (centres_KD**2).sum(1)
    chosen, distances = [], []
    for start in range(0, len(points_CD), _ROWS_AT_ONCE):
        distance_RK = squares_K - 2 * points_CD[start : start + _ROWS_AT_ONCE] @ centres_KD.T
        if choices == 1:
            near_RN = distance_RK.argmin(1)[:, None]
        else:
            near_RN = np.argpartition(distance_RK, choices - 1, axis=1)[:, :choices]
            near_RN = np.take_along_axis(near_RN, np.take_along_axis(distance_RK, near_RN, 1).argsort(1), 1)
        chosen.append(near_RN)
        distances.append(np.take_along_axis(distance_RK, near_RN, 1))
    return np.concatenate(chosen), np.concatenate(distances)


def _with_capacity(points_CD: NDArray[np.float32], centres_KD: NDArray[np.float32], capacity: int) -> Ints:
    choices = min(32, len(centres_KD))
    near_CN, distance_CN = _nearest(points_CD, centres_KD, choices)
    codes_C = _deferred_acceptance(near_CN, distance_CN, len(centres_KD), capacity)
    # The few whose every choice is full look at all groups that still have room.
    while len(homeless := np.flatnonzero(codes_C < 0)):
        room_K = capacity - np.bincount(codes_C[codes_C >= 0], minlength=len(centres_KD))
        free = np.flatnonzero(room_K > 0)
        near, distance = _nearest(points_CD[homeless], centres_KD[free], 1)
        order = np.lexsort((distance[:, 0], near[:, 0]))
        place = np.arange(len(order)) - np.searchsorted(near[order, 0], near[order, 0])
        taken = order[place < room_K[free[near[order, 0]]]]
        codes_C[homeless[taken]] = free[near[taken, 0]]
    return codes_C


def _deferred_acceptance(near_CN: Ints, distance_CN: NDArray[np.float32], groups: int, capacity: int) -> Ints:
    """Code of each point; -1 where all its choices are full of nearer points."""
    classes, choices = near_CN.shape
    choice_C = np.zeros(classes, dtype=np.int64)
    while True:
        trying = np.flatnonzero(choice_C < choices)
        group = near_CN[trying, choice_C[trying]]
        order = np.lexsort((distance_CN[trying, choice_C[trying]], group))
        place = np.arange(len(order)) - np.searchsorted(group[order], group[order])
        refused = trying[order[place >= capacity]]
        if not len(refused):
            codes_C = np.full(classes, -1, dtype=np.int64)
            codes_C[trying] = group
            return codes_C
        choice_C[refused] += 1
