"""Real runs on simulated sheets: the golden trace, resume after kill -9, what a model's folder holds."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import taxakey.torchvision_guard  # noqa: F401  before timm

import numpy as np
import pytest
import timm
import torch

from taxakey.artifacts import read_manifest
from taxakey.calibration import Calibration
from taxakey.dataset.reader import Dataset
from taxakey.dataset.vectors import Vectors
from taxakey.embeddings import embed, features
from taxakey.errors import BadInput, MissingArtifact, PlanMismatch
from taxakey.models.backbones import build_backbone
from taxakey.models.heads import LinearOptions
from taxakey.models.trees import TreeOptions
from taxakey.training.checkpoint import load_model
from taxakey.training.loop import train
from taxakey.training.recipe import read_recipe

ROOT = Path(__file__).parent.parent.parent
GOLDEN = ROOT / "tests" / "golden" / "smoke.json"
SMOKE = read_recipe(ROOT / "recipes" / "smoke.yaml")
HEAD_ONLY = replace(SMOKE, train="head", head=LinearOptions(), backbone=replace(SMOKE.backbone, weights="none"))


def curves(run: Path) -> list[dict[str, str]]:
    with open(run / "curves.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def smoke_run(sheets_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "smoke"
    train(sheets_dataset, SMOKE, out, device="cpu", notes=("a note",))
    return out


def test_golden_loss_trace(smoke_run: Path) -> None:
    """A refactoring leaves it as it is; a real change writes it anew (TAXAKEY_GOLDEN=write) and says why in the commit."""
    trace = {name: [float(row[name]) for row in curves(smoke_run)] for name in ("train_loss", "validation_loss")}
    if os.environ.get("TAXAKEY_GOLDEN") == "write":
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(json.dumps(trace, indent=2) + "\n")
    golden = json.loads(GOLDEN.read_text())
    for name, values in golden.items():
        assert trace[name] == pytest.approx(values, rel=1e-4), name


def test_a_model_holds_its_names_and_answers_the_same_after_loading(smoke_run: Path, sheets_dataset: Path) -> None:
    model, part = load_model(smoke_run), Dataset.open(sheets_dataset).part("test")
    assert model.taxonomy.names == Dataset.open(sheets_dataset).taxonomy.names
    assert model.config["label_names"] == list(model.taxonomy.names)
    assert isinstance(model.calibration, Calibration)
    together = features(model.network, part, range(6), model.preprocess)
    alone = np.concatenate([features(model.network, part, [row], model.preprocess) for row in range(6)])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(np.exp(together).sum(1), 1, rtol=1e-4)  # the tree's joint is normalised


def test_the_card_and_the_manifest_tell_the_note(smoke_run: Path) -> None:
    assert "**Note:** a note" in (smoke_run / "model" / "README.md").read_text()
    assert read_manifest(smoke_run, "run").notes == ("a note",)


def test_a_finished_run_is_not_run_again_and_another_recipe_is_refused(smoke_run: Path, sheets_dataset: Path) -> None:
    before = (smoke_run / "model" / "model.safetensors").stat().st_mtime_ns
    train(sheets_dataset, SMOKE, smoke_run, device="cpu")
    assert (smoke_run / "model" / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(PlanMismatch, match="'seed' = 7, now it is 8"):
        train(sheets_dataset, SMOKE.with_seed(8), smoke_run, device="cpu")


def test_goes_on_after_kill_9(sheets_dataset: Path, tmp_path: Path) -> None:
    """A killed run, run again, ends with the epochs it was asked for and resumes from its last checkpoint."""
    recipe = replace(SMOKE, loop=replace(SMOKE.loop, epochs=6))
    recipe.write(tmp_path / "recipe.yaml")
    out = tmp_path / "run"
    command = [sys.executable, "-m", "taxakey", "train", str(sheets_dataset), str(out), "--device", "cpu"]
    command += ["--recipe", str(tmp_path / "recipe.yaml")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while not ((out / "curves.csv").is_file() and len(curves(out)) >= 2) and time.monotonic() < deadline:
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    with pytest.raises(MissingArtifact, match="was begun and not finished"):
        read_manifest(out, "run")
    killed_after = curves(out)
    train(sheets_dataset, recipe, out, device="cpu")
    rows = curves(out)
    assert [int(row["epoch"]) for row in rows] == list(range(6))
    assert rows[0] == killed_after[0]  # the first epoch's row, its seconds included, was kept and not computed again
    assert read_manifest(out, "run").counts["classes"] == len(Dataset.open(sheets_dataset).taxonomy)
    undisturbed = tmp_path / "undisturbed"
    train(sheets_dataset, recipe, undisturbed, device="cpu")
    for name in ("train_loss", "validation_loss"):
        expected = [float(row[name]) for row in curves(undisturbed)]
        assert [float(row[name]) for row in rows] == expected, name


def test_a_run_without_its_manifest_is_no_model(smoke_run: Path, tmp_path: Path) -> None:
    shutil.copytree(smoke_run, tmp_path / "run")
    (tmp_path / "run" / "manifest.json").unlink()  # as a kill between the weights and the calibration leaves it
    for folder in (tmp_path / "run", tmp_path / "run" / "model"):
        with pytest.raises(MissingArtifact, match="begun and not finished"):
            load_model(folder)


def test_a_head_learns_on_embeddings_and_timm_loads_the_whole(sheets_dataset: Path, tmp_path: Path) -> None:
    recipe = replace(HEAD_ONLY, backbone=replace(HEAD_ONLY.backbone, weights=weights_file(tmp_path)))
    embed(sheets_dataset, recipe.backbone, tmp_path / "vectors")
    train(sheets_dataset, recipe, tmp_path / "run", embeddings_folder=tmp_path / "vectors", device="cpu")
    model, part = load_model(tmp_path / "run"), Dataset.open(sheets_dataset).part("test")
    ours = features(model.network, part, range(4), model.preprocess)
    theirs = timm.create_model(f"local-dir:{tmp_path / 'run' / 'model'}", pretrained=True).eval()
    assert tuple(timm.data.resolve_data_config({}, model=theirs)["input_size"]) == (3, 48, 48)
    np.testing.assert_allclose(features(theirs, part, range(4), model.preprocess), ours, rtol=1e-4, atol=1e-5)


def test_a_tree_from_class_means_and_one_learned_lazily_come_back_as_they_were(sheets_dataset: Path, tmp_path: Path) -> None:
    recipe = replace(HEAD_ONLY, backbone=replace(HEAD_ONLY.backbone, weights=weights_file(tmp_path)))
    embed(sheets_dataset, recipe.backbone, tmp_path / "vectors")
    part = Dataset.open(sheets_dataset).part("train")
    vectors_ND = torch.from_numpy(Vectors(tmp_path / "vectors").part("train", part.image_ids))
    heads = {
        "means": (TreeOptions(width=None, nodes="taxa", start="class_means"), 0, "adamw"),
        "lazy": (TreeOptions(width=8, order="clustered", slots=3, sparse=True), 3, "lazy_adamw"),
    }
    for name, (head, epochs, optimizer) in heads.items():
        changed = {"loop": replace(recipe.loop, epochs=epochs, clip=0.5), "optimizer": replace(recipe.optimizer, name=optimizer)}
        run = tmp_path / name
        train(sheets_dataset, replace(recipe, head=head, **changed), run, embeddings_folder=tmp_path / "vectors", device="cpu")
        loaded = load_model(run).network.head
        assert loaded.state_dict().keys() >= {"first_N1", "target_E"}
        right = float((loaded(vectors_ND).argmax(1).numpy() == part.class_index).mean())
        assert right > (0.9 if name == "means" else 0.2), name  # of eight species
    assert "No gradient step was taken" in (tmp_path / "means" / "model" / "README.md").read_text(encoding="utf-8")
    rows = curves(tmp_path / "lazy")
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])


def test_vectors_of_another_backbone_are_refused(sheets_dataset: Path, tmp_path: Path) -> None:
    recipe = replace(HEAD_ONLY, backbone=replace(HEAD_ONLY.backbone, weights=weights_file(tmp_path)))
    embed(sheets_dataset, recipe.backbone, tmp_path / "vectors")
    other = replace(recipe, backbone=replace(recipe.backbone, weights=weights_file(tmp_path, seed=1)))
    with pytest.raises(BadInput, match="computed by other weights"):
        train(sheets_dataset, other, tmp_path / "run", embeddings_folder=tmp_path / "vectors", device="cpu")
    smaller = replace(recipe, backbone=replace(recipe.backbone, image_size=32))
    with pytest.raises(BadInput, match="prepared otherwise"):
        train(sheets_dataset, smaller, tmp_path / "run", embeddings_folder=tmp_path / "vectors", device="cpu")
    with pytest.raises(BadInput, match="run `taxakey embed` first"):
        train(sheets_dataset, recipe, tmp_path / "run", device="cpu")


def weights_file(folder: Path, seed: int = 0) -> str:
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    file = folder / f"weights-{seed}.safetensors"
    save_file(timm.create_model(SMOKE.backbone.name, num_classes=0).state_dict(), file)
    return str(file)


@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
@pytest.mark.parametrize("kind", ["one_cycle", "exponential", "constant"])
def test_precisions_and_schedules_learn(sheets_dataset: Path, tmp_path: Path, precision: str, kind: str) -> None:
    """The training loss falls from epoch to epoch with each of them."""
    recipe = read_recipe(ROOT / "recipes" / "smoke.yaml")
    weights = weights_file(tmp_path)
    recipe = replace(
        recipe,
        train="head",
        backbone=replace(recipe.backbone, weights=weights),
        schedule=replace(recipe.schedule, kind=kind),
        loop=replace(recipe.loop, precision=precision, epochs=3),
    )
    embed(sheets_dataset, recipe.backbone, tmp_path / "vectors")
    train(sheets_dataset, recipe, tmp_path / "run", embeddings_folder=tmp_path / "vectors", device="cpu")
    losses = [float(row["train_loss"]) for row in curves(tmp_path / "run")]
    assert losses[2] < losses[0]


@pytest.mark.parametrize("freeze_norm", [True, False])
def test_norms_keep_their_statistics_only_when_asked(sheets_dataset: Path, tmp_path: Path, freeze_norm: bool) -> None:
    """With folded norms anything else ruins pretrained features: it did, for 400 steps, before this test."""
    weights = weights_file(tmp_path)
    recipe = replace(
        SMOKE,
        backbone=replace(SMOKE.backbone, weights=weights, freeze_norm=freeze_norm),
        loop=replace(SMOKE.loop, epochs=2),
    )
    train(sheets_dataset, recipe, tmp_path / "run", device="cpu")
    before = build_backbone(recipe.backbone).state_dict()
    after = load_model(tmp_path / "run").network.backbone.state_dict()
    statistics = [name for name in before if name.endswith(("running_mean", "running_var"))]
    assert statistics
    assert all(torch.equal(before[name], after[name]) for name in statistics) is freeze_norm
    weight = "conv1.0.weight"
    assert not torch.equal(before[weight], after[weight]), "the backbone itself must learn"


def test_a_bar_is_drawn_on_a_terminal(sheets_dataset: Path, tmp_path: Path) -> None:
    """Through a real pseudo-terminal: what a person sees while a run learns."""
    replace(SMOKE, loop=replace(SMOKE.loop, epochs=1)).write(tmp_path / "recipe.yaml")
    command = f"{sys.executable} -m taxakey train {sheets_dataset} {tmp_path / 'run'} --recipe {tmp_path / 'recipe.yaml'}"
    done = subprocess.run(["script", "-qec", f"{command} --device cpu", "/dev/null"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "training" in done.stdout
    assert "epoch 1 of 1, top-1" in done.stdout
    assert "100 %" in done.stdout
