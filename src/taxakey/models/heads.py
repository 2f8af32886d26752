"""Heads: from pooled features to scores over classes. Shapes: B images, D features, C classes, d bottleneck width.

To add one: a subclass of `Head`, a frozen options class with a `kind`, a line in `HeadOptions` and in `build_head`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

Activation = Literal["none", "relu"]


class Decision(NamedTuple):
    """One choice a head makes for each image: logits [B, K] (-inf: can't be chosen) and the right one [B].

    A flat head makes one decision among C; a tree makes one per level. A training loss is the sum over decisions.
    """

    logits: Tensor
    labels: Tensor


class Head(nn.Module):
    """What every head can do; `forward` gives unnormalised log-probabilities [B, C] in class order."""

    in_features: int
    classes: int

    def decisions(self, features_BD: Tensor, labels_B: Tensor) -> list[Decision]:
        """What training must get right, given the true classes [B]."""
        return [Decision(self(features_BD), labels_B)]

    def log_prob(self, features_BD: Tensor, labels_B: Tensor) -> Tensor:
        """Log-probability [B] of the given classes."""
        decisions = self.decisions(features_BD, labels_B)
        return torch.stack([_log_prob(decision) for decision in decisions]).sum(0)

    def forward(self, features_BD: Tensor) -> Tensor:
        raise NotImplementedError


def _log_prob(decision: Decision) -> Tensor:
    return decision.logits.float().log_softmax(1).gather(1, decision.labels[:, None]).squeeze(1)


class Bottleneck(nn.Module):
    """z = W x + b of width d, linear unless asked otherwise: a ReLU here costs accuracy (SPEC section 1)."""

    def __init__(self, in_features: int, width: int, activation: Activation = "none") -> None:
        super().__init__()
        self.projection = nn.Linear(in_features, width)
        self.activation = nn.ReLU() if activation == "relu" else nn.Identity()

    def forward(self, features_BD: Tensor) -> Tensor:
        return self.activation(self.projection(features_BD))


@dataclass(frozen=True)
class LinearOptions:
    """One linear layer on the pooled features."""

    kind: Literal["linear"] = "linear"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise ValueError("dropout must be at least 0 and below 1")


@dataclass(frozen=True)
class BottleneckOptions:
    """A flat softmax on a narrow projection: the control for every claim about trees."""

    kind: Literal["bottleneck"] = "bottleneck"
    width: int = 128
    activation: Activation = "none"

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError("width must be at least 1")


class LinearHead(Head):
    """Dropout, then one linear layer: D·C + C parameters."""

    def __init__(self, in_features: int, classes: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.in_features, self.classes = in_features, classes
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(in_features, classes)
        # Small weights: with torch's default a frozen backbone's large features make the first steps wild.
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features_BD: Tensor) -> Tensor:
        return self.linear(self.dropout(features_BD))


class BottleneckHead(Head):
    """A linear layer on a bottleneck: D·d + d + d·C + C parameters."""

    def __init__(self, in_features: int, classes: int, *, width: int = 128, activation: Activation = "none") -> None:
        super().__init__()
        self.in_features, self.classes = in_features, classes
        self.bottleneck = Bottleneck(in_features, width, activation)
        self.linear = nn.Linear(width, classes)

    def forward(self, features_BD: Tensor) -> Tensor:
        return self.linear(self.bottleneck(features_BD))
