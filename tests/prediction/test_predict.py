"""Predictions of a real run against averaging by hand."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from taxakey.artifacts import read_manifest
from taxakey.calibration.bias_corrected import BiasCorrected
from taxakey.calibration.shares import estimate_shares
from taxakey.calibration.told_shares import require_room
from taxakey.cli.predict import predict as predict_command
from taxakey.dataset.crops import CropOptions, Crops
from taxakey.dataset.reader import Dataset
from taxakey.embeddings import embed, features
from taxakey.errors import BadInput, MissingArtifact, PlanMismatch
from taxakey.evaluation import evaluate
from taxakey.prediction import predict as module
from taxakey.prediction.predict import predict
from taxakey.predictions import Predictions, read_full
from taxakey.training.checkpoint import load_model
from taxakey.training.loop import train
from taxakey.training.recipe import read_recipe

SMOKE = read_recipe(Path(__file__).parent.parent.parent / "recipes" / "smoke.yaml")


@pytest.fixture(scope="module")
def run(sheets_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("predict") / "run"
    train(sheets_dataset, replace(SMOKE, loop=replace(SMOKE.loop, epochs=1)), out, device="cpu")
    return out


@pytest.fixture(scope="module")
def predictions(run: Path, sheets_dataset: Path) -> Path:
    out = run.parent / "predictions"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_IMAGES_AT_ONCE", 5)  # several portions, so that observations could be torn apart
        predict(run, sheets_dataset, out, full_scores=True)
    return out


def test_observations_are_means_of_calibrated_images(run: Path, sheets_dataset: Path, predictions: Path) -> None:
    model, part = load_model(run), Dataset.open(sheets_dataset).part("test")
    assert model.calibration is not None
    scores = features(model.network, part, range(len(part)), model.preprocess) / model.calibration.temperature
    probabilities = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    table = Predictions.read(predictions / "observations.parquet")
    assert sorted(table.strings("observation_id")) == sorted(set(part.observation_ids))
    assert max(table.values("images")) > 1, "the sample must hold an observation of several photographs"
    for row, observation in enumerate(table.strings("observation_id")):
        rows = [i for i, name in enumerate(part.observation_ids) if name == observation]
        expected = probabilities[rows].mean(0)
        index, probability = table.index("species")[row], table.probability("species")[row]
        np.testing.assert_allclose(probability, expected[index], rtol=1e-4)
        assert sorted(index) == list(range(len(model.taxonomy)))
        true = model.taxonomy.names.index(table.strings("true_species")[row])
        assert table.true_rank("species")[row] == list(index).index(true) + 1


def test_full_scores_are_the_same_as_logarithms(predictions: Path) -> None:
    table = Predictions.read(predictions / "observations.parquet")
    stored = {}
    for ids, log_p_OC in read_full(predictions / "full"):
        stored |= dict(zip(ids, log_p_OC, strict=True))
    for row, observation in enumerate(table.strings("observation_id")):
        log_p = stored[observation].astype(float)
        np.testing.assert_allclose(np.exp(log_p[table.index("species")[row]]), table.probability("species")[row], rtol=1e-2)


def test_images_keep_their_own_rows(predictions: Path, sheets_dataset: Path) -> None:
    table = Predictions.read(predictions / "images.parquet")
    assert table.level == "image"
    assert sorted(table.strings("image_id")) == sorted(Dataset.open(sheets_dataset).part("test").image_ids)


def test_run_again_it_is_finished_and_leaves_no_portions(run: Path, sheets_dataset: Path, predictions: Path) -> None:
    before = (predictions / "observations.parquet").stat().st_mtime_ns
    predict(run, sheets_dataset, predictions, full_scores=True)
    assert (predictions / "observations.parquet").stat().st_mtime_ns == before
    assert not (predictions / "portions").exists()
    assert read_manifest(predictions, "predictions").taxonomy == load_model(run).taxonomy.fingerprint


def test_vectors_of_another_backbone_are_refused(run: Path, sheets_dataset: Path, tmp_path: Path) -> None:
    embed(sheets_dataset, SMOKE.backbone, tmp_path / "vectors")
    with pytest.raises(BadInput, match="another backbone"):
        predict(run, sheets_dataset, tmp_path / "out", embeddings_folder=tmp_path / "vectors")


@pytest.mark.parametrize("options", [CropOptions(5, five=True), CropOptions(3, top=2)], ids=["five", "best two of three"])
def test_crops_are_named_one_by_one_and_their_probabilities_averaged(
    run: Path, sheets_dataset: Path, tmp_path: Path, options: CropOptions
) -> None:
    predict(run, sheets_dataset, tmp_path / "out", part="validation", crops=options)
    model, part = load_model(run), Dataset.open(sheets_dataset).part("validation")
    assert model.calibration is not None
    table = Predictions.read(tmp_path / "out" / "images.parquet")
    for row, image_id in enumerate(table.strings("image_id")):
        pixels = Crops(options, model.preprocess).load(part.image_bytes(part.image_ids.index(image_id)))
        with torch.inference_mode():
            scores = model.network(torch.from_numpy(pixels)).numpy() / model.calibration.temperature
        probabilities = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
        for crop in probabilities:
            crop[np.argsort(-crop)[options.top or len(crop) :]] = 0
        expected = probabilities.sum(0) / probabilities.sum()
        np.testing.assert_allclose(table.probability("species")[row], expected[table.index("species")[row]], rtol=1e-4, atol=1e-7)
    assert read_manifest(tmp_path / "out", "predictions").recipe["crops"]["count"] == options.count
    with pytest.raises(PlanMismatch, match="crops"):
        predict(run, sheets_dataset, tmp_path / "out", part="validation")


def test_crops_of_stored_vectors_are_refused(run: Path, sheets_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="either the crops or the embeddings"):
        predict(run, sheets_dataset, tmp_path / "out", embeddings_folder=tmp_path, crops=CropOptions(3))


def test_the_command_takes_crops(run: Path, sheets_dataset: Path, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(predict_command)
    given = [str(run), str(sheets_dataset), str(tmp_path / "out"), "--device", "cpu", "--part", "validation"]
    done = CliRunner().invoke(app, [*given, "--crops", "2", "--crops-top", "3"])
    assert done.exit_code == 0, done.output
    assert read_manifest(tmp_path / "out", "predictions").recipe["crops"] == {"count": 2, "five": False, "top": 3}
    assert isinstance(CliRunner().invoke(app, [*given, "--crops-top", "3"]).exception, BadInput)


class _Rows:
    def __init__(self, observation_ids: list[str]) -> None:
        self.observation_ids = observation_ids


@given(st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=40), st.integers(1, 10))
def test_portions_hold_every_image_once_and_tear_no_observation(ids: list[str], size: int) -> None:
    portions = list(module._portions(_Rows(ids), size))  # type: ignore[arg-type]
    assert sorted(int(row) for portion in portions for row in portion) == list(range(len(ids)))
    homes = [{ids[row] for row in portion} for portion in portions]
    assert sum(len(home) for home in homes) == len(set(ids))


# ---- other shares of species ----


@pytest.fixture
def shares_file(run: Path, tmp_path: Path) -> Path:
    """The last species is met nine times as often as the first, the others not at all."""
    names = load_model(run).taxonomy.names
    file = tmp_path / "shares.csv"
    file.write_text(f"scientificName,share\n{names[0]},10\n{names[-1]},90\n", encoding="utf-8")
    return file


def test_told_shares_are_corrected_for_and_said(
    run: Path, sheets_dataset: Path, predictions: Path, shares_file: Path, tmp_path: Path
) -> None:
    app = typer.Typer()
    app.command()(predict_command)
    arguments = [str(run), str(sheets_dataset), str(tmp_path / "out"), "--shares", str(shares_file), "--device", "cpu"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    counts_C = Dataset.open(sheets_dataset).train_counts()
    share_C = np.full(len(counts_C), 0.001)
    share_C[[0, -1]] = 0.1, 0.9
    weight_C = share_C / share_C.sum() / (counts_C / counts_C.sum())
    plain, told = (Predictions.read(folder / "images.parquet") for folder in (predictions, tmp_path / "out"))
    for row in range(len(plain)):
        p_C = np.zeros(len(counts_C))
        p_C[plain.index("species")[row]] = plain.probability("species")[row]
        expected_C = p_C * weight_C / (p_C @ weight_C)
        assert told.probability("species")[row] == pytest.approx(expected_C[told.index("species")[row]], rel=1e-3, abs=1e-6)
    (note,) = read_manifest(tmp_path / "out", "predictions").notes
    assert note.startswith("Probabilities are corrected for shares of species told by shares.csv; ")
    assert note in done.output.replace("note: ", "")
    assert note in evaluate(tmp_path / "out", resamples=10).notes, "the report says so too"
    shares_file.write_text(shares_file.read_text(encoding="utf-8").replace("90", "80"), encoding="utf-8")
    with pytest.raises(PlanMismatch):
        predict(run, sheets_dataset, tmp_path / "out", shares=str(shares_file))


def test_estimated_shares_are_those_of_the_observations(run: Path, sheets_dataset: Path, tmp_path: Path) -> None:
    model, part = load_model(run), Dataset.open(sheets_dataset).part("test")
    assert model.decisions is not None
    # What validation held is said to have been one species nearly alone, so that the pictures surely speak for other shares.
    classes = len(model.taxonomy)
    share_C = np.full(classes, 0.01)
    share_C[0] = 1 - 0.01 * (classes - 1)
    basis = BiasCorrected(20.0, tuple(np.linspace(-0.5, 0.5, classes)), tuple(share_C), 0.0, 100)
    shutil.copytree(run, tmp_path / "run")
    replace(model.decisions, shares=basis).write(tmp_path / "run" / "model" / "decisions.json")
    predict(tmp_path / "run", sheets_dataset, tmp_path / "out", shares="estimate")
    probabilities_IC = basis.probabilities(features(model.network, part, range(len(part)), model.preprocess))
    names = sorted(set(part.observation_ids))
    ids = np.array(part.observation_ids)
    mean_OC = np.stack([probabilities_IC[ids == name].mean(axis=0) for name in names])
    weighted_IC = probabilities_IC * estimate_shares(mean_OC, share_C, prior_observations=len(names)) / share_C
    found = Predictions.read(tmp_path / "out" / "images.parquet")
    place = {name: row for row, name in enumerate(part.image_ids)}
    for row, image in enumerate(found.strings("image_id")):
        expected_C = weighted_IC[place[image]] / weighted_IC[place[image]].sum()
        assert found.probability("species")[row] == pytest.approx(expected_C[found.index("species")[row]], rel=1e-2, abs=1e-5)
    assert "estimated from these pictures" in read_manifest(tmp_path / "out", "predictions").notes[0]


def test_without_a_sure_shift_the_answers_stay_and_a_note_says_so(
    run: Path, sheets_dataset: Path, predictions: Path, tmp_path: Path
) -> None:
    predict(run, sheets_dataset, tmp_path / "out", shares="estimate")
    (note,) = read_manifest(tmp_path / "out", "predictions").notes
    assert "nothing is corrected" in note
    plain, same = (Predictions.read(folder / "images.parquet") for folder in (predictions, tmp_path / "out"))
    np.testing.assert_array_equal(same.index("species"), plain.index("species"))
    np.testing.assert_allclose(same.probability("species"), plain.probability("species"), rtol=1e-5)


def test_shares_that_cant_be_had_are_refused(run: Path, sheets_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingArtifact, match="no such file; name a table"):
        predict(run, sheets_dataset, tmp_path / "out", shares=str(tmp_path / "none.csv"))
    with pytest.raises(BadInput, match="whole pictures; leave out the crops"):
        predict(run, sheets_dataset, tmp_path / "crops", shares="estimate", crops=CropOptions.named("five", None))
    with pytest.raises(BadInput, match="too many; estimate from 2,500"):
        require_room(2501, 80_000)
