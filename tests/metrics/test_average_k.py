"""Average-k: against all O·C numbers, from a cut table, and in portions."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxakey.errors import BadInput
from taxakey.metrics.average_k import AverageK, average_k, average_k_threshold, set_sizes
from taxakey.predictions import rank_of


def simulated(rows: int, classes: int, seed: int, sharpness: float = 3.0) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(scale=sharpness, size=(rows, classes))
    exponentials = np.exp(logits)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def threshold_of_all(probability_OC: np.ndarray, k: int) -> float:
    """By the definition: everything sorted."""
    rows, classes = probability_OC.shape
    if k == classes:
        return 0.0
    falling = np.sort(probability_OC.ravel())[::-1]
    return float((falling[rows * k - 1] + falling[rows * k]) / 2)


@given(st.integers(1, 20), st.integers(2, 9), st.integers(0, 9999), st.data())
def test_a_cut_table_gives_the_threshold_of_all_numbers_or_says_how_many_columns_are_enough(
    rows: int, classes: int, seed: int, data: st.DataObject
) -> None:
    probability_OC = simulated(rows, classes, seed)
    k, columns = data.draw(st.integers(1, classes)), data.draw(st.integers(1, classes))
    ranked_OC = -np.sort(-probability_OC, axis=1)
    expected = threshold_of_all(probability_OC, k)
    try:
        got = average_k_threshold(ranked_OC[:, :columns], k, classes=classes)
    except BadInput as error:
        words = str(error)
    else:
        assert got == pytest.approx(expected)
        assert (set_sizes(ranked_OC, got, classes=classes).mean() == k) or k == classes
        return
    assert columns < classes
    assert columns <= k or expected <= ranked_OC[:, columns - 1].max()
    if enough := re.search(r"with ([\d,]+) stored", words):
        assert columns < int(enough[1]) <= classes
        assert average_k_threshold(ranked_OC[:, : int(enough[1])], k, classes=classes) == pytest.approx(expected)


@given(st.integers(0, 9999), st.integers(1, 7))
def test_portions_and_several_k_give_the_same(seed: int, portion: int) -> None:
    ranked_OC = -np.sort(-simulated(23, 12, seed), axis=1).astype(np.float32)
    thresholds = AverageK(23, [1, 3, 12], classes=12)
    for start in range(0, 23, portion):
        thresholds.add(ranked_OC[start : start + portion])
    for k in (1, 3, 12):
        assert thresholds.threshold(k) == pytest.approx(threshold_of_all(ranked_OC.astype(np.float64), k), rel=1e-6)


def test_average_k_by_hand() -> None:
    # Six numbers, sets of one class on average: the second and the third are 0.5 and 0.375, so λ = 0.4375.
    probability_OC = np.array([[0.625, 0.375, 0.0], [0.25, 0.5, 0.25]])
    threshold = average_k_threshold(-np.sort(-probability_OC, axis=1), 1, classes=3)
    assert threshold == 0.4375
    true_O = np.array([1, 1])
    rank_O, true_probability_O = rank_of(probability_OC, true_O)
    assert average_k(true_probability_O, rank_O, threshold) == 0.5
    # Sets of two: the first row's second, the second row's second and third are over (0.25 + 0.25) / 2.
    assert average_k_threshold(-np.sort(-probability_OC, axis=1), 2, classes=3) == 0.25


def test_all_classes_are_in_the_set_of_lambda_0_but_not_one_outside_the_model() -> None:
    assert average_k(np.array([0.0, 0.0]), np.array([3, 0]), average_k_threshold(np.eye(2), 2, classes=2)) == 0.5
    assert set_sizes(np.eye(2), 0.0, classes=2).tolist() == [2, 2]


def test_sets_of_average_k_are_better_than_top_k_where_rows_differ_in_difficulty() -> None:
    easy, hard = simulated(300, 20, 1, sharpness=8.0), simulated(300, 20, 2, sharpness=1.0)
    probability_OC = np.concatenate([easy, hard])
    generator = np.random.default_rng(3)
    true_O = np.array([generator.choice(20, p=row) for row in probability_OC])
    rank_O, true_probability_O = rank_of(probability_OC, true_O)
    threshold = average_k_threshold(-np.sort(-probability_OC, axis=1), 5, classes=20)
    assert average_k(true_probability_O, rank_O, threshold) > (rank_O <= 5).mean() + 0.02


def test_wrong_use_is_said() -> None:
    with pytest.raises(BadInput, match="k goes from 1 to C"):
        average_k_threshold(np.eye(2), 3, classes=2)
    thresholds = AverageK(2, [1], classes=4)
    thresholds.add(np.array([[0.4, 0.3, 0.2, 0.1]]))
    with pytest.raises(BadInput, match="1 rows came where 2"):
        thresholds.threshold(1)
    thresholds.add(np.array([[0.9, 0.1, 0.0, 0.0]]))
    assert thresholds.threshold(1) == pytest.approx((0.4 + 0.3) / 2)
    with pytest.raises(BadInput, match="wasn't announced"):
        thresholds.threshold(2)
    with pytest.raises(BadInput, match="1 stored answers a row are too few"):
        set_sizes(np.array([[0.5]]), 0.3, classes=3)
    with pytest.raises(BadInput, match="no row to measure"):
        average_k(np.array([]), np.array([]), 0.5)
