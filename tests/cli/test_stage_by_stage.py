"""From addresses to a dataset with one command after another, as who wants to look in between walks it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
