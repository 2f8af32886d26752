"""Mixup and CutMix: two pictures of a batch in one, with both labels. Shapes: B images, D features.

A recipe's `mixing:`. The loss is that of each label, weighted by its share (`TrainingModule.training_step`), so no matrix of
one-hot labels is made, however many classes there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor


class Mixed(NamedTuple):
    """Mixed pictures [B, 3, H, W] or features [B, D]; which one was mixed in [B], and what share the first one kept [B]."""

    inputs: Tensor
    partner: Tensor
    share: Tensor


@dataclass(frozen=True)
class MixingOptions:
    """`mixup` and `cutmix`: α of the Beta(α, α) that shares are drawn from, 0 for never; with both, half of the batches each.

    mixup blends two pictures, or their stored features (Zhang et al., 2018); cutmix puts a rectangle of one into the other (Yun
    et al., 2019). `probability`: share of the batches that are mixed at all.
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    probability: float = 1.0

    def __post_init__(self) -> None:
        if min(self.mixup, self.cutmix) < 0 or not 0 <= self.probability <= 1:
            raise ValueError("mixup and cutmix must be at least 0, probability between 0 and 1")

    def mix(self, inputs: Tensor, seed: int) -> Mixed | None:
        """None where this batch stays as it is. Both partners and shares follow from the seed; uint8 stays uint8."""
        random = np.random.default_rng(seed)
        ways = [(way, alpha) for way, alpha in ((_mixup, self.mixup), (_cutmix, self.cutmix)) if alpha]
        if not ways or random.random() >= self.probability:
            return None
        way, alpha = ways[int(random.integers(len(ways)))]
        partner_B = random.permutation(len(inputs))
        share_B = random.beta(alpha, alpha, len(inputs)).astype(np.float32)
        return way(inputs, torch.from_numpy(partner_B), torch.from_numpy(share_B), random)


def _mixup(inputs: Tensor, partner_B: Tensor, share_B: Tensor, _: Generator) -> Mixed:
    share = share_B.view(-1, *[1] * (inputs.ndim - 1))
    mixed = torch.lerp(inputs[partner_B].float(), inputs.float(), share)
    return Mixed(mixed.round().to(torch.uint8) if inputs.dtype == torch.uint8 else mixed, partner_B, share_B)


def _cutmix(inputs: Tensor, partner_B: Tensor, share_B: Tensor, random: Generator) -> Mixed:
    """A rectangle of the picture's proportions around a random point; what lies beyond the edge is lost, as the share says."""
    mixed, shares = inputs.clone(), []
    height, width = inputs.shape[-2:]
    for image, (partner, share) in enumerate(zip(partner_B.tolist(), share_B.tolist(), strict=True)):
        half_h, half_w = (round(edge * (1 - share) ** 0.5 / 2) for edge in (height, width))
        y, x = int(random.integers(height)), int(random.integers(width))
        top, bottom, left, right = max(y - half_h, 0), min(y + half_h, height), max(x - half_w, 0), min(x + half_w, width)
        mixed[image, :, top:bottom, left:right] = inputs[partner, :, top:bottom, left:right]
        shares.append(1 - (bottom - top) * (right - left) / (height * width))
    return Mixed(mixed, partner_B, torch.tensor(shares))
