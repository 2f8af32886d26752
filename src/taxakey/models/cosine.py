"""Heads whose scores are angles: cosine softmax and sub-centre ArcFace. Shapes: B images, D features, C classes, K centres.

A class has K vectors, its centres, of which only the direction counts, as of the features: its cosine is that of the nearest one.
Sub-centre ArcFace (Deng et al., 2020, "Sub-center ArcFace") trains with the angle to the true class made larger by a margin, so
that classes end up apart by more than is needed; an answer has no margin, since the true class isn't known then.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor, nn

from taxakey.losses.decision import Decision
from taxakey.models.heads import Head


@dataclass(frozen=True)
class CosineOptions:
    """`scale`: what cosines are multiplied by to be logits; the most sure answer among C classes is a softmax of ±scale."""

    kind: Literal["cosine"] = "cosine"
    scale: float = 30.0

    def __post_init__(self) -> None:
        _check(self.scale, 0.0, 1)


@dataclass(frozen=True)
class ArcFaceOptions:
    """`margin` in radians, `centres` to a class; `scale` is 30 to 64 in the literature. Any loss of decisions goes with it."""

    kind: Literal["arcface"] = "arcface"
    scale: float = 30.0
    margin: float = 0.5
    centres: int = 3

    def __post_init__(self) -> None:
        _check(self.scale, self.margin, self.centres)


def _check(scale: float, margin: float, centres: int) -> None:
    if not scale > 0 or centres < 1:
        raise ValueError(f"scale is {scale} and centres {centres}; they must be above 0 and at least 1")
    if not 0 <= margin < math.pi / 2:
        raise ValueError(f"margin is {margin}; it is an angle and must be at least 0 and below π/2")


class CosineHead(Head):
    """logits_c = scale · max over k of cos(x, w_ck): C·K·D parameters, no biases. In float32 also where the rest is halved.

    In training the true class's cosine cos θ becomes cos(θ + margin), or cos θ - margin · sin(margin) where θ + margin > π, so
    that it goes on falling.
    """

    class_rows = MappingProxyType({"centres": "centres_CKD"})

    def __init__(self, in_features: int, classes: int, *, scale: float = 30.0, margin: float = 0.0, centres: int = 1) -> None:
        super().__init__()
        _check(scale, margin, centres)
        self.in_features, self.classes, self.scale, self.margin = in_features, classes, scale, margin
        self.centres_CKD = nn.Parameter(torch.empty(classes, centres, in_features).normal_(std=0.01))

    def cosines(self, features_BD: Tensor) -> Tensor:
        """Of the nearest centre of each class [B, C]."""
        with torch.autocast(features_BD.device.type, enabled=False):  # bfloat16 has three digits, and scale eats one of them
            x_BD = nn.functional.normalize(_wide(features_BD), dim=1)
            centres_CKD = nn.functional.normalize(self.centres_CKD.to(x_BD.dtype), dim=2)
            cos_BX = nn.functional.linear(x_BD, centres_CKD.flatten(0, 1))
            return cos_BX.unflatten(1, (self.classes, -1)).amax(2)

    def forward(self, features_BD: Tensor) -> Tensor:
        return self.scale * self.cosines(features_BD)

    def decisions(self, features_BD: Tensor, labels_B: Tensor) -> list[Decision]:
        """One choice among all classes, the true one's angle widened by the margin."""
        cos_BC = self.cosines(features_BD)
        own_B1 = cos_BC.gather(1, labels_B[:, None])
        return [Decision(self.scale * cos_BC.scatter(1, labels_B[:, None], self.with_margin(own_B1)), labels_B, self.counts)]

    def with_margin(self, cosines: Tensor) -> Tensor:
        """Cosines of angles that are larger by the margin; see the class. Any shape."""
        sine = (1 - cosines.square()).clamp(min=1e-9).sqrt()  # at 0 and π the root has no finite gradient
        widened = cosines * math.cos(self.margin) - sine * math.sin(self.margin)
        beyond = cosines < math.cos(math.pi - self.margin)
        return torch.where(beyond, cosines - self.margin * math.sin(self.margin), widened)

    def log_prob(self, features_BD: Tensor, labels_B: Tensor) -> Tensor:
        """Log-probability [B] of the given classes, without the margin."""
        return self.log_prob_all(features_BD).gather(1, labels_B[:, None]).squeeze(1)

    def multiply_adds(self, *, training: bool) -> int:
        return self.centres_CKD.numel()


def _wide(values: Tensor) -> Tensor:
    """In float32 at least."""
    return values if values.dtype == torch.float64 else values.float()
