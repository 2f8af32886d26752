"""Painting a grown plant onto a picture, pressed and dried or fresh."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from taxakey.records.sample.flora import Traits
from taxakey.records.sample.growth import Organs, Plant
from taxakey.records.sample.shapes import Points, bent, fruit, leaf_shape, mix, petals

Image = NDArray[np.uint8]
Rgb = NDArray[np.float64]
Paint = Sequence[float] | NDArray[np.floating]
"""Red, green, blue, 0 to 255."""

_FRACTION_BITS = 4  # OpenCV takes positions in sixteenths of a pixel

_LEAVES = np.array([(138, 112, 62), (126, 120, 62), (104, 114, 58), (82, 102, 56), (72, 92, 58), (92, 108, 88)], dtype=float)
_FLOWERS = np.array(
    [
        (240, 230, 204),
        (232, 194, 72),
        (214, 124, 58),
        (208, 104, 122),
        (152, 54, 110),
        (112, 84, 160),
        (88, 116, 182),
        (206, 212, 178),
    ],
    dtype=float,
)
_FRUITS = np.array(
    [(128, 40, 36), (74, 30, 62), (48, 50, 92), (96, 62, 36), (156, 116, 58), (100, 116, 60), (176, 84, 36)], dtype=float
)
_EYES = np.array([(222, 186, 72), (120, 84, 40), (90, 40, 48), (150, 160, 80)], dtype=float)
_STEMS = np.array([(118, 88, 56), (112, 108, 62), (92, 102, 58), (122, 66, 58)], dtype=float)
_ROOT = np.array([126.0, 98.0, 68.0])


@dataclass
class Canvas:
    """A picture [H, W, 3] RGB, painted in units of its width."""

    image: Image

    @property
    def unit(self) -> int:
        """Pixels a unit."""
        return int(self.image.shape[1])

    def pixels(self, points: Points) -> NDArray[np.int32]:
        """Complex points [..., P] -> [..., P, 2] in OpenCV's fixed point."""
        scaled = points * (self.unit << _FRACTION_BITS)
        return np.stack([scaled.real, scaled.imag], axis=-1).astype(np.int32)

    def polygon(self, corners: NDArray[np.int32], colour: Paint) -> None:
        cv2.fillPoly(self.image, [corners], colour, cv2.LINE_AA, _FRACTION_BITS)

    def lines(self, lines: Sequence[NDArray[np.int32]], colour: Paint, width: float = 0.0, closed: bool = False) -> None:
        """Polylines; a width of 0 is the thinnest that can be seen."""
        cv2.polylines(self.image, lines, closed, colour, max(1, round(width * self.unit)), cv2.LINE_AA, _FRACTION_BITS)

    def disc(self, at: complex, radius: float, colour: Paint) -> None:
        x, y = self.pixels(np.array([at]))[0]
        cv2.circle(
            self.image,
            (int(x), int(y)),
            max(8, int(radius * (self.unit << _FRACTION_BITS))),
            colour,
            -1,
            cv2.LINE_AA,
            _FRACTION_BITS,
        )

    def box(self, left: float, top: float, right: float, bottom: float, colour: Paint) -> None:
        """A filled upright rectangle."""
        start, end = (tuple(round(v * self.unit) for v in corner) for corner in ((left, top), (right, bottom)))
        cv2.rectangle(self.image, start, (end[0] - 1, end[1] - 1), colour, -1)


def palette(colours: Rgb, place: float, *, circular: bool = False) -> Rgb:
    """The colour at a place from 0 to 1 of a row (or ring) of colours."""
    ring = np.vstack([colours, colours[:1]]) if circular else colours
    at = min(max(place, 0.0), 1.0) * (len(ring) - 1)
    low = min(int(at), len(ring) - 2)
    return np.asarray(ring[low] + (at - low) * (ring[low + 1] - ring[low]))


@dataclass(frozen=True)
class Condition:
    """How a plant was kept; both from 0 to 1."""

    browned: float
    """by age, in the press"""
    fresh: float
    """1 for a plant where it grew"""

    def tint(self, colour: Rgb, light: float = 1.0) -> Rgb:
        """The colour as it is in this condition."""
        grey = colour.mean()
        brown = np.array([1.18, 0.96, 0.66]) * grey
        colour = colour + self.browned * (brown - colour) + self.fresh * 0.45 * (colour - grey)
        return np.clip(colour * light * (1 + 0.12 * self.fresh), 0, 255)


def paint_plant(
    canvas: Canvas,
    plant: Plant,
    traits: Traits,
    stage: str,
    condition: Condition,
    rng: np.random.Generator,
    *,
    shift: complex,
    scale: float,
) -> None:
    """Paint roots, stems, leaves and flowers or fruits; a point p of the plant lies at shift + scale * p."""
    stem_colour = condition.tint(palette(_STEMS, traits.stem_hue))
    if not condition.fresh:
        for root in plant.roots:
            canvas.lines([canvas.pixels(shift + scale * root)], condition.tint(_ROOT, rng.uniform(0.8, 1.1)), 0.003 * scale)
    for points, base, tip in plant.stems:
        _paint_stem(canvas, shift + scale * points, base * scale, tip * scale, stem_colour)
    if plant.leaves:
        _paint_leaves(canvas, plant.leaves, traits, condition, rng, shift, scale)
    if plant.stalks:
        canvas.lines(list(canvas.pixels(shift + scale * np.array(plant.stalks))), stem_colour, 0.004 * scale)
    if plant.flowers:
        paint = _paint_fruits if stage == "fruit" else _paint_flowers
        paint(canvas, plant.flowers, traits, condition, rng, shift, scale)


def _paint_stem(canvas: Canvas, points: Points, base: float, tip: float, colour: Rgb) -> None:
    across = 1j * np.gradient(points)
    across *= np.linspace(base, tip, len(points)) / 2 / np.maximum(np.abs(across), 1e-9)
    outline = np.concatenate([points + across, (points - across)[::-1]])
    canvas.polygon(canvas.pixels(outline), colour)
    if base * canvas.unit > 2.5:  # a round stem is darker on one side
        shade = np.concatenate([points - 0.2 * across, (points - across)[::-1]])
        canvas.polygon(canvas.pixels(shade), 0.8 * colour)


def _placed(shapes: Points, organs: Organs, shift: complex, scale: float) -> Points:
    """Shapes [J, ..., P], one for each organ, turned, sized and moved to its place."""
    more = (1,) * (shapes.ndim - 1)
    turn = (np.array(organs.size) * np.exp(1j * np.array(organs.angle)) * scale).reshape(-1, *more)
    return shift + scale * np.array(organs.at).reshape(-1, *more) + turn * shapes


def _paint_leaves(
    canvas: Canvas, leaves: Organs, traits: Traits, condition: Condition, rng: np.random.Generator, shift: complex, scale: float
) -> None:
    shape, curl = leaf_shape(traits), np.array(leaves.curl)
    blades, halves, veins, ribs, stalks = (
        canvas.pixels(_placed(bent(part, curl), leaves, shift, scale))
        for part in (shape.blades, shape.halves, shape.veins, shape.ribs, shape.stalk)
    )
    green = palette(_LEAVES, traits.leaf_hue)
    light = mix(0.78, 1.2, traits.leaf_light)
    stem = condition.tint(palette(_STEMS, traits.stem_hue))
    shades = light * (1 + 0.08 * rng.standard_normal(len(leaves)))
    vein = 0.35 if canvas.unit < 400 else 0.6  # a line is never thinner than a pixel: on small pictures it must be fainter
    for j in rng.permutation(len(leaves)):
        colour = condition.tint(green, shades[j])
        canvas.lines([stalks[j]], stem, 0.004 * scale)
        for k in range(len(shape.blades)):
            canvas.polygon(blades[j, k], colour)
            canvas.polygon(halves[j, k], 0.9 * colour)
        canvas.lines(list(blades[j]), 0.72 * colour, closed=True)
        paler = colour + vein * (1.35 * colour + 12 - colour)
        if len(shape.veins):
            canvas.lines(list(veins[j]), colour + 0.6 * (paler - colour))
        canvas.lines(list(ribs[j]), paler, 0.0025 * scale)


def _paint_flowers(
    canvas: Canvas, flowers: Organs, traits: Traits, condition: Condition, rng: np.random.Generator, shift: complex, scale: float
) -> None:
    shape = petals(traits)
    # Pressed flowers lie on their faces or on their sides.
    squash = rng.choice([0.45, 0.75, 1.0], p=(0.25, 0.35, 0.4), size=len(flowers))[:, None, None]
    flat = shape.real * squash + 1j * shape.imag
    placed = canvas.pixels(_placed(flat, flowers, shift, scale))
    base = palette(_FLOWERS, traits.flower_hue, circular=True)
    eye = condition.tint(palette(_EYES, traits.eye_hue))
    shades = mix(0.8, 1.06, traits.flower_light) * (1 + 0.05 * rng.standard_normal(len(flowers)))
    for j, at in enumerate(flowers.at):
        colour = Condition(0.5 * condition.browned, condition.fresh).tint(base, shades[j])
        for k in range(len(shape)):
            canvas.polygon(placed[j, k], colour * (1.0 if k % 2 else 0.94))
        canvas.lines(list(placed[j]), 0.78 * colour, closed=True)
        canvas.disc(shift + scale * at, 0.2 * flowers.size[j] * scale, eye)


def _paint_fruits(
    canvas: Canvas, fruits: Organs, traits: Traits, condition: Condition, rng: np.random.Generator, shift: complex, scale: float
) -> None:
    placed = canvas.pixels(_placed(np.broadcast_to(fruit(traits), (len(fruits), len(fruit(traits)))), fruits, shift, 0.8 * scale))
    offset = canvas.pixels(0.2 * scale * np.array(fruits.at, dtype=np.complex128))
    base = condition.tint(palette(_FRUITS, traits.fruit_hue, circular=True))
    for outline, moved in zip(placed, offset, strict=True):
        colour = base * rng.uniform(0.88, 1.08)
        canvas.polygon(outline + moved, colour)
        canvas.lines([outline + moved], 0.7 * colour, closed=True)
        highlight = (0.45 * outline + 0.55 * outline.mean(axis=0) + moved - 0.08 * np.ptp(outline, axis=0)).astype(np.int32)
        canvas.polygon(highlight, np.minimum(255, 1.15 * colour + 8))


def cast_shadow(canvas: Canvas, bare: Image) -> None:
    """Darken the paper to the lower right of everything that has been painted since `bare`."""
    mask = 255 - cv2.inRange(cv2.absdiff(canvas.image, bare), (0, 0, 0), (6, 6, 6))
    offset = 0.006 * canvas.unit
    moved = cv2.warpAffine(mask, np.array([[1, 0, 0.7 * offset], [0, 1, offset]]), mask.shape[::-1])
    soft = cv2.GaussianBlur(moved, (0, 0), max(0.6, 0.7 * offset))
    light = cv2.convertScaleAbs(cv2.bitwise_and(soft, cv2.bitwise_not(mask)), alpha=-0.38, beta=255)
    cv2.multiply(canvas.image, cv2.merge([light, light, light]), dst=canvas.image, scale=1 / 255)
