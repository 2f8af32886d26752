"""Heads from class means against scikit-learn's discriminant analysis and a posterior computed by brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.covariance import oas
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from taxakey.models.class_means import (
    Discriminants,
    FeatureStatistics,
    oracle_shrinkage,
    related_means,
    start_from_means,
)
from taxakey.models.factorised import FactorisedHead
from taxakey.models.heads import BottleneckHead, LinearHead
from taxakey.models.hierarchies import Hierarchy
from taxakey.models.trees import TreeHead

C, D = 12, 6
FAMILY = np.repeat([0, 1], 6)
GENUS = np.repeat([0, 1, 2, 3], 3)


def world(seed: int = 0, per_class: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of classes in genera in families, scattered alike about each class, and their labels."""
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(2, D))[FAMILY] * 3 + rng.normal(size=(4, D))[GENUS] * 2 + rng.normal(size=(C, D))
    labels = rng.permutation(np.repeat(np.arange(C), per_class))
    scatter = rng.normal(size=(D, D)) / 2
    return (means[labels] + rng.normal(size=(len(labels), D)) @ scatter).astype(np.float32), labels


def test_statistics_do_not_depend_on_the_blocks() -> None:
    vectors, labels = world()
    whole = FeatureStatistics.of([(vectors, labels)], C)
    parts = FeatureStatistics.of([(vectors[:7], labels[:7]), (vectors[7:900], labels[7:900]), (vectors[900:], labels[900:])], C)
    expected = np.stack([vectors[labels == c].mean(0) for c in range(C)])
    assert_allclose(whole.means_CD, expected, atol=1e-4)
    assert_allclose(parts.means_CD, whole.means_CD, atol=1e-5)
    residuals = vectors.astype(np.float64) - whole.means_CD[labels]
    assert_allclose(whole.within_DD, residuals.T @ residuals / (len(labels) - C), rtol=1e-3, atol=1e-4)
    assert_allclose(parts.within_DD, whole.within_DD, rtol=1e-6)


def test_one_vector_a_class_says_nothing_of_scatter() -> None:
    with pytest.raises(ValueError, match="no class has two"):
        FeatureStatistics.of([(np.eye(3, dtype=np.float32), np.arange(3))], 3)


def test_shrinkage_is_scikit_learns() -> None:
    vectors, labels = world(per_class=3)
    statistics = FeatureStatistics.of([(vectors, labels)], C)
    residuals = vectors.astype(np.float64) - statistics.means_CD[labels]
    # scikit-learn counts rows where we count degrees of freedom: as many rows of the same scatter. It leaves out a term of 2/D.
    rows = np.zeros((len(labels) - C, D))
    rows[:D] = np.linalg.qr(residuals)[1]
    assert_allclose(oracle_shrinkage(statistics), oas(rows, assume_centered=True)[1], rtol=0.1)


@pytest.mark.parametrize("kind", ["linear", "bottleneck", "one node a class"])
def test_without_relatives_and_with_many_vectors_it_is_discriminant_analysis(kind: str) -> None:
    vectors, labels = world(per_class=2000)
    heads = {
        "linear": LinearHead(D, C),
        "bottleneck": BottleneckHead(D, C, width=D),
        "one node a class": TreeHead(D, Hierarchy.even(np.arange(C), C), width=None),
    }
    start_from_means(heads[kind], FeatureStatistics.of([(vectors, labels)], C), shrinkage=0.0)
    theirs = LinearDiscriminantAnalysis(solver="lsqr", priors=np.full(C, 1 / C)).fit(vectors, labels)
    mine = heads[kind].eval().log_prob_all(torch.from_numpy(vectors[:500])).exp().detach().numpy()
    assert_allclose(mine, theirs.predict_proba(vectors[:500]), atol=0.02)


def test_a_tree_of_nested_gaussians_answers_like_the_flat_head() -> None:
    vectors, labels = world(per_class=300)
    statistics = FeatureStatistics.of([(vectors, labels)], C)
    flat = LinearHead(D, C)
    tree = TreeHead(D, Hierarchy.from_levels([FAMILY, GENUS], np.arange(C)), width=None)
    for head in (flat, tree):
        start_from_means(head, statistics, [FAMILY, GENUS])
    picked = torch.from_numpy(vectors)
    right = [(head(picked).argmax(1).numpy() == labels).mean() for head in (flat, tree)]
    assert right[0] > 0.8
    assert abs(right[0] - right[1]) < 0.03


def test_related_means_are_the_posterior_of_nested_gaussians() -> None:
    # 400 genera of four species, one direction: spreads are then known well enough to compare with the exact posterior.
    rng = np.random.default_rng(1)
    genus = np.repeat(np.arange(400), 4)
    truth = (rng.normal(size=400) * 2)[genus] + rng.normal(size=1600) * 0.5
    counts = rng.integers(1, 20, size=1600)
    seen = truth + rng.normal(size=1600) / np.sqrt(counts)
    estimate = related_means(seen[:, None], counts, [genus])[:, 0]
    prior = 0.25 * (genus[:, None] == genus) * np.eye(1600) + 4.0 * (genus[:, None] == genus)
    exact = prior @ np.linalg.solve(prior + np.diag(1 / counts), seen)
    assert np.abs(estimate - exact).mean() < 0.05
    assert ((estimate - truth) ** 2).mean() < 0.7 * ((seen - truth) ** 2).mean()


def test_a_class_that_was_never_seen_takes_its_genus_mean() -> None:
    means = np.array([[4.0], [5.0], [0.0], [-4.0], [-5.0], [-6.0]])
    estimate = related_means(means, np.array([50, 50, 0, 50, 50, 50]), [np.array([0, 0, 0, 1, 1, 1])])
    assert 4.0 < estimate[2, 0] < 5.0


def test_unknown_relatives_are_nobodys() -> None:
    means, counts = np.array([[4.0], [5.0], [-4.0]]), np.array([5, 5, 5])
    alone = related_means(means, counts, [np.array([-1, -1, -1])])
    assert_allclose(alone, related_means(means, counts, [np.array([0, 1, 2])]))


@pytest.mark.parametrize("head", [FactorisedHead(D, GENUS, rank=2), BottleneckHead(D, C, width=3, activation="relu")])
def test_heads_that_are_not_linear_in_one_step_are_refused(head: torch.nn.Module) -> None:
    vectors, labels = world()
    with pytest.raises(ValueError, match="can't be started from class means"):
        start_from_means(head, FeatureStatistics.of([(vectors, labels)], C))  # type: ignore[arg-type]


def test_directions_scatter_by_one_within_classes_and_fall_in_use() -> None:
    vectors, labels = world(per_class=500)
    statistics = FeatureStatistics.of([(vectors, labels)], C)
    found = Discriminants.of(statistics, D, 0.0)
    assert_allclose(found.axes_dD @ statistics.within_DD @ found.axes_dD.T, np.eye(D), atol=1e-5)
    between = found.means(statistics).var(0)
    assert (np.diff(between) < 1e-6).all()
