"""Decisions: the closed form against brute force, thresholds against all thresholds, the coverage that is promised."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from scipy.stats import entropy as scipy_entropy

from taxakey.errors import BadInput
from taxakey.metrics.cost_matrix import Costs, track3_costs
from taxakey.metrics.costs import track3, track4
from taxakey.prediction import decide
from taxakey.prediction.decide import UNKNOWN, fit_conformal, fit_unknown, least_cost, least_track3, mean_set_size, most_probable


def probabilities(rows: int, classes: int, seed: int, concentration: float = 0.2) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(classes, concentration), rows)


@given(st.integers(2, 7), st.integers(0, 99999))
def test_track_3_closed_form_is_the_least_expected_cost(classes: int, seed: int) -> None:
    p_OC = probabilities(20, classes, seed)
    poisonous_C = np.random.default_rng(seed).random(classes) < 0.4
    # By brute force: what each answer costs under each truth, as the organisers count.
    cost_CC = np.array(
        [[track3(np.array([true]), np.array([answer]), poisonous_C) for answer in range(classes)] for true in range(classes)]
    )
    expected_OC = p_OC @ cost_CC
    for chosen_O in (least_track3(p_OC, poisonous_C), least_cost(p_OC, track3_costs(poisonous_C))):
        chosen = expected_OC[np.arange(20), chosen_O]
        assert np.allclose(chosen, expected_OC.min(axis=1), atol=1e-12)


def test_the_rule_by_hand() -> None:
    # 101 · 0.0095 = 0.9595 < 1 + 0.9 − 0.0095 and 101 · 0.02 = 2.02 > 1 + 0.9 − 0.02.
    p_OC = np.array([[0.9, 0.0905, 0.0095], [0.9, 0.08, 0.02]])
    assert least_track3(p_OC, [False, False, True]).tolist() == [0, 2]
    assert most_probable(p_OC).tolist() == [0, 0]
    assert least_track3(p_OC, [True] * 3).tolist() == least_track3(p_OC, [False] * 3).tolist() == [0, 0]


def test_least_cost_lowers_track_3() -> None:
    p_OC = probabilities(3000, 6, 0)
    generator = np.random.default_rng(1)
    true_O = (p_OC.cumsum(axis=1) > generator.random((3000, 1))).argmax(axis=1)
    poisonous_C = np.arange(6) == 5
    plain, careful = (
        track3(true_O, answer_O, poisonous_C) for answer_O in (p_OC.argmax(axis=1), least_track3(p_OC, poisonous_C))
    )
    assert careful < plain / 2


def test_costs_of_single_pairs_change_the_answer() -> None:
    # Taking 1 for 0 costs 50 more, so a tenth of a chance of 1 is enough not to answer 0.
    costs = Costs(1.0, pairs_CC=sparse.csr_array(([50.0], ([1], [0])), shape=(3, 3)))
    assert least_cost(np.array([[0.6, 0.1, 0.3], [0.9, 0.0, 0.1]]), costs).tolist() == [2, 0]


# ---- unknown ----


@given(st.integers(1, 25), st.integers(0, 99999))
def test_no_threshold_costs_less_on_validation(rows: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    sureness_O = generator.integers(0, 8, rows) / 8
    true_O, answer_O = generator.integers(-1, 3, rows), generator.integers(0, 3, rows)
    rule = fit_unknown(sureness_O, answer_O, true_O)
    costs = [track4(true_O, np.where(sureness_O >= threshold, answer_O, UNKNOWN)) for threshold in [-np.inf, *sureness_O, np.inf]]
    assert rule.track4 == pytest.approx(min(costs))
    assert track4(true_O, rule.apply(answer_O, sureness_O)) == rule.track4
    assert rule.track4_without == track4(true_O, answer_O)


def test_of_equal_thresholds_the_one_that_answers_most() -> None:
    rule = fit_unknown([0.9, 0.5, 0.1], np.array([0, 1, 2]), np.array([0, 1, 2]))
    assert (rule.threshold, rule.track4) == (-np.inf, 0)
    rule = fit_unknown([0.9, 0.5, 0.1], np.array([0, 1, 2]), np.array([-1, -1, -1]))
    assert rule.apply(np.array([3]), [5.0]).tolist() == [UNKNOWN]
    with pytest.raises(BadInput, match="each with its sureness"):
        fit_unknown([np.nan], np.array([0]), np.array([0]))


def test_entropy_is_that_of_scipy() -> None:
    p_OC = probabilities(10, 5, 3, 0.05)
    p_OC[0] = [1, 0, 0, 0, 0]
    assert np.allclose(decide.entropy(p_OC), scipy_entropy(p_OC, axis=1))


# ---- sets ----


def coverages(classes: int | None, validation: int, trials: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Coverage over all observations and of the hardest class in fresh draws; class 0 is hard, the model doesn't know it well."""
    overall, hardest = [], []
    for seed in range(trials):
        generator = np.random.default_rng(seed)
        true_N = generator.integers(0, 4, validation + 2000)
        logits = generator.normal(size=(len(true_N), 4)) + np.where(true_N == 0, 0.3, 3.0)[:, None] * np.eye(4)[true_N]
        p_NC = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        true_p_N = p_NC[np.arange(len(true_N)), true_N]
        sets = fit_conformal(true_p_N[:validation], true_N[:validation], coverage=0.8, classes=classes)
        held_N = sets.contains(p_NC[validation:])[np.arange(2000), true_N[validation:]]
        overall.append(held_N.mean())
        hardest.append(held_N[true_N[validation:] == 0].mean())
    return np.array(overall), np.array(hardest)


def test_sets_hold_the_truth_as_often_as_promised() -> None:
    # 60 draws of 100 validation observations: the mean coverage is 0.8 to 0.8 + 1/101, give or take 3 standard errors.
    overall, hardest = coverages(None, 100)
    assert 0.8 - 0.016 <= overall.mean() <= 0.81 + 0.016
    assert hardest.mean() < 0.65, "the hard class was meant to be worse off"


def test_class_conditional_sets_hold_each_class_as_often_as_promised() -> None:
    overall, hardest = coverages(4, 200)
    assert 0.8 - 0.02 <= hardest.mean() <= 0.82 + 0.02
    assert overall.mean() >= 0.79


def test_a_class_without_validation_observations_is_in_every_set() -> None:
    sets = fit_conformal([0.9, 0.8, 0.7, 0.6], np.array([0, 0, 0, 1]), coverage=0.75, classes=3)
    assert sets.threshold_C is not None
    assert sets.threshold_C.tolist() == [0.7, 0.0, 0.0]
    inside_OC = sets.contains(np.array([[0.7, 0.3, 0.0], [0.5, 0.0, 0.5]]))
    assert inside_OC.tolist() == [[True, True, True], [False, True, True]]
    assert mean_set_size(inside_OC) == 2.5


def test_nine_validation_observations_are_enough_for_90_per_cent_and_eight_are_not() -> None:
    shares = np.linspace(0.1, 0.9, 9)
    assert fit_conformal(shares, np.zeros(9, dtype=int)).threshold == pytest.approx(0.1)
    assert fit_conformal(shares[1:], np.zeros(8, dtype=int)).threshold == 0


@pytest.mark.parametrize(("coverage", "true"), [(1.0, 0), (0.0, 0), (0.9, -1)])
def test_impossible_coverages_are_refused(coverage: float, true: int) -> None:
    with pytest.raises(BadInput, match="a coverage of"):
        fit_conformal([0.5], np.array([true]), coverage=coverage)


def test_examples_in_docstrings_run() -> None:
    assert doctest.testmod(decide, extraglobs={"np": np}).attempted > 4
    assert doctest.testmod(decide, extraglobs={"np": np}).failed == 0
