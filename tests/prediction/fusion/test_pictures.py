"""Rules for several pictures: against loops over observations, and with signals that are planted."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxakey.errors import BadInput
from taxakey.prediction.fusion.pictures import RULES, Pictures, Rule, RuleName, fit_rule

SLOPES = {"quality": {"confidence": 2.0, "entropy": -1.0}, "organ": {"flower": 1.2, "leaf": -0.4}}


def some(observations: int, classes: int, seed: int) -> Pictures:
    """One to four pictures of each observation, in no order, with an organ or none."""
    rng = np.random.default_rng(seed)
    observation_I = rng.permutation(np.repeat(np.arange(observations), rng.integers(1, 5, observations)))
    p_IC = rng.dirichlet(np.full(classes, 0.3), len(observation_I))
    return Pictures(p_IC, observation_I, rng.choice(np.array(["flower", "leaf", "bark", None]), len(observation_I)).tolist())


def by_hand(name: RuleName, pictures: Pictures, slopes: dict[str, float]) -> np.ndarray:
    rows = []
    for observation in range(pictures.observations):
        mine = np.flatnonzero(pictures.observation_I == observation)
        p = pictures.probabilities_IC[mine]
        if name == "log-mean":
            geometric = np.prod(p ** (1 / len(p)), axis=0)
            rows.append(geometric / geometric.sum())
            continue
        weights = []
        for image, own in zip(mine, p, strict=True):
            entropy = -sum(x * np.log(x) for x in own if x > 0) / np.log(len(own))
            features = {"confidence": max(own), "entropy": entropy, pictures.organ_I[image]: 1.0}
            weights.append(np.exp(sum(slope * features.get(feature, 0.0) for feature, slope in slopes.items())))
        rows.append(sum(w * own for w, own in zip(weights, p, strict=True)) / sum(weights))
    return np.array(rows)


@pytest.mark.parametrize("name", RULES)
@given(observations=st.integers(1, 8), classes=st.integers(2, 6), seed=st.integers(0, 9999))
def test_rules_are_what_a_loop_over_observations_gives(name: RuleName, observations: int, classes: int, seed: int) -> None:
    pictures, slopes = some(observations, classes, seed), SLOPES.get(name, {})
    found_OC = Rule(name, slopes).combined(pictures)
    np.testing.assert_allclose(found_OC, by_hand(name, pictures, slopes), rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(found_OC.sum(axis=1), 1)


@pytest.mark.parametrize("name", RULES)
def test_a_single_picture_stays_as_it_is(name: RuleName) -> None:
    p_IC = np.array([[0.0, 0.3, 0.7], [1.0, 0.0, 0.0]])  # a geometric mean would lift the zeros to its floor
    np.testing.assert_array_equal(Rule(name, SLOPES.get(name, {})).combined(Pictures(p_IC, np.arange(2))), p_IC)


def test_a_picture_that_shuts_a_class_out_cannot_shut_it_out_for_all() -> None:
    p_IC = np.array([[0.0, 1.0], [1.0, 0.0]])
    np.testing.assert_allclose(Rule("log-mean").combined(Pictures(p_IC, np.zeros(2, dtype=int))), [[0.5, 0.5]])


def planted(observations: int = 300, seed: int = 0) -> tuple[Pictures, np.ndarray]:
    """Three pictures each of ten species: flowers show the species and are sure, leaves are as likely to look like another."""
    rng = np.random.default_rng(seed)
    true_O = rng.integers(0, 10, observations)
    rows, organs = [], []
    for true in true_O:
        for _ in range(3):
            flower = rng.random() < 0.5
            sure = 6.0 if flower else 0.5
            scores = rng.standard_normal(10) + sure * (np.arange(10) == true)
            rows.append(np.exp(scores) / np.exp(scores).sum())
            organs.append("flower" if flower else "leaf")
    return Pictures(np.array(rows), np.repeat(np.arange(observations), 3), organs), true_O


@pytest.mark.parametrize("name", ["quality", "organ"])
def test_a_weight_that_is_planted_is_found_and_helps_others_than_those_it_was_fitted_on(name: RuleName) -> None:
    pictures, true_O = planted()
    rule = fit_rule(name, pictures, true_O)
    if name == "organ":
        assert rule.slopes["flower"] > rule.slopes["leaf"] + 0.5
    others, truth_O = planted(seed=1)
    rows = np.arange(len(truth_O))
    gain_O = np.log(rule.combined(others)[rows, truth_O]) - np.log(Rule().combined(others)[rows, truth_O])
    assert gain_O.mean() - 2 * gain_O.std() / np.sqrt(len(gain_O)) > 0.05


def test_fitted_slopes_have_the_greatest_penalised_likelihood() -> None:
    pictures, true_O = planted(60)
    fitted = fit_rule("organ", pictures, true_O)

    def loss(slopes: dict[str, float]) -> float:
        true_p_O = by_hand("organ", pictures, slopes)[np.arange(len(true_O)), true_O]
        return float(-np.log(true_p_O).sum() + sum(slope**2 for slope in slopes.values()) / 2)

    best = loss(dict(fitted.slopes))
    for feature in fitted.slopes:
        for step in (-0.05, 0.05):
            assert loss({**fitted.slopes, feature: fitted.slopes[feature] + step}) > best


def test_organs_that_nobody_knows_and_rules_that_are_none_are_refused() -> None:
    pictures, true_O = planted(5)
    with pytest.raises(BadInput, match="no picture says which organ"):
        fit_rule("organ", Pictures(pictures.probabilities_IC, pictures.observation_I), true_O)
    with pytest.raises(BadInput, match="rule 'mean' with 1 slopes"):
        Rule("mean", {"flower": 1.0})
    with pytest.raises(BadInput, match="isn't a finite number"):
        Rule("organ", {"flower": float("nan")})
    assert get_args(RuleName) == RULES
