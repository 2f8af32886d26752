"""Roll-up: the precision that is guaranteed, the finest rank that reaches it, and what too few observations mean."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from scipy.stats import binomtest

from taxakey.calibration import roll_up
from taxakey.calibration.roll_up import NEVER, RankRule, fewest_observations, fit_rank, lower_bound
from taxakey.errors import BadInput


def answers(rows: int, seed: int, easy: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """taxon, probability, right [O]: right in a share `probability ** easy`."""
    generator = np.random.default_rng(seed)
    probability_O = generator.beta(3, 0.6, rows)
    return generator.integers(0, 3, rows), probability_O, generator.random(rows) < probability_O**easy


def test_the_precision_is_kept_on_fresh_observations_as_often_as_promised() -> None:
    # The rule may be wrong in 5 % of the validation parts; 100 of them, so in 11 at most (binomial, 99.5 %).
    fresh = answers(20_000, 999)
    broken = answered = 0
    for seed in range(100):
        rule = fit_rank(*answers(600, seed), precision=0.9)
        reached_O = rule.reached(*fresh[:2])
        answered += reached_O.mean()
        broken += bool(reached_O.any()) and fresh[2][reached_O].mean() < 0.9
    assert broken <= 11
    assert answered / 100 > 0.4, "a rule that answers nothing keeps every promise"


def test_what_was_measured_is_written_down() -> None:
    taxon_O, probability_O, right_O = answers(2000, 1)
    rule = fit_rank(taxon_O, probability_O, right_O)
    answered = probability_O >= rule.threshold
    assert rule.coverage == pytest.approx(answered.mean())
    assert rule.precision == pytest.approx(right_O[answered].mean())
    bound = binomtest(int(right_O[answered].sum()), int(answered.sum())).proportion_ci(0.9, method="exact")
    assert rule.precision_low == pytest.approx(bound.low)
    assert rule.precision_low >= 0.95
    assert right_O.mean() < 0.95, "the case was meant to need a threshold"


def test_equal_probabilities_are_answered_together() -> None:
    probability_O = np.repeat([0.9, 0.8], 200)
    right_O = np.append(np.ones(200, dtype=bool), np.arange(200) % 2 == 0)
    rule = fit_rank(np.zeros(400, dtype=int), probability_O, right_O)
    assert (rule.threshold, rule.coverage, rule.precision) == (0.9, 0.5, 1.0)


def test_too_few_observations_guarantee_nothing() -> None:
    assert fewest_observations(0.95, 0.95) == 59
    assert lower_bound(58, 58) < 0.95 <= lower_bound(59, 59)
    few = fit_rank(np.zeros(58, dtype=int), np.ones(58), np.ones(58, dtype=bool))
    assert (few.threshold, few.precision, few.coverage) == (NEVER, None, 0)
    assert not few.reached(np.array([0]), [1.0]).any()
    assert fit_rank(np.zeros(59, dtype=int), np.ones(59), np.ones(59, dtype=bool)).threshold == 1.0


def test_a_taxon_with_enough_answers_has_a_threshold_of_its_own() -> None:
    # Taxon 0 is always right, taxon 1 only above 0.8, taxon 2 is rare.
    generator = np.random.default_rng(2)
    taxon_O = np.repeat([0, 1, 2], [400, 1200, 10])
    probability_O = generator.uniform(0.3, 1, len(taxon_O))
    right_O = (taxon_O == 0) | (probability_O > 0.8)
    rule = fit_rank(taxon_O, probability_O, right_O, per_taxon=True)
    assert set(rule.by_taxon) == {0, 1}
    assert rule.by_taxon[0] < 0.32
    assert 0.75 < rule.by_taxon[1] < 0.85
    assert rule.reached(np.array([0, 1, 2]), [0.5, 0.5, 0.5]).tolist() == [True, False, False]
    assert rule.coverage == pytest.approx(rule.reached(taxon_O, probability_O).mean())


def test_a_taxon_that_no_threshold_helps_is_never_answered_only_where_that_is_plain() -> None:
    # 0 is always right; 1 in seven of ten cases, however sure; of 2 there are too few answers to tell.
    taxon_O = np.repeat([0, 1, 2], [2000, 200, 70])
    right_O = np.concatenate([np.ones(2000), np.arange(200) % 10 < 7, np.arange(70) != 5]).astype(bool)
    rule = fit_rank(taxon_O, np.full(2270, 0.9), right_O, precision=0.95, per_taxon=True)
    assert rule.threshold == 0.9
    assert rule.by_taxon == {0: 0.9, 1: NEVER}


def test_the_finest_rank_that_is_sure_enough_is_answered() -> None:
    rules = [RankRule(limit, 0.95, 0.95, 0.5, 100) for limit in (0.8, 0.9, 0.7)]
    taxa = [np.array([10, 11, 12, 13]), np.array([20, 21, 22, 23]), np.array([30, 31, 32, 33])]
    shares = [[0.85, 0.5, 0.5, 0.1], [0.85, 0.95, 0.6, 0.2], [0.9, 0.97, 0.75, 0.3]]
    rank_O, taxon_O = roll_up.roll_up(rules, taxa, shares)
    assert rank_O.tolist() == [0, 1, 2, -1]
    assert taxon_O.tolist() == [10, 21, 32, -1]
    with pytest.raises(BadInput, match="2 rules for 3 ranks"):
        roll_up.roll_up(rules[:2], taxa, shares)


def two_ranks(rows: int, seed: int) -> tuple[list, list, list]:
    """Species and genus: where the species is unsure the genus is too, and right less often than elsewhere."""
    generator = np.random.default_rng(seed)
    sure_O = generator.random(rows) < 0.6
    species_p = np.where(sure_O, generator.uniform(0.9, 1, rows), generator.uniform(0.2, 0.7, rows))
    genus_p = np.where(sure_O, generator.uniform(0.9, 1, rows), generator.uniform(0.3, 1, rows))
    right_genus = generator.random(rows) < np.where(sure_O, 0.995, genus_p**0.5)
    right_species = right_genus & (generator.random(rows) < np.where(sure_O, 0.99, species_p))
    zeros = np.zeros(rows, dtype=int)
    return [zeros, zeros], [species_p, genus_p], [right_species, right_genus]


def test_the_genera_that_are_answered_keep_the_precision() -> None:
    fresh = two_ranks(50_000, 999)
    naive_kept = kept = 0
    for seed in range(30):
        case = two_ranks(1500, seed)
        rules = roll_up.fit_roll_up(*case)
        rank_O, _ = roll_up.roll_up(rules, *fresh[:2])
        assert (rank_O == 0).mean() > 0.5
        assert fresh[2][0][rank_O == 0].mean() > 0.95
        kept += not (rank_O == 1).any() or fresh[2][1][rank_O == 1].mean() > 0.95
        alone = [fit_rank(*(each[number] for each in case)) for number in (0, 1)]
        rank_O, _ = roll_up.roll_up(alone, *fresh[:2])
        naive_kept += fresh[2][1][rank_O == 1].mean() > 0.95
    assert kept >= 27
    assert naive_kept < 10, "the case was meant to show the fault of rules fitted on all observations"


def test_a_rank_to_which_nothing_is_left_is_never_answered() -> None:
    zeros, ones = np.zeros(100, dtype=int), np.ones(100)
    rules = roll_up.fit_roll_up([zeros, zeros], [ones, ones], [ones, ones])
    assert [rule.threshold for rule in rules] == [1.0, NEVER]
    assert rules[1].observations == 0


def test_impossible_demands_are_refused() -> None:
    with pytest.raises(BadInput, match="precision of 1"):
        fit_rank(np.zeros(2, dtype=int), np.ones(2), np.ones(2, dtype=bool), precision=1.0)
    with pytest.raises(BadInput, match="0 observations"):
        fit_rank(np.zeros(0, dtype=int), np.zeros(0), np.zeros(0, dtype=bool))


def test_examples_in_docstrings_run() -> None:
    assert doctest.testmod(roll_up).attempted > 1
    assert doctest.testmod(roll_up).failed == 0
