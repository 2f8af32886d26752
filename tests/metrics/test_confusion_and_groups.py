"""Confused pairs against scikit-learn's matrix; shares by group against slow loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from taxakey.metrics.confusion import confusions
from taxakey.metrics.grouped import shares_by_group


@given(st.integers(1, 40), st.integers(0, 9999))
def test_pairs_as_in_the_matrix_of_scikit_learn(rows: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    true_O, predicted_O = generator.integers(-1, 5, rows), generator.integers(0, 6, rows)
    found, known = confusions(true_O, predicted_O), true_O >= 0
    matrix = np.zeros((6, 6), dtype=int)
    if known.any():
        matrix = confusion_matrix(true_O[known], predicted_O[known], labels=range(6))
    expected = [
        (-matrix[t, p], -matrix[t, p] / matrix[t].sum(), t, p, matrix[t].sum())
        for t in range(6) for p in range(6) if t != p and matrix[t, p]
    ]  # fmt: skip
    expected.sort()
    assert found.true.tolist() == [row[2] for row in expected]
    assert found.predicted.tolist() == [row[3] for row in expected]
    assert found.count.tolist() == [-row[0] for row in expected]
    assert found.observations.tolist() == [row[4] for row in expected]


def test_shares_by_group_are_those_of_a_loop_over_drawn_rows() -> None:
    generator = np.random.default_rng(0)
    right_N, group_N, observation_N = generator.integers(0, 2, 30), generator.integers(-1, 4, 30), generator.integers(0, 12, 30)
    weights_RO = generator.integers(0, 3, (5, 12)).astype(np.float32)
    shares = shares_by_group(right_N, np.ones(30), group_N, 4, observation_N=observation_N)
    for group in range(4):
        inside, outside = shares.inside[group](weights_RO), shares.outside[group](weights_RO)
        for resample, weights_O in enumerate(weights_RO):
            for got, chosen in ((inside, group_N == group), (outside, (group_N != group) & (group_N >= 0))):
                drawn = np.repeat(right_N[chosen], weights_O[observation_N[chosen]].astype(int))
                assert got[resample] == pytest.approx(drawn.mean() if len(drawn) else np.nan, nan_ok=True)


def test_a_group_that_wasnt_drawn_has_no_share() -> None:
    shares = shares_by_group([1, 0], [1, 1], np.array([0, 1]), 3)
    only_first = np.array([[2.0, 0.0]])
    assert [float(each(only_first)[0]) for each in shares.inside] == pytest.approx([1, np.nan, np.nan], nan_ok=True)
    assert float(shares.outside[0](only_first)[0]) == pytest.approx(np.nan, nan_ok=True)
