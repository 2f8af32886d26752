"""Inspecting: the definitions against other ways to compute them, bad pictures, and that a killed run goes on."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import imagehash
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy.ndimage import convolve
from small_pictures import MakeRecords, noise
from typer.testing import CliRunner

from taxakey.artifacts import Plan, finish, start, write_parquet
from taxakey.cli.inspect import inspect as command
from taxakey.dataset import inspection
from taxakey.dataset.duplicates import NEAR_DISTANCE
from taxakey.dataset.inspection import SCHEMA, InspectOptions, inspect, look, perceptual_hash, read_inspection, sharpness
from taxakey.errors import BadInput, MissingArtifact


def jpeg(picture: Image.Image, quality: int = 95) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def textured(seed: int, height: int, width: int) -> Image.Image:
    """A picture with details of every size, as photographs have."""
    rng = np.random.default_rng(seed)
    layers = [
        Image.fromarray(rng.integers(0, 256, (n, n), dtype=np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
        for n in (4, 12, 32, 90)
    ]
    grey = np.mean([np.asarray(layer, dtype=float) for layer in layers], axis=0)
    return Image.fromarray(np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2))


def bits_apart(left: dict[str, bytes], right: dict[str, bytes]) -> int:
    return int.bit_count(int.from_bytes(left["perceptual_hash"]) ^ int.from_bytes(right["perceptual_hash"]))


# ---- what is measured ----


def test_facts_of_a_picture_by_hand() -> None:
    # Left half black, a quarter white, a quarter pure red: luma of red is 0.299 · 255 = 76.
    pixels = np.zeros((256, 512, 3), dtype=np.uint8)
    pixels[:, 256:384] = 255
    pixels[:, 384:] = (255, 0, 0)
    data = png(Image.fromarray(pixels))
    found = look(data)
    assert found["sha256"] == hashlib.sha256(data).hexdigest()
    assert (found["width"], found["height"]) == (512, 256)
    assert found["dark"] == pytest.approx(0.5)
    assert found["bright"] == pytest.approx(0.25)
    assert found["brightness"] == pytest.approx((255 + 76) / 4 / 255)
    # red is L* 53.2, a* 80.1, b* 67.2 (sRGB, D65); a quarter of the picture, the rest is neutral
    assert found["colour_cast"] == pytest.approx(np.hypot(80.1, 67.2) / 4, abs=1)
    assert found["colour_spread"] == pytest.approx(np.hypot(80.1, 67.2) * np.sqrt(3) / 4, abs=1)
    assert found["pixels_per_mm"] is None
    assert "failure" not in found


def test_sharpness_is_the_variance_of_the_laplacian() -> None:
    grey = np.asarray(noise(1, 40, 60).convert("L"))
    kernel = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]])
    assert sharpness(grey) == pytest.approx(convolve(grey.astype(float), kernel, mode="mirror").var(), rel=1e-5)


def test_a_blurred_picture_is_less_sharp_and_a_small_one_too() -> None:
    sharp = Image.fromarray(np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8))
    plain, blurred, small = (
        look(png(each))["sharpness"] for each in (sharp, sharp.filter(ImageFilter.GaussianBlur(2)), sharp.resize((128, 128)))
    )
    assert plain > 10 * small > 10 * blurred


def test_a_tinted_picture_has_a_cast_and_a_grey_one_none() -> None:
    grey = np.repeat(np.asarray(noise(2, 64, 64).convert("L"))[..., None], 3, axis=2)
    plain, tinted = (look(png(Image.fromarray(each.astype(np.uint8)))) for each in (grey, grey * (1, 0.8, 0.6)))
    assert plain["colour_cast"] < 0.5 < 10 < tinted["colour_cast"]
    assert tinted["colour_cast"] > 2 * tinted["colour_spread"]


def test_the_perceptual_hash_is_imagehash_s() -> None:
    grey = noise(3, 100, 130).convert("L")
    expected = int(str(imagehash.phash(grey, hash_size=16)), 16).to_bytes(32)
    assert perceptual_hash(np.asarray(grey)) == expected


@pytest.mark.parametrize("seed", range(5))
def test_copies_are_near_and_other_pictures_far(seed: int) -> None:
    picture = textured(seed, 600, 800)
    own = look(png(picture))
    brighter = Image.fromarray(np.clip(np.asarray(picture) * 1.1, 0, 255).astype(np.uint8))
    for copy in (jpeg(picture, 40), jpeg(picture.resize((400, 300))), png(brighter)):
        assert bits_apart(own, look(copy)) <= NEAR_DISTANCE
    assert bits_apart(own, look(png(textured(seed + 100, 600, 800)))) > 2 * NEAR_DISTANCE


def test_figures_compare_between_sizes_of_one_picture() -> None:
    large = noise(9, 3000, 2000)
    big, medium = look(jpeg(large)), look(jpeg(large.resize((1000, 1500), Image.Resampling.BOX)))
    for name in ("brightness", "dark", "bright", "colour_cast", "colour_spread"):
        assert big[name] == pytest.approx(medium[name], rel=0.02, abs=0.01)
    assert (big["width"], big["height"]) == (2000, 3000)


def test_a_picture_on_its_side_is_measured_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    noise(4, 300, 500).save(buffer, "JPEG", exif=exif, quality=95)
    found = look(buffer.getvalue())
    assert (found["width"], found["height"]) == (300, 500)
    upright = look(jpeg(noise(4, 300, 500).transpose(Image.Transpose.ROTATE_270)))
    assert bits_apart(found, upright) <= 4


def test_thin_and_tiny_pictures_are_measured_too() -> None:
    for size in ((1, 1), (1, 3000), (3000, 1), (2, 2)):
        found = look(png(Image.new("RGB", size, (200, 10, 10))))
        assert found["sharpness"] == pytest.approx(0, abs=1e-6)
        assert (found["width"], found["height"]) == size


def test_the_scale_is_measured_on_the_whole_picture() -> None:
    assert look(jpeg(noise(6, 1600, 2400)), scale=lambda image: image.shape[1] / 2)["pixels_per_mm"] == 1200


def test_bad_pictures_have_a_reason_and_their_hash(tmp_path: Path) -> None:
    good = jpeg(noise(5, 60, 80))
    for name, data in (("cut.jpg", good[: len(good) // 2]), ("text.jpg", b"no picture"), ("empty.jpg", b"")):
        (tmp_path / name).write_bytes(data)
    cut, text, empty, none = (look(str(tmp_path / name)) for name in ("cut.jpg", "text.jpg", "empty.jpg", "none.jpg"))
    assert cut["failure"].startswith("can't be decoded")
    assert cut["sha256"] == hashlib.sha256(good[: len(good) // 2]).hexdigest()
    assert text["failure"].startswith("not a picture")
    assert empty == {"failure": "an empty file (0 bytes)"}
    assert none == {"failure": "no such file"}
    assert "over the limit" in look(good, InspectOptions(max_pixels=100))["failure"]


# ---- the artifact ----


def ten_pixels_a_millimetre(image_HW3: NDArray[np.uint8]) -> float | None:
    return 10.0 if image_HW3.shape[1] == 900 else None


@pytest.fixture
def records(tmp_path: Path, make_records: MakeRecords) -> Path:
    """Four good pictures, two of them the same bytes, one a copy; a broken one, one without file."""
    for number in range(3):
        noise(number, 400, 300 + 300 * number).save(tmp_path / f"{number}.jpg", quality=95)
    (tmp_path / "same.jpg").write_bytes((tmp_path / "1.jpg").read_bytes())
    noise(2, 400, 900).resize((450, 200)).save(tmp_path / "copy.png")
    (tmp_path / "text.jpg").write_text("no picture")
    files = [*(tmp_path / name for name in ("0.jpg", "1.jpg", "same.jpg", "2.jpg", "copy.png", "text.jpg")), None]
    return make_records([(file, "Poa annua", "train") for file in files])


def test_scale_bars_are_looked_for_on_request(tmp_path: Path, make_records: MakeRecords) -> None:
    bar = np.full((900, 700, 3), 240, np.uint8)
    bar[10:40, 50:300] = 30
    for block in range(0, 10, 2):
        bar[18:30, 60 + 22 * block : 82 + 22 * block] = 225
    Image.fromarray(bar).save(tmp_path / "bar.png")
    records = make_records([(tmp_path / "bar.png", "Poa annua", "train")])
    assert inspect(records, tmp_path / "without").counts["with_scale"] == 0
    assert inspect(records, tmp_path / "with", InspectOptions(scale_bars=True)).counts["with_scale"] == 1
    assert read_inspection(tmp_path / "with")["pixels_per_mm"][0].as_py() == pytest.approx(2.2, rel=0.02)


def test_an_inspection_by_hand(tmp_path: Path, records: Path) -> None:
    manifest = inspect(records, tmp_path / "out", scale=ten_pixels_a_millimetre)
    table = read_inspection(tmp_path / "out")
    assert table.schema == SCHEMA
    assert table["image_id"].to_pylist() == [f"i{number}" for number in range(7)]
    assert table["width"].to_pylist() == [300, 600, 600, 900, 450, None, None]
    assert table["pixels_per_mm"].to_pylist() == [None, None, None, 10, None, None, None]
    assert [reason is None for reason in table["failure"].to_pylist()] == [True] * 5 + [False] * 2
    assert pq.read_table(tmp_path / "out/duplicates.parquet").to_pylist() == [
        {"image_id": "i1", "exact_group": "i1", "near_group": "i1"},
        {"image_id": "i2", "exact_group": "i1", "near_group": "i1"},
        {"image_id": "i3", "exact_group": None, "near_group": "i3"},
        {"image_id": "i4", "exact_group": None, "near_group": "i3"},
    ]
    assert manifest.counts == {
        "images": 7, "failures": 2, "with_scale": 1, "exact_groups": 1, "in_exact_groups": 2, "near_groups": 2,
        "in_near_groups": 4,
    }  # fmt: skip
    assert manifest.recipe["scale"].endswith("ten_pixels_a_millimetre")
    assert not (tmp_path / "out/chunks").exists()


def fetched(folder: Path, rows: list[tuple[str, str, str | None]]) -> Path:
    start(folder, plan := Plan("pictures"))
    table = pa.table([pa.array(column, pa.string()) for column in zip(*rows, strict=True)], names=["image_id", "path", "sha256"])
    write_parquet(folder / "pictures.parquet", table)
    finish(folder, plan, counts={})
    return folder


def test_fetched_pictures_are_found_and_checked(tmp_path: Path, make_records: MakeRecords) -> None:
    (tmp_path / "pictures").mkdir()
    start(tmp_path / "pictures", Plan("pictures"))
    for number in range(3):
        noise(number, 60, 80).save(tmp_path / "pictures" / f"{number}.jpg")
    noise(7, 60, 80).save(tmp_path / "outside.jpg")
    own = hashlib.sha256((tmp_path / "pictures/0.jpg").read_bytes()).hexdigest()
    fetched(
        tmp_path / "pictures", [("i0", "0.jpg", own), ("i1", "1.jpg", own), ("i2", "../outside.jpg", None), ("i9", "2.jpg", None)]
    )
    records = make_records([(None, "Poa annua", "train")] * 3 + [(tmp_path / "outside.jpg", "Poa annua", "train")])
    inspect(records, tmp_path / "out", pictures=tmp_path / "pictures")
    rows = read_inspection(tmp_path / "out").to_pylist()
    assert rows[0]["sha256"] == own
    assert rows[0]["failure"] is None
    assert "aren't those that were fetched" in rows[1]["failure"]
    assert rows[1]["perceptual_hash"] is None
    assert "only an address is known" in rows[2]["failure"]  # a path that leads out of the folder is none
    assert rows[3]["width"] == 80


def test_only_an_artifact_is_read(tmp_path: Path, records: Path) -> None:
    with pytest.raises(MissingArtifact, match="no such folder"):
        inspect(records, tmp_path / "out", pictures=tmp_path / "pictures")
    with pytest.raises(MissingArtifact, match="a finished inspection is needed"):
        read_inspection(records.parent)
    with pytest.raises(BadInput, match="near_distance is 99"):
        InspectOptions(near_distance=99)


def test_no_records_at_all(tmp_path: Path, make_records: MakeRecords) -> None:
    assert inspect(make_records([]), tmp_path / "out").counts["images"] == 0
    assert len(read_inspection(tmp_path / "out")) == 0


def digest(folder: Path) -> dict[str, str]:
    return {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("inspection.parquet", "duplicates.parquet")
    }


def test_a_killed_run_goes_on_and_ends_with_the_same_table(
    tmp_path: Path, make_records: MakeRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(60):
        noise(number, 300, 400).save(tmp_path / f"{number}.jpg")
    records = make_records([(tmp_path / f"{number}.jpg", "Poa annua", "train") for number in range(60)])
    inspect(records, tmp_path / "whole", InspectOptions(chunk=5))
    call = f"inspect({str(records)!r}, {str(tmp_path / 'killed')!r}, InspectOptions(chunk=5), workers=1)"
    process = subprocess.Popen([sys.executable, "-c", f"from taxakey.dataset.inspection import *\n{call}"], env=os.environ)
    chunks = tmp_path / "killed/chunks"
    while len(list(chunks.glob("0*.parquet"))) < 3:
        assert process.poll() is None, "finished before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = len(list(chunks.glob("0*.parquet")))
    assert 3 <= done < 12
    looked: list[str] = []
    monkeypatch.setattr(inspection, "look", lambda path, *rest: looked.append(path) or look(path, *rest))
    inspect(records, tmp_path / "killed", InspectOptions(chunk=5))
    assert len(looked) == 60 - 5 * done
    assert digest(tmp_path / "killed") == digest(tmp_path / "whole")


def test_the_command(tmp_path: Path, records: Path) -> None:
    app = typer.Typer()
    app.command()(command)
    done = CliRunner().invoke(app, [str(records), str(tmp_path / "out")], catch_exceptions=False)
    assert done.exit_code == 0
    assert "7 pictures, 2 of them can't be looked at" in done.output
    assert "2 pictures in 1 groups of exact duplicates" in done.output
    assert "4 pictures in 2 groups of near duplicates" in done.output
    default = next(each for each in typer.main.get_command(app).params if each.name == "near_distance").default
    assert default == NEAR_DISTANCE
