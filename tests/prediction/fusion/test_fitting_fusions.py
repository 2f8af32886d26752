"""What is planted is found and gains where nothing was fitted; what says nothing is left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from herbarium import SPECIES, collected

from taxakey.metrics.differences import paired_differences
from taxakey.metrics.intervals import mean_of
from taxakey.prediction.fusion.fitting import Training, Validation, choose_evidence, choose_rule, only_best
from taxakey.prediction.fusion.judging import Judge, Judged, line
from taxakey.prediction.fusion.pictures import Rule
from taxakey.prediction.fusion.stored import Fusion

World = tuple[Training, Validation, Validation]
ASKED = ("month", "habitat", "substrate", "place", "box")


@pytest.fixture(scope="module")
def world() -> World:
    return collected(sheets=3000)


@pytest.fixture(scope="module")
def chosen(world: World) -> tuple[Fusion, list[Judged]]:
    training, validation, _ = world
    judge = Judge(validation.true_O, candidates=len(ASKED) + 2)
    rule, of_rules = choose_rule(validation, ("log-mean", "quality"), judge)
    candidates = {name: training.evidence(name) for name in ASKED}
    evidence, exponents, judged = choose_evidence(rule.combined(validation.pictures), validation, candidates, judge)
    return Fusion("f" * 16, rule, tuple(evidence), tuple(exponents)), [*of_rules, *judged]


def test_planted_signals_are_found_and_a_useless_column_is_left_out(chosen: tuple[Fusion, list[Judged]]) -> None:
    fusion, judged = chosen
    assert {"habitat", "substrate", "place"} <= {evidence.name for evidence in fusion.evidence}
    verdicts = {found.name: found for found in judged}
    assert not verdicts["box"].kept
    assert verdicts["box"].log_likelihood.low <= 0
    for name in ("habitat", "substrate", "place"):
        assert verdicts[name].kept
        assert verdicts[name].log_likelihood.low > 0
    assert verdicts["place"].detail["known"] == verdicts["place"].observations


def test_the_gain_holds_on_observations_that_nobody_looked_at(world: World, chosen: tuple[Fusion, list[Judged]]) -> None:
    fusion, test = chosen[0], world[2]
    rows = np.arange(len(test.true_O))
    plain_OC, pictures_OC = Rule().combined(test.pictures), fusion.of_pictures(test.pictures)
    fused_OC = fusion.with_known(pictures_OC, test.known)
    right = [(p_OC.argmax(axis=1) == test.true_O).astype(float) for p_OC in (fused_OC, plain_OC)]
    log_p = [np.log(p_OC[rows, test.true_O]) for p_OC in (fused_OC, plain_OC)]
    gain = paired_differences(
        {"top_1": (mean_of(right[0]), mean_of(right[1])), "nll": (mean_of(log_p[0]), mean_of(log_p[1]))}, len(rows)
    )
    assert gain["top_1"].low > 0.05
    assert gain["nll"].low > 0.2


def test_several_photographs_gain_more_by_their_geometric_mean_where_answers_are_calibrated(
    chosen: tuple[Fusion, list[Judged]],
) -> None:
    """Noise of the photographs is independent here, so that products of answers are nearer to Bayes than their mean."""
    fusion, judged = chosen
    assert fusion.rule.name in ("log-mean", "quality")
    assert sum(found.kept for found in judged if found.name in ("log-mean", "quality")) == 1, "one rule excludes the other"


def test_only_the_useless_is_asked_for_and_nothing_is_kept(world: World) -> None:
    training, validation, _ = world
    answers_OC = Rule().combined(validation.pictures)
    found = choose_evidence(answers_OC, validation, {"box": training.evidence("box")}, Judge(validation.true_O))
    assert found[:2] == ([], [])
    assert [one.kept for one in found[2]] == [False]


def test_gains_are_measured_on_observations_that_were_not_fitted_on() -> None:
    """Something that learns its validation by heart would gain without end where it was fitted, and gains nothing here."""
    rng = np.random.default_rng(0)
    true_O = rng.integers(0, SPECIES, 200)
    even_OC = np.full((200, SPECIES), 1 / SPECIES)
    judge = Judge(true_O)
    seen: list[np.ndarray] = []

    def by_heart(kept_O: np.ndarray) -> np.ndarray:
        seen.append(kept_O)
        answers_OC = even_OC.copy()
        answers_OC[kept_O] = np.eye(SPECIES)[true_O[kept_O]]
        return answers_OC

    answers_OC = judge.without_own(by_heart)
    np.testing.assert_array_equal(answers_OC, even_OC)
    assert (np.sum([~kept_O for kept_O in seen], axis=0) == 1).all(), "each observation is held out once"
    assert not judge.compare("by heart", answers_OC, even_OC).kept


def test_the_rule_of_keeping() -> None:
    true_O = np.zeros(400, dtype=int)
    right, wrong = np.array([0.9, 0.1]), np.array([0.1, 0.9])
    base = np.stack([right if row < 200 else wrong for row in range(400)])
    better = np.stack([right if row < 260 else wrong for row in range(400)])
    surer = base * [[1.0, 1.0]]
    surer[200:] = [0.4, 0.6]  # as wrong, less sure of it
    worse_but_surer = surer.copy()
    worse_but_surer[:60] = [0.45, 0.55]
    judge = Judge(true_O)
    assert judge.compare("better", better, base).kept
    assert judge.compare("surer", surer, base).kept
    lost = judge.compare("loses top-1", worse_but_surer, base)
    assert lost.log_likelihood.low > 0 > lost.top_1.high
    assert not lost.kept
    assert not judge.compare("the same", base, base).kept
    hardly = base * [1 - 1e-6, 1]
    hardly[:, 0] += 2e-6
    assert judge.compare("hardly", hardly, base).log_likelihood.low > 0
    assert not judge.compare("hardly", hardly, base).kept
    assert judge.compare("better", better, base).top_1.value == pytest.approx(0.15)


def test_more_candidates_need_wider_intervals() -> None:
    true_O = np.zeros(100, dtype=int)
    rng = np.random.default_rng(0)
    one, other = rng.dirichlet([1, 1], 100), rng.dirichlet([1, 1], 100)
    alone, among = (Judge(true_O, count).compare("x", one, other).log_likelihood for count in (1, 10))
    assert among.low < alone.low < alone.high < among.high
    assert (alone.level, among.level) == pytest.approx((0.975, 0.9975))


def test_of_several_that_exclude_each_other_the_best_is_kept(chosen: tuple[Fusion, list[Judged]]) -> None:
    first = chosen[1][0]
    good = replace(first, name="good", kept=True, log_likelihood=replace(first.log_likelihood, value=0.1))
    better = replace(good, name="better", log_likelihood=replace(first.log_likelihood, value=0.2))
    refused = replace(better, name="refused", kept=False, log_likelihood=replace(first.log_likelihood, value=0.3))
    best, verdicts = only_best([good, better, refused])
    assert best == "better"
    assert [found.kept for found in verdicts] == [False, True, False]
    assert only_best([refused])[0] is None


def test_a_line_for_people(chosen: tuple[Fusion, list[Judged]]) -> None:
    text = line(next(found for found in chosen[1] if found.name == "place").to_json())
    assert text.startswith("place        kept      log-likelihood +")
    assert "top-1 +" in text
