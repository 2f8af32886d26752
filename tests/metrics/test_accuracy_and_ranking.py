"""Accuracy, ranking and calibration, each against another way of computing it (invariances: `test_invariances`)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from metric_family import CLASSES, METRICS, Answers, answers
from sklearn.metrics import balanced_accuracy_score, f1_score, recall_score, top_k_accuracy_score

from taxakey.errors import BadInput
from taxakey.metrics import accuracy, long_tail, ranking
from taxakey.metrics.calibration_error import expected_calibration_error, negative_log_likelihood, reliability

# ---- against scikit-learn ----


@given(case=answers(), k=st.integers(1, 5))
def test_top_k_is_that_of_scikit_learn(case: Answers, k: int) -> None:
    known = case.true_O < CLASSES - 1
    if not known.any():
        return
    scores_OC = case.scores_OC[known] - np.arange(CLASSES - 1) * 1e-6  # scikit-learn breaks ties its own way; here by index
    expected = 1.0 if k == CLASSES - 1 else top_k_accuracy_score(case.true_O[known], scores_OC, k=k, labels=range(CLASSES - 1))
    assert accuracy.top_k(case.rank_O[known], k) == pytest.approx(expected)
    assert accuracy.top_k(case.rank_O, k) == pytest.approx(expected * known.mean())  # outside the model: always wrong


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@given(case=answers())
def test_macro_figures_are_those_of_scikit_learn(case: Answers) -> None:
    present = np.unique(case.true_O)
    assert METRICS["macro_f1"](case) == pytest.approx(f1_score(case.true_O, case.predicted_O, average="macro", zero_division=0))
    assert METRICS["macro_f1_present"](case) == pytest.approx(
        f1_score(case.true_O, case.predicted_O, average="macro", labels=present, zero_division=0)
    )
    assert METRICS["macro_top_1"](case) == pytest.approx(
        recall_score(case.true_O, case.predicted_O, average="macro", labels=present, zero_division=0)
    )
    if len(present) > 1:
        assert METRICS["macro_top_1"](case) == pytest.approx(balanced_accuracy_score(case.true_O, case.predicted_O))


# ---- against slow loops ----


@given(case=answers(), cutoff=st.integers(1, 6))
def test_ma_mrr_and_macro_top_k_are_those_of_a_slow_loop(case: Answers, cutoff: int) -> None:
    reciprocal: dict[int, list[float]] = {}
    hit: dict[int, list[bool]] = {}
    for scores_C, true in zip(case.scores_OC, case.true_O, strict=True):
        ranked = sorted(range(CLASSES - 1), key=lambda taxon: (-scores_C[taxon], taxon))[:cutoff]
        reciprocal.setdefault(true, []).append(1 / (1 + ranked.index(true)) if true in ranked else 0.0)
        hit.setdefault(true, []).append(true in ranked)
    assert ranking.ma_mrr(case.rank_O, case.true_O, cutoff=cutoff) == pytest.approx(
        np.mean([np.mean(values) for values in reciprocal.values()])
    )
    assert accuracy.macro_top_k(case.rank_O, case.true_O, cutoff) == pytest.approx(
        np.mean([np.mean(values) for values in hit.values()])
    )


def test_the_cutoff_of_ma_mrr_is_30_and_inclusive() -> None:
    assert ranking.ma_mrr(np.array([30]), np.array([0])) == pytest.approx(1 / 30)
    assert ranking.ma_mrr(np.array([31]), np.array([0])) == 0


def test_unknown_labels_are_left_out_of_means_over_classes() -> None:
    rank_O, true_O = np.array([1, 2, 1]), np.array([3, 3, -1])
    assert accuracy.macro_top_k(rank_O, true_O, 1) == 0.5
    assert ranking.ma_mrr(rank_O, true_O) == 0.75
    assert long_tail.macro_f1(true_O, np.array([3, 4, 4])) == pytest.approx((2 / 3 + 0) / 2)


@pytest.mark.parametrize(
    "call",
    [
        lambda: accuracy.top_k(np.array([], dtype=int), 1),
        lambda: accuracy.top_k(np.array([1]), 0),
        lambda: accuracy.macro_top_k(np.array([1]), np.array([-1]), 1),
        lambda: long_tail.macro_f1(np.array([-1]), np.array([0])),
        lambda: ranking.ma_mrr(np.array([1]), np.array([0]), cutoff=0),
        lambda: expected_calibration_error([], []),
        lambda: expected_calibration_error([0.5], [1], bins=0),
        lambda: negative_log_likelihood([]),
    ],
)
def test_nothing_to_measure_is_said(call: Callable[[], float]) -> None:
    with pytest.raises(BadInput, match=r"at least one|no row to measure"):
        call()


# ---- calibration ----


def test_ece_worked_out_by_hand() -> None:
    # Two groups of two: (0.25 promised, 0.5 kept) and (0.85, 1.0); mean distance (0.25 + 0.15) / 2.
    assert expected_calibration_error([0.9, 0.2, 0.8, 0.3], [True, False, True, True], bins=2) == pytest.approx(0.2)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40, unique=True), st.integers(1, 12), st.integers(0, 99))
def test_reliability_without_ties_cuts_the_sorted_answers_evenly(confidence: list[float], bins: int, seed: int) -> None:
    correct = np.random.default_rng(seed).integers(0, 2, len(confidence))
    order = np.argsort(confidence)
    # Answer number i of O goes to group floor(i * bins / O).
    groups = [[row for place, row in enumerate(order) if place * bins // len(order) == group] for group in range(bins)]
    expected = [(np.mean([confidence[row] for row in rows]), correct[rows].mean(), len(rows)) for rows in groups if rows]
    points = reliability(confidence, correct, bins=bins)
    assert [(p.confidence, p.accuracy, p.observations) for p in points] == [pytest.approx(each) for each in expected]
    assert max(len(rows) for rows in groups) - min(len(rows) for rows in groups) <= 1


def test_equal_confidences_stay_together() -> None:
    assert [point.observations for point in reliability([0.5] * 7 + [0.9], [1] * 8, bins=4)] == [7, 1]


def test_nll_of_a_stored_zero_is_finite() -> None:
    assert negative_log_likelihood([np.exp(-2), 1.0]) == pytest.approx(1.0)
    assert 80 < negative_log_likelihood([0.0]) < 90
