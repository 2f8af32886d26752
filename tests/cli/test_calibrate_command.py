"""`taxakey calibrate` on a real run: what training left, what is fitted anew, and that a bundle and identify take it up."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from taxakey.artifacts import read_json
from taxakey.calibration import Calibration, Decisions
from taxakey.calibration.likeness import learn_likeness
from taxakey.calibration.validation import DecisionOptions, learn_from_validation
from taxakey.cli.calibrate import calibrate as command
from taxakey.cli.identify import identify
from taxakey.dataset.reader import Dataset
from taxakey.embeddings import features
from taxakey.errors import BadInput, PlanMismatch
from taxakey.export import export
from taxakey.prediction.calibrate import calibrate
from taxakey.serving.identifier import load
from taxakey.training.checkpoint import load_model
from taxakey.training.loop import train
from taxakey.training.recipe import read_recipe

SMOKE = read_recipe(Path(__file__).parent.parent.parent / "recipes" / "smoke.yaml")


@pytest.fixture(scope="module")
def finished(sheets_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("calibrate") / "run"
    train(sheets_dataset, replace(SMOKE, loop=replace(SMOKE.loop, epochs=1)), out, device="cpu")
    return out


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_training_leaves_what_calibrate_would_fit(finished: Path, sheets_dataset: Path) -> None:
    model, part = load_model(finished), Dataset.open(sheets_dataset).part("validation")
    train_part = Dataset.open(sheets_dataset).part("train")
    scores_IC, trained_IC = (features(model.network, rows, range(len(rows)), model.preprocess) for rows in (part, train_part))
    likeness = learn_likeness(lambda rows: trained_IC[rows], train_part.class_index, model.taxonomy)
    calibration, decisions = learn_from_validation(
        scores_IC, part.observation_ids, part.truth(), model.taxonomy, likeness=likeness
    )
    assert model.calibration is not None
    assert model.decisions is not None
    assert model.calibration.temperature == pytest.approx(calibration.temperature, rel=1e-3)
    assert likeness is not None, "there must be training pictures enough here"
    assert model.decisions.likeness is not None
    assert model.decisions.likeness.images == likeness.images == len(train_part)
    assert model.decisions.organism is not None
    assert decisions.organism is not None
    assert model.decisions.organism.sureness == "likeness"
    assert model.decisions.organism.threshold == pytest.approx(decisions.organism.threshold, rel=1e-2)
    assert model.decisions.set_threshold == pytest.approx(decisions.set_threshold, rel=1e-3)
    assert model.decisions.observations == len(set(part.observation_ids))


def test_fitted_anew_the_old_facts_stay(run: Path, sheets_dataset: Path) -> None:
    app = typer.Typer()
    app.command()(command)
    before = Calibration.read(run / "model" / "calibration.json")
    arguments = [str(run), str(sheets_dataset), "--method", "best", "--precision", "0.6", "--coverage", "0.8", "--device", "cpu"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert f"before: temperature, temperature {before.temperature:.3f}" in done.output
    for method in ("temperature", "ranks", "bins"):
        assert f"        {method}: negative log-likelihood" in done.output
    assert "(80% promised)" in done.output
    images = len(Dataset.open(sheets_dataset).part("train"))
    assert f"by the likeness of their scores to those of {images:,} training pictures; " in done.output
    assert "No threshold for unknown species" in done.output
    now = Calibration.read(run / "model" / "calibration.json")
    old = now.measured["before"]
    assert (old["temperature"], old["unsure_below"], old["measured"]) == (
        before.temperature,
        before.unsure_below,
        before.measured,
    )
    assert now.measured["part"] == "validation"
    assert now.meaning in (run / "model" / "README.md").read_text(encoding="utf-8")
    decisions = load_model(run).decisions
    assert decisions is not None
    assert (decisions.precision, decisions.coverage) == (0.6, 0.8)
    # Once more: the last calibration is what was before, and the chain doesn't grow.
    calibrate(run, sheets_dataset)
    again = Calibration.read(run / "model" / "calibration.json").measured["before"]
    assert again["method"] == now.method
    assert "before" not in again["measured"]


def test_a_bundle_takes_them_along_and_older_answers_arent_mixed_in(run: Path, sheets_dataset: Path, tmp_path: Path) -> None:
    export(run, tmp_path / "bundle")
    model = load(tmp_path / "bundle")
    assert model.rule == "roll-up"
    assert model.decisions == Decisions.read(run / "model" / "decisions.json")
    picture = tmp_path / "sheet.jpg"
    picture.write_bytes(Dataset.open(sheets_dataset).part("test").image_bytes(0))
    identify(tmp_path / "bundle", [str(picture)], out=tmp_path / "names.csv")
    calibrate(run, sheets_dataset, options=DecisionOptions(coverage=0.5))
    with pytest.raises(PlanMismatch):  # the bundle was made with other decisions
        export(run, tmp_path / "bundle")
    export(run, tmp_path / "newer")
    with pytest.raises(PlanMismatch, match="begun with decisions"):
        identify(tmp_path / "newer", [str(picture)], out=tmp_path / "names.csv")


def test_decisions_left_over_from_another_calibration_are_replaced(run: Path, sheets_dataset: Path) -> None:
    old = Calibration.read(run / "model" / "calibration.json")
    replace(old, temperature=old.temperature * 2).write(run / "model" / "calibration.json")  # as after a kill between the two
    with pytest.raises(BadInput, match="run `taxakey calibrate` again"):
        load_model(run)
    calibrate(run, sheets_dataset)
    assert load_model(run).decisions is not None


def test_what_it_was_trained_on_is_refused(run: Path, sheets_dataset: Path) -> None:
    before = (run / "model" / "calibration.json").read_bytes()
    with pytest.raises(BadInput, match="was trained on it"):
        calibrate(run, sheets_dataset, part="train")
    assert (run / "model" / "calibration.json").read_bytes() == before


def test_a_run_without_decisions_still_names(run: Path, sheets_dataset: Path) -> None:
    (run / "model" / "decisions.json").unlink()
    model = load(run)
    picture = Dataset.open(sheets_dataset).part("test").image_bytes(0)
    assert model.identify([picture])[0].decision is None
    export(run, run.parent / "plain")
    assert not (run.parent / "plain" / "decisions.json").exists()
    assert "decisions" not in read_json(run.parent / "plain" / "manifest.json")["inputs"]
    assert np.isfinite(model.identify([picture])[0].species[0].probability)
