"""An ensemble from one recipe: members, their mean at prediction, and what happens after a kill."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import taxakey.torchvision_guard  # noqa: F401  before timm

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from typer import Typer
from typer.testing import CliRunner

from taxakey.artifacts import read_manifest
from taxakey.cli.folds import folds as folds_command
from taxakey.cli.train import train as train_command
from taxakey.dataset.folds import Fold
from taxakey.dataset.reader import Dataset
from taxakey.dataset.vectors import Vectors
from taxakey.embeddings import embed
from taxakey.errors import BadRecipe, MissingArtifact
from taxakey.evaluation import evaluate
from taxakey.models.heads import LinearOptions
from taxakey.prediction.predict import predict
from taxakey.predictions import Predictions, read_full
from taxakey.training.checkpoint import load_model, members_of
from taxakey.training.folds import train_folds
from taxakey.training.recipe import Recipe, read_recipe

SMOKE = read_recipe(Path(__file__).parent.parent.parent / "recipes" / "smoke.yaml")


@pytest.fixture(scope="module")
def made(sheets_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recipe]:
    """The folder with vectors and an ensemble of three, and its recipe."""
    folder = tmp_path_factory.mktemp("folds")
    torch.manual_seed(0)
    save_file(timm.create_model(SMOKE.backbone.name, num_classes=0).state_dict(), folder / "weights.safetensors")
    recipe = replace(SMOKE, train="head", head=LinearOptions(), folds=3).with_weights(str(folder / "weights.safetensors"))
    embed(sheets_dataset, recipe.backbone, folder / "vectors")
    train_folds(sheets_dataset, recipe, folder / "ensemble", embeddings_folder=folder / "vectors", device="cpu")
    return folder, recipe


def test_members_are_runs_on_their_own_shares(made: tuple[Path, Recipe], sheets_dataset: Path) -> None:
    folder, recipe = made
    dataset = Dataset.open(sheets_dataset)
    members = members_of(folder / "ensemble")
    assert [member.name for member in members] == ["fold-1", "fold-2", "fold-3"]
    weights = []
    for number, member in enumerate(members, 1):
        manifest, own = read_manifest(member, "run"), Fold(number, 3).of(dataset, recipe.seed)
        assert manifest.recipe["fold"] == f"{number}/3"
        assert manifest.counts["train"] == len(own.part("train"))
        assert manifest.counts["validation"] == len(own.part("validation"))
        weights.append(load_model(member).network.head.state_dict()["linear.weight"])
    assert not torch.equal(weights[0], weights[1])
    assert read_manifest(folder / "ensemble", "folds").counts["members"] == 3


def test_the_calibration_comes_from_the_member_s_own_fold(made: tuple[Path, Recipe], sheets_dataset: Path) -> None:
    folder, recipe = made
    own = Fold(2, 3).of(Dataset.open(sheets_dataset), recipe.seed).part("validation")
    calibration = load_model(folder / "ensemble" / "fold-2").calibration
    assert calibration is not None
    assert calibration.measured["observations"] == len(set(own.observation_ids))
    vectors_ND = Vectors(folder / "vectors").part(own.name, own.image_ids)
    one = Vectors(folder / "vectors").part("train", Dataset.open(sheets_dataset).part("train").image_ids)
    row = next(row for row, image in enumerate(own.image_ids) if image in Dataset.open(sheets_dataset).part("train").image_ids)
    np.testing.assert_array_equal(
        vectors_ND[row], one[Dataset.open(sheets_dataset).part("train").image_ids.index(own.image_ids[row])]
    )


def test_prediction_is_the_mean_of_the_members(made: tuple[Path, Recipe], sheets_dataset: Path, tmp_path: Path) -> None:
    folder, _ = made
    several = {"embeddings_folder": folder / "vectors", "full_scores": True}
    probabilities = []
    for member in members_of(folder / "ensemble"):
        predict(member, sheets_dataset, tmp_path / member.name, **several)
        ids, log_p_OC = next(read_full(tmp_path / member.name / "full"))
        probabilities.append(np.exp(log_p_OC.astype(float)))
    predict(folder / "ensemble", sheets_dataset, tmp_path / "together", embeddings_folder=folder / "vectors")
    together = Predictions.read(tmp_path / "together" / "observations.parquet")
    assert together.strings("observation_id") == ids
    expected = np.mean(probabilities, axis=0)
    found = np.zeros_like(expected)
    np.put_along_axis(found, together.index("species").astype(int), together.probability("species"), axis=1)
    np.testing.assert_allclose(found, expected, atol=2e-3)  # float16 in the stored scores
    assert np.abs(probabilities[0] - expected).max() > 0.01, "the members must differ, or nothing was averaged"
    manifest = read_manifest(tmp_path / "together", "predictions")
    assert {"model 1", "model 2", "model 3", "calibration 3"} <= manifest.inputs.keys()
    report = evaluate(tmp_path / "together", resamples=20)
    assert "The mean of 3 members' calibrated probabilities" in report.notes
    assert not [note for note in report.notes if "wasn't at hand" in note]


def test_a_single_fold_by_command_is_the_member(made: tuple[Path, Recipe], sheets_dataset: Path, tmp_path: Path) -> None:
    folder, recipe = made
    recipe.write(tmp_path / "recipe.yaml")
    app = Typer()
    app.command()(train_command)
    app.command()(folds_command)
    common = ["--embeddings", str(folder / "vectors"), "--device", "cpu"]
    arguments = ["train", str(sheets_dataset), str(tmp_path / "run"), "--recipe", str(tmp_path / "recipe.yaml"), "--fold", "2/3"]
    done = CliRunner().invoke(app, [*arguments, *common])
    assert done.exit_code == 0, done.output
    mine, theirs = (load_file(run / "model" / "model.safetensors") for run in (tmp_path / "run", folder / "ensemble" / "fold-2"))
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    done = CliRunner().invoke(
        app, ["folds", str(tmp_path / "recipe.yaml"), str(sheets_dataset), str(folder / "ensemble"), *common]
    )
    assert done.exit_code == 0, done.output  # it was finished, and says so again
    assert "3 members" in done.output


def test_an_unfinished_ensemble_is_no_model_and_goes_on(made: tuple[Path, Recipe], sheets_dataset: Path, tmp_path: Path) -> None:
    import shutil

    folder, recipe = made
    shutil.copytree(folder / "ensemble", tmp_path / "ensemble")
    (tmp_path / "ensemble" / "manifest.json").unlink()  # as a kill in the third member leaves it
    shutil.rmtree(tmp_path / "ensemble" / "fold-3")
    with pytest.raises(MissingArtifact, match="begun and not finished"):
        predict(tmp_path / "ensemble", sheets_dataset, tmp_path / "out")
    before = (tmp_path / "ensemble" / "fold-1" / "manifest.json").read_bytes()
    train_folds(sheets_dataset, recipe, tmp_path / "ensemble", embeddings_folder=folder / "vectors", device="cpu")
    assert (tmp_path / "ensemble" / "fold-1" / "manifest.json").read_bytes() == before
    mine, theirs = (
        load_file(one / "fold-3" / "model" / "model.safetensors") for one in (tmp_path / "ensemble", folder / "ensemble")
    )
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_a_recipe_without_folds_says_how_to_ask_for_them(sheets_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(BadRecipe, match="it says folds: 0"):
        train_folds(sheets_dataset, SMOKE, tmp_path / "out")
