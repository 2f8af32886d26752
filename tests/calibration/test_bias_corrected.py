"""Biases of classes, and wrong labels in their fit: gradients, values that were planted, and what estimates gain by them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.optimize import check_grad
from scipy.special import log_softmax

from taxakey.calibration import bias_corrected
from taxakey.calibration.bias_corrected import BiasCorrected, fit_bias_corrected
from taxakey.calibration.shares import corrected, estimate_shares
from taxakey.calibration.supported import LEAST_EVIDENCE, estimate_with_support
from taxakey.errors import BadInput

TRAIN = np.array([0.5, 0.3, 0.15, 0.05])
NEW = np.array([0.05, 0.15, 0.2, 0.6])
CENTRES = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
LEAN = np.array([0.8, 0.0, -0.3, -1.5])
"""How a model leans: it underrates the rarest class."""


def drawn(share: np.ndarray, rows: int, seed: int, wrong: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of a model that is half as sure as it should be and leans, the labels, some of them wrong, and the true classes."""
    generator = np.random.default_rng(seed)
    true_V = generator.choice(4, rows, p=share)
    points = CENTRES[true_V] + 0.7 * generator.normal(size=(rows, 2))
    distance_VC = ((points[:, None] - CENTRES) ** 2).sum(axis=2) / 0.49
    log_p_VC = log_softmax(np.log(TRAIN) - distance_VC / 2, axis=1)
    given_V = np.where(generator.random(rows) < wrong, (true_V + generator.integers(1, 4, rows)) % 4, true_V)
    return (log_p_VC + LEAN) / 2, given_V, true_V


def test_the_gradient_is_that_of_the_loss() -> None:
    scores_VC, given_V, _ = drawn(TRAIN, 40, 0)
    weights_V = np.random.default_rng(1).random(40)
    theta = np.array([0.3, 0.5, -1.0, 0.2, 0.7, 0.07])
    arguments = scores_VC, given_V, weights_V
    off = check_grad(lambda t: bias_corrected._loss(t, *arguments)[0], lambda t: bias_corrected._loss(t, *arguments)[1], theta)
    assert off < 1e-4


@pytest.mark.parametrize("wrong", [0.0, 0.1])
def test_what_was_planted_is_found(wrong: float) -> None:
    scores_VC, given_V, _ = drawn(TRAIN, 4000, 2, wrong)
    found = fit_bias_corrected(scores_VC, given_V)
    assert found.sharpness == pytest.approx(2, rel=0.1)
    bias_C = np.array(found.bias) + LEAN
    np.testing.assert_allclose(bias_C - bias_C[0], 0, atol=0.35)
    assert found.wrong_labels == pytest.approx(wrong, abs=0.015)
    np.testing.assert_allclose(found.share, TRAIN, atol=0.02)
    assert found.observations == 4000


def test_weights_count_rows_as_often() -> None:
    scores_VC, given_V, _ = drawn(TRAIN, 60, 3)
    twice = fit_bias_corrected(np.repeat(scores_VC, 2, axis=0), np.repeat(given_V, 2), np.full(120, 0.5))
    np.testing.assert_allclose(twice.bias, fit_bias_corrected(scores_VC, given_V).bias, atol=1e-3)
    assert twice.observations == 60


def test_estimates_by_it_gain_where_those_of_the_leaning_model_lose() -> None:
    """A leaning model with wrong labels in validation: expectation-maximisation on its plain probabilities against these."""
    basis = fit_bias_corrected(*drawn(TRAIN, 1500, 4, 0.08)[:2])
    scores_OC, _, true_O = drawn(NEW, 1500, 5)
    plain_OC = np.exp(log_softmax(scores_OC * 2, axis=1))
    naive_C = estimate_shares(plain_OC, TRAIN)
    found = estimate_with_support(basis.probabilities(scores_OC), np.array(basis.share))
    assert found.supported
    assert np.abs(found.share_C - (NEW + TRAIN) / 2).max() < 0.05, "as many observations as there are have the old shares"
    assert np.abs(naive_C - NEW).max() > 0.1

    def right(answer_OC: np.ndarray) -> float:
        return float((answer_OC.argmax(axis=1) == true_O).mean())

    gained = right(corrected(basis.probabilities(scores_OC), np.array(basis.share), found.share_C))
    assert gained > right(basis.probabilities(scores_OC)) + 0.02
    assert gained > right(corrected(plain_OC, TRAIN, np.maximum(naive_C, 1e-6)))


def test_no_shift_is_not_supported_and_few_observations_never_are() -> None:
    basis = fit_bias_corrected(*drawn(TRAIN, 1500, 6)[:2])
    for seed in range(5):
        same = estimate_with_support(basis.probabilities(drawn(TRAIN, 300, 10 + seed)[0]), np.array(basis.share))
        assert not same.supported, same
        assert same.low < same.evidence < LEAST_EVIDENCE
    few = estimate_with_support(basis.probabilities(drawn(NEW, 9, 7)[0]), np.array(basis.share))
    assert not few.supported


def test_evidence_is_that_of_a_slow_loop() -> None:
    basis = fit_bias_corrected(*drawn(TRAIN, 300, 8)[:2])
    p_OC, old_C = basis.probabilities(drawn(NEW, 23, 9)[0]), np.array(basis.share)
    fold_O = np.random.default_rng(0).permutation(23) % 5
    gains = []
    for row in range(23):
        kept = p_OC[fold_O != fold_O[row]]
        new_C = estimate_shares(kept, old_C, prior_observations=len(kept), tolerance=1e-4)
        gains.append(np.log(sum(p * new / old for p, new, old in zip(p_OC[row], new_C, old_C, strict=True))))
    found = estimate_with_support(p_OC, old_C)
    assert found.evidence == pytest.approx(np.mean(gains))
    assert found.low == pytest.approx(np.mean(gains) - 2 * np.std(gains, ddof=1) / 23**0.5)


def test_some_of_the_classes() -> None:
    basis = BiasCorrected(1.5, (0.1, 0.2, 0.3), (0.2, 0.3, 0.5), 0.0, 10)
    some = basis.among([0, 2])
    assert some.bias == (0.1, 0.3)
    assert some.share == pytest.approx((2 / 7, 5 / 7))
    scores_VC = np.random.default_rng(0).normal(size=(4, 3))
    whole_VC = basis.probabilities(scores_VC)[:, [0, 2]]
    np.testing.assert_allclose(some.probabilities(scores_VC[:, [0, 2]]), whole_VC / whole_VC.sum(axis=1, keepdims=True))


def test_what_cant_be_is_refused() -> None:
    with pytest.raises(BadInput, match="one labelled picture or more"):
        fit_bias_corrected(np.zeros((0, 3)), np.zeros(0, dtype=int))
    with pytest.raises(BadInput, match="each of a class of the model"):
        fit_bias_corrected(np.zeros((1, 3)), np.array([-1]))
    with pytest.raises(BadInput, match="1 biases and 2 shares"):
        BiasCorrected(1.0, (0.0,), (0.5, 0.5), 0.0, 3)
    with pytest.raises(BadInput, match="above 0"):
        BiasCorrected(1.0, (0.0, 0.0), (1.0, 0.0), 0.0, 3)
    assert json.dumps(fit_bias_corrected(np.eye(3), np.arange(3)).bias), "plain numbers, that a JSON can hold"
