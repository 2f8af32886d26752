"""Runs with pictures that are known to genus only: learnt from with the marginal loss, left out and counted without it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import taxakey.torchvision_guard  # noqa: F401  before timm

import pyarrow.compute as pc
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from taxakey.artifacts import Manifest, Plan
from taxakey.dataset.build import BuildOptions, build
from taxakey.dataset.reader import Dataset
from taxakey.embeddings import embed
from taxakey.records.sample import SampleOptions, sample
from taxakey.records.sample.options import Dirt
from taxakey.records.sources import read_source
from taxakey.records.splits import split
from taxakey.training.loop import train
from taxakey.training.recipe import Recipe, read_recipe, recipe_from

SMOKE = read_recipe(Path(__file__).parent.parent.parent / "recipes" / "smoke.yaml")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recipe]:
    """A simulated herbarium many of whose labels are legible to the genus only; built with those pictures and without."""
    folder = tmp_path_factory.mktemp("partial")
    sample(folder / "flora", SampleOptions(sheets=100, species=6, size=64, seed=2, dirt=Dirt(misspelled=0.8)))
    split(read_source(folder / "flora" / "archive.zip")).write(folder / "records", Plan("records"))
    torch.manual_seed(0)
    save_file(timm.create_model(SMOKE.backbone.name, num_classes=0).state_dict(), folder / "weights.safetensors")
    recipe = replace(SMOKE, train="head", loop=replace(SMOKE.loop, epochs=3)).with_weights(str(folder / "weights.safetensors"))
    for name, partial in (("with", True), ("without", False)):
        build(folder / "records", folder / name, BuildOptions(longest_edge=64, partial=partial))
        embed(folder / name, recipe.backbone, folder / f"{name}-vectors")
    return folder, recipe


def run(made: tuple[Path, Recipe], dataset: str, out: Path, recipe: Recipe) -> tuple[Manifest, dict[str, torch.Tensor]]:
    folder, _ = made
    manifest = train(folder / dataset, recipe, out, embeddings_folder=folder / f"{dataset}-vectors", device="cpu")
    return manifest, load_file(out / "model" / "model.safetensors")


def test_without_the_loss_they_are_left_out_and_counted(made: tuple[Path, Recipe], tmp_path: Path) -> None:
    partial = Dataset.open(made[0] / "with").partial()
    assert partial is not None
    assert len(partial) > 5
    assert set(pc.unique(partial.table["taxonRank"]).to_pylist()) == {"genus"}
    manifest, weights = run(made, "with", tmp_path / "with", made[1])
    other, same = run(made, "without", tmp_path / "without", made[1])
    assert (manifest.counts["partial"], manifest.counts["partial_left_out"]) == (0, len(partial))
    assert "partial" not in other.counts
    assert all(torch.equal(weights[name], same[name]) for name in same)


def test_with_the_loss_they_teach(made: tuple[Path, Recipe], tmp_path: Path) -> None:
    listed = [{"kind": "cross_entropy"}, {"kind": "marginal"}]
    recipe = recipe_from({**made[1].to_dict(), "loss": listed}, "a test")
    partial = Dataset.open(made[0] / "with").partial()
    assert partial is not None
    manifest, weights = run(made, "with", tmp_path / "with", recipe)
    used = int((partial.labels >= 0).sum())
    assert used
    assert (manifest.counts["partial"], manifest.counts["partial_left_out"]) == (used, len(partial) - used)
    _, without = run(made, "without", tmp_path / "without", recipe)
    assert any(not torch.equal(weights[name], without[name]) for name in without)


def test_pictures_of_half_known_labels_are_drawn_and_augmented_like_others(made: tuple[Path, Recipe], tmp_path: Path) -> None:
    """A sampler and an augmentation that count labels meet those of genera, and names that the taxonomy lacks."""
    listed = {
        "loss": [{"kind": "cross_entropy"}, {"kind": "marginal"}],
        "sampler": {"kind": "validation_ratio", "unseen": 1.0},
        "augment": {"rare": {"threshold": 10}},
    }
    recipe = recipe_from({**SMOKE.to_dict(), **listed, "loop": {"epochs": 1, "batch_size": 16}}, "a test")
    folder = made[0]
    unknown = Dataset.open(folder / "with").partial()
    assert unknown is not None
    manifest = train(folder / "with", recipe, tmp_path / "run", device="cpu")
    assert manifest.counts["partial"] == int((unknown.labels >= 0).sum()) > 0
