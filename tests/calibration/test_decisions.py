"""Decisions learned on validation: against slow loops, written and read, refused where they belong to something else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from taxakey.calibration import Calibration
from taxakey.calibration import decisions as module
from taxakey.calibration.bias_corrected import BiasCorrected
from taxakey.calibration.decisions import Decisions, Rejection, calibration_mark, sureness
from taxakey.calibration.roll_up import NEVER, RankRule, lower_bound
from taxakey.calibration.validation import DecisionOptions, fit_decisions, learn_from_validation
from taxakey.errors import BadInput, TaxonomyMismatch
from taxakey.metrics.costs import track4
from taxakey.predictions import Truth
from taxakey.taxonomy import Taxonomy

SPECIES = [
    (f"{genus} {letter}", genus, family)
    for genus, family in (("Aa", "Xaceae"), ("Bb", "Xaceae"), ("Cc", "Yaceae"))
    for letter in "pqr"
]
TAXONOMY = Taxonomy.from_rows([{"scientificName": name, "genus": genus, "family": family} for name, genus, family in SPECIES])
PARENTS = {name: (genus, family) for name, genus, family in SPECIES} | {"Aa z": ("Aa", "Xaceae"), "Zz z": ("Zz", "Zaceae")}


def validation(observations: int, seed: int, strangers: float = 0.0) -> tuple[np.ndarray, Truth]:
    """Raw scores: genera are told apart well, species within a genus badly; strangers have low scores throughout."""
    generator = np.random.default_rng(seed)
    names = [SPECIES[index][0] for index in generator.integers(0, 9, observations)]
    for place in np.flatnonzero(generator.random(observations) < strangers):
        names[place] = ("Aa z", "Zz z")[place % 2]
    truth = Truth(names, *([PARENTS[name][place] for name in names] for place in (0, 1)))
    scores_OC = generator.normal(size=(observations, 9))
    for row, name in enumerate(names):
        genus = [place for place, (_, genus, _) in enumerate(SPECIES) if genus == PARENTS[name][0]]
        scores_OC[row, genus] += 4
        if name in TAXONOMY.names:
            scores_OC[row, TAXONOMY.names.index(name)] += generator.choice([0.5, 6.0])
    return scores_OC, truth


def learnt(observations: int = 1500, seed: int = 0, strangers: float = 0.0, **options: float) -> tuple[Calibration, Decisions]:
    scores_OC, truth = validation(observations, seed, strangers)
    ids = [f"o{row:05}" for row in range(observations)]
    return learn_from_validation(scores_OC, ids, truth, TAXONOMY, options=DecisionOptions(**options))  # type: ignore[arg-type]


def test_each_rank_keeps_its_precision_on_fresh_observations() -> None:
    calibration, decisions = learnt()
    scores_OC, truth = validation(6000, 1)
    p_OC = calibration.probabilities(scores_OC)
    # By a slow loop: the finest rank whose first taxon reaches its threshold.
    right: dict[str, list[bool]] = {"species": [], "genus": [], "family": []}
    names = {"species": truth.species, "genus": truth.genus, "family": truth.family}
    for row, p_C in enumerate(p_OC):
        for rank, rule in decisions.rules(TAXONOMY).items():
            sums = {taxon: p_C[TAXONOMY.codes(rank) == place].sum() for place, taxon in enumerate(TAXONOMY.taxa(rank))}
            best = max(sums, key=lambda taxon: sums[taxon])
            if sums[best] >= rule.by_taxon.get(TAXONOMY.taxa(rank).index(best), rule.threshold):
                right[rank].append(best == names[rank][row])
                break
    assert len(right["species"]) > 1000
    assert len(right["genus"]) > 1000, "genera must be what saves the species that can't be told apart"
    for rank in ("species", "genus"):
        assert np.mean(right[rank]) >= 0.95 - 0.01
        rule = decisions.roll_up[rank]
        assert rule.precision is not None
        assert rule.precision >= 0.95


def test_sets_cover_what_was_promised_and_by_species_for_each() -> None:
    scores_OC, truth = validation(6000, 1)
    true_O = TAXONOMY.index_of(truth.species)
    for options in ({}, {"by_species": True}, {"coverage": 0.8}):
        calibration, decisions = learnt(**options)
        inside_OC = decisions.sets(TAXONOMY).contains(calibration.probabilities(scores_OC))
        covered_O = inside_OC[np.arange(6000), true_O]
        assert covered_O.mean() == pytest.approx(decisions.coverage, abs=0.025)
        assert (decisions.set_by_species is not None) == ("by_species" in options)
        if decisions.set_by_species:
            assert len(decisions.set_by_species) == 9
            assert min(covered_O[true_O == label].mean() for label in range(9)) > 0.83


def test_unknown_species_get_a_threshold_where_validation_holds_them() -> None:
    _, without = learnt()
    assert without.unknown is None
    calibration, decisions = learnt(strangers=0.3, known_kept=None)
    scores_OC, truth = validation(1500, 0, 0.3)
    true_O = TAXONOMY.index_of(truth.species)
    p_OC = calibration.probabilities(scores_OC)
    energy_O = np.log(np.exp(scores_OC).sum(1))
    assert decisions.unknown is not None
    area = decisions.unknown.measured["auroc"]
    assert set(area) == {"probability", "entropy", "energy"}
    assert area[decisions.unknown.sureness] == max(area.values())
    values_O = sureness(decisions.unknown.sureness, p_OC, energy_O)
    # By brute force: the share of pairs of a known and an unknown observation in which the known one is surer; all thresholds.
    pairs = values_O[true_O >= 0][:, None] - values_O[true_O < 0][None]
    assert max(area.values()) == pytest.approx((pairs > 0).mean() + (pairs == 0).mean() / 2)
    costs = [track4(true_O, np.where(values_O >= cut, p_OC.argmax(1), -1)) for cut in [-np.inf, *values_O, np.inf]]
    assert decisions.unknown.measured["track4"] == pytest.approx(min(costs))
    assert decisions.unknown.measured["unknown"] == int((true_O < 0).sum())
    flagged_O = decisions.unknown.flags(p_OC, energy_O)
    assert decisions.unknown.measured["known_flagged"] == pytest.approx(flagged_O[true_O >= 0].mean())
    # Their genus counts as right where it is: "Aa z" is an Aa.
    assert decisions.roll_up["genus"].threshold < NEVER


def test_unless_costs_are_asked_for_known_species_are_kept() -> None:
    """An unknown species named costs a hundred known ones not named in Track 4: too dear a taste for most people."""
    _, decisions = learnt(strangers=0.3)
    _, dear = learnt(strangers=0.3, known_kept=None)
    assert decisions.unknown is not None
    assert dear.unknown is not None
    assert 0.04 < decisions.unknown.measured["known_flagged"] <= 0.05
    assert decisions.unknown.measured["track4"] >= dear.unknown.measured["track4"]


def test_scores_that_are_log_probabilities_have_no_energy() -> None:
    scores_OC, truth = validation(800, 2, 0.3)
    log_p_OC = scores_OC - np.log(np.exp(scores_OC).sum(1, keepdims=True))
    _, decisions = learn_from_validation(log_p_OC, [f"{row:04}" for row in range(800)], truth, TAXONOMY)
    assert decisions.unknown is not None
    assert set(decisions.unknown.measured["auroc"]) == {"probability", "entropy"}


@pytest.mark.parametrize("kept", [0.99, 0.9])
def test_the_threshold_for_organisms_keeps_what_it_says(kept: float) -> None:
    calibration, decisions = learnt(kept=kept)
    p_OC = calibration.probabilities(validation(1500, 0)[0])
    assert decisions.organism is not None
    assert decisions.organism.flags(p_OC, np.zeros(1500)).sum() == pytest.approx(1500 * (1 - kept), abs=1)


def test_images_of_an_observation_are_averaged_before_anything_is_learnt() -> None:
    scores_OC, truth = validation(300, 3)
    generator = np.random.default_rng(3)
    order = generator.permutation(600)
    twice = np.repeat(scores_OC, 2, axis=0) + np.tile([[0.5], [-0.5]], (300, 1))  # softmax doesn't see it, the energy does
    ids = np.repeat([f"o{row:03}" for row in range(300)], 2)
    both = Truth(*(np.repeat(names, 2)[order].tolist() for names in (truth.species, truth.genus, truth.family)))
    single = learn_from_validation(scores_OC, [f"o{row:03}" for row in range(300)], truth, TAXONOMY)
    double = learn_from_validation(twice[order], ids[order].tolist(), both, TAXONOMY)
    assert double[0].temperature == pytest.approx(single[0].temperature, rel=1e-3)
    assert double[1].observations == 300
    assert single[1].shares is not None
    assert double[1].shares is not None
    assert double[1].shares.observations == single[1].shares.observations == int((TAXONOMY.index_of(truth.species) >= 0).sum())
    np.testing.assert_allclose(double[1].shares.bias, single[1].shares.bias, atol=0.01)
    assert double[1].roll_up["genus"].threshold == pytest.approx(single[1].roll_up["genus"].threshold, rel=1e-2)


def test_too_few_pictures_say_nothing_of_biases() -> None:
    scores_OC, truth = validation(9, 3)
    known = TAXONOMY.index_of(truth.species) >= 0
    assert known.any()
    assert learn_from_validation(scores_OC, [f"o{row}" for row in range(9)], truth, TAXONOMY)[1].shares is None


def test_a_taxonomy_without_families_is_rolled_up_to_genera() -> None:
    plain = Taxonomy.from_rows([{"scientificName": name, "genus": genus} for name, genus, _ in SPECIES])
    scores_OC, truth = validation(400, 4)
    _, decisions = learn_from_validation(scores_OC, [f"{row:03}" for row in range(400)], truth, plain)
    assert decisions.ranks == ("species", "genus")


def test_written_and_read_it_is_the_same(tmp_path: Path) -> None:
    for options in ({}, {"by_species": True}):
        _, decisions = learnt(strangers=0.3, **options)
        assert decisions.by_taxon, "a taxon with answers enough must have a threshold of its own here"
        for changed in (
            decisions,
            replace(decisions, organism=Rejection("entropy", -np.inf), unknown=Rejection("energy", np.inf)),
            replace(decisions, shares=BiasCorrected(1.2, (0.1, -0.2), (0.25, 0.75), 0.01, 30)),
        ):
            changed.write(tmp_path / "decisions.json")
            again = Decisions.read(tmp_path / "decisions.json")
            assert again == changed
            assert again.fingerprint == changed.fingerprint
    assert replace(decisions, coverage=0.5).fingerprint != decisions.fingerprint


def test_for_some_of_the_classes_the_thresholds_of_taxa_stay_theirs() -> None:
    _, decisions = learnt(4000, by_species=True)
    own = {rank: dict(rules) for rank, rules in decisions.by_taxon.items()}
    some = Taxonomy.from_rows([row for row in TAXONOMY.table.to_pylist() if row["genus"] != "Aa"])
    genus = decisions.rules(some)["genus"]
    assert {some.taxa("genus")[place]: t for place, t in genus.by_taxon.items()} == {
        k: v for k, v in own["genus"].items() if k != "Aa"
    }
    whole, part = decisions.sets(TAXONOMY).threshold_C, decisions.sets(some).threshold_C
    assert whole is not None
    assert part is not None
    assert part.tolist() == whole[3:].tolist()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 7}, "not decisions of format 1"),
        ({"roll_up": {"species": {"threshold": 0.5}}}, "damaged"),
        ({"roll_up": {}}, "no rank"),
        ({"coverage": 1.5}, "between 0 and 1"),
        ({"unknown": {"sureness": "mood", "threshold": 1, "measured": {}}}, "mood"),
        ({"organism": {"sureness": "entropy", "threshold": "nan", "measured": {}}}, "nan"),
        ({"precision": None}, "damaged"),
    ],
)
def test_a_file_that_cant_be_right_is_named(change: dict, said: str, tmp_path: Path) -> None:
    file = tmp_path / "decisions.json"
    learnt(300)[1].write(file)
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(BadInput, match=said) as caught:
        Decisions.read(file)
    assert str(file) in str(caught.value)


def test_they_belong_to_one_taxonomy_and_one_calibration(tmp_path: Path) -> None:
    calibration, decisions = learnt(300)
    assert Decisions.beside(tmp_path, TAXONOMY, calibration) is None
    decisions.write(tmp_path / "decisions.json")
    calibration.write(tmp_path / "calibration.json")
    assert Decisions.beside(tmp_path, TAXONOMY, Calibration.read(tmp_path / "calibration.json")) == decisions
    remarked = replace(calibration, measured={"said": "otherwise"}, unsure_below=0.1)
    assert calibration_mark(remarked) == calibration_mark(calibration)
    for other in (None, replace(calibration, temperature=9.0), replace(calibration, share_shift={"Aa p": 1.0})):
        with pytest.raises(BadInput, match="another calibration"):
            Decisions.beside(tmp_path, TAXONOMY, other)
    with pytest.raises(TaxonomyMismatch):
        Decisions.beside(tmp_path, Taxonomy.from_rows([{"scientificName": "Aa p"}]), calibration)


def test_the_sentence_for_people_counts_shares_of_all_answers() -> None:
    _, decisions = learnt()
    rules = {"species": RankRule(0.9, 0.98, 0.96, 0.5, 1000), "genus": RankRule(0.9, 0.96, 0.95, 0.4, 500)}
    said = replace(decisions, roll_up=rules, observations=1000).meaning.replace("\u00a0", " ")
    assert "50 % of the answers went to the species, 98 % of them right" in said
    assert "20 % of the answers went to the genus, 96 % of them right" in said
    nothing = replace(decisions, roll_up={"species": RankRule(NEVER, None, None, 0.0, 10)})
    assert "no rank could be answered" in nothing.meaning


def test_options_are_checked() -> None:
    with pytest.raises(BadInput, match="kept is 1"):
        DecisionOptions(kept=1.0)


def test_bounds_and_examples() -> None:
    import doctest

    assert doctest.testmod(module, extraglobs={"np": np}).attempted > 0
    assert doctest.testmod(module, extraglobs={"np": np}).failed == 0
    assert lower_bound(0, 10) == 0
    p_OC = np.full((40, 9), 1 / 9)
    truth = Truth(["Aa p"] * 40, ["Aa"] * 40, ["Xaceae"] * 40)
    assert fit_decisions(p_OC, np.zeros(40), truth, TAXONOMY, Calibration()).roll_up["species"].threshold == NEVER
