"""Coast lines for maps, from the package itself: no tile server, no download.

`coastlines.json`: Natural Earth's land at 1:50 million (public domain), as the npm package world-atlas 2.0.2 holds it, without
islands smaller than half a degree, simplified to a tenth of a degree; lists of [longitude, latitude].
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray


def coastlines(west: float, east: float, south: float, north: float) -> list[NDArray[np.float64]]:
    """The pieces [points, 2] of coast lines that pass through a window in degrees, one point beyond its edge on each side."""
    pieces: list[NDArray[np.float64]] = []
    for line in _world():
        inside = (line[:, 0] >= west) & (line[:, 0] <= east) & (line[:, 1] >= south) & (line[:, 1] <= north)
        kept = np.flatnonzero(inside | np.append(inside[1:], False) | np.insert(inside[:-1], 0, False))
        pieces += [line[run] for run in np.split(kept, np.flatnonzero(np.diff(kept) > 1) + 1) if len(run) > 1]
    return pieces


@cache
def _world() -> list[NDArray[np.float64]]:
    text = (resources.files("taxakey.report") / "coastlines.json").read_text(encoding="utf-8")
    return [np.array(line) for line in json.loads(text)]
