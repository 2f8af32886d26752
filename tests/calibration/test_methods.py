"""Temperatures by rank and by confidence: the effect that was put in is found, and only kept where it is there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp, softmax

from taxakey.artifacts import write_json
from taxakey.calibration import METHODS, Calibration, Method, best_calibration, fit_calibration
from taxakey.calibration.scaling import Nest, binned_softmax, nested_softmax
from taxakey.errors import BadInput
from taxakey.taxonomy import Taxonomy

# Two families of two genera of three species, and two species whose parents aren't known or only half.
TAXONOMY = Taxonomy.from_rows(
    [
        {"scientificName": f"{genus} {epithet}", "genus": genus, "family": family}
        for genus, family in (("Acer", "S"), ("Betula", "B"), ("Carpinus", "B"), ("Dipteronia", "S"))
        for epithet in ("alba", "nigra", "rubra")
    ]
    + [{"scientificName": "Incertus sedis"}, {"scientificName": "Quidam herba", "family": "B"}]
)
CLASSES = len(TAXONOMY)


def slow_nested(scores_C: np.ndarray, family_t: float, genus_t: float, species_t: float) -> np.ndarray:
    """Group by group with dictionaries."""
    genera: dict[str, list[int]] = {}
    families: dict[str, list[str]] = {}
    for number, name in enumerate(TAXONOMY.names):
        genera.setdefault(TAXONOMY.column("genus")[number] or name, []).append(number)
    for genus, members in genera.items():
        families.setdefault(TAXONOMY.column("family")[members[0]] or genus, []).append(genus)
    genus_score = {genus: species_t * logsumexp(scores_C[members] / species_t) for genus, members in genera.items()}
    family_score = {
        family: genus_t * logsumexp([genus_score[genus] / genus_t for genus in members]) for family, members in families.items()
    }
    all_families = logsumexp([score / family_t for score in family_score.values()])
    result = np.zeros(len(scores_C))
    for family, its_genera in families.items():
        p_family = np.exp(family_score[family] / family_t - all_families)
        of_genera = softmax([genus_score[genus] / genus_t for genus in its_genera])
        for genus, p_genus in zip(its_genera, of_genera, strict=True):
            result[genera[genus]] = p_family * p_genus * softmax(scores_C[genera[genus]] / species_t)
    return result


def test_nested_softmax_is_that_of_a_slow_loop_and_equal_temperatures_are_one() -> None:
    scores_IC = np.random.default_rng(0).normal(scale=3, size=(5, CLASSES))
    nest = Nest.of(TAXONOMY)
    got = nested_softmax(scores_IC, (0.5, 1.5, 3.0), nest)
    assert np.allclose(got, [slow_nested(row, 0.5, 1.5, 3.0) for row in scores_IC])
    assert np.allclose(nested_softmax(scores_IC, (2.0, 2.0, 2.0), nest), softmax(scores_IC / 2, axis=1))
    # Far apart: nothing overflows, nothing becomes 0/0.
    assert np.isfinite(nested_softmax(scores_IC * 1e4, (1.0, 2.0, 0.5), nest)).all()


def drawn(probabilities_IC: np.ndarray, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return (probabilities_IC.cumsum(axis=1) > generator.random((len(probabilities_IC), 1))).argmax(axis=1)


def by_rank(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Raw scores that are right about families as they are, and three times too sure of the species within a genus."""
    scores_IC = np.random.default_rng(seed).normal(scale=3, size=(rows, CLASSES))
    return scores_IC, drawn(nested_softmax(scores_IC, (3.0, 3.0, 3.0), Nest.of(TAXONOMY)), seed)


def test_temperatures_of_ranks_that_were_put_in_are_found() -> None:
    scores_IC = np.random.default_rng(1).normal(scale=3, size=(6000, CLASSES))
    true_O = drawn(nested_softmax(scores_IC, (1.0, 2.0, 3.5), Nest.of(TAXONOMY)), 2)
    fitted = fit_calibration(scores_IC, np.arange(6000), true_O, method="ranks", taxonomy=TAXONOMY)
    assert [fitted.rank_temperatures[rank] for rank in ("family", "genus", "species")] == pytest.approx([1, 2, 3.5], rel=0.15)
    plain = fit_calibration(scores_IC, np.arange(6000), true_O)
    assert fitted.measured["nll_after"] < plain.measured["nll_after"] - 0.005


def test_temperatures_of_confidence_that_were_put_in_are_found() -> None:
    scores_IC = np.random.default_rng(3).normal(scale=4, size=(6000, CLASSES))
    knots = np.array([0.2, 1.0])
    true_O = drawn(binned_softmax(scores_IC, 1.0, knots, np.array([0.8, 3.0])), 4)
    fitted = fit_calibration(scores_IC, np.arange(6000), true_O, method="bins")
    confident = softmax(scores_IC, axis=1).max(axis=1) > 0.99
    truth_IC = binned_softmax(scores_IC, 1.0, knots, np.array([0.8, 3.0]))
    plain = fit_calibration(scores_IC, np.arange(6000), true_O)
    errors = [np.abs(each.probabilities(scores_IC) - truth_IC)[confident].mean() for each in (fitted, plain)]
    assert errors[0] < errors[1] / 2
    assert fitted.measured["nll_after"] < plain.measured["nll_after"] - 0.005


@pytest.mark.parametrize(
    ("method", "temperatures", "factors"),
    [("temperature", (2.0, 2.0, 2.0), None), ("ranks", (1.0, 2.0, 4.0), None), ("bins", None, (0.7, 3.5))],
)
def test_the_method_is_chosen_that_the_data_ask_for(
    method: Method, temperatures: tuple[float, float, float] | None, factors: tuple[float, float] | None
) -> None:
    scores_IC = np.random.default_rng(5).normal(scale=4, size=(3000, CLASSES))
    if temperatures:
        truth_IC = nested_softmax(scores_IC, temperatures, Nest.of(TAXONOMY))
    else:
        truth_IC = binned_softmax(scores_IC, 1.0, np.array([0.2, 1.0]), np.array(factors))
    true_O = drawn(truth_IC, 6)
    true_O[::50] = -1
    best = best_calibration(scores_IC, np.arange(3000), true_O, TAXONOMY, folds=3)
    assert set(best.measured["nll_of_methods"]) == set(METHODS)
    assert best.measured["nll_of_methods"][best.method] <= best.measured["nll_of_methods"][method]
    if method != "temperature":  # the others hold it as a special case, and may win by a hair
        assert best.method == method
    else:
        values = best.measured["nll_of_methods"].values()
        assert max(values) - min(values) < 0.003


def test_photographs_of_one_observation_stay_in_one_fold() -> None:
    scores_IC, true_I = by_rank(400)
    observation_I = np.repeat(np.arange(200), 2)
    true_O = true_I[::2]
    best = best_calibration(scores_IC, observation_I, true_O, TAXONOMY, methods=("temperature",), folds=4)
    folds_nll = best.measured["nll_of_methods"]["temperature"]
    assert folds_nll == pytest.approx(best.measured["nll_after"], abs=0.05)
    with pytest.raises(BadInput, match="each fold needs one"):
        best_calibration(scores_IC[:4], np.arange(4), true_I[:4], TAXONOMY)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_keeps_the_first_answer_of_its_sums_and_rows_of_1(method: Method, tmp_path: Path) -> None:
    scores_IC, true_O = by_rank(500)
    fitted = fit_calibration(scores_IC, np.arange(500), true_O, method=method, taxonomy=TAXONOMY)
    probabilities_IC = fitted.bind(TAXONOMY).probabilities(scores_IC)
    assert np.allclose(probabilities_IC.sum(axis=1), 1)
    if method != "ranks":
        assert np.array_equal(probabilities_IC.argsort(axis=1), scores_IC.argsort(axis=1))
    fitted.write(tmp_path / "calibration.json")
    again = Calibration.read(tmp_path / "calibration.json")
    assert again == fitted
    assert again.method == method
    assert np.array_equal(again.bind(TAXONOMY).probabilities(scores_IC), probabilities_IC)


def test_files_of_before_are_read_and_plain_ones_look_as_before(tmp_path: Path) -> None:
    write_json(tmp_path / "old.json", {"temperature": 1.5, "unsure_below": 0.4, "measured": {"precision": 0.9}})
    old = Calibration.read(tmp_path / "old.json")
    assert old == Calibration(1.5, 0.4, {"precision": 0.9})
    old.write(tmp_path / "new.json")
    assert (tmp_path / "new.json").read_bytes() == (tmp_path / "old.json").read_bytes()
    scores_IC = np.random.default_rng(0).normal(size=(4, CLASSES))
    assert np.allclose(old.bind(TAXONOMY).probabilities(scores_IC), np.exp(log_softmax(scores_IC / 1.5, axis=1)))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"rank_temperatures": {"family": 1.0}}, "those of family, genus, species"),
        ({"rank_temperatures": dict.fromkeys(("family", "genus", "species"), -1.0)}, "above 0"),
        ({"bin_knots": [0.5, 0.4], "bin_factors": [1, 1]}, "must rise"),
        ({"bin_knots": [0.5]}, "each has its factor"),
        ({"share_shift": {"Acer alba": "inf"}}, "finite"),
        ({"rank_temperatures": 3}, "not a calibration"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, fields: dict, words: str) -> None:
    write_json(tmp_path / "bad.json", {"temperature": 1.0, "unsure_below": 0.4, "measured": {}, **fields})
    with pytest.raises(BadInput, match=rf"bad\.json: .*{words}"):
        Calibration.read(tmp_path / "bad.json")


def test_what_speaks_of_species_needs_a_taxonomy() -> None:
    with pytest.raises(BadInput, match="bound to a taxonomy"):
        Calibration(share_shift={"Acer alba": 1.0}).probabilities(np.zeros((1, CLASSES)))
    with pytest.raises(BadInput, match="ranks need the taxonomy"):
        fit_calibration(np.zeros((2, 3)), np.arange(2), np.array([0, 1]), method="ranks")
