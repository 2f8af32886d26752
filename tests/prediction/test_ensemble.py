"""Ensembles from stored predictions: aligned, fitted on validation, fairly judged, written as predictions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from scipy.special import softmax
from typer.testing import CliRunner

from taxakey import artifacts
from taxakey.cli.ensemble import ensemble
from taxakey.errors import BadInput
from taxakey.evaluation import evaluate
from taxakey.evaluation.ensembles import judge
from taxakey.prediction.ensemble import EnsembleOptions, answered, fit, given_the_rank_above, require_fair, single, write_ensemble
from taxakey.prediction.ensemble_file import ensemble_at
from taxakey.prediction.member_weights import by_likelihood
from taxakey.prediction.members import Member, open_pool
from taxakey.prediction.namer import Namer
from taxakey.predictions import Predictions, Truth
from taxakey.taxonomy import Taxonomy

NAMES = [f"{genus} {name}" for genus in ("Acer", "Bellis", "Carex") for name in ("alba", "nigra", "rubra", "viridis")]
FULL = Taxonomy.from_rows({"scientificName": name, "genus": name.split()[0], "family": f"{name[0]}aceae"} for name in NAMES)
C = len(NAMES)


def world(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """True classes [O], and what the pictures show [O, C]."""
    generator = np.random.default_rng(seed)
    true_O = generator.integers(0, C, rows)
    return true_O, 2.5 * np.eye(C)[true_O] + generator.standard_normal((rows, C))


def member(
    folder: Path, part: str, noise: float, seed: int, *, taxonomy: Taxonomy = FULL, rows: int = 300, k: int = 100,
    model: str = "m", names: dict[str, str] | None = None,
) -> Path:  # fmt: skip
    """A predictions artifact of a made-up model: the pictures with noise of its own."""
    true_O, z_OC = world(rows, {"validation": 1, "test": 2}.get(part, 3))
    z_OC = z_OC + noise * np.random.default_rng([seed, rows]).standard_normal(z_OC.shape)
    renamed = [(names or {}).get(name, name) for name in NAMES]
    p_OK = softmax(z_OC[:, [renamed.index(name) for name in taxonomy.names]], axis=1)
    truth = Truth([renamed[c] for c in true_O], [NAMES[c].split()[0] for c in true_O], [f"{NAMES[c][0]}aceae" for c in true_O])
    ids = [f"{part}{row:04d}" for row in range(rows)]
    plan = artifacts.Plan("predictions", {"model": model}, {"part": part, "model": f"/none/{folder.name}/model"})
    artifacts.start(folder, plan)
    order = np.random.default_rng(seed).permutation(rows)
    for level in ("observation", "image"):
        Predictions.from_probabilities(
            p_OK[order], taxonomy, observation_ids=[ids[row] for row in order], image_ids=[ids[row] for row in order],
            truth=Truth(*([of[row] for row in order] for of in (truth.species, truth.genus, truth.family))), k=k, level=level,
        ).write(folder / f"{level}s.parquet")  # fmt: skip
    artifacts.write_parquet(folder / "taxonomy.parquet", taxonomy.table)
    artifacts.finish(folder, plan, counts={"observations": rows}, taxonomy=taxonomy.fingerprint)
    return folder


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Member]]:
    folder = tmp_path_factory.mktemp("members")
    noises = {"good": 1.5, "fair": 1.7, "poor": 6.0}
    return {
        part: [
            Member.open(member(folder / f"{name}-{part}", part, noise, seed, rows=1500))
            for seed, (name, noise) in enumerate(noises.items())
        ]
        for part in ("validation", "test")
    }


def test_rows_are_brought_into_one_order(members: dict[str, list[Member]]) -> None:
    pool = open_pool(members["test"])
    true_O, z_OC = world(1500, 2)
    place = [int(name.removeprefix("test")) for name in pool.ids]
    np.testing.assert_array_equal(pool.true_O, true_O[place])
    (portion,) = pool.each(lambda portion: portion)
    for seed, noise in enumerate((1.5, 1.7, 6.0)):
        noisy = z_OC + noise * np.random.default_rng([seed, 1500]).standard_normal(z_OC.shape)
        np.testing.assert_allclose(portion.p_MBC[seed], softmax(noisy, axis=1)[place], atol=1e-5)


def test_the_best_rule_beats_the_best_member_and_noise_gets_little_weight(members: dict[str, list[Member]]) -> None:
    fitted = fit(open_pool(members["validation"]))
    found = judge(fitted, open_pool(members["test"]), resamples=200)
    chosen = next(row for row in found.judged if row.name == fitted.chosen)
    assert chosen.over_best_member["top_1"].low > 0
    weights_M = fitted.rules["by likelihood"].weights
    assert weights_M[2] < 0.1 < weights_M[1] < weights_M[0]
    best_by_nll = min(fitted.rules, key=fitted.nll)
    assert fitted.chosen == best_by_nll
    assert found.diversity.oracle >= max(row.figures["top_1"].value for row in found.judged)


def test_cross_fitted_figures_never_come_from_the_rows_that_were_fitted_on() -> None:
    """With as many free weights as rows a rule fits noise: only figures of unseen rows say so."""
    generator = np.random.default_rng(0)
    p_MO = generator.random((60, 30))
    fitted_M = by_likelihood(p_MO, prior=0.0)
    unseen_MO = generator.random((60, 30))
    assert -np.log(fitted_M @ p_MO).mean() < -np.log(fitted_M @ unseen_MO).mean() - 0.02


def test_a_member_without_some_classes(tmp_path: Path) -> None:
    """It is given the others' opinion of what it doesn't know, and loses what that takes."""
    some = Taxonomy.from_rows(row for row in FULL.table.to_pylist() if row["scientificName"] != "Acer alba")
    pool = open_pool(
        [Member.open(member(tmp_path / "a", "test", 1, 0)), Member.open(member(tmp_path / "b", "test", 1, 1, taxonomy=some))]
    )
    assert pool.missing == {"b": 1}
    assert len(pool.taxonomy) == C
    (portion,) = pool.each(lambda portion: portion)
    np.testing.assert_allclose(portion.p_MBC.sum(axis=2), 1, rtol=1e-5)
    np.testing.assert_allclose(portion.p_MBC[1, :, 0], portion.p_MBC[0, :, 0], rtol=1e-4)  # the other's opinion
    alone = open_pool([Member.open(tmp_path / "b")])
    (own,) = alone.each(lambda portion: portion, np.array([alone.ids.index(name) for name in pool.ids]))
    np.testing.assert_allclose(portion.p_MBC[1, :, 1:], own.p_MBC[0] * (1 - portion.p_MBC[0, :, :1]), rtol=1e-4)


def test_a_class_of_another_name_and_the_same_id_is_one_class(tmp_path: Path) -> None:
    numbered = [{**row, "taxonID": f"t{number}"} for number, row in enumerate(FULL.table.to_pylist())]
    renamed = [{**row, "scientificName": "Acer vetus"} if row["scientificName"] == "Acer alba" else row for row in numbered]
    first = member(tmp_path / "a", "test", 1, 0, taxonomy=Taxonomy.from_rows(numbered))
    second = member(tmp_path / "b", "test", 1, 1, taxonomy=Taxonomy.from_rows(renamed), names={"Acer alba": "Acer vetus"})
    pool = open_pool([Member.open(first), Member.open(second)])
    assert len(pool.taxonomy) == C
    assert not pool.missing


def test_few_stored_answers_are_spread(tmp_path: Path) -> None:
    pool = open_pool([Member.open(member(tmp_path / "a", "test", 1, 0, k=3))])
    (portion,) = pool.each(lambda portion: portion)
    np.testing.assert_allclose(portion.p_MBC.sum(axis=2), 1, rtol=1e-4)
    assert (np.unique(portion.p_MBC[0, 0].round(7)).size) == 4  # three of its own and one that the others share


def test_what_would_leak_is_refused(members: dict[str, list[Member]], tmp_path: Path) -> None:
    require_fair(members["validation"], members["test"])
    with pytest.raises(BadInput, match="weights are fitted on pictures that the models didn't learn from"):
        require_fair(members["test"], members["test"])
    trained_on = [Member.open(member(tmp_path / "t", "train", 1, 0))]
    with pytest.raises(BadInput, match="'train'"):
        require_fair(trained_on, members["test"][:1])
    other = [Member.open(member(tmp_path / "o", "validation", 1, 0, model="another"))]
    with pytest.raises(BadInput, match="come from different models"):
        require_fair(other, members["test"][:1])


def test_other_rows_are_refused(members: dict[str, list[Member]], tmp_path: Path) -> None:
    fewer = Member.open(member(tmp_path / "f", "test", 1, 0, rows=200))
    with pytest.raises(BadInput, match="200 are the same: predict the same part"):
        open_pool([members["test"][0], fewer])


def test_half_precision_is_looked_up_and_threads_keep_the_order(
    members: dict[str, list[Member]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Full scores in float16, in portions of five rows, against the plain arithmetic; other rows than the first ones too."""
    pool = open_pool(members["test"])
    halves = replace(pool, log_p=tuple(log_p.astype(np.float16) for log_p in pool.log_p))
    monkeypatch.setattr("taxakey.prediction.members._NUMBERS_AT_ONCE", 5 * 3 * C)
    rows = np.random.default_rng(0).permutation(1500)[:203]
    found = halves.each(lambda portion: (portion.p_MBC, portion.log_p_MBC, portion.rows), rows)
    assert len(found) == 41
    p_MNC, log_p_MNC = (np.concatenate([part[which] for part in found], axis=1) for which in (0, 1))
    np.testing.assert_array_equal(np.concatenate([part[2] for part in found]), rows)
    expected_MNC = np.exp(np.stack(halves.log_p)[:, rows].astype(np.float64))
    expected_MNC /= expected_MNC.sum(axis=2, keepdims=True)
    np.testing.assert_allclose(p_MNC, expected_MNC, rtol=1e-5)
    np.testing.assert_allclose(log_p_MNC, np.log(np.maximum(expected_MNC, 1e-8)), atol=2e-3)


def test_the_rank_above_is_summed_over_all_its_classes(members: dict[str, list[Member]]) -> None:
    pool = open_pool(members["test"])
    (portion,) = pool.each(lambda portion: portion)
    family_MO, genus_MO, species_MO = given_the_rank_above(pool)
    same_genus_OC = np.array([name.split()[0] for name in NAMES]) == np.array([NAMES[c].split()[0] for c in pool.true_O])[:, None]
    sums_MO = np.where(same_genus_OC, portion.p_MBC, 0).sum(axis=2)
    np.testing.assert_allclose(family_MO, sums_MO, rtol=1e-5)  # each genus here is a family of its own
    np.testing.assert_allclose(genus_MO, 1, rtol=1e-5)
    np.testing.assert_allclose(species_MO, portion.p_MBC[:, np.arange(1500), pool.true_O] / sums_MO, rtol=1e-5)


def test_weights_of_logits_hardly_need_the_unlikely_classes(
    members: dict[str, list[Member]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = open_pool(members["validation"])
    options = EnsembleOptions(rules=("logits fitted",))
    of_all_M = fit(pool, options).rules["logits fitted"].weights
    monkeypatch.setattr("taxakey.prediction.ensemble._CLASSES_FOR_LOGITS", 9)  # of twelve
    of_some_M = fit(pool, options).rules["logits fitted"].weights
    assert 0 < np.abs(of_all_M - of_some_M).max() < 0.05


def test_an_ensemble_with_answers_to_crops_says_so_and_names_no_new_pictures(
    members: dict[str, list[Member]], tmp_path: Path
) -> None:
    """Weights fitted for the mean of five crops aren't those of the whole picture."""
    judged = members["test"]
    cropped = replace(
        judged[1], manifest=replace(judged[1].manifest, recipe={**judged[1].manifest.recipe, "crops": {"count": 5}})
    )
    fitted = fit(open_pool(members["validation"]), EnsembleOptions(rules=("mean", "geometric")))
    for name, of in (("plain", judged), ("crops", [judged[0], cropped, judged[2]])):
        write_ensemble(fitted, of, tmp_path / name, EnsembleOptions(rules=("mean", "geometric")))
        content = artifacts.read_json(tmp_path / name / "ensemble.json")
        artifacts.write_json(tmp_path / name / "ensemble.json", {**content, "models": [str(tmp_path)] * 3})
    plain, crops = ensemble_at(tmp_path / "plain"), ensemble_at(tmp_path / "crops")
    assert plain is not None
    assert crops is not None
    plain.require_whole_pictures()
    assert crops.of_crops == (fitted.members[1],)
    with pytest.raises(BadInput, match="answered several crops of each picture"):
        Namer.open(tmp_path / "crops", None)


def test_from_the_command_line(members: dict[str, list[Member]], tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(ensemble)
    pairs = [f"{v.folder},{t.folder}" for v, t in zip(members["validation"], members["test"], strict=True)]
    done = CliRunner().invoke(app, [str(tmp_path / "out"), *pairs, "--resamples", "100"], catch_exceptions=False)
    assert done.exit_code == 0
    assert "Validation chose" in done.output
    report = evaluate(tmp_path / "out" / "predictions", resamples=100)
    table = artifacts.read_json(tmp_path / "out" / "report.json")
    chosen = next(row for row in table["judged"] if row["name"] == table["chosen"])
    assert report.figures["species"]["top_1"].value == pytest.approx(chosen["figures"]["top_1"]["value"])
    assert (tmp_path / "out" / "ensemble.png").read_bytes()[:4] == b"\x89PNG"


def test_one_member_is_answered_as_it_was_stored(members: dict[str, list[Member]]) -> None:
    pool = open_pool(members["test"])
    own = answered(pool, {"one": single(1, 3)})["one"]
    stored = Predictions.read(members["test"][1].folder / "observations.parquet")
    order = [stored.strings("observation_id").index(name) for name in pool.ids]
    np.testing.assert_array_equal(own.true_rank_O, stored.true_rank("species")[order])
    np.testing.assert_allclose(own.true_p_O, stored.true_probability("species")[order], rtol=1e-4)


def test_unknown_rules_are_refused() -> None:
    with pytest.raises(BadInput, match="unknown rule 'median'"):
        EnsembleOptions(rule="median")
