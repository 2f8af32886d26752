"""The evaluation transform against timm's, and a decoder that survives what people upload."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

import taxakey.torchvision_guard  # noqa: F401  before timm

import numpy as np
import pytest
import simplejpeg
import timm
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from safetensors.torch import load_file
from timm.data.transforms_factory import transforms_imagenet_eval

from taxakey.dataset.preprocess import Preprocess, decode
from taxakey.errors import BadImage, BadInput

# A gradient in both directions with another one in each channel: any mirroring or turning shows.
ROWS, COLUMNS = np.mgrid[0:48, 0:64]
PICTURE = np.stack([ROWS * 5, COLUMNS * 4, 255 - ROWS * 2 - COLUMNS * 2], axis=2).astype(np.uint8)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    assert a.shape == b.shape
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


# ---- decoding ----


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "BMP", "GIF", "JPEG"])
def test_formats(kind: str) -> None:
    data = encoded(Image.fromarray(PICTURE), kind, **({"lossless": True} if kind == "WEBP" else {}))
    found = decode(data)
    assert (found.dtype, found.shape) == (np.uint8, (48, 64, 3))
    assert difference(found, PICTURE) <= {"GIF": 12, "JPEG": 3}.get(kind, 0)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_exif_orientation_is_honoured(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(PICTURE), kind, exif=exif, **({"quality": 95} if kind == "JPEG" else {}))
    with Image.open(io.BytesIO(data)) as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    found = decode(data)
    assert found.flags["C_CONTIGUOUS"]
    assert difference(found, expected) <= 1


def test_a_broken_exif_block_is_no_reason_to_lose_the_photograph() -> None:
    data = encoded(Image.fromarray(PICTURE), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert decode(data).shape == (48, 64, 3)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("L", (9, 9), 100), (100, 100, 100)),
        (Image.new("1", (9, 9), 1), (255, 255, 255)),
        (Image.fromarray(np.full((9, 9), 25700, dtype=np.uint16)), (100, 100, 100)),  # 100 · 257: 16 bits scaled, not clipped
        (Image.new("RGBA", (9, 9), (255, 0, 0, 0)), (255, 255, 255)),  # transparent on white paper
        (Image.new("RGBA", (9, 9), (255, 0, 0, 255)), (255, 0, 0)),
        (Image.new("LA", (9, 9), (0, 0)), (255, 255, 255)),
        (Image.new("RGB", (9, 9), (1, 2, 3)).quantize(4), (1, 2, 3)),
    ],
    ids=["grey", "black and white", "16 bits", "transparent", "opaque", "grey and transparent", "palette"],
)
def test_modes_become_rgb(image: Image.Image, expected: tuple[int, int, int]) -> None:
    assert decode(encoded(image, "PNG"))[4, 4].tolist() == list(expected)


def test_a_transparent_colour_of_a_palette_is_white() -> None:
    image = Image.new("P", (9, 9), 0)
    image.putpalette([10, 20, 30, 40, 50, 60])
    assert decode(encoded(image, "GIF", transparency=0))[4, 4].tolist() == [255, 255, 255]


def test_cmyk_and_grey_jpegs() -> None:
    cmyk = decode(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG"))
    assert difference(cmyk, np.full((16, 16, 3), (255, 0, 0), dtype=np.uint8)) < 3
    grey = decode(encoded(Image.new("L", (16, 16), 77), "JPEG"))
    assert grey.shape == (16, 16, 3)
    assert abs(int(grey[3, 3, 1]) - 77) <= 1


def test_the_first_frame_is_taken() -> None:
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "TIFF", "WEBP"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        assert decode(data)[4, 4, 0] > 200


def test_a_jpeg_with_rubbish_before_its_end_is_read_as_pillow_reads_it() -> None:
    data = encoded(Image.fromarray(PICTURE), "JPEG")
    assert decode(data[:-2] + b"\0\0\0" + data[-2:]).shape == (48, 64, 3)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


PNG_BOMB = (
    b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    + chunk(b"IDAT", b"")
    + chunk(b"IEND", b"")
)
JPEG = encoded(Image.fromarray(PICTURE), "JPEG")
SIZE = JPEG.index(b"\xff\xc0") + 5
JPEG_BOMB = JPEG[:SIZE] + struct.pack(">HH", 65_000, 65_000) + JPEG[SIZE + 4 :]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "an empty file"),
        (b"I am a text, not a picture", "not a picture in a known format"),
        (JPEG[: len(JPEG) // 2], "can't be decoded"),
        (JPEG[:30], "not a picture|can't be decoded"),
        (b"\xff\xd8\xff", "not a picture|can't be decoded"),
        (encoded(Image.fromarray(PICTURE), "PNG")[:100], "can't be decoded"),
        (JPEG_BOMB, "65000 × 65000 pixels, over the limit of 175 million"),
        (PNG_BOMB, "over the limit of 175 million"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture in a known format"),
        (encoded(Image.new("F", (9, 9)), "TIFF"), "floating-point"),
    ],
    ids=["empty", "text", "cut jpeg", "cut header", "stub", "cut png", "jpeg bomb", "png bomb", "postscript", "float"],
)
def test_what_is_no_picture_says_so_with_its_name(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(BadImage, match=message) as caught:
        decode(data, name="upload 3")
    assert str(caught.value).startswith("upload 3: ")
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(BadImage, match=message) as caught:
        decode(tmp_path / "a.jpg")
    assert str(caught.value).startswith(str(tmp_path / "a.jpg"))


def test_no_file_a_folder_and_a_null_character(tmp_path: Path) -> None:
    for path, message in (
        (tmp_path / "none.jpg", "no such file"),
        (tmp_path, "can't be read"),
        (tmp_path / "a\0b", "can't be read"),
    ):
        with pytest.raises(BadImage, match=message):
            decode(path)


def test_limits_of_bytes_and_pixels() -> None:
    with pytest.raises(BadImage, match="over the limit"):
        decode(JPEG, max_bytes=len(JPEG) - 1)
    for data in (JPEG, encoded(Image.fromarray(PICTURE), "PNG")):
        assert decode(data, max_pixels=48 * 64).shape == (48, 64, 3)
        with pytest.raises(BadImage, match="64 × 48 pixels"):
            decode(data, max_pixels=48 * 64 - 1)


def test_a_large_jpeg_comes_back_smaller_but_not_too_small() -> None:
    data = simplejpeg.encode_jpeg(np.zeros((1000, 1501, 3), dtype=np.uint8))
    sizes = {edge: decode(data, target_edge=edge).shape[:2] for edge in (90, 100, 200, 400, 401, 1000)}
    # 1000 may be halved while the half is at least 1.25 times the edge
    assert sizes == {90: (125, 188), 100: (125, 188), 200: (250, 376), 400: (500, 751), 401: (1000, 1501), 1000: (1000, 1501)}
    assert decode(data).shape[:2] == (1000, 1501)


# ---- the transform ----


def by_timm(preprocess: Preprocess, picture: Image.Image) -> NDArray[np.float32]:
    transform = transforms_imagenet_eval(
        preprocess.input_size[1:], crop_pct=preprocess.crop_pct, crop_mode=preprocess.crop_mode,
        interpolation=preprocess.interpolation, mean=preprocess.mean, std=preprocess.std,
    )  # fmt: skip
    return transform(picture).numpy()


@pytest.mark.parametrize("size", [(48, 64), (64, 48), (500, 333), (37, 411), (224, 224), (1, 5)])
@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize(("edges", "crop_pct"), [((224, 224), 0.875), ((64, 96), 0.9), ((32, 32), 1.0)])
def test_geometry_is_that_of_timm(size: tuple[int, int], mode: str, edges: tuple[int, int], crop_pct: float) -> None:
    height, width = size
    rows, columns = np.mgrid[0:height, 0:width]
    smooth = np.stack([rows * 255 / height, columns * 255 / width, 128 + 0 * rows], axis=2).astype(np.uint8)
    preprocess = Preprocess((3, *edges), (0.1, 0.5, 0.9), (0.5, 0.25, 1.0), crop_pct=crop_pct, crop_mode=mode)
    found, expected = preprocess(smooth), by_timm(preprocess, Image.fromarray(smooth))
    assert found.dtype == np.float32
    assert found.flags["C_CONTIGUOUS"]
    assert found.shape == expected.shape == (3, *edges)
    # in grey levels; a slope moved by one pixel would cost more than that at all sizes but the smallest
    levels = np.abs(found - expected) * np.array(preprocess.std)[:, None, None] * 255
    assert levels.mean() < 1.0


def test_standardising_is_exact() -> None:
    preprocess = Preprocess((3, 48, 64), crop_pct=1.0, crop_mode="squash")
    expected = (torch.from_numpy(PICTURE).permute(2, 0, 1) / 255 - torch.tensor(preprocess.mean)[:, None, None]) / torch.tensor(
        preprocess.std
    )[:, None, None]
    np.testing.assert_allclose(preprocess(PICTURE), expected.numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("pattern", "every", "limit"),
    [
        ("images/flowers102/*/*.jpg", 200, 1.0),
        ("herbarium/sheets_huh_500x750/*/*.jpg", 20, 1.2),
        ("herbarium/sheets_large/*.jpg", 6, 2.0),
    ],
)
def test_real_photographs_are_near_timm(shared_data: Path, pattern: str, every: int, limit: float) -> None:
    files = sorted(shared_data.glob(pattern))[::every]
    assert len(files) > 5
    preprocess = Preprocess(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    errors = []
    for file in files:
        with Image.open(file) as picture:
            expected = by_timm(preprocess, picture.convert("RGB"))
        errors.append(np.abs(preprocess.load(file) - expected).mean() * 255)
    assert np.mean(errors) < limit  # grey levels of 255


def test_an_extremely_long_picture_does_not_fill_the_memory() -> None:
    long = np.zeros((1, 60_000, 3), dtype=np.uint8)
    long[:, 30_000:] = 255
    found = Preprocess(mean=(0.0,) * 3, std=(1.0,) * 3)(long)
    assert found.shape == (3, 224, 224)
    assert found[:, :, 0].mean() < 0.1  # the middle, where black becomes white
    assert found[:, :, -1].mean() > 0.9


def test_a_model_names_the_photographs_that_it_is_known_to_name(shared_data: Path) -> None:
    weights = shared_data / "weights"
    expected = json.loads((weights / "expected_top5.json").read_text())
    name = next(name for name in expected if name.startswith("mobilenetv2_100.tf2"))
    network = timm.create_model("mobilenetv2_100", num_classes=1000, pad_type="same").eval()
    network.load_state_dict(
        {key: value.float() if value.is_floating_point() else value for key, value in load_file(weights / name).items()}
    )
    preprocess = Preprocess(mean=(0.5,) * 3, std=(0.5,) * 3)
    photographs = sorted(expected[name])
    pixels = np.stack([preprocess.load(weights / "test_images" / photograph) for photograph in photographs])
    with torch.inference_mode():
        probabilities = network(torch.from_numpy(pixels)).softmax(1)
    for row, photograph in zip(probabilities, photographs, strict=True):
        first = expected[name][photograph][0]
        assert row.argmax().item() == first[0], photograph
        assert abs(row.max().item() - first[2]) < 0.15, photograph


# ---- its description ----


def test_config_there_and_back() -> None:
    preprocess = Preprocess((3, 192, 256), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bilinear", 0.95, "squash")
    config = json.loads(json.dumps(preprocess.to_config()))
    assert Preprocess.from_config(config) == preprocess
    assert pickle.loads(pickle.dumps(preprocess)) == preprocess  # noqa: S301 our own


def test_config_of_timm() -> None:
    config = timm.create_model("mobilenetv3_small_050").pretrained_cfg
    preprocess = Preprocess.from_config(config)
    assert (preprocess.input_size, preprocess.interpolation, preprocess.crop_pct) == ((3, 224, 224), "bicubic", 0.875)
    assert Preprocess.from_config({"crop_mode": None, "url": "x"}) == Preprocess()


@pytest.mark.parametrize(
    "wrong",
    [
        {"input_size": (1, 8, 8)},
        {"std": (0, 1, 1)},
        {"crop_pct": 0},
        {"crop_pct": 1.5},
        {"crop_mode": "centre"},
        {"interpolation": "spline"},
    ],
)
def test_a_description_that_means_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        Preprocess(**wrong)
