"""The scale of a picture from the scale bar that lies in it: blocks of one centimetre, light and dark in turn.

That is the bar in most pictures of herbarium sheets (0 to 10 cm). A row or column of pixels across its blocks is a sequence of
equally long runs, flat and of high contrast, which hardly anything else on a sheet is; barcodes, print and leaves aren't. Rulers
with millimetre ticks only are not read: at the size of pictures for learning, their ticks are one or two pixels apart.

Shapes: H, W of the picture; L pixels of a line; R runs. Positions are pixels from the left, or from the top of an upright bar.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

_LEVELS = (70, 100, 130, 160)
"""Grey levels that are tried as the border between light and dark."""
_FEWEST_BLOCKS = 8
_SHORTEST_BLOCK = 5
_UNEVEN = 0.15
"""Greatest difference of a block from the median, as a share of it."""
_LEAST_CONTRAST = 60.0
_FEWEST_LINES = 3
_PICTURE_MM = (120.0, 900.0)
"""Longest edge of what a picture shows; a herbarium sheet is 420 mm high."""


@dataclass(frozen=True)
class Ruler:
    """A scale bar: `pixels_per_mm`, and the rectangle around its blocks (left, top, right, bottom) in pixels."""

    pixels_per_mm: float
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class _Blocks:
    """Equal runs found on one line: number of the line, first and last edge, mean length of a run in pixels."""

    line: int
    start: int
    end: int
    length: float


def find_ruler(image_HW3: NDArray[np.uint8]) -> Ruler | None:
    """The scale bar that most lines of pixels agree on, lying or upright (a degree askew at most); None where there is none.

    A block is taken for a centimetre: a bar with blocks of another length gives a wrong scale, unless the picture then would
    show something smaller than 12 cm or larger than 90 cm.
    """
    grey_HW = cv2.cvtColor(image_HW3, cv2.COLOR_RGB2GRAY)
    found = [(lines, turned) for turned in (False, True) for lines in _bars(grey_HW.T if turned else grey_HW)]
    longest = max(grey_HW.shape)
    plausible = [(lines, turned) for lines, turned in found if _PICTURE_MM[0] <= 10 * longest / _length(lines) <= _PICTURE_MM[1]]
    if not plausible:
        return None
    lines, turned = max(plausible, key=lambda bar: len(bar[0]))
    across = min(line.line for line in lines), max(line.line for line in lines)
    along = min(line.start for line in lines), max(line.end for line in lines)
    (left, right), (top, bottom) = (across, along) if turned else (along, across)
    return Ruler(_length(lines) / 10, (left, top, right, bottom))


def pixels_per_mm(image_HW3: NDArray[np.uint8]) -> float | None:
    """The scale of a picture, or None where no scale bar is found."""
    ruler = find_ruler(image_HW3)
    return None if ruler is None else ruler.pixels_per_mm


def _length(lines: list[_Blocks]) -> float:
    return float(np.median([line.length for line in lines]))


def _bars(grey: NDArray[np.uint8]) -> Iterator[list[_Blocks]]:
    """Groups of neighbouring rows whose runs begin at the same place and are equally long."""
    groups: list[list[_Blocks]] = []
    for level in _LEVELS:
        open_groups: list[list[_Blocks]] = []
        for blocks in _equal_runs(grey, level):
            open_groups = [group for group in open_groups if blocks.line - group[-1].line <= 2]
            for group in open_groups:
                if _agree(group[-1], blocks):
                    group.append(blocks)
                    break
            else:
                open_groups.append([blocks])
                groups.append(open_groups[-1])
    yield from (group for group in groups if len(group) >= _FEWEST_LINES)


def _agree(one: _Blocks, other: _Blocks) -> bool:
    nearby = abs(one.start - other.start) <= 0.25 * one.length
    return nearby and abs(one.length - other.length) <= 0.03 * one.length


def _equal_runs(grey: NDArray[np.uint8], level: int) -> Iterator[_Blocks]:
    """The longest sequence of equal runs on each row that has one, from the top."""
    row_E, column_E = np.nonzero(np.diff(grey > level, axis=1))  # E edges, row by row
    for row in _promising_rows(row_E, column_E):
        first, last = np.searchsorted(row_E, [row, row + 1])
        edges_R = column_E[first:last] + 1
        best = _longest_even(edges_R)
        if best is not None and _flat(grey[row], edges_R[best]):
            edges = edges_R[best]
            slope = np.polyfit(np.arange(len(edges)), edges, 1)[0]
            yield _Blocks(int(row), int(edges[0]), int(edges[-1]), float(slope))


def _promising_rows(row_E: NDArray[np.int64], column_E: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows with enough similar runs in succession, found for all at once: looking at each by itself takes seconds."""
    if len(row_E) <= _FEWEST_BLOCKS:
        return row_E[:0]
    windows = np.lib.stride_tricks.sliding_window_view(np.diff(column_E), _FEWEST_BLOCKS)
    shortest, longest = windows.min(axis=1), windows.max(axis=1)
    one_row = row_E[_FEWEST_BLOCKS:] == row_E[:-_FEWEST_BLOCKS]
    similar = (shortest >= _SHORTEST_BLOCK - 1) & (longest <= (1 + _UNEVEN) / (1 - _UNEVEN) * shortest + 2)
    return np.unique(row_E[:-_FEWEST_BLOCKS][one_row & similar])


def _longest_even(edges_R: NDArray[np.int64]) -> slice | None:
    """Where `_FEWEST_BLOCKS` or more runs in succession are equally long, as a slice of the edges."""
    runs = np.diff(edges_R)
    best = None
    start = 0
    while start + _FEWEST_BLOCKS <= len(runs):
        block = float(np.median(runs[start : start + _FEWEST_BLOCKS]))
        even = (np.abs(runs[start:] - block) <= max(1.0, _UNEVEN * block)) & (block >= _SHORTEST_BLOCK)
        number = len(even) if even.all() else int(np.argmin(even))
        if number >= _FEWEST_BLOCKS and (best is None or number > best.stop - best.start - 1):
            best = slice(start, start + number + 1)
        start += max(1, number)
    return best


def _flat(line_L: NDArray[np.uint8], edges_R: NDArray[np.int64]) -> bool:
    """Whether the middles of the runs have two grey levels in turn, far from each other."""
    middles = [line_L[a + (b - a) // 4 : b - (b - a) // 4].astype(float) for a, b in pairwise(edges_R)]
    levels = np.array([middle.mean() for middle in middles])
    contrast = abs(levels[::2].mean() - levels[1::2].mean())
    spread = max(levels[::2].std(), levels[1::2].std(), max(middle.std() for middle in middles))
    return bool(contrast >= _LEAST_CONTRAST and spread <= 0.25 * contrast)
