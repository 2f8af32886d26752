"""Building with masking: what the shards say of it, the same bytes from every engine, and no work without the extra."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from PIL import Image
from small_pictures import MakeRecords, noise
from typer.testing import CliRunner

from taxakey.cli.build import build as build_command
from taxakey.dataset.build import BuildOptions, build, plan_shards, prepare, process_shard
from taxakey.dataset.masking import MaskOptions, painted, text_masker
from taxakey.dataset.reader import Dataset
from taxakey.dataset.shards import PREPARED, SCHEMA, shards_of, write_shard
from taxakey.errors import MissingExtra
from taxakey.records.table import Observations

pytest.importorskip("rapidocr", reason="the extra `mask` isn't installed")
pytest.importorskip("onnxruntime", reason="the extra `mask` isn't installed")

PLAIN = BuildOptions(longest_edge=300, rows_per_shard=4)
MASKED = replace(PLAIN, mask=MaskOptions(edge=640, rounds=2))


def sheet(folder: Path, number: int) -> Path:
    """A sheet of 360 × 480 pixels with a label and a leaf."""
    image = np.full((480, 360, 3), (244, 240, 226), np.uint8)
    cv2.ellipse(image, (150, 180), (60, 120), 10 * number, 0, 360, (60, 90, 40), -1, cv2.LINE_AA)
    for line, text in enumerate((f"HERBARIUM {number}", "Bellis perennis L.")):
        cv2.putText(image, text, (170, 400 + 30 * line), cv2.FONT_HERSHEY_DUPLEX, 0.5, (30, 30, 30), 1, cv2.LINE_AA)
    file = folder / f"sheet{number}.jpg"
    Image.fromarray(image).save(file, quality=92)
    return file


@pytest.fixture
def records(tmp_path: Path, make_records: MakeRecords) -> Path:
    """Six sheets, one of them by an observer's own account no specimen, a photograph, and a file that isn't there."""
    rows: list[tuple[Path, str, str]] = [
        (sheet(tmp_path, number), ("Poa annua", "Poa bulbosa")[number % 2], "test" if number == 5 else "train")
        for number in range(6)
    ]
    noise(3, 300, 200).point(lambda level: level // 2).save(tmp_path / "photo.jpg")
    rows += [(tmp_path / "photo.jpg", "Poa annua", "train"), (tmp_path / "none.jpg", "Poa annua", "train")]
    basis = ["PRESERVED_SPECIMEN", None, *["PRESERVED_SPECIMEN"] * 2, "HUMAN_OBSERVATION", *["PRESERVED_SPECIMEN"] * 3]
    return make_records(rows, basisOfRecord=basis)


def rows_of(folder: Path) -> dict[str, dict[str, Any]]:
    shards = [shard for part in ("train", "test") for shard in shards_of(folder, part)]
    return {row["image_id"]: row for shard in shards for row in pq.read_table(shard).to_pylist()}


def pixels(row: dict[str, Any]) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(row["image"]["bytes"]))).astype(int)


def hashes(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.rglob("*.parquet"))}


def test_masked_and_plain_differ_where_the_boxes_say(tmp_path: Path, records: Path) -> None:
    counts = build(records, tmp_path / "masked", MASKED, workers=2).counts
    build(records, tmp_path / "plain", PLAIN)
    assert counts["masked"] == 5
    assert (counts["train"], counts["failures"]) == (6, 1)
    masked, plain = rows_of(tmp_path / "masked"), rows_of(tmp_path / "plain")
    assert {name for name, row in masked.items() if row["masked"]} == {"i0", "i1", "i2", "i3", "i5"}
    assert masked["i4"]["masked_boxes"] is None  # no specimen
    assert masked["i6"]["masked_boxes"] is None  # no sheet
    assert not any(row["masked"] or row["masked_boxes"] is not None for row in plain.values())
    assert masked["i4"]["image"] == plain["i4"]["image"]
    for name in ("i0", "i1", "i2", "i3", "i5"):
        row = masked[name]
        assert (row["width"], row["height"]) == (225, 300)
        boxes_N42 = np.array(row["masked_boxes"], np.int32).reshape(-1, 4, 2)
        covered_HW = painted(boxes_N42, (300, 225))
        change_HW = np.abs(pixels(row) - pixels(plain[name])).max(axis=-1)
        letters_HW = pixels(plain[name]).max(axis=-1) < 170
        letters_HW[:225] = False  # the leaf
        assert letters_HW.sum() > 100
        assert covered_HW[letters_HW].mean() > 0.97
        assert not covered_HW[:220].any()
        assert change_HW[:216].max() <= 8  # a different decoder scale, and blocks of JPEG
        assert change_HW[covered_HW].mean() > 30


def test_a_sheet_without_text_keeps_its_bytes_and_says_that_nothing_was_found(tmp_path: Path) -> None:
    file = tmp_path / "blank.jpg"
    Image.new("RGB", (200, 300), (244, 240, 226)).save(file)
    picture = prepare(str(file), PLAIN, text_masker(MASKED.mask or MaskOptions()))
    assert picture.boxes == []
    assert picture.data == file.read_bytes()


def test_the_number_of_processes_changes_nothing(tmp_path: Path, records: Path) -> None:
    for workers in (1, 2):
        build(records, tmp_path / str(workers), MASKED, workers=workers)
    assert hashes(tmp_path / "1") == hashes(tmp_path / "2")


def test_a_pool_and_slices_give_the_bytes_of_the_build(tmp_path: Path, records: Path) -> None:
    build(records, tmp_path / "built", MASKED, workers=1)
    name, rows = next(iter(plan_shards(Observations.read(records).table, MASKED.rows_per_shard).items()))
    whole = process_shard(rows, MASKED)
    assert whole.schema == PREPARED
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        slices = list(pool.map(process_shard, [rows.slice(0, 1), rows.slice(1)], [MASKED] * 2))
    for number, table in enumerate((whole, pa.concat_tables(slices))):
        write_shard(tmp_path / f"{number}.parquet", table)
        assert (tmp_path / f"{number}.parquet").read_bytes() == (tmp_path / "built/data" / name).read_bytes()


@pytest.mark.slow
@pytest.mark.usefixtures("local_spark")
def test_spark_gives_the_bytes_of_the_build(tmp_path: Path, records: Path) -> None:
    for engine in ("local", "spark"):
        build(records, tmp_path / engine, MASKED, engine=engine, workers=1)  # type: ignore[arg-type]
    assert hashes(tmp_path / "spark") == hashes(tmp_path / "local")
    assert sum(row["masked"] for row in rows_of(tmp_path / "spark").values()) == 5


MASKED_BUILD = """
import sys
from taxakey.dataset.build import BuildOptions, build
from taxakey.dataset.masking import MaskOptions
if __name__ == "__main__":
    options = BuildOptions(longest_edge=300, rows_per_shard=1, mask=MaskOptions(edge=640, rounds=2))
    build(sys.argv[1], sys.argv[2], options, workers=1)
"""


def children_of(process: int) -> list[int]:
    return [int(number) for number in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_killed_build_leaves_no_process_and_goes_on_with_the_same_bytes(tmp_path: Path, records: Path) -> None:
    options = replace(MASKED, rows_per_shard=1)
    build(records, tmp_path / "whole", options, workers=1)
    killed = tmp_path / "killed"
    with subprocess.Popen([sys.executable, "-c", MASKED_BUILD, str(records), str(killed)]) as process:
        limit = time.monotonic() + 120
        while not list(killed.glob("data/train-*.parquet")) and time.monotonic() < limit:
            time.sleep(0.005)
        workers = children_of(process.pid)
        os.kill(process.pid, signal.SIGKILL)
    assert workers
    done = {file: file.stat().st_mtime_ns for file in killed.glob("data/*.parquet")}
    assert 1 <= len(done) < len(hashes(tmp_path / "whole")) - 2
    limit = time.monotonic() + 60
    while any(Path(f"/proc/{worker}/stat").is_file() for worker in workers) and time.monotonic() < limit:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{worker}/stat").is_file() for worker in workers)
    build(records, killed, options, workers=2)
    assert hashes(killed) == hashes(tmp_path / "whole")
    assert {file: file.stat().st_mtime_ns for file in done} == done


def test_without_the_extra_nothing_is_begun(tmp_path: Path, records: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taxakey.dataset.masking.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"taxakey\[mask\]"):
        build(records, tmp_path / "dataset", MASKED)
    assert not (tmp_path / "dataset").exists()
    build(records, tmp_path / "dataset", PLAIN)


@pytest.mark.parametrize(("flag", "what"), [("--mask-text", "text"), ("--mask-labels", "labels")])
def test_the_command(tmp_path: Path, records: Path, flag: str, what: str) -> None:
    application = typer.Typer()
    application.command()(build_command)
    result = CliRunner().invoke(application, [str(records), str(tmp_path / "dataset"), flag, "--workers", "1"])
    assert result.exit_code == 0, result.output
    assert "text was masked on 5 pictures" in result.output
    manifest = Dataset.open(tmp_path / "dataset").manifest
    assert manifest.recipe["mask"]["what"] == what
    assert "rapidocr" in manifest.packages


def test_a_dataset_of_before_there_was_masking_can_be_read(tmp_path: Path, records: Path) -> None:
    build(records, tmp_path / "dataset", PLAIN)
    for part in ("train", "validation", "test"):
        for shard in shards_of(tmp_path / "dataset", part):
            pq.write_table(pq.read_table(shard).drop_columns(["masked", "masked_boxes"]), shard)
    part = Dataset.open(tmp_path / "dataset").part("train")
    assert len(part) == 6
    assert "masked" not in part.table.column_names
    assert part.image_bytes(0)


def test_the_reader_and_the_package_datasets_read_boxes(tmp_path: Path, records: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(records, tmp_path / "dataset", MASKED, workers=1)
    part = Dataset.open(tmp_path / "dataset").part("train")
    boxes = part.table["masked_boxes"].to_pylist()
    assert {None if found is None else len(found[0]) for found in boxes} == {None, 8}
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    files = {"train": str(tmp_path / "dataset/data/train-*.parquet")}
    found = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))["train"]
    assert found["masked_boxes"][:] == boxes
    assert set(found.features) == set(SCHEMA.names)
