"""The four papers' recipes train, each in miniature: a small network on small sheets for an epoch, all else as published."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from taxakey.artifacts import read_manifest
from taxakey.embeddings import embed
from taxakey.models.backbones import build_backbone
from taxakey.study.plan import merged
from taxakey.training.loop import train
from taxakey.training.recipe import recipe_from

PAPERS = sorted((Path(__file__).parent.parent.parent / "recipes" / "papers").glob("*.yaml"))
SMALL = {
    "backbone": {
        "name": "resnet10t", "weights": "none", "image_size": 48, "mean": [0.5] * 3, "std": [0.25] * 3, "crop_mode": "squash",
    },
    "loop": {"epochs": 1, "batch_size": 16, "accumulate": 1, "precision": "32-true"},
}  # fmt: skip


def small_weights(folder: Path) -> str:
    """Random weights in a file: a frozen backbone has to come from somewhere."""
    from safetensors.torch import save_file

    backbone = build_backbone(recipe_from({"name": "any", "train": "all", "backbone": SMALL["backbone"]}, "test").backbone)
    save_file(backbone.state_dict(), folder / "small.safetensors")
    return str(folder / "small.safetensors")


@pytest.mark.parametrize("file", PAPERS, ids=lambda file: file.stem)
def test_a_papers_recipe_in_miniature(file: Path, sheets_dataset: Path, tmp_path: Path) -> None:
    content = merged(yaml.safe_load(file.read_text(encoding="utf-8")), SMALL)
    if content["schedule"]["kind"] == "step":
        content["schedule"]["milestones"] = [1]
    vectors = None
    if content["train"] == "head":
        content["backbone"]["weights"] = small_weights(tmp_path)
        vectors = tmp_path / "vectors"
    if "metadata" in content:
        content["metadata"]["categories"] = ["habitat", "substrate"]  # the drawn sheets have no metasubstrate
        content["head"]["token_hidden"] = 32
    recipe = recipe_from(content, file)
    if vectors is not None:
        embed(sheets_dataset, recipe.backbone, vectors)
    train(sheets_dataset, recipe, tmp_path / "run", embeddings_folder=vectors, device="cpu")
    assert read_manifest(tmp_path / "run", "run").counts["classes"] == 8
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()


def test_the_papers_are_there() -> None:
    assert [file.stem for file in PAPERS] == ["biomachina", "fungiclef", "naflora", "plantnet300k"]
