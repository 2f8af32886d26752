"""Outlines of leaves, petals and fruits as complex numbers: x to the tip, y across, the blade one unit long.

Shapes: P points of an outline, K blades (leaflets, petals), V veins.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from taxakey.records.sample.flora import Traits

Points = NDArray[np.complex128]


@dataclass(frozen=True)
class Leaf:
    """A leaf laid out from its point of attachment at 0 along the x axis."""

    blades: Points
    """[K, P] closed outlines"""
    halves: Points
    """[K, Q] the half of each blade that lies in shade"""
    veins: Points
    """[V, 4] secondary veins"""
    ribs: Points
    """[K, 4] the middle vein of each blade"""
    stalk: Points
    """[4] from the stem to the last leaflet"""


def mix(low: float, high: float, share: float) -> float:
    """From `low` at 0 to `high` at 1."""
    return low + (high - low) * share


@lru_cache(maxsize=4096)
def leaf_shape(traits: Traits) -> Leaf:
    """The leaf of a species; compound leaves have several blades."""
    upper, ratio = _blade_side(traits)
    petiole = 0.0 if traits.habit == "tuft" else mix(0.02, 0.45, traits.petiole**2)
    blade: Points = np.concatenate([upper, upper[::-1].conj()])
    half: Points = np.concatenate([upper.conj(), np.array([1.0, 0.5, 0.0], dtype=np.complex128)])
    veins, rib = _veins(traits, upper, ratio), np.linspace(0, 1, 4).astype(np.complex128)
    places = _leaflets(traits)
    if places is None:
        stalk = np.linspace(0, petiole, 4).astype(np.complex128)
        return Leaf((blade + petiole)[None], (half + petiole)[None], veins + petiole, (rib + petiole)[None], stalk)
    at, turn, size = places
    at, scale = (at + petiole)[:, None], (size * np.exp(1j * turn))[:, None]
    stalk = np.linspace(0, at.real.max(), 4).astype(np.complex128)
    return Leaf(at + scale * blade, at + scale * half, np.zeros((0, 4), np.complex128), at + scale * rib, stalk)


def _blade_side(traits: Traits) -> tuple[Points, float]:
    """The upper side of one blade from base to tip, and its length divided by its width."""
    if traits.habit == "tuft":
        across = np.linspace(0, 1, 12)
        return across + 1j * mix(0.012, 0.035, 1 - traits.leaf_length) * np.minimum(1, 6 * across + 0.3) * (1 - across**3), 20.0
    if traits.margin == "palmately lobed":
        return _palmate_side(traits), 1.2
    ratio = float(np.exp(mix(np.log(1.05), np.log(8.0), traits.leaf_length)))
    along = _margin_steps(traits)
    tip = mix(0.45, 1.5, traits.leaf_tip)
    widest = mix(0.22, 0.68, traits.leaf_widest)
    base = tip * widest / (1 - widest)
    width = along**base * (1 - along) ** tip / (widest**base * (1 - widest) ** tip)
    width *= _margin(traits, len(along))
    heart = max(0.0, traits.leaf_base - 0.5) * 0.6 / max(1.0, ratio / 1.5)
    return along - heart * np.sin(np.pi * np.minimum(1, 4 * along)) + 0.5j * width / ratio, ratio


def _margin_steps(traits: Traits) -> NDArray[np.float64]:
    """Where the outline has points, denser towards both ends of an entire blade."""
    points = {"entire": 16, "serrate": 2 * _teeth(traits) + 1, "crenate": 4 * _teeth(traits) + 1}
    even = np.linspace(0, 1, points.get(traits.margin, 6 * _lobes(traits) + 1))
    if traits.margin == "serrate":
        even[1:-1:2] += 0.7 * (even[1] - even[0])  # the teeth point to the tip
    return np.asarray(0.5 - 0.5 * np.cos(np.pi * even)) if traits.margin == "entire" else even**0.9


def _teeth(traits: Traits) -> int:
    return round(mix(5, 13, traits.teeth))


def _lobes(traits: Traits) -> int:
    return round(mix(2, 5, traits.teeth))


def _margin(traits: Traits, points: int) -> NDArray[np.float64]:
    """Factor on the width at each point."""
    step = np.arange(points)
    depth = mix(0.12, 0.4, traits.tooth_depth)
    if traits.margin == "serrate":
        return np.where(step % 2 == 1, 1 + depth / 2, 1 - depth / 2)
    if traits.margin == "crenate":
        return 1 - depth * (1 - np.abs(np.sin(np.pi * step / 4)) ** 0.6)
    if traits.margin == "lobed":
        return 1 - mix(0.45, 0.8, traits.tooth_depth) * (1 - np.abs(np.sin(np.pi * step / 6)) ** 0.7)
    return np.ones(points)


def _palmate_side(traits: Traits) -> Points:
    """Half of a leaf like a maple's: three to seven lobes around a point near the base."""
    lobes = 1 + round(mix(1, 3, traits.teeth))
    turn = np.linspace(np.pi * 0.97, 0, 40)
    reach = np.full_like(turn, mix(0.42, 0.2, traits.tooth_depth))
    for lobe in range(lobes):
        at = lobe * mix(1.9, 2.3, traits.leaf_base) / max(1, lobes - 1)
        sharp = mix(0.30, 0.2, traits.leaf_length) * 3 / (lobes + 1)
        reach = np.maximum(
            reach, mix(1.0, 0.55, lobe / lobes) * np.exp(-((np.abs(turn - at) / sharp) ** mix(1.1, 2.0, traits.leaf_tip)))
        )
    centre = 0.22
    side = np.asarray(centre + (1 - centre) * reach * np.exp(1j * turn))
    side[0], side[-1] = 0.1, 1.0
    return side


def _veins(traits: Traits, upper: Points, ratio: float) -> Points:
    """Secondary veins [V, 4] within a blade."""
    parts = np.linspace(0, 1, 4)
    if traits.margin == "palmately lobed" and traits.habit != "tuft":
        tips = [0.75 * np.exp(1j * turn) + 0.22 for turn in (0.9, -0.9, 1.8, -1.8)]
        return np.array([0.22 + parts * (tip - 0.22) for tip in tips])
    if traits.habit == "tuft":
        return np.zeros((0, 4), dtype=np.complex128)
    half = 0.5 / ratio
    if traits.venation == "parallel":
        bow = np.sin(np.pi * np.linspace(0.04, 0.96, 4))
        shares = (0.5, -0.5) if ratio > 3 else (0.35, -0.35, 0.7, -0.7)
        return np.array([np.linspace(0.04, 0.96, 4) + 1j * share * half * bow for share in shares])
    if traits.venation == "palmate":
        ends = [reach + 1j * side * half * 0.75 for reach in (0.72, 0.42) for side in (1, -1)]
        return np.array([parts * end.real + 1j * end.imag * parts**0.7 for end in ends])
    starts = np.linspace(0.12, 0.78, round(mix(3, 7, traits.teeth)))
    width = np.interp(starts + 0.12, upper.real, upper.imag)
    return np.array(
        [at + parts * (0.14 + 1j * side * 0.85 * wide) for at, wide in zip(starts, width, strict=True) for side in (1, -1)]
    )


def _leaflets(traits: Traits) -> tuple[Points, NDArray[np.float64], NDArray[np.float64]] | None:
    """Where the leaflets of a compound leaf sit, how they turn and how long they are; None for a simple leaf."""
    if traits.leaf == "simple" or traits.habit == "tuft":
        return None
    if traits.leaf == "palmate":
        count = (3, 3, 5, 7)[min(3, int(traits.leaflets * 4))]
        turn = np.linspace(-1, 1, count) * mix(0.8, 1.5, traits.leaflets)
        return np.full(count, 0.12 + 0j), turn, 0.85 - 0.25 * np.abs(turn) / 1.5
    pairs = round(mix(2, 6, traits.leaflets))
    along = np.linspace(0.12, 0.72, pairs)
    spread = mix(0.75, 1.25, traits.leaf_angle)
    size = mix(0.5, 0.26, traits.leaflets) * (1 - 0.35 * np.abs(np.linspace(-1, 1, pairs)))
    at = np.concatenate([np.repeat(along, 2), [0.76]]).astype(np.complex128)
    return at, np.append(np.tile([spread, -spread], pairs), 0.0), np.append(np.repeat(size, 2), size.max())


def bent(points: Points, curl: NDArray[np.float64]) -> Points:
    """Bend shapes along their x axis: [..., P] with curl [J] -> [J, ..., P]; a curl of 1 turns the tip by one radian."""
    curl = np.where(np.abs(curl) < 1e-3, 1e-3, curl).reshape(-1, *(1 for _ in points.shape))
    turn = np.exp(1j * curl * points.real)
    return np.asarray((turn - 1) / (1j * curl) + 1j * points.imag * turn)


def petals(traits: Traits) -> Points:
    """The petals [K, P] of a flower around 0, one unit long."""
    count = (3, 4, 5, 5, 6, 8, 13)[min(6, int(traits.petals * 7))]
    along = 0.5 - 0.5 * np.cos(np.pi * np.linspace(0, 1, 7))
    widest = np.pi / count * mix(0.5, 1.25, traits.petal_width)
    width = np.minimum(0.5, widest) * along**0.9 * (1 - along) ** 0.45 * 1.9
    reach = along - mix(0, 0.4, max(0.0, 2 * traits.petal_notch - 1)) * (along > 0.99)
    side = 0.12 + 0.88 * reach + 1j * width
    petal = np.concatenate([side, side[-2::-1].conj()])
    return petal * np.exp(2j * np.pi * np.arange(count) / count)[:, None]


def fruit(traits: Traits) -> Points:
    """The outline [P] of a fruit from its stalk at 0, one unit long."""
    turn = np.linspace(np.pi, -np.pi, 16, endpoint=False)
    if traits.fruit == "pod":
        along = np.linspace(0, 1, 9)
        side = along + 1j * 0.1 * np.sin(np.pi * along) ** 0.6
        return bent(np.concatenate([2 * side, 2 * side[::-1].conj()]), np.array([mix(0.1, 0.7, traits.leaf_curl)]))[0]
    if traits.fruit == "capsule":
        return 0.6 + 0.6 * np.cos(turn) + 0.36j * np.sin(turn) * (1.1 - 0.4 * np.cos(turn))
    size = 0.5 if traits.fruit == "berry" else 0.28
    return np.asarray(size + size * np.exp(1j * turn))
