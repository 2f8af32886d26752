"""Two real processes learn what one with twice the batch learns: same rows, same losses, same figures."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import taxakey.torchvision_guard  # noqa: F401  before timm

import numpy as np
import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from test_loop import SMOKE, weights_file

from taxakey.artifacts import read_json, read_manifest
from taxakey.embeddings import embed
from taxakey.errors import BadRecipe
from taxakey.models.adapters import LoraOptions
from taxakey.models.heads import LinearOptions
from taxakey.models.tuning import TuningOptions
from taxakey.training.batches import EpochShuffle
from taxakey.training.loop import train
from taxakey.training.recipe import Recipe
from taxakey.training.samplers import PlainOptions, TrainingPart
from taxakey.training.scale import ScaleOptions, accelerator_for
from taxakey.training.schedule import OptimizerOptions
from taxakey.training.shares import Batches, Process, Share


def shuffle(rows: int) -> EpochShuffle:
    return EpochShuffle(PlainOptions().build(TrainingPart(np.zeros(rows, np.int64), np.zeros(1, np.int64), 3)), rows)


SHAPES = {"rows": st.integers(1, 60), "size": st.integers(1, 9), "world": st.integers(1, 4), "drop_last": st.booleans()}


@given(**SHAPES)
def test_rows_are_dealt_out_without_loss_or_double_use(rows: int, size: int, world: int, drop_last: bool) -> None:
    dealt = [[*Batches(shuffle(rows), size, Process(rank, world), drop_last=drop_last)] for rank in range(world)]
    lengths = {len(Batches(shuffle(rows), size, Process(rank, world), drop_last=drop_last)) for rank in range(world)}
    assert lengths == {len(batches) for batches in dealt}, "every process takes as many steps, and says so before"
    assert len(lengths) == 1
    flat = [row for batches in dealt for batch in batches for row in batch]
    order = list(shuffle(rows))
    assert len(flat) == len(set(flat))
    kept = set(flat)
    if rows < world:
        assert not flat
    elif drop_last:
        assert kept == set(order[: len(dealt[0]) * size * world])
        assert rows - len(kept) < (size + 1) * world
    else:
        assert kept == set(order)
    for number in range(len(dealt[0]) - 1):  # a full batch of all together is what one process would have had
        together = {row for batches in dealt for row in batches[number]}
        assert together == set(order[number * size * world : (number + 1) * size * world])


@given(**SHAPES)
def test_a_resumed_epoch_deals_out_the_rest(rows: int, size: int, world: int, drop_last: bool) -> None:
    whole = Batches(shuffle(rows), size, Process(0, world), drop_last=drop_last)
    whole.sampler.set_epoch(2)
    expected = list(whole)
    resumed = Batches(shuffle(rows), size, Process(0, world), drop_last=drop_last)
    resumed.go_on_at(2, len(expected) // 2)
    assert len(resumed) == len(expected)
    assert list(resumed) == expected[len(expected) // 2 :]
    resumed.sampler.set_epoch(3)
    whole.sampler.set_epoch(3)
    assert list(resumed) == list(whole), "only the epoch that was broken off is shortened"


@given(rows=st.integers(0, 40), world=st.integers(1, 5))
def test_what_only_fills_up_is_not_counted(rows: int, world: int) -> None:
    shares = [list(Share(rows, Process(rank, world))) for rank in range(world)]
    assert {len(share) for share in shares} == {len(Share(rows, Process(0, world)))}
    assert sorted(row for share in shares for row in share if row >= 0) == list(range(rows))


def table(file: Path) -> dict[str, np.ndarray]:
    with open(file, newline="", encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0] if "seconds" not in name}


def assert_same_learning(one: Path, two: Path, processes: int = 2) -> None:
    steps, expected = table(two / "steps.csv"), table(one / "steps.csv")
    np.testing.assert_array_equal(steps["step"], expected["step"])
    np.testing.assert_allclose(steps["train_loss"], expected["train_loss"], rtol=2e-5)
    np.testing.assert_allclose(steps["learning_rate"], expected["learning_rate"], rtol=1e-12)
    figures, expected = table(two / "curves.csv"), table(one / "curves.csv")
    np.testing.assert_allclose(figures["train_loss"], expected["train_loss"], rtol=2e-5)
    assert expected["train_loss"][-1] < 0.97 * expected["train_loss"][0], "nothing was learned, so nothing could differ"
    np.testing.assert_allclose(figures["validation_loss"], expected["validation_loss"], rtol=2e-5)
    # A picture counted twice, or not at all, would show: these are quotients of whole numbers.
    for name in ("validation_top_1", "validation_macro_top_1"):
        np.testing.assert_array_equal(figures[name], expected[name])
    assert read_manifest(two, "run").counts == read_manifest(one, "run").counts
    assert read_json(two / "costs.json")["processes"] == processes
    assert read_json(two / "costs.json")["batch"] == read_json(one / "costs.json")["batch"]


def in_two_processes(launcher: list[str], dataset: Path, out: Path, recipe: Recipe, vectors: Path | None) -> None:
    recipe.write(out.with_suffix(".yaml"))
    command = [*launcher, "-m", "taxakey", "train", str(dataset), str(out), "--recipe", str(out.with_suffix(".yaml"))]
    command += ["--device", "cpu", *(["--embeddings", str(vectors)] if vectors else [])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-4000:]


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_torchrun_on_stored_features(sheets_dataset: Path, tmp_path: Path, strategy: str) -> None:
    recipe = replace(
        SMOKE,
        train="head",
        backbone=replace(SMOKE.backbone, weights=weights_file(tmp_path)),
        head=LinearOptions(),
        optimizer=OptimizerOptions("sgd", rate=0.5, weight_decay=0.0, rate_batch=22),
        loop=replace(SMOKE.loop, epochs=4, batch_size=22, accumulate=1, clip=1.0),
    )
    embed(sheets_dataset, recipe.backbone, tmp_path / "vectors")
    train(sheets_dataset, recipe, tmp_path / "one", embeddings_folder=tmp_path / "vectors", device="cpu")
    two = replace(recipe, loop=replace(recipe.loop, batch_size=11), scale=ScaleOptions(devices=2, strategy=strategy))
    in_two_processes(TORCHRUN, sheets_dataset, tmp_path / "two", two, tmp_path / "vectors")
    assert_same_learning(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_lightnings_own_processes_on_pictures(sheets_dataset: Path, tmp_path: Path, strategy: str) -> None:
    """A small transformer, for it has no BatchNorm, with augmentation: a picture's changes don't hang on who reads it."""
    arguments = {"img_size": 48, "depth": 2, "embed_dim": 48, "num_heads": 3}
    recipe = replace(
        SMOKE,
        backbone=replace(SMOKE.backbone, name="vit_tiny_patch16_224", arguments=arguments),
        head=LinearOptions(),
        optimizer=OptimizerOptions("sgd", rate=0.2, weight_decay=0.0),
        loop=replace(SMOKE.loop, epochs=3, batch_size=16, accumulate=1),
    )
    train(sheets_dataset, recipe, tmp_path / "one", device="cpu")
    two = replace(recipe, loop=replace(recipe.loop, batch_size=8), scale=ScaleOptions(devices=2, strategy=strategy))
    in_two_processes([sys.executable], sheets_dataset, tmp_path / "two", two, None)
    assert_same_learning(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
@pytest.mark.skipif(find_spec("peft") is None, reason="the extra lora isn't installed")
def test_adapters_in_two_processes(sheets_dataset: Path, tmp_path: Path) -> None:
    """What is frozen takes no part in the exchange of gradients, and the merged model is that of one process."""
    arguments = {"img_size": 48, "depth": 2, "embed_dim": 48, "num_heads": 3}
    torch.manual_seed(0)
    vit = timm.create_model("vit_tiny_patch16_224", num_classes=0, **arguments)
    save_file(vit.state_dict(), tmp_path / "vit.safetensors")
    weights = str(tmp_path / "vit.safetensors")
    recipe = replace(
        SMOKE,
        backbone=replace(SMOKE.backbone, name="vit_tiny_patch16_224", arguments=arguments, weights=weights),
        head=LinearOptions(),
        tuning=TuningOptions(lora=LoraOptions(rank=4, targets=("mlp.fc1",), dropout=0.0)),
        optimizer=OptimizerOptions("sgd", rate=0.2, weight_decay=0.0),
        loop=replace(SMOKE.loop, epochs=3, batch_size=16, accumulate=1),
    )
    train(sheets_dataset, recipe, tmp_path / "one", device="cpu")
    two = replace(recipe, loop=replace(recipe.loop, batch_size=8), scale=ScaleOptions(devices=2, strategy="ddp"))
    in_two_processes([sys.executable], sheets_dataset, tmp_path / "two", two, None)
    assert_same_learning(tmp_path / "one", tmp_path / "two")
    one, both = (load_file(tmp_path / run / "model" / "model.safetensors") for run in ("one", "two"))
    changed = [name for name, tensor in one.items() if name in vit.state_dict() and not tensor.equal(vit.state_dict()[name])]
    assert {name.split(".", 2)[2] for name in changed} == {"mlp.fc1.weight"}
    for name in one:
        torch.testing.assert_close(both[name], one[name], rtol=1e-4, atol=1e-5)


def test_what_this_machine_lacks_is_said() -> None:
    with pytest.raises(BadRecipe, match="16-mixed needs a CUDA GPU"):
        accelerator_for("cpu", "16-mixed", 1)
    with pytest.raises(BadRecipe, match=r"scale\.devices: 9999, and this machine has"):
        accelerator_for("cpu", "32-true", 9999)
    with pytest.raises(ValueError, match="at least 1"):
        ScaleOptions(devices=0)
