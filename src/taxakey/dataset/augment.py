"""What only training does to a picture. Shapes: pixels [3, H, W]."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import taxakey.torchvision_guard  # noqa: F401  before torchvision

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import v2

from taxakey.dataset.preprocess import Preprocess


@dataclass(frozen=True)
class AugmentOptions:
    """A random part of the picture, mirrored half the time, turned a little, its colours shifted a little.

    `smallest_part`: least share of the area that a random crop keeps; `rotation` in degrees; `colour`: strength of changes of
    brightness, contrast and saturation.
    """

    smallest_part: float = 0.4
    flip: bool = True
    rotation: float = 0.0
    colour: float = 0.2

    def build(self, preprocess: Preprocess) -> Callable[[NDArray[np.uint8]], Tensor]:
        """A function from a decoded picture [H, W, 3] to pixels [3, H, W] as the network expects them."""
        size = preprocess.input_size[1:]
        squash = preprocess.crop_mode == "squash"
        aspect = size[1] / size[0]  # shapes in the picture keep theirs, up to the ratio, also where the input is no square
        ratio = (0.85 * aspect, 1.18 * aspect) if squash else (3 / 4 * aspect, 4 / 3 * aspect)
        steps: list[Callable[[Tensor], Tensor]] = []
        if squash:  # the network sees whole pictures pressed into its input, so that is what the crop must be cut from
            steps.append(v2.Resize(size, antialias=True))
        if self.rotation:
            steps.append(v2.RandomRotation(self.rotation, interpolation=v2.InterpolationMode.BILINEAR))
        steps.append(v2.RandomResizedCrop(size, scale=(self.smallest_part, 1.0), ratio=ratio, antialias=True))
        if self.flip:
            steps.append(v2.RandomHorizontalFlip())
        if self.colour:
            steps.append(v2.ColorJitter(self.colour, self.colour, self.colour))
        steps += [v2.ToDtype(torch.float32, scale=True), v2.Normalize(preprocess.mean, preprocess.std)]
        chain = v2.Compose(steps)
        return lambda image_HW3: chain(torch.from_numpy(np.ascontiguousarray(image_HW3.transpose(2, 0, 1))))
