"""Text, stamps and barcodes on a sheet."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from taxakey.records.sample.institutions import Box, Institution
from taxakey.records.sample.painting import Canvas

_INK = (34, 32, 30)
# Interleaved 2 of 5: a digit is five bars or five gaps, two of them wide.
_DIGITS = ("nnwwn", "wnnnw", "nwnnw", "wwnnn", "nnwnw", "wnwnn", "nwwnn", "nnnww", "wnnwn", "nwnwn")


@lru_cache(maxsize=64)
def _font(pixels: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(pixels)


def write_lines(canvas: Canvas, box: Box, lines: tuple[str, ...], colour: tuple[int, int, int] = _INK) -> None:
    """Lines of text in a box, the second one (a label's name) larger; too long ones are set smaller."""
    left, top, right, bottom = (edge * canvas.unit for edge in box)
    pad = 0.06 * (bottom - top)
    step = (bottom - top - 2 * pad) / (len(lines) + (0.5 if len(lines) > 1 else 0))
    mask = PillowImage.new("L", (max(1, round(right - left)), max(1, round(bottom - top))))
    pen = ImageDraw.Draw(mask)
    y = pad
    for number, line in enumerate(lines):
        high = step * (1.4 if number == 1 else 1.0)
        pixels = max(2, int(min(0.8 * high, (right - left - 4 * pad) / (0.52 * len(line) + 1e-9))))
        pen.text((2 * pad if len(lines) > 1 else pad, y), line, fill=255, font=_font(pixels))
        y += high
    _stain(canvas, np.asarray(mask), round(left), round(top), colour)


def _stain(
    canvas: Canvas, mask: NDArray[np.uint8], left: int, top: int, colour: tuple[int, int, int], strength: float = 1.0
) -> None:
    """Colour the picture where the mask is white."""
    top, left = max(0, top), max(0, left)
    region = canvas.image[top : top + mask.shape[0], left : left + mask.shape[1]]
    share = (strength / 255) * mask[: region.shape[0], : region.shape[1], None].astype(np.float32)
    region[:] = (region + share * (np.array(colour, dtype=np.float32) - region)).astype(np.uint8)


def write_stamp(canvas: Canvas, institution: Institution) -> None:
    """The owner's stamp, a little askew and faint."""
    width, height = {"round": (0.16, 0.16), "oval": (0.19, 0.12), "box": (0.19, 0.09)}[institution.stamp]
    w, h = round(width * canvas.unit), round(height * canvas.unit)
    mask = np.zeros((2 * h, 2 * w), dtype=np.uint8)
    thick = max(1, round(0.005 * canvas.unit))
    for share in (0.90, 0.80):  # two frames
        x, y = round(share * w), round(share * h)
        if institution.stamp == "box":
            x, y = round(0.92 * x), round(0.72 * y)
            cv2.rectangle(mask, (w - x, h - y), (w + x, h + y), 255, thick, cv2.LINE_AA)
        else:
            cv2.ellipse(mask, (w, h), (x, y), 0, 0, 360, 255, thick, cv2.LINE_AA)
    picture = PillowImage.fromarray(mask)
    pen = ImageDraw.Draw(picture)
    for line, down in ((institution.code, 0.72), (institution.name, 1.05), ("HERBARIUM", 1.32)):
        pixels = max(3, int(min(0.4 * h if down < 1 else 0.22 * h, 1.5 * w / (0.55 * len(line)))))
        pen.text((w, down * h), line, fill=255, font=_font(pixels), anchor="mm")
    turn = cv2.getRotationMatrix2D((float(w), float(h)), 6.0, 1.0)
    turned = cv2.warpAffine(np.asarray(picture), turn, (2 * w, 2 * h))
    small = cv2.resize(turned, (w, h), interpolation=cv2.INTER_AREA)
    x, y = (round(at * canvas.unit) for at in institution.stamp_at)
    _stain(canvas, small, x - w // 2, y - h // 2, institution.ink, 0.75)


def barcode(digits: str) -> NDArray[np.uint8]:
    """The bars of Interleaved 2 of 5 for an even or odd number of digits, one pixel a module: 0 ink, 255 paper."""
    digits = digits.zfill(len(digits) + len(digits) % 2)
    widths = [1, 1, 1, 1]
    for bars, gaps in zip(digits[::2], digits[1::2], strict=True):
        for bar, gap in zip(_DIGITS[int(bars)], _DIGITS[int(gaps)], strict=True):
            widths += [3 if bar == "w" else 1, 3 if gap == "w" else 1]
    widths += [3, 1, 1]
    ink = np.arange(len(widths)) % 2 == 0
    return np.where(np.repeat(ink, widths), 0, 255).astype(np.uint8)
