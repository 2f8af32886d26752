"""Routers compared on real runs of the smoke recipe: several gates, who did the work, by rarity; and what would leak."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import typer
from click.testing import Result
from safetensors.torch import save_file
from typer.testing import CliRunner

from taxakey.artifacts import read_json
from taxakey.cli.router import router
from taxakey.dataset.reader import Dataset
from taxakey.embeddings import embed
from taxakey.errors import BadInput
from taxakey.frontier.measuring import multiply_adds
from taxakey.frontier.routers import expert_costs
from taxakey.metrics.bins import quantile_bin_of
from taxakey.models.heads import LinearOptions
from taxakey.prediction.members import Member
from taxakey.prediction.opened import open_model
from taxakey.prediction.predict import predict
from taxakey.predictions import Predictions
from taxakey.training.loop import train
from taxakey.training.recipe import read_recipe

SMOKE = read_recipe(Path(__file__).parent.parent.parent / "recipes" / "smoke.yaml")


@pytest.fixture(scope="module")
def experts(sheets_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two heads on one frozen backbone at two input sizes, with their vectors, and the vectors of a third size."""
    folder = tmp_path_factory.mktemp("routers") / "of"
    folder.mkdir()
    torch.manual_seed(0)
    save_file(timm.create_model(SMOKE.backbone.name, num_classes=0).state_dict(), folder / "weights.safetensors")
    plain = replace(SMOKE, train="head", head=LinearOptions(), loop=replace(SMOKE.loop, epochs=3))
    plain = plain.with_weights(str(folder / "weights.safetensors"))
    for name, side in {"small": 32, "large": 48, "third": 64}.items():
        recipe, vectors = replace(plain, backbone=replace(plain.backbone, image_size=side)), folder / f"{name}-vectors"
        embed(sheets_dataset, recipe.backbone, vectors)
        if name != "third":
            train(sheets_dataset, recipe, folder / name / "run", embeddings_folder=vectors, device="cpu")
            for part in ("train", "validation", "test"):
                out = folder / name / f"predictions-{part}"
                predict(folder / name / "run", sheets_dataset, out, part=part, embeddings_folder=vectors)
    return folder


def invoke(*arguments: object) -> Result:
    app = typer.Typer()
    app.command()(router)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_several_gates_beside_means_controls_and_cascades(experts: Path, tmp_path: Path) -> None:
    done = invoke(
        tmp_path, experts / "small", experts / "large", "--vectors", experts / "small-vectors",
        "--vectors", experts / "third-vectors", "--vectors-cost", 5e6, "--resamples", 20, "--budget", 1.3,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    found = read_json(tmp_path / "router.json")
    small, large = found["expert_costs"]
    assert small < large
    rows = {row["name"]: row for row in found["rows"]}
    assert list(found["gates"]) == ["what of/small answered", "vectors of of/small", "vectors in third-vectors"]
    for words, own, free in (
        ("what of/small answered", small, True), ("vectors of of/small", small, True), ("vectors in third-vectors", 5e6, False)
    ):  # fmt: skip
        row = rows[f"router, top 1 ({words})"]
        extra = row["cost"] - own - row["shares"][1] * large - (0 if free else row["shares"][0] * small)
        assert 0 <= extra < 0.1 * small  # the gate's own products; not the expert that it looked at once more
        assert sum(row["shares"]) == pytest.approx(1)
    assert rows["cascade, at most 1.3 × the cheapest"]["cost"] < 1.6 * small  # kept on validation, judged on test
    assert rows["oracle (bound)"]["figures"]["top_1"]["value"] >= max(rows[name]["figures"]["top_1"]["value"] for name in rows)
    page = done.output
    assert "## By rarity" in page
    assert "## Who did the work" in page


def test_pictures_a_second_as_a_budget(experts: Path, tmp_path: Path) -> None:
    """An easy one is kept to; an impossible one is refused."""
    asked = (tmp_path, experts / "small", experts / "large", "--resamples", 20, "--pictures", 2)
    done = invoke(*asked, "--at-least", 0.001)
    assert done.exit_code == 0, done.output
    rows = {row["name"]: row for row in read_json(tmp_path / "router.json")["rows"]}
    small, large, both = (rows[name]["pictures_per_second"] for name in ("of/small", "of/large", "mean of all"))
    assert 1 / both == pytest.approx(1 / small + 1 / large)  # another input size: nothing is shared
    assert rows["cascade, at least 0.001 pictures/s"]["pictures_per_second"] >= both * (1 - 1e-9)
    assert "pictures/s" in done.output
    refused = invoke(*asked, "--at-least", 1e9)
    assert "a budget of 1e-09 seconds a picture" in str(refused.exception)
    assert "speeds above 0" in str(invoke(*asked, "--at-least", 0).exception)


def test_experts_on_one_backbone_are_counted_with_it_once(experts: Path) -> None:
    small, large = (Member.open(experts / name / "predictions-test") for name in ("small", "large"))
    costs = expert_costs([small, large, small])
    alone_M = costs.alone_M
    assert alone_M[0] == alone_M[2] < alone_M[1]
    every = costs.of(np.ones((1, 3), dtype=bool))[0]
    assert every - alone_M[0] - alone_M[1] == 512 * 8  # the third head: 512 features, 8 species
    assert alone_M[0] == multiply_adds(open_model(experts / "small" / "run"))


def test_figures_by_rarity_are_means_over_the_species_of_a_third(experts: Path, sheets_dataset: Path, tmp_path: Path) -> None:
    invoke(tmp_path, experts / "small", experts / "large", "--resamples", 10)
    row = next(row for row in read_json(tmp_path / "router.json")["rows"] if row["name"] == "of/large")
    answers = Predictions.read(experts / "large" / "predictions-test" / "observations.parquet", answers=0)
    true_O, right_O = answers.true_index("species"), answers.true_rank("species") == 1
    third_C = quantile_bin_of(Dataset.open(sheets_dataset).train_counts(), 3)
    for number, third in enumerate(("tail", "middle", "head")):
        recalls = [right_O[true_O == c].mean() for c in np.unique(true_O[true_O >= 0]) if third_C[c] == number]
        if recalls:
            assert row["by_third"][third]["value"] == pytest.approx(np.mean(recalls))
        else:
            assert third not in row["by_third"]


def test_a_gate_on_pictures_that_the_experts_learned_from_is_refused(experts: Path, tmp_path: Path) -> None:
    pairs = [f"{experts / name / 'predictions-train'},{experts / name / 'predictions-test'}" for name in ("small", "large")]
    refused = invoke(tmp_path / "out", *pairs)
    assert isinstance(refused.exception, BadInput)
    assert "weights are fitted on pictures that the models didn't learn from" in str(refused.exception)
    assert not (tmp_path / "out").exists()


def test_vectors_that_nobody_pays_for_are_refused(experts: Path, tmp_path: Path) -> None:
    refused = invoke(tmp_path, experts / "small", experts / "large", "--vectors", experts / "third-vectors")
    assert "no expert has the backbone of these vectors" in str(refused.exception)


def test_vectors_of_another_input_size_arent_the_models_own(experts: Path, sheets_dataset: Path, tmp_path: Path) -> None:
    """The same weights; but what they say of a picture depends on its size."""
    with pytest.raises(BadInput, match="or pictures of another size"):
        predict(experts / "small" / "run", sheets_dataset, tmp_path, embeddings_folder=experts / "large-vectors")
