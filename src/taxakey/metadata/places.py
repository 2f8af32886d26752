"""Places on the globe as inputs of a network. Shapes: N pictures, L characters of a geohash."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

PlaceEncoding = Literal["geohash", "geohash_tail", "sphere"]
"""geohash: characters 1 to 3 as one number and characters 1 to 6 each. geohash_tail: one character further on (2 to 7), as
DS@GT did, which makes continents alike. sphere: smooth, with neither the seams between a geohash's cells nor those at the
date line and the poles."""

FREQUENCIES = 6
"""Octaves of waves on the sphere, the longest 12,700 km long, the shortest 400 km."""

_BITS = 5  # of a character: one of 32


def place_width(encoding: PlaceEncoding) -> int:
    """How many inputs a place has."""
    return 3 + 6 * FREQUENCIES if encoding == "sphere" else 7


def encoded_places(
    latitude_N: NDArray[np.float64], longitude_N: NDArray[np.float64], encoding: PlaceEncoding
) -> NDArray[np.float64]:
    """Degrees [N] as inputs [N, `place_width`]; NaN is missing and gives zeros, which only on the sphere are no place."""
    known_N = np.isfinite(latitude_N) & np.isfinite(longitude_N)
    coded = np.zeros((len(latitude_N), place_width(encoding)))
    north, east = latitude_N[known_N], longitude_N[known_N]
    coded[known_N] = _waves(north, east) if encoding == "sphere" else _hashed(north, east, int(encoding == "geohash_tail"))
    return coded


def geohash(latitude_N: NDArray[np.float64], longitude_N: NDArray[np.float64], length: int) -> NDArray[np.int64]:
    """The characters of each place's geohash as numbers 0 to 31, [N, L] (Niemeyer, 2008).

    Halving again and again: bits of the longitude and of the latitude take turns, five of them are a character.
    """
    bits = length * _BITS
    east_N = _cells((longitude_N + 180) / 360, (bits + 1) // 2)
    north_N = _cells((latitude_N + 90) / 180, bits // 2)
    woven_N = np.zeros(len(latitude_N), dtype=np.int64)
    for bit in range(bits):  # from the highest down
        source_N, number = (north_N, bits // 2) if bit % 2 else (east_N, (bits + 1) // 2)
        woven_N = woven_N * 2 + (source_N >> (number - 1 - bit // 2) & 1)
    return woven_N[:, None] >> (_BITS * np.arange(length - 1, -1, -1)) & 31


def _cells(share_N: NDArray[np.float64], bits: int) -> NDArray[np.int64]:
    """Which of 2^bits equal cells a share in [0, 1] lies in; 1 itself, the north pole, in the last."""
    return np.minimum((share_N * 2**bits).astype(np.int64), 2**bits - 1)


def _hashed(north_N: NDArray[np.float64], east_N: NDArray[np.float64], skipped: int) -> NDArray[np.float64]:
    """SPEC, section 4: three characters as one number of base 32, then six characters each, all as shares of 1."""
    characters_NL = geohash(north_N, east_N, 6 + skipped)[:, skipped:]
    # Theirs takes characters 3 to 5 where the six are 2 to 7; ours begins with the first of its six.
    three_N3 = characters_NL[:, skipped : skipped + 3]
    return np.column_stack([three_N3 @ np.array([32**2, 32, 1]) / 32**3, characters_NL / 32])


def _waves(north_N: NDArray[np.float64], east_N: NDArray[np.float64]) -> NDArray[np.float64]:
    """The unit vector of each place, and sines and cosines of its coordinates at `FREQUENCIES` octaves."""
    north_N, east_N = np.radians(north_N), np.radians(east_N)
    unit_N3 = np.stack([np.cos(north_N) * np.cos(east_N), np.cos(north_N) * np.sin(east_N), np.sin(north_N)], axis=1)
    angles = np.repeat(unit_N3, FREQUENCIES, axis=1) * np.tile(np.pi * 2.0 ** np.arange(FREQUENCIES), 3)
    return np.concatenate([unit_N3, np.sin(angles), np.cos(angles)], axis=1)
