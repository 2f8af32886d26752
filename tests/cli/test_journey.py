"""`taxakey journey` as a person walks it: a folder per species in, a named, served answer out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from taxakey.artifacts import read_manifest
from taxakey.cli.journey import choose_recipe
from taxakey.dataset.reader import Dataset
from taxakey.errors import WeightsUnavailable

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def photographs(sheets_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The simulated sheets sorted into a folder per species, and one file that only looks like a picture."""
    folder = tmp_path_factory.mktemp("own") / "photographs"
    for name in ("train", "validation", "test"):
        part = Dataset.open(sheets_dataset).part(name)
        for row, species_name in enumerate(part.truth().species):
            species = folder / str(species_name).replace(" ", "_")
            species.mkdir(parents=True, exist_ok=True)
            (species / f"{part.image_ids[row]}.jpg").write_bytes(part.image_bytes(row))
    (species / "broken.jpg").write_text("not a picture")
    return folder


@pytest.mark.slow
def test_from_a_folder_per_species_to_a_served_answer(photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "taxakey", "journey", str(photographs), str(out), "--device", "cpu"]
    command += ["--recipe", str(ROOT / "recipes" / "smoke.yaml")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "the server says:" in done.stdout
    assert done.stdout.count("%  ") >= 5, "five names with their probabilities"
    assert (out / "report" / "report.html").is_file()
    assert read_manifest(out / "bundle", "bundle").counts["classes"] == len(list(photographs.iterdir()))
    assert read_manifest(out / "dataset", "dataset").counts["failures"] == 1
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "epoch" not in again.stderr, "a finished journey trains nothing again"


def test_without_weights_it_trains_from_scratch_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taxakey.models.backbones._cached", lambda config: False)
    monkeypatch.setattr("taxakey.models.backbones._unreachable", lambda config: "no network here")
    recipe, notes = choose_recipe(None, None, 3)
    assert (recipe.name, recipe.seed, recipe.backbone.weights) == ("scratch-small", 3, "none")
    assert "from scratch" in notes[0]
    assert "--weights FILE" in notes[0]


def test_a_recipe_that_was_named_is_never_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taxakey.models.backbones._cached", lambda config: False)
    monkeypatch.setattr("taxakey.models.backbones._unreachable", lambda config: "no network here")
    with pytest.raises(WeightsUnavailable, match="no network here"):
        choose_recipe("frozen-linear", None, 0)
    with pytest.raises(WeightsUnavailable, match="no such file"):
        choose_recipe(None, "nowhere.safetensors", 0)


def test_bad_input_is_one_line_and_status_2(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "taxakey", "records", str(tmp_path / "nothing"), str(tmp_path / "out")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    message = [line for line in done.stderr.splitlines() if line.startswith("taxakey: ")]
    assert len(message) == 1
    assert "nothing" in message[0]
    assert "Traceback" not in done.stderr
