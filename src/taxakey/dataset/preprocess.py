"""The ONE evaluation transform, without torch: embedding, evaluation during training and the server all use it.

Shapes: H, W of the picture in hand; h, w of the network's input; pictures are uint8 [H, W, 3] RGB.

A JPEG is decoded at 1/2, 1/4 or 1/8 of its size where the rest still has a quarter more pixels along each edge than wanted,
then shrunk by averaging areas. Against timm's own transform (Pillow, bicubic) that costs 1.3 grey levels of 255 on average on
herbarium scans of 1,600 px, 0.6 on photographs that must be enlarged, and runs three times as fast; eighths between the powers
of two are slower and half a pixel off (2.2 levels).
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from taxakey.errors import BadImage, BadInput

# Callers work on many pictures at once (threads, DataLoader workers): OpenCV's own threads would fight them and survive no fork.
cv2.setNumThreads(1)

MAX_BYTES = 256 * 2**20
MAX_PIXELS = 175_000_000
"""Just below the size that Pillow refuses by itself; a herbarium sheet at 600 dpi has 70 million."""

_MARGIN = 1.25
_LONGEST_RATIO = 16
_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "JPEG2000", "AVIF")
"""What Pillow may open: others (EPS, PDF) start programs or say nothing of a photograph."""

_INTERPOLATIONS = {
    "bicubic": cv2.INTER_CUBIC,
    "bilinear": cv2.INTER_LINEAR,
    "nearest": cv2.INTER_NEAREST,
    "lanczos": cv2.INTER_LANCZOS4,
}
_CROP_MODES = ("center", "squash", "border")
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


# ---- decoding ----


def decode(
    source: bytes | Path | str,
    *,
    name: str | None = None,
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
    target_edge: int | None = None,
) -> NDArray[np.uint8]:
    """Decode a picture to uint8 [H, W, 3] RGB, upright (EXIF), its first frame, transparency laid on white.

    `name` stands for the bytes in messages. With `target_edge` a JPEG may come back smaller than it is, by 1/2, 1/4 or 1/8, with
    a shorter edge still above `target_edge`; that is several times faster. Raises BadImage, which names the source, when there is
    no such file, it isn't a picture, it is cut off, or it is over a limit; the pixel limit is checked before anything is decoded.
    """
    data, name = read_picture(source, name=name, max_bytes=max_bytes)
    if data[:2] == b"\xff\xd8":
        image = _decode_jpeg(data, name, max_pixels, target_edge)
        if image is not None:
            return image
    return _decode_by_pillow(data, name, max_pixels)


def read_picture(source: bytes | Path | str, *, name: str | None = None, max_bytes: int = MAX_BYTES) -> tuple[bytes, str]:
    """The encoded bytes and a name for messages; raises BadImage when the file can't be read, is empty or over the limit."""
    if isinstance(source, bytes):
        data, name = source, name or f"a picture of {len(source):,} bytes"
        _check_bytes(len(data), name, max_bytes)
    else:
        path, name = Path(source), name or str(source)
        try:
            _check_bytes(path.stat().st_size, name, max_bytes)
            data = path.read_bytes()
        except FileNotFoundError:
            raise BadImage(f"{name}: no such file") from None
        except (OSError, ValueError) as error:  # ValueError: a null character in the path
            raise BadImage(f"{name}: can't be read ({getattr(error, 'strerror', None) or error})") from None
    if not data:
        raise BadImage(f"{name}: an empty file (0 bytes)")
    return data, name


def _check_bytes(size: int, name: str, max_bytes: int) -> None:
    if size > max_bytes:
        raise BadImage(f"{name}: {size / 2**20:,.1f} MiB, over the limit of {max_bytes / 2**20:,.1f} MiB; make it smaller first")


def _check_pixels(width: int, height: int, name: str, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise BadImage(
            f"{name}: {width} × {height} pixels, over the limit of {max_pixels / 1e6:,.0f} million; make it smaller first"
        )


def _decode_jpeg(data: bytes, name: str, max_pixels: int, target_edge: int | None) -> NDArray[np.uint8] | None:
    """The fast way, or None where Pillow must judge: CMYK, and the many small faults that it reads over."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    _check_pixels(width, height, name, max_pixels)
    if colours not in ("YCbCr", "RGB", "Gray"):
        return None
    factor = 1
    while target_edge and factor < 8 and min(height, width) >= 2 * factor * _MARGIN * target_edge:
        factor *= 2
    try:
        image = simplejpeg.decode_jpeg(data, "RGB", min_height=-(-height // factor), min_width=-(-width // factor))
    except ValueError:
        return None
    return _turn_upright(image, jpeg_orientation(data))


def jpeg_orientation(data: bytes) -> int:
    """EXIF orientation of a JPEG, 1 (upright) to 8; 1 where there is none or it is broken."""
    start = data.find(b"Exif\0\0", 0, 2**17)
    if start < 0:
        return 1
    from PIL import Image

    exif = Image.Exif()
    try:
        exif.load(data[start : start + 2**16])
        orientation = exif.get(0x0112, 1)
    except (SyntaxError, ValueError, KeyError, TypeError, OSError, struct.error):
        return 1  # a camera's broken EXIF block is no reason to lose the photograph
    return orientation if orientation in range(1, 9) else 1


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Height and width of an upright JPEG before it is decoded, and so before it comes back smaller; None for anything else."""
    try:
        height, width = simplejpeg.decode_jpeg_header(data)[:2]
    except ValueError:
        return None
    return (width, height) if jpeg_orientation(data) >= 5 else (height, width)


def _turn_upright(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    if orientation in (5, 6, 7, 8):
        image = image.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


@cache
def _openable_formats() -> tuple[str, ...]:
    """Those formats that this build of Pillow has; asking for another one is an error."""
    from PIL import Image

    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _decode_by_pillow(data: bytes, name: str, max_pixels: int) -> NDArray[np.uint8]:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data), formats=_openable_formats()) as picture:
            _check_pixels(*picture.size, name, max_pixels)
            picture.load()
            return _to_rgb(ImageOps.exif_transpose(picture), name)
    except BadImage:
        raise
    except UnidentifiedImageError:
        raise BadImage(f"{name}: not a picture in a known format (JPEG, PNG, WebP, TIFF, GIF, BMP, JPEG 2000, AVIF)") from None
    except Image.DecompressionBombError:
        raise BadImage(f"{name}: over the limit of {max_pixels / 1e6:,.0f} million pixels; make it smaller first") from None
    except MemoryError:
        raise BadImage(f"{name}: doesn't fit into memory; make it smaller first") from None
    except Exception as error:  # hostile bytes make decoders raise anything; one bad picture must never end a run
        raise BadImage(f"{name}: can't be decoded ({error}); get the file again") from None


def _to_rgb(picture: Any, name: str) -> NDArray[np.uint8]:
    """A loaded PIL image to uint8 [H, W, 3]."""
    from PIL import Image

    if picture.mode == "F":
        raise BadImage(f"{name}: its pixels are floating-point numbers of unknown range; save it with 8 or 16 bits")
    if picture.mode.startswith("I"):  # 16 bits of grey: Pillow's convert would clip them instead of scaling
        grey = np.asarray(picture).astype(np.int64).clip(0, 65535)
        return np.repeat((grey // 257).astype(np.uint8)[:, :, None], 3, axis=2)
    if "A" in picture.getbands() or "transparency" in picture.info:
        paper = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(paper, picture.convert("RGBA"))
    return np.array(picture.convert("RGB"))


# ---- the transform ----


@dataclass(frozen=True)
class Preprocess:
    """How a picture becomes the network's input; the fields and their meaning are timm's (`pretrained_cfg`).

    The picture is resized so that the input is `crop_pct` of it, then its centre is cut out, divided by 255 and standardised.
    `crop_mode`: "center" fits the shorter edge and loses the margins, "squash" fits both edges and the proportions are lost,
    "border" fits the longer edge and fills up with the mean colour. `interpolation` serves enlarging; shrinking averages areas.

    >>> Preprocess()(np.zeros((300, 400, 3), dtype=np.uint8)).shape
    (3, 224, 224)
    """

    input_size: tuple[int, int, int] = (3, 224, 224)
    mean: tuple[float, float, float] = _IMAGENET_MEAN
    std: tuple[float, float, float] = _IMAGENET_STD
    interpolation: str = "bicubic"
    crop_pct: float = 0.875
    crop_mode: str = "center"

    def __post_init__(self) -> None:
        if len(self.input_size) != 3 or self.input_size[0] != 3 or min(self.input_size) < 1:
            raise BadInput(f"input_size is {self.input_size}; it must be (3, height, width)")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise BadInput(f"mean {self.mean} and std {self.std} must hold three numbers each, std above 0")
        if not 0 < self.crop_pct <= 1:
            raise BadInput(f"crop_pct is {self.crop_pct}; it must lie above 0 and not above 1")
        if self.crop_mode not in _CROP_MODES:
            raise BadInput(f"crop_mode is {self.crop_mode!r}; one of {', '.join(_CROP_MODES)}")
        if self.interpolation not in _INTERPOLATIONS:
            raise BadInput(f"interpolation is {self.interpolation!r}; one of {', '.join(_INTERPOLATIONS)}")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Preprocess:
        """From timm's `pretrained_cfg`; keys that are missing or None take timm's defaults, others are ignored."""
        given = {key: config[key] for key in cls.__dataclass_fields__ if config.get(key) is not None}
        given |= {key: tuple(given[key]) for key in ("input_size", "mean", "std") if key in given}
        return cls(**given)

    def to_config(self) -> dict[str, Any]:
        """The same as a part of timm's `pretrained_cfg`, in plain JSON values."""
        config = {key: getattr(self, key) for key in self.__dataclass_fields__}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in config.items()}

    def __call__(self, image_HW3: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 [H, W, 3] RGB -> float32 [3, h, w]."""
        return self.standardise(self.centre(self.fitted(image_HW3)))

    def load(self, source: bytes | Path | str, **limits: Any) -> NDArray[np.float32]:
        """Decode no larger than needed and transform -> float32 [3, h, w]; raises BadImage. `limits`: see `decode`."""
        return self(decode(source, target_edge=self.decoded_edge, **limits))

    @property
    def decoded_edge(self) -> int:
        """`target_edge` of `decode`: what a picture that is going to be fitted must not come back below."""
        return max(self._scale_size)

    def fitted(self, image_HW3: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The picture at the size that crops are cut from: uint8 [H', W', 3], H' ≥ h and W' ≥ w."""
        return self._fill_up(self._resize(self._trim(image_HW3)))

    def centre(self, fitted_HW3: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The middle of a fitted picture, uint8 [h, w, 3]: what evaluation looks at."""
        _, height, width = self.input_size
        return self.cut(fitted_HW3, round((fitted_HW3.shape[0] - height) / 2), round((fitted_HW3.shape[1] - width) / 2))

    def cut(self, fitted_HW3: NDArray[np.uint8], top: int, left: int) -> NDArray[np.uint8]:
        """A piece of a fitted picture, uint8 [h, w, 3]; a view of it."""
        _, height, width = self.input_size
        return fitted_HW3[top : top + height, left : left + width]

    @cached_property
    def _scale_size(self) -> tuple[int, int]:
        """Height and width that the picture is fitted to before the crop."""
        _, height, width = self.input_size
        return math.floor(height / self.crop_pct), math.floor(width / self.crop_pct)

    def _trim(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The middle of a very long picture: the crop needs no more, and 1 × 60,000 pixels would be enlarged to gigabytes."""
        if self.crop_mode != "center":
            return image
        longest = _LONGEST_RATIO * min(image.shape[:2])
        top, left = (max(0, (edge - longest) // 2) for edge in image.shape[:2])
        return image[top : image.shape[0] - top, left : image.shape[1] - left]

    def _resize(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        height, width = self._resized_size(*image.shape[:2])
        if (height, width) == image.shape[:2]:
            return image
        shrinks = height < image.shape[0] and width < image.shape[1] and self.interpolation != "nearest"
        flag = cv2.INTER_AREA if shrinks else _INTERPOLATIONS[self.interpolation]
        return np.asarray(cv2.resize(image, (width, height), interpolation=flag), dtype=np.uint8)

    def _resized_size(self, height: int, width: int) -> tuple[int, int]:
        """As timm does it, with the two ways of rounding that torchvision and timm have."""
        target_h, target_w = self._scale_size
        if self.crop_mode == "squash":
            return target_h, target_w
        if self.crop_mode == "center" and target_h == target_w:
            if height <= width:
                return target_h, int(target_h * width / height)
            return int(target_h * height / width), target_h
        choose = max if self.crop_mode == "border" else min
        ratio = choose(height / target_h, width / target_w)
        return max(1, round(height / ratio)), max(1, round(width / ratio))

    def _fill_up(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        _, height, width = self.input_size
        missing_h, missing_w = max(0, height - image.shape[0]), max(0, width - image.shape[1])
        if not (missing_h or missing_w):  # only "border" leaves less than the input
            return image
        edges = (missing_h // 2, -(-missing_h // 2), missing_w // 2, -(-missing_w // 2))
        fill = [round(255 * value) for value in self.mean]
        return np.asarray(cv2.copyMakeBorder(image, *edges, cv2.BORDER_CONSTANT, value=fill), dtype=np.uint8)

    @cached_property
    def _levels(self) -> NDArray[np.float32]:
        """Standardised value [3, 256] of each grey level of each channel: looking up is faster than arithmetic."""
        levels = np.arange(256, dtype=np.float32)[None] / np.float32(255)
        mean, std = (np.array(values, dtype=np.float32)[:, None] for values in (self.mean, self.std))
        return (levels - mean) / std

    def standardise(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 [h, w, 3] -> float32 [3, h, w], as the network was taught to see grey levels."""
        return np.stack([np.take(self._levels[channel], image[:, :, channel]) for channel in range(3)])
