"""One name: the closed form and sparse costs against brute force."""

from __future__ import annotations

import doctest

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from taxakey.metrics.cost_matrix import Costs, track3_costs
from taxakey.metrics.costs import track3
from taxakey.prediction import decide
from taxakey.prediction.decide import least_cost, least_track3, most_probable


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


def test_examples_in_docstrings_run() -> None:
    assert doctest.testmod(decide, extraglobs={"np": np}).attempted > 0
    assert doctest.testmod(decide, extraglobs={"np": np}).failed == 0
