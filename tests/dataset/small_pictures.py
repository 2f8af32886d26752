"""Small pictures for the tests of this folder; a module of its own, because every folder's conftest has the same name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

MakeRecords = Callable[..., Path]


def noise(seed: int, height: int, width: int) -> Image.Image:
    """A picture unlike any other, smooth enough for JPEG."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
