"""Late fusion: Bayes by brute force over a small world, the image counted once, exponents with the greatest likelihood."""

from __future__ import annotations

import doctest
from itertools import product

import numpy as np
import pytest

from taxakey.prediction.fusion import exponents as module
from taxakey.prediction.fusion.exponents import fit_exponents, fused

RNG = np.random.default_rng(3)


def test_examples() -> None:
    assert not doctest.testmod(module).failed


def test_it_is_bayes_in_a_world_where_everything_can_be_counted() -> None:
    # Image, habitat and month are independent given the class: the world's joint table tells what is right.
    prior_C, image_CI = RNG.dirichlet(np.ones(4)), RNG.dirichlet(np.ones(5), 4)
    habitat_CH, month_CM = RNG.dirichlet(np.ones(3), 4), RNG.dirichlet(np.ones(6), 4)
    joint = np.einsum("c,ci,ch,cm->cihm", prior_C, image_CI, habitat_CH, month_CM)
    for image, habitat, month in product(range(5), range(3), range(6)):
        right_C = joint[:, image, habitat, month] / joint[:, image, habitat, month].sum()
        tables = joint[:, image].sum((1, 2)), joint[:, :, habitat].sum((1, 2)), joint[..., month].sum((1, 2))
        given_image, given_habitat, given_month = (table / table.sum() for table in tables)
        ratios = [np.log([given / prior_C]) for given in (given_habitat, given_month)]
        np.testing.assert_allclose(fused(given_image[None], ratios, [1.0, 1.0])[0], right_C)
        # The error to avoid: multiplying answers each of which holds the image already.
        twice = np.prod([fused(given_image[None], [ratio], [1.0])[0] for ratio in ratios], axis=0)
        assert np.abs(twice / twice.sum() - right_C).max() > 1e-6


def test_rows_about_which_nothing_is_known_stay_to_the_last_bit() -> None:
    p_OC = RNG.dirichlet(np.full(6, 0.1), 50)
    ratio_OC = RNG.standard_normal((50, 6))
    ratio_OC[::2] = 0
    found_OC = fused(p_OC, [ratio_OC], [1.3])
    np.testing.assert_array_equal(found_OC[::2], p_OC[::2])
    assert (found_OC[1::2] != p_OC[1::2]).any()
    np.testing.assert_allclose(found_OC.sum(axis=1), p_OC.sum(axis=1))


def test_extreme_ratios_neither_overflow_nor_lose_a_row() -> None:
    found = fused(np.array([[1.0, 0.0], [0.5, 0.5]]), [np.array([[-900.0, 900.0], [900.0, -900.0]])], [2.0])
    np.testing.assert_allclose(found, [[1, 0], [1, 0]])


def world(observations: int, seed: int) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Answers to images that are calibrated, and ratios of two independent columns, as Bayes has them."""
    rng = np.random.default_rng(seed)
    true_O = rng.integers(0, 8, observations)
    scores = rng.standard_normal((observations, 8))
    scores[np.arange(observations), true_O] += 1.0  # unit normal noise: the shift by 1 is the likelihood ratio's own exponent
    p_OC = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    ratios = []
    for _ in range(2):
        table = rng.dirichlet(np.full(4, 0.5), 8)  # word given class
        word_O = (table[true_O].cumsum(axis=1) > rng.random((observations, 1))).argmax(axis=1)
        ratios.append(np.log(table[:, word_O].T / table[:, word_O].T.mean(axis=1, keepdims=True)))
    return p_OC, ratios, true_O


def test_independent_columns_get_exponents_near_one_and_the_same_one_twice_shares_it() -> None:
    p_OC, ratios, true_O = world(4000, 0)
    assert fit_exponents(p_OC, ratios, true_O) == pytest.approx([1, 1], abs=0.12)
    twice = fit_exponents(p_OC, [ratios[0], ratios[0]], true_O)
    assert sum(twice) == pytest.approx(1, abs=0.12)


def test_a_column_that_misleads_gets_no_exponent() -> None:
    p_OC, ratios, true_O = world(500, 1)
    assert fit_exponents(p_OC, [-ratios[0]], true_O) == [0.0]
    assert fit_exponents(p_OC, [], true_O) == []


def test_fitted_exponents_are_the_best_of_a_grid() -> None:
    p_OC, ratios, true_O = world(200, 2)
    rows = np.arange(200)

    def likelihood(exponent_J: tuple[float, ...]) -> float:
        return float(np.log(fused(p_OC, ratios, exponent_J)[rows, true_O]).sum())

    found = likelihood(tuple(fit_exponents(p_OC, ratios, true_O)))
    assert found >= max(likelihood(pair) for pair in product(np.linspace(0, 2, 21), repeat=2)) - 1e-6
