"""How a plant grows: stems, the places of its leaves, flowers and fruits; pure geometry, in units of the sheet's width.

Points are complex numbers, x to the right and y DOWN as in a picture; an angle of -pi/2 points up.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from taxakey.records.sample.flora import Traits
from taxakey.records.sample.shapes import Points, leaf_shape, mix

UP = -np.pi / 2


@dataclass
class Organs:
    """Leaves, or flowers: one entry each in the four lists."""

    at: list[complex] = field(default_factory=list)
    angle: list[float] = field(default_factory=list)
    size: list[float] = field(default_factory=list)
    curl: list[float] = field(default_factory=list)

    def add(self, at: complex, angle: float, size: float, curl: float = 0.0) -> None:
        self.at.append(complex(at))
        self.angle.append(float(angle))
        self.size.append(float(size))
        self.curl.append(float(curl))

    def __len__(self) -> int:
        return len(self.at)


@dataclass
class Plant:
    """One pressed plant. Its parts are placed freely; `fitted` moves it into a box."""

    stems: list[tuple[Points, float, float]] = field(default_factory=list)
    """points from the base to the tip, width at the base, width at the tip"""
    roots: list[Points] = field(default_factory=list)
    leaves: Organs = field(default_factory=Organs)
    flowers: Organs = field(default_factory=Organs)
    stalks: list[Points] = field(default_factory=list)
    """of flowers and fruits"""

    def turn(self, angle: float) -> None:
        """Turn the whole plant around its base."""
        turned = np.exp(1j * angle)
        self.stems = [(turned * points, base, tip) for points, base, tip in self.stems]
        self.roots = [turned * root for root in self.roots]
        self.stalks = [turned * stalk for stalk in self.stalks]
        for organs in (self.leaves, self.flowers):
            organs.at = [complex(turned * at) for at in organs.at]
            organs.angle = [before + angle for before in organs.angle]

    def fitted(self, left: float, top: float, right: float, bottom: float) -> tuple[complex, float]:
        """Shift and scale (never up by more than 1.5) that bring the plant into the box: new = shift + scale * old."""
        leaves, flowers = self.leaves, self.flowers
        tips = np.array(leaves.at) + np.array(leaves.size) * np.exp(1j * (np.array(leaves.angle) + 0.5 * np.array(leaves.curl)))
        around = np.array(flowers.size) * np.array([[1], [-1], [1j], [-1j]])
        points = np.concatenate(
            [*(stem for stem, _, _ in self.stems), *self.roots, tips, (np.array(flowers.at) + around).ravel()]
        )
        low, high = points.real.min() + 1j * points.imag.min(), points.real.max() + 1j * points.imag.max()
        span = high - low
        scale = min((right - left) / max(span.real, 1e-3), (bottom - top) / max(span.imag, 1e-3), 1.5)
        middle = (left + right) / 2 + 1j * (top + bottom) / 2
        return complex(middle - scale * (low + high) / 2), float(scale)


def grow(traits: Traits, stage: str, rng: np.random.Generator) -> Plant:
    """A plant of that kind; `stage` is flower, fruit or sterile."""
    plant = Plant()
    {"erect": _erect, "branched": _branched, "rosette": _rosette, "tuft": _tuft, "vine": _vine}[traits.habit](
        plant, traits, stage, rng
    )
    return plant


def axis(rng: np.random.Generator, start: complex, angle: float, length: float, curve: float, points: int = 14) -> Points:
    """A stem: a curve that starts with that angle, turns by `curve` in all and wavers a little."""
    share = np.linspace(0, 1, points)
    waver = 0.12 * np.sin(2 * np.pi * (share * rng.uniform(0.6, 1.6) + rng.random()))
    heading = angle + curve * share + waver
    return np.concatenate([[start], start + np.cumsum(np.exp(1j * heading[:-1])) * length / (points - 1)])


def along(stem: Points, share: float) -> tuple[complex, float]:
    """Point and direction at a share of a stem's length."""
    place = share * (len(stem) - 1)
    before = min(int(place), len(stem) - 2)
    step = stem[before + 1] - stem[before]
    return complex(stem[before] + (place - before) * step), float(np.angle(step))


# ---- habits ----


def _erect(plant: Plant, traits: Traits, stage: str, rng: np.random.Generator) -> None:
    shoots = 1 + int(rng.random() < 0.35) + int(rng.random() < traits.branching * 0.4)
    for shoot in range(shoots):
        start = complex(0.2 * shoot + 0.02 * rng.standard_normal(), 0.04 * rng.standard_normal())
        stem = axis(rng, start, UP + 0.12 * rng.standard_normal(), rng.uniform(0.85, 1.05), _curve(traits, rng))
        _add_stem(plant, traits, stem, 1.0)
        _roots(plant, rng, start)
        _leaves_along(plant, traits, rng, stem, 0.12, 0.9 if stage == "sterile" else 0.76, 1.0)
        _inflorescence(plant, traits, stage, rng, stem, 1.0)


def _branched(plant: Plant, traits: Traits, stage: str, rng: np.random.Generator) -> None:
    stem = axis(rng, 0j, UP + 0.25 * rng.standard_normal(), rng.uniform(0.8, 1.0), _curve(traits, rng))
    _add_stem(plant, traits, stem, 1.7)
    twigs = round(mix(3, 6, traits.branching)) + int(rng.integers(-1, 2))
    side = 1 if rng.random() < 0.5 else -1
    for place in np.linspace(0.25, 0.85, twigs):
        at, angle = along(stem, place + 0.03 * rng.standard_normal())
        side = -side
        turn = side * mix(0.45, 1.0, traits.branching)
        twig = axis(rng, at, angle + turn, mix(0.5, 0.22, place) * rng.uniform(0.8, 1.1), -0.5 * turn)
        _add_stem(plant, traits, twig, 0.8)
        _leaves_along(plant, traits, rng, twig, 0.15, 0.95, 0.8, density=0.6)
        _inflorescence(plant, traits, stage, rng, twig, 0.75)
    _leaves_along(plant, traits, rng, stem, 0.7, 0.95, 0.8, density=0.4)
    _inflorescence(plant, traits, stage, rng, stem, 0.85)


def _rosette(plant: Plant, traits: Traits, stage: str, rng: np.random.Generator) -> None:
    count = round(mix(5, 14, traits.leaf_number))
    for turn in np.linspace(-1, 1, count) * mix(1.1, 1.75, traits.leaf_angle):
        size = _leaf_size(traits) * 1.5 * rng.uniform(0.75, 1.1)
        plant.leaves.add(
            0.01 * rng.standard_normal(), UP + turn + 0.08 * rng.standard_normal(), size, turn * 0.25 + _curl(traits, rng)
        )
    _roots(plant, rng, 0j)
    scapes = 0 if stage == "sterile" else 1 + int(rng.random() < 0.5) + int(rng.random() < traits.branching)
    for scape in range(scapes):
        lean = 0.35 * (scape - (scapes - 1) / 2) + 0.1 * rng.standard_normal()
        stem = axis(rng, 0j, UP + lean, rng.uniform(0.7, 0.95), _curve(traits, rng))
        _add_stem(plant, traits, stem, 0.7)
        _inflorescence(plant, traits, stage, rng, stem, 0.95)


def _tuft(plant: Plant, traits: Traits, stage: str, rng: np.random.Generator) -> None:
    for _ in range(round(mix(8, 18, traits.leaf_number))):
        lean = 0.28 * rng.standard_normal()
        plant.leaves.add(0.03 * rng.standard_normal(), UP + lean, rng.uniform(0.45, 0.8), 1.2 * lean + _curl(traits, rng))
    _roots(plant, rng, 0j)
    for _ in range(0 if stage == "sterile" else int(rng.integers(2, 5))):
        stem = axis(
            rng, 0.02 * rng.standard_normal(), UP + 0.15 * rng.standard_normal(), rng.uniform(0.8, 1.05), _curve(traits, rng)
        )
        _add_stem(plant, traits, stem, 0.5)
        _inflorescence(plant, traits, stage, rng, stem, 0.8)


def _vine(plant: Plant, traits: Traits, stage: str, rng: np.random.Generator) -> None:
    share = np.linspace(0, 1, 30)
    swing = mix(0.08, 0.22, traits.stem_curve) * (1 if rng.random() < 0.5 else -1) * rng.uniform(0.7, 1.2)
    stem = (
        swing * (1 - 0.5 * share) * np.sin(2 * np.pi * (share * rng.uniform(0.9, 1.5) + 0.2 * rng.random())) - 1j * share * 1.05
    )
    _add_stem(plant, traits, stem, 0.6)
    _leaves_along(plant, traits, rng, stem, 0.06, 0.97, 0.9, density=1.2)
    for place in np.linspace(0.3, 0.9, 3):
        at, angle = along(stem, place)
        twig = axis(rng, at, angle + rng.choice([-1.0, 1.0]), rng.uniform(0.1, 0.2), 0.6)
        _add_stem(plant, traits, twig, 0.4)
        _inflorescence(plant, traits, stage, rng, twig, 0.8)


# ---- parts ----


def _curve(traits: Traits, rng: np.random.Generator) -> float:
    return float(mix(0.1, 0.9, traits.stem_curve) * rng.uniform(-1, 1))


def _curl(traits: Traits, rng: np.random.Generator) -> float:
    return float(mix(0.1, 0.7, traits.leaf_curl) * rng.uniform(-1, 1))


def _leaf_size(traits: Traits) -> float:
    """Length of a blade; narrow leaves are longer, so that areas of species differ less than lengths."""
    compound = 1.0 if traits.leaf == "simple" else 1.35
    return mix(0.10, 0.24, traits.leaf_size) * mix(0.8, 1.5, traits.leaf_length) * compound


def _add_stem(plant: Plant, traits: Traits, stem: Points, strength: float) -> None:
    width = mix(0.007, 0.017, traits.stem_width) * strength
    plant.stems.append((stem, width, max(0.004, 0.45 * width)))


def _roots(plant: Plant, rng: np.random.Generator, start: complex) -> None:
    for _ in range(int(rng.integers(4, 8))):
        plant.roots.append(
            axis(rng, start, -UP + 0.5 * rng.standard_normal(), rng.uniform(0.05, 0.13), rng.uniform(-1, 1), points=7)
        )


def _leaves_along(
    plant: Plant,
    traits: Traits,
    rng: np.random.Generator,
    stem: Points,
    first: float,
    last: float,
    scale: float,
    density: float = 1.0,
) -> None:
    nodes = max(2, round(mix(5, 12, traits.leaf_number) * density * (1.0 if traits.arrangement == "alternate" else 0.65)))
    spread = mix(0.5, 1.25, traits.leaf_angle)
    # Leaves of one side overlap by half at most: a species with broad leaves has fewer of them.
    breadth = float(np.ptp(leaf_shape(traits).blades.imag)) * _leaf_size(traits) * scale
    room = (last - first) * float(np.abs(np.diff(stem)).sum())
    nodes = min(nodes, max(3, round(room / (breadth * (0.4 if traits.arrangement == "alternate" else 0.65)))))
    side = 1.0 if rng.random() < 0.5 else -1.0
    for share in np.linspace(first, last, nodes):
        at, direction = along(stem, float(share))
        side = -side
        sides = {"alternate": (side,), "opposite": (1.0, -1.0), "whorled": (1.0, -1.0, 0.4 * side, -0.45 * side)}[
            traits.arrangement
        ]
        size = _leaf_size(traits) * scale * mix(1.1, 0.6, float(share))
        for turn in sides:
            angle = direction + turn * spread + 0.12 * rng.standard_normal()
            plant.leaves.add(at, angle, size * rng.uniform(0.8, 1.1), 0.2 * turn + _curl(traits, rng))


def _inflorescence(plant: Plant, traits: Traits, stage: str, rng: np.random.Generator, stem: Points, scale: float) -> None:
    """Flowers, or the fruits that have come of them, at the end of a stem."""
    if stage == "sterile":
        return
    tip, direction = along(stem, 1.0)
    size = mix(0.028, 0.075, traits.flower_size) * scale
    number = mix(4, 11, traits.flower_number) * mix(0.6, 1.0, scale)
    kind = traits.inflorescence
    if kind == "solitary":
        plant.flowers.add(tip, direction, 1.6 * size)
    elif kind in ("raceme", "spike"):
        _raceme(
            plant,
            rng,
            stem,
            round(number * 1.4),
            size * (0.7 if kind == "spike" else 0.8),
            0.0 if kind == "spike" else 1.2 * size,
        )
    elif kind == "umbel":
        _umbel(plant, rng, tip, direction, round(number), 0.75 * size, mix(0.05, 0.12, traits.flower_number) * scale)
    elif kind == "panicle":
        for share in np.linspace(0.72, 1.0, 4):
            at, angle = along(stem, float(share))
            _umbel(plant, rng, at, angle + 0.7 * rng.uniform(-1, 1), max(2, round(number / 3)), 0.6 * size, 0.07 * scale)
    elif kind == "head":
        for _ in range(round(number)):
            plant.flowers.add(
                tip + 0.5 * size * complex(rng.standard_normal(), rng.standard_normal()), rng.uniform(-np.pi, np.pi), 0.7 * size
            )
    else:
        for share in np.linspace(0.35, 0.95, max(2, round(number * 0.7))):
            at, angle = along(stem, float(share))
            _flower_on_stalk(plant, rng, at, angle + rng.choice([-0.9, 0.9]), 0.6 * size, 0.85 * size)


def _raceme(plant: Plant, rng: np.random.Generator, stem: Points, number: int, size: float, stalk: float) -> None:
    side = 1.0
    for share in np.linspace(0.78 if number < 9 else 0.7, 1.0, number):
        at, angle = along(stem, float(share))
        side = -side
        _flower_on_stalk(plant, rng, at, angle + side * mix(1.2, 0.3, float(share)), stalk, size * mix(1.5, 0.8, float(share)))


def _umbel(plant: Plant, rng: np.random.Generator, at: complex, direction: float, number: int, size: float, reach: float) -> None:
    for turn in np.linspace(-1.1, 1.1, max(number, 2)):
        _flower_on_stalk(plant, rng, at, direction + float(turn), reach, size)


def _flower_on_stalk(plant: Plant, rng: np.random.Generator, at: complex, angle: float, stalk: float, size: float) -> None:
    angle += 0.12 * rng.standard_normal()
    end = at + stalk * rng.uniform(0.85, 1.15) * np.exp(1j * angle)
    if stalk:
        plant.stalks.append(np.array([at, end]))
    plant.flowers.add(end, angle, size * rng.uniform(0.85, 1.1))
