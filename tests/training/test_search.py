"""A real search with Optuna: resumed after kill -9, blind to the test part, bad trials given up or listed with their reason."""

from __future__ import annotations

import csv
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import taxakey.torchvision_guard  # noqa: F401  before timm

import pytest
import timm
import torch
import yaml
from safetensors.torch import save_file

from taxakey.artifacts import read_manifest
from taxakey.embeddings import embed
from taxakey.errors import ArtifactError, BadInput, BadRecipe, PlanMismatch
from taxakey.models.heads import LinearOptions
from taxakey.training.recipe import Recipe, read_recipe
from taxakey.training.search import open_study, search
from taxakey.training.search_space import SPACES, Choice, Range, read_space, varied

optuna = pytest.importorskip("optuna", reason="the extra tune isn't installed")

SMOKE = read_recipe(Path(__file__).parent.parent.parent / "recipes" / "smoke.yaml")
SPACE = """
optimizer.rate: {low: 0.0001, high: 0.5, log: true}
loop.batch_size: {low: 8, high: 64, step: 8}
head:
  - {kind: linear, dropout: 0.2}
  - {kind: bottleneck, width: 16}
"""


@pytest.fixture(scope="module")
def made(sheets_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Recipe]:
    """A dataset WITHOUT its test part, vectors likewise, and a recipe for a head on them."""
    folder = tmp_path_factory.mktemp("search")
    torch.manual_seed(0)
    save_file(timm.create_model(SMOKE.backbone.name, num_classes=0).state_dict(), folder / "weights.safetensors")
    recipe = replace(SMOKE, train="head", head=LinearOptions(), loop=replace(SMOKE.loop, epochs=3))
    recipe = recipe.with_weights(str(folder / "weights.safetensors"))
    embed(sheets_dataset, recipe.backbone, folder / "vectors")
    shutil.copytree(sheets_dataset, folder / "dataset")
    for file in (*(folder / "dataset" / "data").glob("test-*"), *(folder / "vectors" / "vectors").glob("test-*")):
        file.unlink()
    (folder / "space.yaml").write_text(SPACE)
    recipe.write(folder / "recipe.yaml")
    return folder, folder / "dataset", recipe


def run(made: tuple[Path, Path, Recipe], out: Path, trials: int, **changes: Any) -> Path:
    folder, dataset, recipe = made
    recipe = replace(recipe, **changes)
    search(dataset, recipe, read_space(folder / "space.yaml", recipe), out, trials=trials, embeddings_folder=folder / "vectors",
           device="cpu")  # fmt: skip
    return out


def rows(out: Path) -> list[dict[str, str]]:
    with open(out / "trials.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def undisturbed(made: tuple[Path, Path, Recipe]) -> Path:
    return run(made, made[0] / "undisturbed", 4)


def test_the_best_trial_becomes_a_recipe_and_the_test_part_is_never_opened(
    made: tuple[Path, Path, Recipe], undisturbed: Path
) -> None:
    """The dataset has no test part any more: whoever opened it would fail."""
    assert not list((made[1] / "data").glob("test-*"))
    found = rows(undisturbed)
    best = max(found, key=lambda row: float(row["value"]))
    recipe = read_recipe(undisturbed / "best.yaml")
    assert recipe.optimizer.rate == pytest.approx(float(best["optimizer.rate"]))
    assert recipe.loop.batch_size == int(best["loop.batch_size"])
    assert recipe.head.kind in best["head"]
    assert recipe.seed == made[2].seed
    assert best["value"][:6] in (undisturbed / "best.yaml").read_text().splitlines()[0]
    curves = undisturbed / "trials" / f"{int(best['trial']):04d}" / "curves.csv"
    values = [float(row["validation_macro_top_1"]) for row in csv.DictReader(curves.read_text().splitlines())]
    assert max(values) == pytest.approx(float(best["value"]))
    assert read_manifest(undisturbed, "search").counts == {
        "trials": 4, "complete": 4, "pruned": 0, "fail": 0, "best_trial": int(best["trial"])
    }  # fmt: skip
    assert len({row["optimizer.rate"] for row in found}) == 4
    assert not list((undisturbed / "trials").glob("*/checkpoints"))


def test_killed_it_goes_on_as_if_nothing_was(made: tuple[Path, Path, Recipe], undisturbed: Path, tmp_path: Path) -> None:
    folder, dataset, _ = made
    out = tmp_path / "search"
    code = "from typer import Typer; from taxakey.cli.tune import tune; app = Typer(); app.command()(tune); app()"
    command = [sys.executable, "-c", code, str(folder / "recipe.yaml"), str(dataset), str(out), "--trials", "4"]
    command += ["--space", str(folder / "space.yaml"), "--embeddings", str(folder / "vectors"), "--device", "cpu"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    third, deadline = out / "trials" / "0002" / "curves.csv", time.monotonic() + 240
    while not third.is_file() and time.monotonic() < deadline:
        assert process.poll() is None, "the search ended before it could be killed"
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    states = [trial.state.name for trial in open_study(out).trials]
    assert states[:2] == ["COMPLETE", "COMPLETE"], "it was killed too early"
    assert not (out / "manifest.json").is_file(), "it was killed too late"
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert rows(out) == rows(undisturbed)
    assert (out / "best.yaml").read_text() == (undisturbed / "best.yaml").read_text()
    assert "4 trials, 0 given up early, 0 failed" in done.stdout
    page = (out / "search.html").read_text(encoding="utf-8")
    assert page.count("plotly-graph-div") == 4
    assert "<script src=" not in page
    assert (out / "search.png").read_bytes().startswith(b"\x89PNG")


def test_more_trials_later_but_no_other_space(made: tuple[Path, Path, Recipe], undisturbed: Path, tmp_path: Path) -> None:
    shutil.copytree(undisturbed, tmp_path / "search")
    run(made, tmp_path / "search", 5)
    more = rows(tmp_path / "search")
    assert more[:4] == rows(undisturbed)
    assert len(more) == 5
    before = (tmp_path / "search" / "trials.csv").stat().st_mtime_ns
    run(made, tmp_path / "search", 3)  # so many it has already
    assert (tmp_path / "search" / "trials.csv").stat().st_mtime_ns == before
    folder, dataset, recipe = made
    with pytest.raises(PlanMismatch, match="'space'"):
        search(dataset, recipe, {"loop.clip": Range(0.1, 1.0)}, tmp_path / "search", embeddings_folder=folder / "vectors")


def test_trials_that_are_behind_are_given_up(made: tuple[Path, Path, Recipe], tmp_path: Path) -> None:
    """Five trials that learn set the median; those that hardly move are below it from the second epoch on."""
    folder, dataset, recipe = made
    recipe = replace(recipe, loop=replace(recipe.loop, best_by="validation_loss", epochs=4))
    out = tmp_path / "search"
    space = {"optimizer.rate": Choice((0.05, 1e-7))}
    search(dataset, recipe, space, out, trials=9, embeddings_folder=folder / "vectors", device="cpu")
    found = rows(out)
    pruned = [row for row in found if row["state"] == "pruned"]
    assert pruned, "no bad value was drawn after the first five; take another seed"
    assert {row["optimizer.rate"] for row in pruned} == {"1e-07"}
    assert all(int(row["epochs"]) < 4 for row in pruned)
    assert all(int(row["trial"]) >= 5 for row in pruned)
    assert read_recipe(out / "best.yaml").optimizer.rate == 0.05


def test_a_trial_that_cannot_be_trained_is_a_row_with_its_reason(made: tuple[Path, Path, Recipe], tmp_path: Path) -> None:
    folder, dataset, recipe = made
    space = {"head": Choice(({"kind": "linear"}, {"kind": "tree", "width": 8, "sparse": True}))}
    search(dataset, recipe, space, tmp_path / "search", trials=4, embeddings_folder=folder / "vectors", device="cpu")
    states = {row["state"]: row["reason"] for row in rows(tmp_path / "search")}
    assert "head.sparse needs the optimizer lazy_adamw" in states["fail"]
    assert states["complete"] == ""
    only = {"head": Choice(tuple({"kind": "tree", "width": width, "sparse": True} for width in (4, 8)))}
    with pytest.raises(BadInput, match=r"none of 2 trials came to an end .*lazy_adamw"):
        search(dataset, recipe, only, tmp_path / "none", trials=2, embeddings_folder=folder / "vectors", device="cpu")


def test_a_figure_that_is_no_number_ends_the_trial(made: tuple[Path, Path, Recipe], tmp_path: Path) -> None:
    folder, dataset, recipe = made
    recipe = replace(recipe, loop=replace(recipe.loop, best_by="validation_loss", clip=None))
    recipe = replace(recipe, optimizer=replace(recipe.optimizer, name="sgd"))
    search(dataset, recipe, {"optimizer.rate": Choice((1e30, 0.01))}, tmp_path / "search", trials=4,
           embeddings_folder=folder / "vectors", device="cpu")  # fmt: skip
    pruned = [row for row in rows(tmp_path / "search") if row["state"] == "pruned"]
    assert pruned
    assert all("validation_loss was" in row["reason"] for row in pruned)


def test_two_searches_in_one_folder_are_refused(made: tuple[Path, Path, Recipe], undisturbed: Path, tmp_path: Path) -> None:
    shutil.copytree(undisturbed, tmp_path / "search")
    with open(tmp_path / "search" / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ArtifactError, match="another search is at work"):
            run(made, tmp_path / "search", 5)


def test_spaces_that_come_along_fit_the_recipes_that_do() -> None:
    recipe = read_recipe("scratch-small")
    for name in SPACES:
        assert read_space(name, recipe)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optimizer.rat: [1, 2]", "the recipe 'smoke' has no optimizer.rat"),
        ("optimizer.rate: [0.1]", "a choice needs two values or more"),
        ("optimizer.rate: {low: 1, high: 0.1}", "low must lie below high"),
        ("optimizer.rate: {low: 0, high: 1, log: true}", "above 0 where log is set"),
        ("optimizer.rate: {lowest: 0, high: 1}", "unexpected keyword"),
        ("optimizer.rate: 3", "a list of values, or low and high"),
        ("optimizer.name: [adamw, nonsense]", "timm has no optimizer 'nonsense'"),
        ("loop.epochs: {low: -5, high: 3}", "epochs at least 0"),
        ("head.width: [8, x]", "head.tree.width"),
        ("{}", "no key in it"),
    ],
)
def test_a_space_that_does_not_fit_is_said_before_it_starts(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "space.yaml").write_text(text)
    with pytest.raises(BadRecipe, match=message) as error:
        read_space(tmp_path / "space.yaml", SMOKE)
    assert "space.yaml" in str(error.value)


def test_an_unknown_space_lists_the_known_ones() -> None:
    with pytest.raises(BadRecipe, match="rates, fine-tuning"):
        read_space("nonsense", SMOKE)


def test_varied_changes_what_it_says_and_nothing_else() -> None:
    changed = varied(SMOKE, {"loop.clip": None, "augment.flip": False, "head": {"kind": "linear"}}, "a test")
    assert changed == replace(
        SMOKE, loop=replace(SMOKE.loop, clip=None), augment=replace(SMOKE.augment, flip=False), head=LinearOptions()
    )
    assert yaml.safe_load(changed.as_yaml())["head"]["kind"] == "linear"
