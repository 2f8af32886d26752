"""From addresses to a dataset with one command after another, as who wants to look in between walks it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from taxakey.artifacts import read_manifest
from taxakey.records.table import Observations

POLITENESS = ("--allow-private-addresses", "--rate", "1000")


def run(*arguments: object) -> str:
    command = [sys.executable, "-m", "taxakey", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def fetched(herbarium: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with records of addresses only, and the pictures that were fetched for them."""
    folder = tmp_path_factory.mktemp("stages")
    run("records", herbarium / "archive.zip", folder / "records", "--also", herbarium / "idigbio.zip")
    run("fetch", folder / "records", folder / "pictures", *POLITENESS)
    return folder


def test_fetched_pictures_become_a_dataset(fetched: Path, tmp_path: Path) -> None:
    records = Observations.read(fetched / "records").table
    assert records["path"].null_count == len(records) > 100
    had = read_manifest(fetched / "pictures", "pictures").counts
    said = run("build", fetched / "records", tmp_path / "dataset", "--pictures", fetched / "pictures", "--longest-edge", 64)
    counts = read_manifest(tmp_path / "dataset", "dataset").counts
    stored = sum(counts[part] for part in ("train", "validation", "test"))
    assert (stored, counts["failures"]) == (had["pictures"], had["failures"])
    assert stored > 100
    assert counts["failures"] > 3
    assert "dataset: " in said
    files = fetched.resolve() / "pictures" / "files"
    for row in pq.read_table(tmp_path / "dataset" / "data", columns=["path", "width"]).to_pylist():
        assert Path(row["path"]).is_relative_to(files)
        assert row["width"] <= 64


def test_without_them_not_one_picture_is_found(fetched: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "taxakey", "build", str(fetched / "records"), str(tmp_path / "dataset")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "not one training picture can be used" in done.stderr
    reasons = set(pq.read_table(tmp_path / "dataset" / "failures.parquet")["reason"].to_pylist())
    assert reasons == {"only an address is known, no local file; fetch it, and name the folder with --pictures"}


@pytest.fixture(scope="module")
def chosen(fetched: Path, herbarium: Path) -> Path:
    """Further folders: names, inspection, and what is selected by both."""
    run("names", fetched / "records", herbarium / "checklist.csv", fetched / "names")
    run("inspect", fetched / "records", fetched / "inspection", "--pictures", fetched / "pictures")
    stages = [word for stage in ("names", "inspection", "pictures") for word in (f"--{stage}", fetched / stage)]
    rules = ("--min-images", 5, "--max-images", 20, "--licence", "CC0", "--licence", "CC-BY", "--least", "sharpness=0.0001")
    said = run("select", fetched / "records", fetched / "selected", *stages, *rules)
    (fetched / "said.txt").write_text(said)
    return fetched


def test_a_selection_with_all_that_was_found_before_it(chosen: Path) -> None:
    table = Observations.read(chosen / "selected").table
    counted = Counter(table["scientificName"].to_pylist())
    assert min(counted.values()) >= 5
    assert max(counted.values()) <= 20
    accepted = set(pq.read_table(chosen / "names" / "matches.parquet")["scientificName"].to_pylist())
    assert set(counted) <= accepted
    assert table["path"].null_count == 0
    flow = json.loads((chosen / "selected" / "flow.json").read_text())
    steps = [step["step"] for step in flow]
    assert steps == [
        "records with a picture", "name in the checklist", "licence", "inspection", "readable picture", "sharpness", "duplicates",
        "species with enough pictures", "cap",
    ]  # fmt: skip
    said = (chosen / "said.txt").read_text()
    assert f"{flow[0]['kept']:>12,}  records with a picture" in said
    assert f"{len(table):>12,}  cap" in said
    dropped = {reason for step in flow for reason in step["dropped"]}
    assert {"licence not allowed", "picture can't be used", "duplicate of another picture"} <= dropped


def test_a_recipe_says_what_is_kept_and_options_go_before_it(fetched: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "name: x\nsources: ['${NOT_SET_ANYWHERE}']\nseed: 7\n"
        "selection: {min_images: 2, max_images: 3, least: {sharpness: 1}, basis_of_record: [PRESERVED_SPECIMEN]}"
    )
    said = run("select", fetched / "records", tmp_path / "out", "--recipe", recipe, "--max-images", 4)
    assert "bounds of sharpness don't count" in said
    plan = json.loads((tmp_path / "out" / "plan.json").read_text())
    rules = plan["recipe"]["selection"]
    assert (rules["min_images"], rules["max_images"], rules["seed"], rules["least"]) == (2, 4, 7, {})
    assert rules["basis_of_record"] == ["PRESERVED_SPECIMEN"]


def test_a_split_keeps_specimens_and_duplicates_together(chosen: Path, tmp_path: Path) -> None:
    inspected = ("--inspection", chosen / "inspection")
    said = run("split", chosen / "selected", tmp_path / "parts", "--by", "specimen", *inspected, "--halves", "--seed", 3)
    parts = pq.read_table(tmp_path / "parts" / "split.parquet").to_pylist()
    sides: dict[str, set[str]] = {row["group"]: set() for row in parts}
    for row in parts:
        sides[row["group"]].add(row["split"])
        assert (row["half"] is not None) == (row["split"] == "test")
    assert {len(side) for side in sides.values()} == {1}
    counts = Counter(row["split"] for row in parts)
    assert f"train {counts['train']}, validation {counts['validation']}, test {counts['test']} pictures" in said
    assert f"{len(sides):>9,}  groups" in said
    run("build", tmp_path / "parts", tmp_path / "dataset", "--longest-edge", 64)
    run("audit", tmp_path / "dataset", "--out", tmp_path / "audit", "--inspection", chosen / "inspection", "--fail-on", "leaks")


def test_each_fold_is_test_once(chosen: Path, tmp_path: Path) -> None:
    tested = []
    for fold in range(3):
        run("split", chosen / "selected", tmp_path / str(fold), "--folds", 3, "--fold", fold)
        table = Observations.read(tmp_path / str(fold)).table
        tested += table.filter(pc.equal(table["split"], "test"))["image_id"].to_pylist()
    assert sorted(tested) == sorted(Observations.read(chosen / "selected").table["image_id"].to_pylist())


def test_an_institution_is_held_out(chosen: Path, tmp_path: Path) -> None:
    institutions = Counter(Observations.read(chosen / "selected").table["institutionCode"].drop_null().to_pylist())
    held, number = institutions.most_common()[-1]
    run("split", chosen / "selected", tmp_path / "without", "--held-out", held)
    table = Observations.read(tmp_path / "without").table
    test = table.filter(pc.equal(table["split"], "test"))
    assert set(test["institutionCode"].to_pylist()) == {held}
    assert len(test) == number


def test_parts_stay_where_that_is_asked_for(chosen: Path, tmp_path: Path) -> None:
    run("split", chosen / "selected", tmp_path / "kept", "--train", 0.8, "--test", 0.1, "--keep")
    before = Observations.read(chosen / "selected").table["split"]
    assert Observations.read(tmp_path / "kept").table["split"] == before
    run("split", chosen / "selected", tmp_path / "anew", "--seed", 1)
    assert Observations.read(tmp_path / "anew").table["split"] != before


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        (("--least", "sharpness=0.1"), "nobody has looked at the pictures"),
        (("--least", "sharpness"), "--least sharpness: not of the form figure=bound"),
        (("--duplicates", "exact"), "--duplicates needs to know"),
        (("--licence", "CC-BX"), "no code of a licence"),
    ],
)
def test_rules_that_make_no_sense(options: tuple[str, ...], fact: str, fetched: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "taxakey", "select", str(fetched / "records"), str(tmp_path / "out"), *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert fact in done.stderr
    assert not (tmp_path / "out" / "manifest.json").exists()
