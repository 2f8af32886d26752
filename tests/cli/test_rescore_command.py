"""`taxakey rescore`: stored predictions under the names of a newer checklist, and the report of what came of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from evaluated_world import World, make_world

from taxakey.artifacts import read_manifest
from taxakey.predictions import Predictions
from taxakey.taxonomy import Taxonomy

HEADER = "taxonID,scientificName,scientificNameAuthorship,acceptedNameUsageID,family\n"
OLD = HEADER + (
    "1,Acer campestre,L.,1,Sapindaceae\n2,Fagus sylvatica,L.,2,Fagaceae\n3,Quercus petraea,Liebl.,3,Fagaceae\n"
    "4,Quercus robur,L.,4,Fagaceae\n5,Fagus orientalis,Lipsky,2,Fagaceae\n"
)
# Acer campestre moved to another genus, Quercus petraea sunk into Quercus robur.
NEW = HEADER + (
    "1,Acer campestre,L.,9,Sapindaceae\n9,Bcer campestre,(L.) X,9,Sapindaceae\n2,Fagus sylvatica,L.,2,Fagaceae\n"
    "3,Quercus petraea,Liebl.,4,Fagaceae\n4,Quercus robur,L.,4,Fagaceae\n"
)
SPLIT = NEW + "5,Fagus orientalis,Lipsky,5,Fagaceae\n"
"""A synonym of Fagus sylvatica is a species of its own now."""


def taxakey(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "taxakey", *map(str, arguments)], capture_output=True, text=True)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("rescored")
    for name, text in (("old", OLD), ("new", NEW), ("split", SPLIT)):
        (folder / f"{name}.csv").write_text(text)
    (folder / "names.csv").write_text("scientificName\nFagus sylvatica\nFagus orientalis\nFagus sylvatica\nFagus sylvatica\n")
    return make_world(folder)


def test_classes_that_became_one_are_added_and_the_report_bears_the_new_names(world: World, tmp_path: Path) -> None:
    folder = world.dataset.parent
    done = taxakey("rescore", world.predictions, folder / "new.csv", tmp_path / "new")
    assert done.returncode == 0, done.stderr
    assert "19 observations of 4 classes, now 3" in done.stdout
    assert "        2  merged" in done.stdout
    assert Taxonomy.read(tmp_path / "new" / "taxonomy.parquet").names == ("Bcer campestre", "Fagus sylvatica", "Quercus robur")
    for level in ("observations", "images"):
        before, after = (Predictions.read(place / f"{level}.parquet") for place in (world.predictions, tmp_path / "new"))
        dense_O4, dense_O3 = np.zeros((len(before), 4)), np.zeros((len(after), 3))
        np.put_along_axis(dense_O4, before.index("species"), before.probability("species"), axis=1)
        np.put_along_axis(dense_O3, after.index("species"), after.probability("species"), axis=1)
        np.testing.assert_allclose(dense_O3, np.c_[dense_O4[:, :2], dense_O4[:, 2:].sum(1)], atol=1e-6)
    assert "newer checklist" in read_manifest(tmp_path / "new", "predictions").notes[-1]
    report = taxakey("evaluate", tmp_path / "new", tmp_path / "report", "--resamples", 20)
    assert report.returncode == 0, report.stderr
    content = json.loads((tmp_path / "report" / "report.json").read_text())
    assert content["counts"]["classes"] == 3
    assert {row["scientific_name"] for row in content["species"]} >= {"Bcer campestre"}
    assert "The dataset wasn't at hand" in report.stdout


def test_a_split_is_refused_follows_records_or_goes_to_the_heir(world: World, tmp_path: Path) -> None:
    folder = world.dataset.parent
    begin = ("rescore", world.predictions, folder / "split.csv")
    refused = taxakey(*begin, tmp_path / "a", "--old", folder / "old.csv")
    assert refused.returncode == 2
    assert "1 classes were split (first: Fagus sylvatica into Fagus sylvatica, Fagus orientalis)" in refused.stderr
    assert "--records" in refused.stderr
    assert not (tmp_path / "a").exists()
    heir = taxakey(*begin, tmp_path / "b", "--old", folder / "old.csv", "--heir")
    assert "19 observations of 4 classes, now 3" in heir.stdout
    shared = taxakey(*begin, tmp_path / "c", "--old", folder / "old.csv", "--records", folder / "names.csv")
    assert "19 observations of 4 classes, now 4" in shared.stdout, shared.stderr
    found = Predictions.read(tmp_path / "c" / "observations.parquet")
    names = Taxonomy.read(tmp_path / "c" / "taxonomy.parquet").names
    by_name = dict(zip((names[at] for at in found.index("species")[3]), found.probability("species")[3], strict=True))
    assert by_name["Fagus sylvatica"] == pytest.approx(3 * by_name["Fagus orientalis"], rel=1e-5)
    alone = taxakey(*begin, tmp_path / "d", "--records", folder / "names.csv")
    assert alone.returncode == 2
    assert "only beside the older checklist" in alone.stderr


def test_drift_with_records_writes_the_weights(world: World, tmp_path: Path) -> None:
    folder = world.dataset.parent
    done = taxakey(
        "drift", folder / "old.csv", folder / "split.csv", "--records", folder / "names.csv", "--out", tmp_path / "drift"
    )
    assert done.returncode == 0, done.stderr
    mapping = (tmp_path / "drift" / "mapping.csv").read_text().replace('"', "")
    assert "Fagus sylvatica,Fagus orientalis,0.25,false" in mapping
    assert "Fagus sylvatica,Fagus sylvatica,0.75,true" in mapping
