"""Costs read off a real run: its weights' file, its parameters, its products and its speed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from taxakey.artifacts import read_json
from taxakey.dataset.crops import CropOptions
from taxakey.errors import BadInput
from taxakey.frontier.measuring import measure, multiply_adds
from taxakey.frontier.page import to_markdown
from taxakey.frontier.points import Limits
from taxakey.models.heads import LinearOptions
from taxakey.prediction.ensemble import EnsembleOptions, fit, write_ensemble
from taxakey.prediction.members import Member, open_pool
from taxakey.prediction.predict import predict
from taxakey.size.network import Backbone
from taxakey.training.checkpoint import load_model
from taxakey.training.loop import train
from taxakey.training.recipe import read_recipe

SMOKE = read_recipe(Path(__file__).parent.parent.parent / "recipes" / "smoke.yaml")


@pytest.fixture(scope="module")
def run(sheets_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frontier")
    recipe = replace(SMOKE, head=LinearOptions(), loop=replace(SMOKE.loop, epochs=1))
    train(sheets_dataset, recipe, folder / "run", device="cpu")
    for part in ("validation", "test"):
        predict(folder / "run", sheets_dataset, folder / part, part=part)
    return folder


def test_what_a_run_costs(run: Path) -> None:
    (point,) = measure({"one": run / "test"}, pictures=8, rounds=1, resamples=20)
    model = load_model(run / "run")
    assert point.costs["parameters"] == sum(parameter.numel() for parameter in model.network.parameters())
    assert point.costs["bytes"] == (run / "run" / "model" / "model.safetensors").stat().st_size
    speed = point.costs["pictures_per_second"]
    assert speed is not None
    assert 0.1 < speed < 100_000
    assert point.costs["training_seconds"] == read_json(run / "run" / "costs.json")["training_seconds"] > 0
    assert 0 <= point.figures["top_1"].value <= 1


def test_products_are_those_that_are_counted_before_training(run: Path) -> None:
    model = load_model(run / "run")
    backbone = Backbone(SMOKE.backbone)
    assert multiply_adds(model) == backbone.multiply_adds + len(model.taxonomy) * backbone.features


@pytest.fixture(scope="module")
def mixed(run: Path, sheets_dataset: Path) -> Path:
    """An ensemble of a model and its twin with another head, on the same frozen backbone."""
    shutil.copytree(run / "run", run / "twin")
    for part in ("validation", "test"):
        predict(run / "twin", sheets_dataset, run / f"twin-{part}", part=part)
    fitted = fit(open_pool([Member.open(run / "validation"), Member.open(run / "twin-validation")]))
    write_ensemble(fitted, [Member.open(run / "test"), Member.open(run / "twin-test")], run / "mixed", EnsembleOptions())
    return run / "mixed"


def test_an_ensemble_costs_its_files_and_a_shared_backbone_once(run: Path, mixed: Path) -> None:
    one, both = measure({"one": run / "test", "both": mixed}, pictures=8, rounds=1, resamples=20)
    model = load_model(run / "run")
    head = sum(parameter.numel() for parameter in model.network.head.parameters())
    assert both.costs["bytes"] == 2 * one.costs["bytes"]
    assert both.costs["parameters"] == one.costs["parameters"] + head
    assert both.costs["multiply_adds"] == one.costs["multiply_adds"] + len(model.taxonomy) * model.network.head.in_features
    assert both.costs["training_seconds"] == 2 * one.costs["training_seconds"]
    assert both.costs["pictures_per_second"] > 0


def test_what_lost_a_model_has_figures_and_no_costs(run: Path, mixed: Path, tmp_path: Path) -> None:
    shutil.copytree(mixed, tmp_path / "mixed")
    file = tmp_path / "mixed" / "ensemble.json"
    file.write_text(file.read_text().replace("/twin/", "/gone/"))
    points = measure({"one": run / "test", "both": tmp_path / "mixed"}, pictures=8, rounds=1, resamples=20)
    assert set(points[1].costs.values()) == {None}
    assert "no costs of both: a model of it isn't where it was" in to_markdown(points, 9, "c", Limits(), "top_1")


def test_crops_are_counted(run: Path, sheets_dataset: Path) -> None:
    predict(run / "run", sheets_dataset, run / "five", part="test", crops=CropOptions.named("five"))
    one, five = measure({"one": run / "test", "five": run / "five"}, pictures=0, resamples=20)
    assert five.costs["multiply_adds"] == 5 * one.costs["multiply_adds"]


def test_untimed_and_other_observations(run: Path) -> None:
    (point,) = measure({"one": run / "test"}, pictures=0, resamples=20)
    assert point.costs["pictures_per_second"] is None
    with pytest.raises(BadInput, match="different observations; predict the same part"):
        measure({"one": run / "test", "two": run / "validation"}, pictures=0, resamples=20)
