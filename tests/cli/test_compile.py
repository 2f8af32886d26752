"""A dataset's recipe from end to end: a drawn herbarium behind a real HTTP server, killed once on the way, and gone on with."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from taxakey.artifacts import kind_of, read_manifest
from taxakey.dataset.compilation import Compilation
from taxakey.dataset.fetch import fetch
from taxakey.dataset.recipe import read_dataset_recipe
from taxakey.errors import BadRecipe, PlanMismatch

RECIPE = """
name: small
seed: 5
sources: [{herbarium}/archive.zip, {herbarium}/idigbio.zip]
checklist: {herbarium}/checklist.csv
selection:
  min_images: 5
  max_images: 40
  basis_of_record: [PRESERVED_SPECIMEN]
  licences: [CC0, CC-BY, CC-BY-NC]
  hosts: {{most: 5, enough: 5}}
  duplicates: near
  least: {{sharpness: 0.0001}}
fetch: {{allow_private_addresses: true, rate: 1000, per_host: 4}}
split: {{by: specimen, halves: true}}
build: {{longest_edge: 128}}
citation: {{title: A drawn herbarium, authors: [Nobody]}}
also: [herbarium2022]
"""


def command(herbarium: Path, folder: Path) -> list[str]:
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.format(herbarium=herbarium))
    return [sys.executable, "-m", "taxakey", "compile", str(recipe), str(folder / "out"), "--workers", "1"]


@pytest.fixture(scope="module")
def compiled(herbarium: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("whole")
    done = subprocess.run(command(herbarium, folder), capture_output=True, text=True, check=True)
    return folder / "out", done.stdout


def test_every_stage_is_an_artifact_and_every_row_accounted_for(compiled: tuple[Path, str]) -> None:
    out, said = compiled
    kinds = {
        stage: kind_of(out / stage) for stage in ("names", "candidates", "pictures", "inspection", "selected", "dataset", "audit")
    }
    assert list(kinds.values()) == ["names", "records", "pictures", "inspection", "records", "dataset", "audit"]
    flow = json.loads((out / "flow.json").read_text())
    for before, after in pairwise(flow):
        assert before["kept"] == after["kept"] + sum(after["dropped"].values()), after["step"]
    dropped = {reason: number for step in flow for reason, number in step["dropped"].items()}
    assert {"licence not allowed", "host not chosen", "duplicate of another picture", "picture can't be used"} <= set(dropped)
    assert [step["step"] for step in flow] == [
        "rows of the sources", "valid records with a picture", "name in the checklist", "basis of record", "licence", "hosts",
        "species with enough pictures", "cap", "inspection", "readable picture", "sharpness", "duplicates",
        "species with enough pictures", "cap", "stored",
    ]  # fmt: skip
    stored = sum(pq.read_metadata(file).num_rows for file in (out / "dataset" / "data").glob("*.parquet"))
    assert stored == flow[-1]["kept"] > 50
    assert f"{stored:>12,}  stored" in said
    for row in pq.read_table(out / "dataset" / "data", columns=["width", "height"]).to_pylist():
        assert max(row.values()) <= 128


def test_no_specimen_and_no_duplicate_stands_in_two_parts(compiled: tuple[Path, str]) -> None:
    counts = read_manifest(compiled[0] / "audit", "audit").counts
    assert [counts[kind] for kind in ("exact duplicate", "near duplicate", "same observation", "same specimen")] == [0, 0, 0, 0]


def test_the_recipes_seed_counts_at_every_draw(compiled: tuple[Path, str]) -> None:
    for stage in ("candidates", "selected"):
        assert read_manifest(compiled[0] / stage, "records").seed == 5
    assert read_manifest(compiled[0] / "selected", "records").recipe["split"]["seed"] == 5


def again(herbarium: Path, compiled: tuple[Path, str], folder: Path, **changes: Any) -> Compilation:
    """The compilation with its stages up to the inspection, to go on from there by another selection."""
    (folder / "recipe.yaml").write_text(RECIPE.format(herbarium=herbarium))
    recipe = read_dataset_recipe(folder / "recipe.yaml")
    for stage in ("candidates", "pictures", "inspection"):
        (folder / stage).symlink_to(compiled[0] / stage)
    return Compilation(replace(recipe, selection=replace(recipe.selection, **changes)), folder)


def test_duplicates_that_are_kept_stand_in_one_part(herbarium: Path, compiled: tuple[Path, str], tmp_path: Path) -> None:
    again(herbarium, compiled, tmp_path, duplicates="keep").selected()
    table = pq.read_table(tmp_path / "selected" / "observations.parquet", columns=["image_id", "split"])
    part = dict(zip(table["image_id"].to_pylist(), table["split"].to_pylist(), strict=True))
    parts = defaultdict(list)
    for row in pq.read_table(compiled[0] / "inspection" / "duplicates.parquet").to_pylist():
        if row["near_group"] and row["image_id"] in part:
            parts[row["near_group"]].append(part[row["image_id"]])
    several = [found for found in parts.values() if len(found) > 1]
    assert len(several) > 3
    assert all(len(set(found)) == 1 for found in several)


def test_other_rules_are_told_and_not_mixed_with_old_results(herbarium: Path, compiled: tuple[Path, str], tmp_path: Path) -> None:
    (tmp_path / "selected").symlink_to(compiled[0] / "selected")
    with pytest.raises(PlanMismatch, match="selection"):
        again(herbarium, compiled, tmp_path, duplicates="exact").selected()


def test_pictures_that_were_looked_at_stay_as_they_are(
    herbarium: Path, compiled: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(
        "taxakey.dataset.compilation.fetch", lambda *places, retry: asked.append(retry) or fetch(*places, retry=retry)
    )
    compilation = again(herbarium, compiled, tmp_path)
    compilation.pictures()
    (tmp_path / "inspection").unlink()
    compilation.pictures()
    assert asked == ["none", "transient"]


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8") as text:
        return list(csv.DictReader(text))


def test_coverage_names_species_that_are_missing(compiled: tuple[Path, str], herbarium: Path) -> None:

    out, _ = compiled
    species = rows_of(out / "coverage.csv")
    accepted = [row for row in rows_of(herbarium / "checklist.csv") if row["taxonomicStatus"] == "Accepted"]
    assert {row["scientificName"] for row in species} == {row["scientificName"] for row in accepted}
    classes = set(pq.read_table(out / "dataset" / "taxonomy.parquet")["scientificName"].to_pylist())
    assert {row["scientificName"] for row in species if int(row["images"])} >= classes
    families = rows_of(out / "coverage_by_family.csv")
    assert sum(int(row["species"]) for row in families) == len(accepted)
    assert sum(int(row["in_dataset"]) for row in families) == sum(int(row["images"]) > 0 for row in species)


def test_the_publication_and_the_page_are_there(compiled: tuple[Path, str]) -> None:
    out, _ = compiled
    assert (out / "exploration" / "exploration.html").stat().st_size > 100_000
    assert kind_of(out / "publication") == "publication"
    metadata = json.loads(next((out / "publication").rglob("test_metadata.json")).read_text())
    assert metadata
    assert not any("category" in key for row in metadata for key in row)
    assert list((out / "solution").rglob("*.csv"))
    assert "10.15468/dl.drawn1" in (out / "publication" / "CITATION.cff").read_text()


def test_killed_and_gone_on_with_it_ends_with_the_same_dataset(
    herbarium: Path, compiled: tuple[Path, str], tmp_path: Path
) -> None:
    line = command(herbarium, tmp_path)
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "out" / "pictures" / "files").rglob("*.*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "out" / "pictures" / "manifest.json").exists()
    subprocess.run(line, capture_output=True, check=True)
    for file in sorted((compiled[0] / "dataset" / "data").glob("*.parquet")):
        one, other = (pq.read_table(place) for place in (file, tmp_path / "out" / "dataset" / "data" / file.name))
        # Absolute paths of the fetched files differ between two folders; nothing else may.
        assert one.drop_columns("path").equals(other.drop_columns("path")), file.name


def test_the_recipe_that_comes_along_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERBARIUM", "somewhere")
    recipe = read_dataset_recipe(Path(__file__).parents[2] / "recipes" / "naflora.yaml").resolved()
    assert recipe.sources == ("somewhere/archive.zip", "somewhere/idigbio.zip")
    assert recipe.build.mask is not None
    assert (recipe.selection.min_images, recipe.selection.max_images) == (11, 100)  # SPEC section 2


def test_slips_in_a_recipe_are_told(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    for text, fact in (
        ("name: x\nsources: [a.zip]\nselection: {min_imags: 3}", "selection.min_imags"),
        ("name: x\nsources: [a]\nselection: {seed: 3}", "seed: beside name:"),
        ("name: x\nsources: [a]\nselection: {duplicates: same}", "selection.duplicates"),
        ("name: x\nsources: []", "sources is empty"),
        ("name: x\nsources: ['${NO_SUCH_VARIABLE}/a.zip']", "NO_SUCH_VARIABLE isn't set"),
        ("name: x\nsources: [a]\nalso: [herbarium2022]", "say citation"),
    ):
        file.write_text(text)
        with pytest.raises(BadRecipe, match=fact):
            read_dataset_recipe(file).resolved()
    with pytest.raises(BadRecipe, match="no such file"):
        read_dataset_recipe(tmp_path / "missing.yaml")
