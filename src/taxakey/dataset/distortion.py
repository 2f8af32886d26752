"""Random cuts, turns and colours of a picture by OpenCV. Shapes: H, W of the picture in hand; pictures are uint8 [H, W, 3] RGB.

torchvision can do all of this; a picture of 224 pixels then takes longer to distort than to decode (docs/LOG.md). Everything
random comes from the generator that is handed in: Python's own, because numpy's takes as long to seed as all the rest of a cut.
"""

from __future__ import annotations

import math
from random import Random

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]

_TRIES = 10
_GREY = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, what Pillow and torchvision take for grey


def random_part(image: Picture, size: tuple[int, int], smallest: float, ratio: tuple[float, float], random: Random) -> Picture:
    """A part of the picture with at least `smallest` of its area, resized to `size`, its proportions changed within `ratio`.

    As torchvision's RandomResizedCrop draws it: where ten tries don't fit, the largest central part of an allowed shape.
    """
    height, width = image.shape[:2]
    for _ in range(_TRIES):
        area, shape = height * width * random.uniform(smallest, 1.0), math.exp(random.uniform(*map(math.log, ratio)))
        h, w = round(math.sqrt(area / shape)), round(math.sqrt(area * shape))
        if 0 < h <= height and 0 < w <= width:
            top, left = random.randrange(height - h + 1), random.randrange(width - w + 1)
            break
    else:
        h, w = min(height, round(width / ratio[0])), min(width, round(height * ratio[1]))
        top, left = (height - h) // 2, (width - w) // 2
    part = image[top : top + h, left : left + w]
    shrinks = h > size[0] and w > size[1]
    return _picture(cv2.resize(part, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR))


def random_window(image: Picture, size: tuple[int, int], random: Random) -> Picture:
    """A window of `size` at a random place of a picture that is at least as large."""
    top, left = (random.randrange(edge - wanted + 1) for edge, wanted in zip(image.shape[:2], size, strict=True))
    return image[top : top + size[0], left : left + size[1]]


def mirrored(image: Picture) -> Picture:
    """Left and right exchanged; numpy's reversed view would be copied number by number, ten times as slowly."""
    return _picture(cv2.flip(image, 1))


def random_turn(image: Picture, degrees: float, perspective: float, random: Random) -> Picture:
    """Rotated by up to `degrees` either way and seen aslant: each corner moves inwards by up to `perspective` of half an edge.

    What comes in from beyond the edge is the picture's mirror image, since black corners would tell that it was turned.
    """
    height, width = image.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float32)
    inwards = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]], dtype=np.float32)
    steps = [(random.uniform(0, perspective) * width / 2, random.uniform(0, perspective) * height / 2) for _ in range(4)]
    moved = corners + inwards * np.array(steps, dtype=np.float32)
    turn = np.vstack([cv2.getRotationMatrix2D((width / 2, height / 2), random.uniform(-degrees, degrees), 1.0), [0, 0, 1]])
    matrix = turn @ cv2.getPerspectiveTransform(moved, corners)
    return _picture(cv2.warpPerspective(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101))


def random_blur(image: Picture, most: float, random: Random) -> Picture:
    """Blurred by a Gaussian whose width lies between 0 and `most` pixels."""
    sigma = random.uniform(0.0, most)
    return _picture(cv2.GaussianBlur(image, (0, 0), sigma)) if sigma > 0.05 else image


def random_colours(image: Picture, strength: float, random: Random) -> Picture:
    """Brightness, contrast and saturation, each times a factor within 1 ± `strength`: together one affine map of the colours."""
    brightness, contrast, saturation = (random.uniform(1 - strength, 1 + strength) for _ in range(3))
    mean = brightness * float(_GREY @ cv2.mean(image)[:3])
    colours = contrast * brightness * (saturation * np.eye(3) + (1 - saturation) * np.tile(_GREY, (3, 1)))
    return _picture(cv2.transform(image, np.column_stack([colours, np.full(3, (1 - contrast) * mean)])))


def _picture(image: NDArray) -> Picture:
    return np.asarray(image, dtype=np.uint8)
