"""A run that was killed again and again is, step for step and bit for bit, the run that nobody disturbed."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_loop import SMOKE, weights_file

from taxakey.embeddings import embed
from taxakey.models.heads import LinearOptions
from taxakey.training.averaging import AveragingOptions
from taxakey.training.recipe import Recipe
from taxakey.training.resume import AtomicFiles, position_of
from taxakey.training.schedule import ScheduleOptions

HERE = Path(__file__).parent


def killed_and_not(folder: Path, dataset: Path, recipe: Recipe, vectors: Path | str, seed: int, kills: int) -> list[int]:
    """Leave `undisturbed` and `killed` in the folder; the steps that were on record at each kill."""
    recipe.write(folder / "recipe.yaml")
    places = [dataset, folder / "recipe.yaml", folder / "killed", vectors, folder / "undisturbed", seed, kills]
    done = subprocess.run(
        [sys.executable, HERE / "killed_runs.py", *map(str, places)],
        capture_output=True, text=True, timeout=600, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def epochs(run: Path) -> list[dict[str, str]]:
    with open(run / "curves.csv", newline="", encoding="utf-8") as file:
        return [{name: value for name, value in row.items() if "seconds" not in name} for row in csv.DictReader(file)]


def assert_same_run(folder: Path, steps: int) -> None:
    killed, undisturbed = folder / "killed", folder / "undisturbed"
    trace = (undisturbed / "steps.csv").read_text()
    assert len(trace.splitlines()) == 1 + steps
    assert (killed / "steps.csv").read_text() == trace
    assert epochs(killed) == epochs(undisturbed)
    for file in ("model.safetensors", "calibration.json"):
        assert (killed / "model" / file).read_bytes() == (undisturbed / "model" / file).read_bytes(), file


@pytest.mark.slow
def test_a_head_on_stored_features(sheets_dataset: Path, tmp_path: Path) -> None:
    """With dropout, gradients of two batches added up, an average of weights and a rate that falls when learning stands still."""
    recipe = replace(
        SMOKE,
        train="head",
        backbone=replace(SMOKE.backbone, weights=weights_file(tmp_path)),
        head=LinearOptions(dropout=0.3),
        schedule=ScheduleOptions(kind="plateau", patience=0, decay=0.5, warmup=0.1),
        averaging=AveragingOptions("ema", decay=0.9, start=0.2),
        loop=replace(SMOKE.loop, epochs=20, batch_size=8, accumulate=2, checkpoint_steps=3),
    )
    embed(sheets_dataset, recipe.backbone, tmp_path / "vectors")
    held = killed_and_not(tmp_path, sheets_dataset, recipe, tmp_path / "vectors", seed=1, kills=5)
    assert len(held) == 5
    assert_same_run(tmp_path, 20 * 13)
    rates = [float(row["learning_rate"]) for row in epochs(tmp_path / "killed")]
    assert rates[-1] < rates[10], "the rate never fell, so nothing of it was tested"


@pytest.mark.slow
def test_a_network_on_pictures(sheets_dataset: Path, tmp_path: Path) -> None:
    """With augmentation in worker processes, and BatchNorms' statistics under an average of epochs' ends."""
    recipe = replace(
        SMOKE,
        averaging=AveragingOptions("swa", start=0.3),
        loop=replace(SMOKE.loop, epochs=4, batch_size=8, accumulate=1, checkpoint_steps=2),
    )
    held = killed_and_not(tmp_path, sheets_dataset, recipe, "-", seed=2, kills=4)
    assert max(held) > 12, "no kill came after the first epoch"
    assert_same_run(tmp_path, 4 * 12)


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(tmp_path: Path) -> None:
    file = tmp_path / "last.ckpt"
    AtomicFiles().save_checkpoint({"weights": torch.ones(3)}, file)
    code = (
        "import os, signal, sys, torch\n"
        "from taxakey.training.resume import AtomicFiles\n"
        "def half(checkpoint, file):\n"
        "    file.write(b'half a file'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
        "torch.save = half\n"
        "AtomicFiles().save_checkpoint({'weights': torch.zeros(3)}, sys.argv[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(file)])
    assert done.returncode == -9
    assert len(list(tmp_path.iterdir())) == 2, "nothing was being written when it was killed"
    assert torch.equal(torch.load(file, weights_only=True)["weights"], torch.ones(3))


@pytest.mark.parametrize(("ready", "processed", "batches", "expected"), [(3, 2, 7, (2, 7)), (3, 3, 9, (3, 0))])
def test_position_within_an_epoch_and_behind_one(
    tmp_path: Path, ready: int, processed: int, batches: int, expected: tuple[int, int]
) -> None:
    loops = {"epoch_progress": {"current": {"ready": ready, "processed": processed}}}
    loops["epoch_loop.batch_progress"] = {"current": {"ready": batches, "processed": batches}}
    torch.save({"loops": {"fit_loop": loops}}, tmp_path / "file.ckpt")
    position = position_of(tmp_path / "file.ckpt")
    assert (position.epochs, position.batches) == expected
