"""Building: what is stored, what fails and why, and that an interrupted build ends with the same bytes."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from PIL import Image
from small_pictures import MakeRecords, noise
from typer.testing import CliRunner

from taxakey.artifacts import Plan, hash_of, start
from taxakey.cli.build import build as build_command
from taxakey.dataset.build import FAILURES, SCHEMA, BuildOptions, Picture, build, classes_of, plan_shards, prepare, shards_of
from taxakey.dataset.compilation import Compilation
from taxakey.dataset.reader import Dataset
from taxakey.dataset.recipe import DatasetRecipe
from taxakey.errors import BadInput, BadRecords, MissingArtifact, PlanMismatch
from taxakey.records.table import Observations

OPTIONS = BuildOptions(longest_edge=100, rows_per_shard=10)


def saved(path: Path, image: Image.Image, **options: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    image.save(path, **options)
    return path


def opened(picture: Picture) -> Image.Image:
    assert picture.reason is None
    image = Image.open(io.BytesIO(picture.data))
    image.load()
    assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (picture.width, picture.height))
    return image


def mean_difference(a: Image.Image, b: Image.Image) -> float:
    return float(np.abs(np.asarray(a, dtype=int) - np.asarray(b.convert("RGB"), dtype=int)).mean())


# ---- one picture ----


def test_an_upright_jpeg_within_the_size_keeps_its_bytes(tmp_path: Path) -> None:
    file = saved(tmp_path / "a.jpg", noise(1, 80, 100))
    assert prepare(str(file), OPTIONS) == Picture(file.read_bytes(), 100, 80)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize(("size", "expected"), [((1200, 900), (75, 100)), ((333, 1000), (100, 33)), ((101, 101), (100, 100))])
def test_a_large_picture_is_shrunk_to_its_longest_edge(
    tmp_path: Path, suffix: str, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    picture = noise(2, *size)
    found = opened(prepare(str(saved(tmp_path / f"a.{suffix}", picture)), OPTIONS))
    assert found.size == expected
    assert mean_difference(found, picture.resize(found.size, Image.Resampling.BOX)) < 6  # mirrored or shifted it would be tens


def test_a_picture_that_lies_on_its_side_is_stored_upright_and_without_its_exif(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = noise(3, 60, 90)
    found = opened(prepare(str(saved(tmp_path / "a.jpg", picture, exif=exif, quality=95)), OPTIONS))
    assert found.size == (60, 90)
    assert not found.getexif()
    assert mean_difference(found, picture.transpose(Image.Transpose.ROTATE_270)) < 4


def test_cmyk_and_transparent_pictures_become_plain_ones(tmp_path: Path) -> None:
    for name, mode in (("a.jpg", "CMYK"), ("b.png", "RGBA"), ("c.gif", "P")):
        assert (
            mean_difference(
                opened(prepare(str(saved(tmp_path / name, noise(4, 50, 60).convert(mode))), OPTIONS)), noise(4, 50, 60)
            )
            < 20
        )


def test_what_cannot_be_used_has_a_reason(tmp_path: Path) -> None:
    good = saved(tmp_path / "good.jpg", noise(5, 60, 80)).read_bytes()
    (tmp_path / "cut.jpg").write_bytes(good[: len(good) // 2])
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "empty.jpg").touch()
    size = good.index(b"\xff\xc0") + 5
    (tmp_path / "bomb.jpg").write_bytes(good[:size] + b"\xff\xff\xff\xff" + good[size + 4 :])
    saved(tmp_path / "thin.png", noise(6, 7, 300))
    reasons = {
        "cut.jpg": "can't be decoded (image file is truncated",
        "text.jpg": "not a picture in a known format",
        "empty.jpg": "an empty file (0 bytes)",
        "bomb.jpg": "over the limit of 175 million pixels",
        "thin.png": "300 × 7 pixels, below the least edge of 8",
        "missing.jpg": "no such file",
    }
    for name, reason in reasons.items():
        found = prepare(str(tmp_path / name), OPTIONS)
        assert (found.reason or "").startswith(reason), name
        assert found.data == b""
    assert "only an address is known" in (prepare(None, OPTIONS).reason or "")
    assert "over the limit" in (prepare(str(tmp_path / "good.jpg"), BuildOptions(max_bytes=100)).reason or "")


# ---- a whole dataset ----


def test_a_dataset_by_hand(tmp_path: Path, small_records: Path) -> None:
    manifest = build(small_records, tmp_path / "dataset", OPTIONS, workers=2)
    # 40 pictures by fives: 24 train, 8 validation, 8 test, and one of a species that is in test only
    assert manifest.counts == {"train": 24, "validation": 8, "test": 9, "failures": 0, "classes": 3, "untrained_species": 1}
    names = sorted(file.name for file in (tmp_path / "dataset/data").iterdir())
    assert names == [
        "test-00000-of-00001.parquet", *(f"train-0000{number}-of-00003.parquet" for number in range(3)),
        "validation-00000-of-00001.parquet",
    ]  # fmt: skip
    rows = pq.read_table(tmp_path / "dataset/data/train-00000-of-00003.parquet")
    assert rows.schema.remove_metadata() == SCHEMA
    for row in rows.to_pylist():
        assert row["image"]["bytes"] == Path(row["path"]).read_bytes()
        assert row["image"]["path"] == f"{row['image_id']}.jpg"
        assert (row["width"], row["height"]) == (80, 60)
    assert pq.read_table(tmp_path / "dataset/failures.parquet").schema == FAILURES
    assert manifest.taxonomy == Dataset.open(tmp_path / "dataset").taxonomy.fingerprint


def test_broken_pictures_are_listed_and_the_rest_is_built(tmp_path: Path, make_records: MakeRecords) -> None:
    good = saved(tmp_path / "good.jpg", noise(7, 60, 80))
    (tmp_path / "text.jpg").write_text("no picture")
    rows = [
        (good, "Poa annua", "train"), (tmp_path / "text.jpg", "Poa annua", "train"), (tmp_path / "none.jpg", "Poa bulbosa",
        "train"), (good, "Poa bulbosa", "test"), (None, "Poa annua", "validation"),
    ]  # fmt: skip
    manifest = build(make_records(rows), tmp_path / "dataset", OPTIONS)
    assert manifest.counts == {"train": 1, "validation": 0, "test": 1, "failures": 3, "classes": 1, "untrained_species": 1}
    failures = {row["image_id"]: row for row in pq.read_table(tmp_path / "dataset/failures.parquet").to_pylist()}
    assert failures["i1"]["path"] == str(tmp_path / "text.jpg")
    assert {name: row["reason"].split(" (")[0].split(",")[0] for name, row in failures.items()} == {
        "i1": "not a picture in a known format", "i2": "no such file", "i4": "only an address is known",
    }  # fmt: skip
    dataset = Dataset.open(tmp_path / "dataset")
    assert dataset.taxonomy.names == ("Poa annua",)
    assert dataset.part("test").class_index.tolist() == [-1]
    assert len(dataset.part("validation")) == 0


def test_records_without_a_split_or_without_a_training_picture(tmp_path: Path, make_records: MakeRecords) -> None:
    good = saved(tmp_path / "good.jpg", noise(8, 60, 80))
    with pytest.raises(BadRecords, match="1 pictures have no split"):
        build(make_records([(good, "Poa annua", None)], "unsplit"), tmp_path / "a", OPTIONS)  # type: ignore[list-item]
    with pytest.raises(BadRecords, match=r"not one training picture can be used; .*failures\.parquet says why"):
        build(make_records([(tmp_path / "none.jpg", "Poa annua", "train")]), tmp_path / "b", OPTIONS)
    assert pq.read_table(tmp_path / "b/failures.parquet").num_rows == 1
    with pytest.raises(MissingArtifact):
        build(tmp_path / "nowhere", tmp_path / "c", OPTIONS)


def test_a_finished_dataset_is_left_alone_and_other_options_are_refused(tmp_path: Path, small_records: Path) -> None:
    first = build(small_records, tmp_path / "dataset", OPTIONS)
    assert build(small_records, tmp_path / "dataset", OPTIONS) == first
    with pytest.raises(PlanMismatch, match="quality"):
        build(small_records, tmp_path / "dataset", BuildOptions(longest_edge=100, rows_per_shard=10, quality=50))


@pytest.mark.parametrize("wrong", [{"longest_edge": 4}, {"quality": 0}, {"rows_per_shard": 0}, {"min_edge": 0}])
def test_options_that_make_no_sense(wrong: dict[str, int]) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        BuildOptions(**wrong)


def hashes(folder: Path) -> dict[str, str]:
    files = (file for file in folder.rglob("*.parquet"))
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_the_number_of_workers_changes_nothing(tmp_path: Path, small_records: Path) -> None:
    for workers in (1, 4):
        build(small_records, tmp_path / str(workers), OPTIONS, workers=workers)
    assert hashes(tmp_path / "1") == hashes(tmp_path / "4")


@pytest.mark.usefixtures("local_spark")
def test_spark_gives_the_same_bytes_and_makes_only_what_is_missing(
    tmp_path: Path, small_records: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pictures/7.jpg").write_text("no picture")
    build(small_records, tmp_path / "local", OPTIONS)
    (out := tmp_path / "spark").mkdir()
    start(out, Plan("dataset", {"records": hash_of(small_records)}, asdict(OPTIONS)))
    for name in ("train-00001-of-00003.parquet", "test-00000-of-00001.parquet"):  # as an interrupted run leaves it
        (out / "data").mkdir(exist_ok=True)
        shutil.copy(tmp_path / "local/data" / name, out / "data" / name)
    (out / "data/.train-00002-of-00003.parquet.1.partial").write_bytes(b"half")
    done = {file: file.stat().st_mtime_ns for file in out.glob("data/*.parquet")}
    monkeypatch.setattr("taxakey.dataset.build.ThreadPoolExecutor", None)  # not one picture is prepared here
    assert build(small_records, out, OPTIONS, engine="spark").counts["failures"] == 1
    assert hashes(out) == hashes(tmp_path / "local")
    assert {file: file.stat().st_mtime_ns for file in done} == done
    assert not list(out.glob("data/.*"))


@pytest.mark.usefixtures("local_spark")
def test_recipes_and_the_command_build_on_spark(tmp_path: Path, small_records: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = BuildOptions(longest_edge=100)
    build(small_records, tmp_path / "local", options)
    monkeypatch.setattr("taxakey.dataset.build.ThreadPoolExecutor", None)
    recipe = DatasetRecipe("small", ("nothing",), build=options, engine="spark")
    shutil.copytree(small_records, tmp_path / "compiled/selected")
    Compilation(recipe, tmp_path / "compiled").dataset()
    app = typer.Typer()
    app.command()(build_command)
    line = [str(small_records), str(tmp_path / "command"), "--longest-edge", "100", "--engine", "spark"]
    assert CliRunner().invoke(app, line, catch_exceptions=False).exit_code == 0
    assert hashes(tmp_path / "compiled/dataset") == hashes(tmp_path / "command") == hashes(tmp_path / "local")


SLOW_BUILD = """
import sys, time
from taxakey.dataset import build as module
prepare = module.prepare
def slowly(path, options):
    time.sleep(0.05)
    return prepare(path, options)
module.prepare = slowly
module.build(sys.argv[1], sys.argv[2], module.BuildOptions(longest_edge=100, rows_per_shard=10), workers=1)
"""


def test_a_killed_build_goes_on_and_ends_with_the_same_bytes(tmp_path: Path, small_records: Path) -> None:
    build(small_records, tmp_path / "whole", OPTIONS)
    killed = tmp_path / "killed"
    with subprocess.Popen([sys.executable, "-c", SLOW_BUILD, str(small_records), str(killed)]) as process:
        limit = time.monotonic() + 60
        while not list(killed.glob("data/train-*.parquet")) and time.monotonic() < limit:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    done = {file: file.stat().st_mtime_ns for file in killed.glob("data/*.parquet")}
    assert 1 <= len(done) < 5
    (killed / "data/.train-00002-of-00003.parquet.1.partial").write_bytes(b"half")  # what a kill in the middle of writing leaves
    with pytest.raises(MissingArtifact, match="begun and not finished"):
        Dataset.open(killed)
    build(small_records, killed, OPTIONS)
    assert hashes(killed) == hashes(tmp_path / "whole")
    assert {file: file.stat().st_mtime_ns for file in done} == done  # what was there wasn't made again
    assert not list(killed.glob("data/.*"))


def test_shards_hold_every_row_once_and_keep_observations_together() -> None:
    rows = 57
    table = Observations.from_table(
        pa.table(
            {
                "occurrenceID": [f"o{number // 3}" for number in range(rows)],
                "image_id": [f"i{number:02}" for number in range(rows)],
                "path": [f"/{number}" for number in range(rows)],
                "scientificName": ["Poa annua"] * rows,
                "split": [("train", "train", "test")[number // 3 % 3] for number in range(rows)],
            }
        )
    ).table
    shards = plan_shards(table, 10)
    assert sorted(name for part in shards.values() for name in part["image_id"].to_pylist()) == sorted(
        table["image_id"].to_pylist()
    )
    assert shards["validation-00000-of-00001.parquet"].num_rows == 0
    order = [name for key, part in shards.items() if key.startswith("train") for name in part["occurrenceID"].to_pylist()]
    assert order != sorted(order)
    assert sum(a != b for a, b in pairwise(order)) == len(set(order)) - 1
    again = plan_shards(table.take(list(reversed(range(rows)))), 10)
    assert {name: part.to_pylist() for name, part in again.items()} == {name: part.to_pylist() for name, part in shards.items()}


# ---- classes ----


def named(*rows: dict[str, Any]) -> pa.Table:
    columns = ("scientificName", "genus", "family", "poisonous")
    return pa.table({name: [row.get(name) for row in rows] for name in columns})


def test_parents_of_a_class_are_those_of_most_of_its_records() -> None:
    poa = {"scientificName": "Poa annua", "genus": "Poa", "family": "Poaceae", "poisonous": False}
    other = [{**poa, "family": "Asteraceae"}, {**poa, "genus": None}, {"scientificName": "Aus bus", "poisonous": True}]
    taxonomy, notes = classes_of(named(poa, poa, *other))
    assert taxonomy.names == ("Aus bus", "Poa annua")
    assert taxonomy.column("family") == ["", "Poaceae"]
    assert taxonomy.column("genus") == ["", "Poa"]
    assert taxonomy.column("poisonous") == [True, False]
    assert notes == ()


def test_a_genus_has_one_family_and_a_note_says_so() -> None:
    rows = [{"scientificName": f"Poa {name}", "genus": "Poa", "family": "Poaceae"} for name in ("annua", "bulbosa")]
    rows.append({"scientificName": "Poa cara", "genus": "Poa", "family": "Gramineae"})
    rows.append({"scientificName": "Poa data", "genus": "Poa"})
    taxonomy, notes = classes_of(named(*rows))
    assert taxonomy.column("family") == ["Poaceae"] * 4
    assert notes == ("1 species were given the family that most pictures of their genus name",)


def test_the_package_datasets_reads_the_shards_as_images(
    tmp_path: Path, small_records: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    build(small_records, tmp_path / "dataset", OPTIONS)
    files = {part: str(tmp_path / f"dataset/data/{part}-*.parquet") for part in ("train", "validation", "test")}
    found = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))
    assert {part: len(rows) for part, rows in found.items()} == {"train": 24, "validation": 8, "test": 9}
    assert found["train"].features["image"] == datasets.Image()
    row = found["train"][3]
    with Image.open(row["path"]) as original:
        assert np.array_equal(np.asarray(row["image"]), np.asarray(original))
    shard = pq.read_schema(shards_of(tmp_path / "dataset", "train")[0])
    assert set(json.loads(shard.metadata[b"huggingface"])["info"]["features"]) == set(SCHEMA.names)
