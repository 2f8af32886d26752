"""Going on from a finished run: a noisy web set with other species first, the herbarium afterwards; a head first, then all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import taxakey.torchvision_guard  # noqa: F401  before timm

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch.testing import assert_close
from typer import Typer
from typer.testing import CliRunner

from taxakey.artifacts import Plan, hash_of, read_manifest
from taxakey.cli.embed import embed as embed_command
from taxakey.cli.train import train as train_command
from taxakey.dataset.build import BuildOptions, build
from taxakey.dataset.reader import Dataset
from taxakey.dataset.vectors import Vectors
from taxakey.embeddings import embed
from taxakey.errors import BadRecipe, MissingArtifact
from taxakey.models.heads import LinearOptions
from taxakey.models.trees import TreeOptions
from taxakey.records.sample import SampleOptions, sample
from taxakey.records.sources import read_source
from taxakey.records.splits import split
from taxakey.training.checkpoint import load_model
from taxakey.training.loop import train
from taxakey.training.recipe import Recipe, read_recipe

SMOKE = read_recipe(Path(__file__).parent.parent.parent / "recipes" / "smoke.yaml")
FLAT = replace(SMOKE, head=LinearOptions(), loop=replace(SMOKE.loop, epochs=1))


def still(recipe: Recipe) -> Recipe:
    """The same recipe that learns next to nothing: what a run ends with is what it began with."""
    return replace(
        recipe,
        optimizer=replace(recipe.optimizer, name="sgd", rate=1e-12, weight_decay=0.0),
        backbone=replace(recipe.backbone, freeze_norm=True),
    )


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Datasets of a simulated flora: the web's pictures, many of them wrongly named, and the herbarium's sheets."""
    folder = tmp_path_factory.mktemp("worlds")
    sample(folder / "flora", SampleOptions(sheets=120, species=8, size=64, seed=3, web=90))
    for name, archive in (("web", "web.zip"), ("sheets", "archive.zip")):
        split(read_source(folder / "flora" / archive)).write(folder / f"{name}-records", Plan("records"))
        build(folder / f"{name}-records", folder / name, BuildOptions(longest_edge=64))
    return folder / "web", folder / "sheets"


@pytest.fixture(scope="module", params=["linear", "tree"])
def web_run(request: pytest.FixtureRequest, worlds: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Flat heads are stored under timm's names, trees under ours."""
    head = LinearOptions() if request.param == "linear" else TreeOptions(width=8, nodes="taxa")
    out = tmp_path_factory.mktemp(request.param) / "web-run"
    train(worlds[0], replace(FLAT, head=head), out, device="cpu")
    return out


def test_fine_tuning_begins_with_the_web_run_s_weights_by_name(worlds: tuple[Path, Path], web_run: Path, tmp_path: Path) -> None:
    before = load_model(web_run)
    web, sheets = (Dataset.open(folder).taxonomy for folder in worlds)
    shared = sorted(set(web.names) & set(sheets.names))
    assert 3 < len(shared) < len(web), "the web must have species of its own, and known ones"
    recipe = still(replace(FLAT, head=read_recipe(web_run / "model" / "recipe.yaml").head))
    train(worlds[1], recipe, tmp_path / "run", start_from=web_run, device="cpu")
    after = load_model(tmp_path / "run")
    for name, tensor in before.network.backbone.state_dict().items():
        assert_close(after.network.backbone.state_dict()[name], tensor, msg=name)
    # What the whole network says of the species that both know, compared with each other, is what it said before.
    pixels = torch.rand(3, 3, 48, 48)
    with torch.no_grad():
        old, new = before.network(pixels), after.network(pixels)
    genus = max({name.split()[0] for name in shared}, key=lambda one: sum(name.startswith(one + " ") for name in shared))
    names = shared if isinstance(recipe.head, LinearOptions) else [name for name in shared if name.startswith(genus + " ")]
    assert len(names) > 1
    assert_close(
        new[:, torch.from_numpy(sheets.index_of(names))].log_softmax(1),
        old[:, torch.from_numpy(web.index_of(names))].log_softmax(1),
    )


def test_the_manifest_and_the_card_say_what_came_from_where(worlds: tuple[Path, Path], web_run: Path, tmp_path: Path) -> None:
    manifest = train(worlds[1], FLAT, tmp_path / "run", start_from=web_run / "model", device="cpu")
    web, sheets = (Dataset.open(folder).taxonomy for folder in worlds)
    shared = len(set(web.names) & set(sheets.names))
    assert manifest.inputs["from"] == hash_of(web_run / "model" / "model.safetensors")
    assert manifest.counts["classes_gone"] == len(web) - shared
    linear = isinstance(read_recipe(web_run / "model" / "recipe.yaml").head, LinearOptions)
    assert manifest.counts["classes_taken_over"] == (shared if linear else 0)
    assert manifest.counts["classes_taken_over"] + manifest.counts["classes_fresh"] == len(sheets)
    assert ("nothing of the head" in manifest.notes[0]) is not linear
    assert f"Went on from web-run (weights {manifest.inputs['from'][:16]}" in manifest.notes[0]
    assert manifest.notes[0] in (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    again = train(worlds[1], FLAT, tmp_path / "run", start_from=web_run, device="cpu")
    assert (again.created, again.notes) == (manifest.created, manifest.notes)  # it was finished


def test_a_head_learns_first_and_then_the_whole(worlds: tuple[Path, Path], tmp_path: Path) -> None:
    """As in "first head only, then all": the second run starts where the first one ended, on the same classes."""
    torch.manual_seed(0)
    save_file(timm.create_model(SMOKE.backbone.name, num_classes=0).state_dict(), tmp_path / "weights.safetensors")
    head_only = replace(FLAT, train="head").with_weights(str(tmp_path / "weights.safetensors"))
    embed(worlds[1], head_only.backbone, tmp_path / "vectors")
    train(worlds[1], head_only, tmp_path / "head", embeddings_folder=tmp_path / "vectors", device="cpu")
    manifest = train(worlds[1], still(FLAT), tmp_path / "all", start_from=tmp_path / "head", device="cpu")
    assert manifest.counts["classes_fresh"] == 0
    first, second = load_model(tmp_path / "head").network, load_model(tmp_path / "all").network
    pixels = torch.rand(2, 3, 48, 48)
    with torch.no_grad():
        assert_close(second(pixels), first(pixels))


def test_a_tuned_backbone_embeds_again_for_another_head(worlds: tuple[Path, Path], web_run: Path, tmp_path: Path) -> None:
    """The commands: vectors of the run's backbone, a head on them, the web's head remapped."""
    app = Typer()
    app.command()(embed_command)
    app.command()(train_command)
    recipe = replace(FLAT, train="head", backbone=replace(FLAT.backbone, image_size=None, mean=None, crop_mode=None))
    recipe.write(tmp_path / "head.yaml")
    common = ["--recipe", str(tmp_path / "head.yaml"), "--from", str(web_run), "--device", "cpu"]
    done = CliRunner().invoke(app, ["embed", str(worlds[1]), str(tmp_path / "vectors"), *common])
    assert done.exit_code == 0, done.output
    assert Vectors(tmp_path / "vectors").manifest.recipe["preprocess"]["input_size"] == [3, 48, 48]  # as the run had it
    arguments = ["train", str(worlds[1]), str(tmp_path / "run"), *common, "--embeddings", str(tmp_path / "vectors")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "Went on from web-run" in done.output
    part, model = Dataset.open(worlds[1]).part("validation"), load_model(tmp_path / "run")
    assert model.preprocess == load_model(web_run).preprocess
    vectors_ND = Vectors(tmp_path / "vectors").part(part.name, part.image_ids)
    with torch.no_grad():
        pixels = torch.from_numpy(np.stack([model.preprocess.load(part.image_bytes(row)) for row in range(3)]))
        assert_close(model.network.backbone(pixels), torch.from_numpy(vectors_ND[:3]), rtol=1e-4, atol=1e-4)
    refused = CliRunner().invoke(app, [*arguments, "--weights", "none"])
    assert "--from brings its own weights" in str(refused.exception)


def test_another_backbone_and_an_unfinished_run_are_refused(worlds: tuple[Path, Path], web_run: Path, tmp_path: Path) -> None:
    other = replace(FLAT, backbone=replace(FLAT.backbone, name="resnet14t"))
    with pytest.raises(BadRecipe, match=r"its backbone is resnet14t, and .* holds a resnet10t"):
        train(worlds[1], other, tmp_path / "run", start_from=web_run, device="cpu")
    with pytest.raises(MissingArtifact, match="no trained model there"):
        train(worlds[1], FLAT, tmp_path / "run", start_from=tmp_path, device="cpu")
    assert not (tmp_path / "run").exists()


def test_without_a_beginning_nothing_is_said_of_one(worlds: tuple[Path, Path], web_run: Path) -> None:
    manifest = read_manifest(web_run, "run")
    assert "from" not in manifest.inputs
    assert "classes_taken_over" not in manifest.counts
