"""A herbarium sheet: paper, label, stamp, ruler, chart and barcode around a pressed plant, and the photograph of it."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from taxakey.records.sample.collection import ISLANDS, Specimen
from taxakey.records.sample.flora import Species
from taxakey.records.sample.growth import Plant, along, grow
from taxakey.records.sample.institutions import Box, Institution
from taxakey.records.sample.lettering import barcode, write_lines, write_stamp
from taxakey.records.sample.painting import Canvas, Condition, Image, cast_shadow, paint_plant

HEIGHT = 1.5
"""of a sheet that is 1 wide"""
_CHART = (
    (40, 40, 40),
    (96, 96, 96),
    (160, 160, 160),
    (238, 238, 238),
    (188, 44, 44),
    (214, 180, 40),
    (60, 130, 66),
    (52, 84, 160),
)


def sheet_shape(size: int) -> tuple[int, int]:
    """Height and width in pixels of a sheet with that longest edge."""
    return size, round(size / HEIGHT)


def draw_sheet(species: Species, specimen: Specimen, institution: Institution, size: int, rng: np.random.Generator) -> Image:
    """One photograph of one specimen's sheet, uint8 [size, size / 1.5, 3] RGB."""
    return photograph(mount(species, specimen, institution, size, rng), institution, size, rng)


def mount(species: Species, specimen: Specimen, institution: Institution, size: int, rng: np.random.Generator) -> Image:
    """The sheet as it lies in the scanner, at a resolution above `size`, for `photograph` to take pictures of."""
    canvas = Canvas(_blank_sheet(institution, _mount_width(size)).copy())
    _add_label(canvas, specimen, institution)
    bare = canvas.image.copy()
    plant = grow(species.traits, specimen.stage, rng)
    shift, scale = plant.fitted(*_plant_box(institution, rng))
    age = (2023 - specimen.collected.year) / 140
    condition = Condition(browned=float(np.clip(0.08 + 0.35 * age + 0.10 * rng.standard_normal(), 0, 0.55)), fresh=0.0)
    paint_plant(canvas, plant, species.traits, specimen.stage, condition, rng, shift=shift, scale=scale)
    cast_shadow(canvas, bare)
    _tape(canvas, plant, rng, shift, scale)
    return canvas.image


def _mount_width(size: int) -> int:
    """Small pictures are drawn larger and then reduced, which shows thin lines as thin as they are."""
    return round((1.5 if size < 400 else 1.1) * size / HEIGHT)


# ---- what is the same on every sheet of an institution ----


@lru_cache(maxsize=32)
def _blank_sheet(institution: Institution, width: int) -> Image:
    canvas = Canvas(np.empty((round(width * HEIGHT), width, 3), dtype=np.uint8))
    canvas.image[:] = institution.board
    _lay_paper(canvas, institution)
    _lay_ruler(canvas, institution.ruler, institution.dark_ruler)
    _lay_chart(canvas, institution.chart)
    canvas.box(*institution.label, institution.label_paper)
    if institution.framed:
        left, top, right, bottom = institution.label
        pad = 0.008
        corners = [(left + pad, top + pad), (right - pad, top + pad), (right - pad, bottom - pad), (left + pad, bottom - pad)]
        inner = np.array([complex(*corner) for corner in corners])
        canvas.lines([canvas.pixels(inner)], institution.ink, 0.002, closed=True)
    write_stamp(canvas, institution)
    return canvas.image


def _lay_paper(canvas: Canvas, institution: Institution) -> None:
    rng = np.random.default_rng(int.from_bytes(institution.code.encode(), "big"))
    left, top, right, bottom = (round(edge * canvas.unit) for edge in institution.sheet)
    region = canvas.image[top:bottom, left:right]
    if (left, top) != (0, 0):  # the sheet's own shadow on the board
        shadow = np.zeros(canvas.image.shape[:2], dtype=np.float32)
        offset = max(1, canvas.unit // 120)
        shadow[top + offset : bottom + offset, left + offset : right + offset] = 0.45
        shadow = cv2.GaussianBlur(shadow, (0, 0), offset)
        canvas.image[:] = (canvas.image * (1 - shadow[..., None])).astype(np.uint8)
    clouds = cv2.resize(rng.standard_normal((9, 6)).astype(np.float32), region.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    grain = rng.standard_normal(region.shape[:2]).astype(np.float32)
    shade = 1 + 0.010 * clouds + 0.008 * grain
    region[:] = np.clip(np.array(institution.paper) * shade[..., None], 0, 255).astype(np.uint8)


def _lay_ruler(canvas: Canvas, box: Box, dark: bool) -> None:
    left, top, right, bottom = box
    paper, ink = ((30, 30, 30), (236, 236, 236)) if dark else ((246, 246, 246), (30, 30, 30))
    canvas.box(*box, paper)
    upright = bottom - top > right - left
    length, breadth = (bottom - top, right - left) if upright else (right - left, bottom - top)
    for tick in range(1, round(length / 0.012)):
        depth = breadth * (0.55 if tick % 10 == 0 else 0.4 if tick % 5 == 0 else 0.22)
        at = tick * 0.012
        line = np.array(
            [left + 1j * (top + at), left + depth + 1j * (top + at)]
            if upright
            else [left + at + 1j * top, left + at + 1j * (top + depth)]
        )
        canvas.lines([canvas.pixels(line)], ink)
    for block in range(0, round(length / 0.12), 2):
        start, end = block * 0.12, min(length, block * 0.12 + 0.12)
        far = 0.72 * breadth
        canvas.box(
            *((left + far, top + start, right, top + end) if upright else (left + start, top + far, left + end, bottom)), ink
        )


def _lay_chart(canvas: Canvas, box: Box) -> None:
    left, top, right, bottom = box
    steps = np.linspace(0, 1, len(_CHART) + 1)
    for colour, start, end in zip(_CHART, steps, steps[1:], strict=False):
        if bottom - top > right - left:
            canvas.box(left, top + start * (bottom - top), right, top + end * (bottom - top), colour)
        else:
            canvas.box(left + start * (right - left), top, left + end * (right - left), bottom, colour)


# ---- what is the specimen's own ----


def label_lines(specimen: Specimen, institution: Institution) -> tuple[str, ...]:
    """The text of the label; its second line is the name."""
    island = ISLANDS[specimen.island][0]
    return (
        institution.name.upper(),
        specimen.verbatim,
        f"{specimen.name.author}   {specimen.family}",
        f"{specimen.locality}, {island}",
        f"{specimen.habitat}, on {specimen.substrate}",
        f"{specimen.latitude:.3f}, {specimen.longitude:.3f}   {specimen.collected.isoformat()}",
        f"leg. {specimen.collector}  no. {specimen.record_number}",
    )


def _add_label(canvas: Canvas, specimen: Specimen, institution: Institution) -> None:
    write_lines(canvas, institution.label, label_lines(specimen, institution))
    left, top, right, bottom = institution.barcode
    canvas.box(left, top, right, bottom, (250, 250, 250))
    bars = barcode(specimen.catalog_number[4:])
    pad = 0.012
    x0, x1, y0, y1 = (round(edge * canvas.unit) for edge in (left + pad, right - pad, top + pad, bottom - 0.022))
    canvas.image[y0:y1, x0:x1] = cv2.resize(bars[None], (x1 - x0, 1), interpolation=cv2.INTER_AREA)[0, :, None]
    write_lines(canvas, (left, bottom - 0.024, right, bottom), (specimen.catalog_number,))


def _plant_box(institution: Institution, rng: np.random.Generator) -> Box:
    """Where the plant goes: most of the paper, mainly above the label."""
    left, top, right, bottom = institution.sheet
    lowest = min(bottom - 0.06, institution.label[1] + 0.03)
    width, height = (right - left) * rng.uniform(0.78, 0.9), (lowest - top - 0.08) * rng.uniform(0.86, 0.98)
    x = left + 0.04 + rng.random() * max(0.0, right - left - 0.08 - width)
    return x, lowest - height, x + width, lowest


def _tape(canvas: Canvas, plant: Plant, rng: np.random.Generator, shift: complex, scale: float) -> None:
    """Strips of linen tape that hold the stems."""
    for points, base, _ in plant.stems:
        if len(points) < 14 or base < 0.004:
            continue
        for share in rng.uniform(0.1, 0.65, size=2 if base > 0.009 else 1):
            at, angle = along(shift + scale * points, float(share))
            across, forward = 0.028 * np.exp(1j * (angle + np.pi / 2 + 0.1 * rng.standard_normal())), 0.006 * np.exp(1j * angle)
            corners = np.array([at + across + forward, at - across + forward, at - across - forward, at + across - forward])
            canvas.polygon(canvas.pixels(corners), (240, 236, 222))
            canvas.lines([canvas.pixels(corners)], (206, 200, 184), closed=True)


# ---- the photograph ----


def photograph(sheet: Image, institution: Institution, size: int, rng: np.random.Generator) -> Image:
    """A picture of the sheet: laid a little askew, sometimes closer or with the label covered, under its own light."""
    height, width = sheet_shape(size)
    if rng.random() < 0.12:
        sheet = sheet.copy()
        Canvas(sheet).box(*institution.label, tuple(0.97 * channel for channel in institution.paper))
    zoom = rng.uniform(1.1, 1.35) if rng.random() < 0.15 else rng.uniform(0.985, 1.03)
    placed = _placed(sheet, rng, zoom, float(np.clip(0.7 * rng.standard_normal(), -2, 2)), (height, width))
    return developed(placed, rng, gain=0.035, slope=0.05, noise=1.6)


def _placed(sheet: Image, rng: np.random.Generator, zoom: float, degrees: float, shape: tuple[int, int]) -> Image:
    height, width = shape
    turn = cv2.getRotationMatrix2D((sheet.shape[1] / 2, sheet.shape[0] / 2), degrees, zoom * height / sheet.shape[0])
    slack = max(0.0, zoom - 1) / 2
    turn[:, 2] += np.array([width, height]) * (0.5 + rng.uniform(-slack, slack, 2)) - np.array(sheet.shape[1::-1]) / 2
    return np.asarray(cv2.warpAffine(sheet, turn, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def developed(picture: Image, rng: np.random.Generator, *, gain: float, slope: float, noise: float) -> Image:
    """Exposure, tint, uneven light and noise of a camera, each of the given strength."""
    height, width = picture.shape[:2]
    tint = 1 + gain * rng.standard_normal() + 0.25 * gain * rng.standard_normal(3)
    down = np.linspace(-1, 1, height, dtype=np.float32)[:, None] * slope * rng.uniform(-1, 1)
    across = np.linspace(-1, 1, width, dtype=np.float32)[None] * slope * rng.uniform(-1, 1)
    light = (1 + down + across).astype(np.float32)[..., None] * tint.astype(np.float32)
    grain = _grain(height, width)[int(rng.integers(64)) :][:height, int(rng.integers(64)) :][:, :width, None]
    return np.clip(picture * light + noise * grain, 0, 255).astype(np.uint8)


@lru_cache(maxsize=8)
def _grain(height: int, width: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((height + 64, width + 64), dtype=np.float32)
