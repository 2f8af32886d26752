"""What training does to a picture leaves shapes recognisable, also where the network's input is no square."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from taxakey.dataset.augment import AugmentOptions
from taxakey.dataset.preprocess import Preprocess


@pytest.mark.parametrize(("height", "width"), [(48, 48), (32, 64), (80, 40)])
@pytest.mark.parametrize("mode", ["center", "squash"])
def test_a_crop_is_stretched_by_a_third_at_most(height: int, width: int, mode: str) -> None:
    """Red says how far to the right a pixel stood, green how far down: their spans tell what was cut out."""
    edge = 240
    position = np.tile(np.arange(edge, dtype=np.uint8), (edge, 1))
    picture = np.stack([position, position.T, np.zeros_like(position)], axis=2)
    preprocess = Preprocess(input_size=(3, height, width), mean=(0, 0, 0), std=(1 / 255,) * 3, crop_mode=mode)
    augment = AugmentOptions(smallest_part=0.2, flip=False, colour=0).build(preprocess)
    # In "squash" the whole picture has been pressed into the input before, and that is the shape to keep.
    pressed = width / height if mode == "squash" else 1.0
    stretches = []
    for seed in range(40):
        torch.manual_seed(seed)
        pixels = augment(picture)
        assert pixels.shape == (3, height, width)
        across = float(pixels[0, height // 2, -1] - pixels[0, height // 2, 0]) / (width - 1) * pressed
        down = float(pixels[1, -1, width // 2] - pixels[1, 0, width // 2]) / (height - 1)
        stretches.append(across / down)
    low, high = (0.85, 1.18) if mode == "squash" else (3 / 4, 4 / 3)
    assert 0.93 * low < min(stretches) < max(stretches) < 1.07 * high
    assert max(stretches) / min(stretches) > 1.1
