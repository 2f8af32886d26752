"""A flat softmax whose class vectors share their group's. Shapes: B images, D features, C classes, G groups, r rank.

A class vector that is only low-rank, W = U·P, is the bottleneck head under another name. Here the class vector is

    w_c = g_group(c) + P'·u_c

a vector for its genus or family over ALL features, plus a deviation of its own along r directions that all classes share. What
tells groups apart isn't squeezed through a bottleneck, and the rank has only to serve what tells relatives apart. The weights
as one C×D matrix have a rank of up to G + r.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from taxakey.models.heads import Head


@dataclass(frozen=True)
class FactorisedOptions:
    """`rank`: r, directions for what a class has of its own. `groups`: the taxa whose species share a vector.

    Genera tell more than families and cost more: G·D weights, and there are many times as many.
    """

    kind: Literal["factorised"] = "factorised"
    rank: int = 64
    groups: Literal["genus", "family"] = "family"

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError("rank must be at least 1")
        if self.groups not in ("genus", "family"):
            raise ValueError(f"groups is {self.groups!r}; one of genus, family")


class FactorisedHead(Head):
    """logits_c = (G x)[group of c] + u_c·(P x) + b_c: G·D + r·D + C·r + C parameters.

    `group_C` [C]: integers, equal for classes that share a vector. Classes of unknown parent (-1) share one as well: what it
    tells of the others is little, but a full vector each would make them cost as much as a flat head's.
    """

    group_C: Tensor

    def __init__(self, in_features: int, group_C: NDArray[np.int64], *, rank: int = 64) -> None:
        super().__init__()
        if not len(group_C) or rank < 1:
            raise ValueError(f"{len(group_C)} classes at rank {rank}; both must be at least 1")
        codes_G, code_C = np.unique(group_C, return_inverse=True)
        self.in_features, self.classes = in_features, len(group_C)
        self.group_weight_GD = nn.Parameter(torch.empty(len(codes_G), in_features).normal_(std=0.01))
        # No bias here: u_c times a bias is a bias of the class, which has one.
        self.projection = nn.Linear(in_features, rank, bias=False)
        self.own_weight_Cr = nn.Parameter(torch.empty(self.classes, rank).normal_(std=0.01))
        self.bias_C = nn.Parameter(torch.zeros(self.classes))
        self.register_buffer("group_C", torch.as_tensor(code_C, dtype=torch.long))

    def forward(self, features_BD: Tensor) -> Tensor:
        shared_BG = nn.functional.linear(features_BD, self.group_weight_GD)
        own_BC = nn.functional.linear(self.projection(features_BD), self.own_weight_Cr, self.bias_C)
        return own_BC + shared_BG[:, self.group_C]

    def multiply_adds(self, *, training: bool) -> int:
        groups, rank = len(self.group_weight_GD), self.own_weight_Cr.shape[1]
        return self.in_features * (groups + rank) + rank * self.classes
