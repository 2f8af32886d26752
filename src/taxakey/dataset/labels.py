"""Whole labels, stamps and scale bars around the text that was found on a sheet.

Lines of text that stand close together are one block, and its rectangle is the written part of a label; an outline that closes
around a text (a stamp, a framed label) is taken with all that is in it. The empty margin of a label's slip stays, for its edge on
paper of nearly the same colour isn't to be had; so do colour charts, and barcodes without a number that is found as text.

Shapes: H, W of the picture; N boxes of text, M regions. Boxes as in `masking`.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from taxakey.dataset.ruler import find_ruler

Boxes = NDArray[np.float32]

_LINES_OF_A_BLOCK = 3
_GAP = 1.5
"""Greatest distance between lines of one block, in heights of a line."""
_LARGEST_REGION = 0.1
_LEAST_SOLID = 0.9
"""Least share of its convex hull that an outline's inside has: a stem that makes a loop has less."""
_LEAST_INSIDE = 0.9


def find_regions(image_HW3: NDArray[np.uint8], text_N42: Boxes) -> Boxes:
    """Regions [M, 4, 2] besides the text: blocks of lines, outlines around text, the blocks of a scale bar."""
    if not len(text_N42):
        return text_N42
    largest = _LARGEST_REGION * image_HW3.shape[0] * image_HW3.shape[1]
    found = [*_blocks(text_N42), *_outlines(image_HW3, text_N42)]
    kept = [box for box in found if cv2.contourArea(box) <= largest]
    ruler = find_ruler(image_HW3)
    if ruler is not None:
        kept.append(_rectangle(*ruler.box))
    return np.reshape(np.array(kept, np.float32), (-1, 4, 2))


def _rectangle(left: float, top: float, right: float, bottom: float) -> Boxes:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)


def _frames(text_N42: Boxes) -> NDArray[np.float32]:
    """Left, top, right, bottom [N, 4] of the upright rectangles around boxes."""
    return np.concatenate([text_N42.min(axis=1), text_N42.max(axis=1)], axis=1)


def _blocks(text_N42: Boxes) -> list[Boxes]:
    """The rectangles around lines that stand close together."""
    frames_N4 = _frames(text_N42)
    height = float(np.median(frames_N4[:, 3] - frames_N4[:, 1]))
    reach = np.array([-0.5, -0.5, 0.5, 0.5], np.float32) * _GAP * height
    near_NN = _overlap(frames_N4 + reach)
    blocks = []
    for members in _connected(near_NN):
        if len(members) >= _LINES_OF_A_BLOCK:
            blocks.append(_rectangle(*frames_N4[members, :2].min(axis=0), *frames_N4[members, 2:].max(axis=0)))
    return blocks


def _overlap(frames_N4: NDArray[np.float32]) -> NDArray[np.bool_]:
    low, high = frames_N4[:, None, :2], frames_N4[None, :, 2:]
    meets_NN = np.all(low < high, axis=-1)
    return np.logical_and(meets_NN, meets_NN.T)


def _connected(near_NN: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    from scipy.sparse.csgraph import connected_components

    number, label_N = connected_components(near_NN, directed=False)
    return [np.flatnonzero(label_N == label) for label in range(number)]


def _outlines(image_HW3: NDArray[np.uint8], text_N42: Boxes) -> list[Boxes]:
    """The rectangles around closed outlines of ink that have a text within them."""
    grey_HW = cv2.cvtColor(image_HW3, cv2.COLOR_RGB2GRAY)
    window = 2 * (max(grey_HW.shape) // 60) + 1
    ink_HW = cv2.adaptiveThreshold(grey_HW, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY_INV, window, 10)
    closed_HW = cv2.morphologyEx(ink_HW, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    contours, _ = cv2.findContours(closed_HW, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    found = []
    for contour in contours:
        left, top, width, height = cv2.boundingRect(contour)
        frame = np.array([left, top, left + width, top + height], np.float32)
        solid = cv2.contourArea(contour) >= _LEAST_SOLID * cv2.contourArea(cv2.convexHull(contour)) > 0
        if solid and _holds_text(frame, _frames(text_N42)):
            found.append(_rectangle(*frame))
    return found


def _holds_text(frame: NDArray[np.float32], frames_N4: NDArray[np.float32]) -> bool:
    """Whether at least nine tenths of one box of text lie in the frame, and the frame is clearly larger."""
    low, high = np.maximum(frame[:2], frames_N4[:, :2]), np.minimum(frame[2:], frames_N4[:, 2:])
    common_N = np.clip(high - low, 0, None).prod(axis=1)
    areas_N = (frames_N4[:, 2:] - frames_N4[:, :2]).prod(axis=1)
    larger = (frame[2:] - frame[:2]).prod() >= 1.3 * areas_N
    return bool((larger & (common_N >= _LEAST_INSIDE * areas_N)).any())
