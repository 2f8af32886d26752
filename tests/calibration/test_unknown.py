"""The threshold for the unknown against all thresholds."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy as scipy_entropy

from taxakey.calibration import unknown
from taxakey.calibration.unknown import UNKNOWN, fit_unknown
from taxakey.errors import BadInput
from taxakey.metrics.costs import track4


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
    p_OC = np.random.default_rng(3).dirichlet(np.full(5, 0.05), 10)
    p_OC[0] = [1, 0, 0, 0, 0]
    assert np.allclose(unknown.entropy(p_OC), scipy_entropy(p_OC, axis=1))


def test_examples_in_docstrings_run() -> None:
    assert doctest.testmod(unknown, extraglobs={"np": np}).attempted > 0
    assert doctest.testmod(unknown, extraglobs={"np": np}).failed == 0
