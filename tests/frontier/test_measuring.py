"""Costs read off a real run: its weights' file, its parameters, its products and its speed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from taxakey.artifacts import read_json
from taxakey.errors import BadInput
from taxakey.frontier.measuring import measure, multiply_adds
from taxakey.models.heads import LinearOptions
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


def test_untimed_and_other_observations(run: Path) -> None:
    (point,) = measure({"one": run / "test"}, pictures=0, resamples=20)
    assert point.costs["pictures_per_second"] is None
    with pytest.raises(BadInput, match="different observations; predict the same part"):
        measure({"one": run / "test", "two": run / "validation"}, pictures=0, resamples=20)
