"""Sets of species: the coverage that is promised, over all observations and for each class."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from taxakey.calibration import conformal
from taxakey.calibration.conformal import fit_conformal, mean_set_size
from taxakey.errors import BadInput


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
    assert doctest.testmod(conformal, extraglobs={"np": np}).attempted > 0
    assert doctest.testmod(conformal, extraglobs={"np": np}).failed == 0
