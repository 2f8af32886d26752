"""Rules of ensembles against the formulas written out, and weights against a plain optimiser."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import softmax

from taxakey.calibration.scaling import Nest
from taxakey.errors import BadInput
from taxakey.prediction.combining import Rule, geometric
from taxakey.prediction.member_weights import by_accuracy, by_class, by_likelihood, greedily, of_logits
from taxakey.prediction.members import logarithms
from taxakey.taxonomy import Taxonomy

TAXONOMY = Taxonomy.from_rows(
    {"scientificName": f"{genus} {name}", "genus": genus, "family": family}
    for genus, family, names in (("Acer", "A", "abc"), ("Bellis", "A", "d"), ("Carex", "B", "ef"), ("Draba", "B", "g"))
    for name in names
)
C = len(TAXONOMY)


def drawn(members: int, rows: int, seed: int) -> np.ndarray:
    return softmax(2 * np.random.default_rng(seed).standard_normal((members, rows, C)), axis=2).astype(np.float32)


def one_by_one(p_MBC: np.ndarray, rule: Rule) -> np.ndarray:
    """Every formula in loops over members, rows and classes."""
    members, rows, _ = p_MBC.shape
    mixed = np.zeros((rows, C))
    for b in range(rows):
        for c in range(C):
            if rule.formula == "mean":
                mixed[b, c] = sum(rule.weights[m] / sum(rule.weights) * p_MBC[m, b, c] for m in range(members))
            elif rule.formula == "geometric":
                mixed[b, c] = np.prod([float(p_MBC[m, b, c]) ** rule.weights[m] for m in range(members)])
            elif rule.formula == "per class":
                mixed[b, c] = sum(rule.weights[c, m] * p_MBC[m, b, c] for m in range(members))
            else:
                genus = TAXONOMY.codes("genus") == TAXONOMY.codes("genus")[c]
                family = TAXONOMY.codes("family") == TAXONOMY.codes("family")[c]
                of_family, of_genus, of_species = (
                    sum(w / sum(weights) * value(p_MBC[m, b]) for m, w in enumerate(weights))
                    for weights, value in zip(
                        rule.weights,
                        (
                            lambda p, f=family: p[f].sum(),
                            lambda p, g=genus, f=family: p[g].sum() / p[f].sum(),
                            lambda p, g=genus, c=c: p[c] / p[g].sum(),
                        ),
                        strict=True,
                    )
                )
                mixed[b, c] = of_family * of_genus * of_species
    return mixed / mixed.sum(axis=1, keepdims=True)


@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 1000))
def test_every_formula_as_written_out(members: int, rows: int, seed: int) -> None:
    p_MBC, weights = drawn(members, rows, seed), np.random.default_rng(seed).random((C + 3, members)) + 0.01
    for rule in (
        Rule("mean", weights[0]),
        Rule("geometric", weights[0]),
        Rule("per class", weights[:C]),
        Rule("per rank", weights[C:], Nest.of(TAXONOMY)),
    ):
        np.testing.assert_allclose(rule.mix(p_MBC), one_by_one(p_MBC, rule), rtol=2e-4, atol=1e-6, err_msg=rule.formula)


def test_the_mean_of_logits_is_the_geometric_mean() -> None:
    """Logits are log-probabilities up to a number per row, which a softmax takes out again."""
    z_MBC = np.random.default_rng(0).standard_normal((3, 5, C))
    of_logits_BC = softmax(z_MBC.mean(axis=0), axis=1)
    mixed_BC = geometric(logarithms(softmax(z_MBC, axis=2).astype(np.float32)), np.full(3, 1 / 3))
    np.testing.assert_allclose(mixed_BC, of_logits_BC, rtol=1e-4)


def test_one_member_alone_stays_as_it_is() -> None:
    p_MBC = drawn(3, 6, 1)
    np.testing.assert_allclose(Rule("mean", np.array([0.0, 1.0, 0.0])).mix(p_MBC), p_MBC[1], rtol=1e-6)


def test_weights_of_the_largest_likelihood_as_by_a_plain_optimiser() -> None:
    generator = np.random.default_rng(3)
    p_MO = generator.beta([[1.0], [3.0], [2.0]], 2.0, (3, 400))
    prior = 4.0

    def loss(z_M: np.ndarray) -> float:
        w_M = softmax(z_M)
        return float(-(np.log(w_M @ p_MO).sum() + prior / 3 * np.log(w_M).sum()))

    expected_M = softmax(minimize(loss, np.zeros(3), method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-9}).x)
    np.testing.assert_allclose(by_likelihood(p_MO, prior=prior), expected_M, atol=1e-3)


def test_a_strong_prior_keeps_weights_equal_and_none_lets_the_best_have_all() -> None:
    p_MO = np.array([[0.9, 0.8, 0.95], [0.1, 0.2, 0.1]])
    np.testing.assert_allclose(by_likelihood(p_MO, prior=1e9), [0.5, 0.5], atol=1e-6)
    np.testing.assert_allclose(by_likelihood(p_MO, prior=0.0), [1, 0], atol=1e-3)


def test_greedy_takes_what_helps_and_stops() -> None:
    p_MO = np.array([[0.9, 0.1, 0.9, 0.1], [0.1, 0.9, 0.1, 0.9], [0.2, 0.2, 0.2, 0.2]])
    np.testing.assert_allclose(greedily(p_MO), [0.5, 0.5, 0])
    np.testing.assert_allclose(greedily(np.array([[0.9, 0.9], [0.5, 0.5]])), [1, 0])


def test_weights_of_logits_lower_the_loss_and_their_sum_is_a_temperature() -> None:
    """Members are twice too sure of themselves: the weights sum to about a half."""
    generator = np.random.default_rng(5)
    z_OC = 2 * generator.standard_normal((600, C))
    true_O = np.array([generator.choice(C, p=softmax(row)) for row in z_OC])
    log_p_MOC = np.stack([logarithms(softmax(2 * z_OC, axis=1).astype(np.float32))] * 2)
    weights_M = of_logits(log_p_MOC, true_O, prior=0.0)
    assert weights_M.sum() == pytest.approx(0.5, abs=0.07)


def test_accuracy_and_classes() -> None:
    np.testing.assert_allclose(by_accuracy(np.array([[True, True, False], [True, False, False]])), [2 / 3, 1 / 3])
    p_MO = np.array([[0.8, 0.8, 0.1], [0.2, 0.2, 0.4]])
    weights_CM = by_class(p_MO, np.array([0, 0, 1]), 3, np.array([0.5, 0.5]), prior=1.0)
    np.testing.assert_allclose(weights_CM, [[(1.6 + 0.5) / 3, (0.4 + 0.5) / 3], [(0.2 + 0.5) / 2, (0.8 + 0.5) / 2], [0.5, 0.5]])


def test_bad_weights_are_refused() -> None:
    with pytest.raises(BadInput, match="'mean' with weights"):
        Rule("mean", np.array([-1.0, 2.0]))
    with pytest.raises(BadInput, match="belong to which genus"):
        Rule("per rank", np.ones((3, 2)))
