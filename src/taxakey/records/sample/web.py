"""Pictures as people put them on the web: the plant where it grew, askew, close, in any light; no sheet."""

from __future__ import annotations

import cv2
import numpy as np

from taxakey.records.sample.collection import Specimen
from taxakey.records.sample.flora import Species
from taxakey.records.sample.growth import grow
from taxakey.records.sample.painting import Canvas, Condition, Image, cast_shadow, paint_plant
from taxakey.records.sample.sheet import developed
from taxakey.records.sample.words import pick

_GROUNDS = (
    # two or three colours that run into each other behind the plant
    ((74, 104, 52), (118, 140, 74), (44, 66, 38)),
    ((122, 100, 72), (92, 74, 54), (140, 126, 96)),
    ((138, 172, 206), (186, 204, 214), (96, 128, 76)),
    ((104, 104, 100), (146, 142, 134), (74, 78, 72)),
    ((52, 62, 40), (30, 38, 28), (84, 92, 50)),
)
_SHAPES = ((0.75, 1.0), (1.0, 0.75), (1.0, 1.0))


def draw_web_picture(species: Species, specimen: Specimen, size: int, rng: np.random.Generator) -> Image:
    """One picture of a living plant, uint8 RGB, its longest edge `size`, upright, broad or square."""
    width, height = (round(size * share) for share in pick(rng, _SHAPES))
    canvas = Canvas(_ground(rng, width, height))
    bare = canvas.image.copy()
    plant = grow(species.traits, specimen.stage, rng)
    plant.turn(0.35 * rng.standard_normal())
    # The frame holds the whole plant or only a part of it.
    reach, tall = rng.uniform(0.9, 1.7) / 2, height / width
    x, y = 0.5 + 0.08 * rng.standard_normal(), tall * (0.5 + 0.08 * rng.standard_normal())
    shift, scale = plant.fitted(x - reach, y - reach * tall, x + reach, y + reach * tall)
    condition = Condition(browned=0.0, fresh=float(rng.uniform(0.5, 1.0)))
    paint_plant(canvas, plant, species.traits, specimen.stage, condition, rng, shift=shift, scale=scale)
    cast_shadow(canvas, bare)
    picture = canvas.image
    if rng.random() < 0.3:
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), size / 256 * rng.uniform(0.6, 1.4)))
    return developed(picture, rng, gain=0.10, slope=0.25, noise=4.0)


def _ground(rng: np.random.Generator, width: int, height: int) -> Image:
    """Soil, grass, rock or sky, out of focus."""
    colours = np.array(pick(rng, _GROUNDS), dtype=np.float32)
    patches = colours[rng.integers(len(colours), size=(5, 5))] * rng.uniform(0.8, 1.2, size=(5, 5, 1))
    ground = np.clip(cv2.resize(patches.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC), 0, 255)
    canvas = Canvas(ground.astype(np.uint8))
    for _ in range(int(rng.integers(6, 24))):  # blades and twigs of the neighbours
        start = complex(rng.uniform(-0.1, 1.1), rng.uniform(0, 1.1 * height / width))
        near = colours[int(rng.integers(len(colours)))].astype(np.float64)
        end = start + rng.uniform(0.2, 0.7) * np.exp(1j * (-np.pi / 2 + 0.6 * rng.standard_normal()))
        canvas.lines([canvas.pixels(np.array([start, end]))], near * rng.uniform(0.7, 1.25), rng.uniform(0.01, 0.05))
    return np.asarray(cv2.GaussianBlur(canvas.image, (0, 0), width * rng.uniform(0.012, 0.03)))
