"""Orders of classes by hand, and groups of similar ones: capacity, stability, seeds, and families found again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from slow_trees import FLORA

from taxakey.models.groupings import (
    _deferred_acceptance,
    _nearest,
    _with_capacity,
    frequency_order,
    random_order,
    similar_groups,
    taxonomic_order,
)
from taxakey.models.head_options import clustered_hierarchy

SEEDS = st.integers(0, 10_000)


def families(seed: int, count: int, size: int, width: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Points [C, D] in families far apart, shuffled, and the family of each."""
    rng = np.random.default_rng(seed)
    family_C = rng.permutation(np.repeat(np.arange(count), size))
    return rng.normal(size=(count, width))[family_C] * 20 + rng.normal(size=(count * size, width)), family_C


def partition(codes_C: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(codes_C == code).tolist()) for code in np.unique(codes_C)}


# ---- orders ----


def test_taxonomic_order_puts_relatives_side_by_side() -> None:
    assert [FLORA.names[c] for c in taxonomic_order(FLORA)] == [
        "Planta obscura",  # neither family nor genus known
        "Mystica alba",
        "Mystica nigra",
        "Herba ignota",  # Asteraceae without a genus
        "Aster alpinus",
        "Aster amellus",
        "Aster tataricus",
        "Bellis annua",
        "Quercus robur",  # Fagaceae
        "Acer opalus",
        "Acer rubrum",
        "Aesculus flava",
        "Aesculus pavia",
    ]


def test_frequency_order_falls_and_ties_keep_the_order_of_the_classes() -> None:
    assert frequency_order(np.array([5, 9, 5, 0, 9])).tolist() == [1, 4, 0, 2, 3]
    assert frequency_order(np.array([1, 200, 3], dtype=np.uint8)).tolist() == [1, 2, 0]


def test_random_order_is_the_seeds() -> None:
    assert sorted(random_order(50, 3)) == list(range(50))
    assert random_order(50, 3).tolist() == random_order(50, 3).tolist() != random_order(50, 4).tolist()


# ---- groups ----


@given(SEEDS, st.integers(1, 60), st.integers(1, 60), st.integers(1, 9))
def test_no_group_is_fuller_than_allowed_and_every_class_is_in_one(seed: int, classes: int, groups: int, capacity: int) -> None:
    points_CD = np.random.default_rng(seed).normal(size=(classes, 3)).round()  # many points coincide
    if capacity * groups < classes:
        with pytest.raises(ValueError, match=f"{groups} groups of at most {capacity} can't hold {classes}"):
            similar_groups(points_CD, groups, capacity=capacity, seed=seed)
        return
    codes_C = similar_groups(points_CD, groups, capacity=capacity, seed=seed)
    assert codes_C.shape == (classes,)
    assert 0 <= codes_C.min() <= codes_C.max() < groups
    assert np.bincount(codes_C).max() <= capacity
    assert codes_C.tolist() == similar_groups(points_CD, groups, capacity=capacity, seed=seed).tolist()


def test_the_seed_decides() -> None:
    points_CD = np.random.default_rng(0).normal(size=(200, 8))
    found = [similar_groups(points_CD, 10, capacity=25, seed=seed).tolist() for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(("count", "size"), [(2, 2), (4, 5), (8, 10), (30, 20)])
@pytest.mark.parametrize("seed", range(8))
def test_families_far_apart_are_found_again(seed: int, count: int, size: int) -> None:
    points_CD, family_C = families(seed, count, size)
    # The limit is what drives parts of two families out of one group: without one, centres drawn at random find about 80 %.
    assert partition(similar_groups(points_CD, count, capacity=size, seed=seed)) == partition(family_C)


def test_a_tree_of_similar_classes_finds_families_and_genera() -> None:
    rng = np.random.default_rng(5)
    order = rng.permutation(4 * 3 * 5)
    genus_C, family_C = order // 5, order // 15
    points_CD = rng.normal(size=(4, 16))[family_C] * 100 + rng.normal(size=(12, 16))[genus_C] * 10 + rng.normal(size=(60, 16))
    hierarchy = clustered_hierarchy(points_CD, (3, 5))
    assert hierarchy.fan_N.tolist() == [4, *[3] * 4, *[5] * 12]
    family_edge_C, genus_edge_C, _ = hierarchy.path_CL.T
    assert partition(family_edge_C) == partition(family_C)
    assert partition(genus_edge_C) == partition(genus_C)


def test_groups_without_a_limit_are_the_nearest_centres() -> None:
    points_CD, _ = families(1, 6, 30)
    codes_C = similar_groups(points_CD, 6, seed=1)
    centres = {code: points_CD[codes_C == code].mean(0) for code in np.unique(codes_C)}
    nearest = [min(centres, key=lambda code: ((point - centres[code]) ** 2).sum()) for point in points_CD]
    assert (np.array(nearest) == codes_C).mean() > 0.98  # Lloyd stops when nearly nothing moves


def test_nearest_groups_come_nearest_first() -> None:
    rng = np.random.default_rng(2)
    points_CD, centres_KD = (rng.normal(size=(n, 4)).astype(np.float32) for n in (5000, 300))  # more than one portion of rows
    full_CK = ((points_CD[:, None] - centres_KD) ** 2).sum(2)
    for choices in (1, 4, 32, 300):
        near_CN, distance_CN = _nearest(points_CD, centres_KD, choices)
        assert (near_CN == full_CK.argsort(1)[:, :choices]).mean() > 0.999
        own_C1 = (points_CD**2).sum(1, keepdims=True)
        np.testing.assert_allclose(distance_CN + own_C1, np.sort(full_CK, 1)[:, :choices], atol=1e-4)


@given(SEEDS, st.integers(1, 15), st.integers(1, 5), st.integers(1, 5), st.integers(1, 4))
def test_matching_is_stable(seed: int, classes: int, groups: int, choices: int, capacity: int) -> None:
    """Gale and Shapley: nobody rather has a group that rather has them, and only those refused by all choices go without."""
    rng, choices = np.random.default_rng(seed), min(choices, groups)
    near_CN = np.stack([rng.permutation(groups)[:choices] for _ in range(classes)])
    distance_CN = rng.random((classes, choices)).astype(np.float32)
    codes_C = _deferred_acceptance(near_CN, distance_CN, groups, capacity)
    held: dict[int, list[float]] = {group: [] for group in range(groups)}
    rank_C = [near_CN[c].tolist().index(codes_C[c]) if codes_C[c] >= 0 else choices for c in range(classes)]
    for c, rank in enumerate(rank_C):
        if rank < choices:
            held[int(codes_C[c])].append(float(distance_CN[c, rank]))
    for c, rank in enumerate(rank_C):
        for better in range(rank):
            rivals = held[int(near_CN[c, better])]
            assert len(rivals) == capacity
            assert max(rivals) < distance_CN[c, better]


@given(SEEDS, st.sampled_from([(12, 3, 4), (30, 10, 3), (90, 45, 2), (100, 45, 3)]), st.floats(0.01, 2))
def test_no_two_points_would_both_rather_swap(seed: int, sizes: tuple[int, int, int], spread: float) -> None:
    # Points in a crowd far from most centres: with 45 groups some find all their 32 choices full.
    classes, groups, capacity = sizes
    rng = np.random.default_rng(seed)
    points_CD = (rng.normal(size=(classes, 3)) * spread).astype(np.float32)
    centres_KD = rng.normal(size=(groups, 3)).astype(np.float32)
    codes_C = _with_capacity(points_CD, centres_KD, capacity)
    assert np.bincount(codes_C).max() <= capacity
    distance_CK = ((points_CD[:, None].astype(np.float64) - centres_KD) ** 2).sum(2)
    own_C = distance_CK[np.arange(classes), codes_C]
    gains_CC = own_C[:, None] - distance_CK[:, codes_C]  # what the first would gain in the second's group
    assert not ((gains_CC > 1e-5) & (gains_CC.T > 1e-5)).any()
    # And nobody would rather go where there is room.
    room_K = np.bincount(codes_C, minlength=groups) < capacity
    assert not ((distance_CK < own_C[:, None] - 1e-5) & room_K).any()


def test_more_groups_than_classes_leaves_some_empty() -> None:
    points_CD = np.eye(3)
    assert partition(similar_groups(points_CD, 7)) == {frozenset({0}), frozenset({1}), frozenset({2})}
    assert similar_groups(np.ones((1, 2)), 1, capacity=1).tolist() == [0]
