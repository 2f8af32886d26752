"""Several networks on the same pixels: a backbone that some of them share is run once.

Shapes: B pictures, M networks, C classes of each, F features.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor, nn

from taxakey.models.backbones import Network


class Together(nn.Module):
    """Pixels [B, 3, H, W] -> the scores of all networks, side by side [B, ΣC].

    `same`: a key for each network; networks of equal keys have backbones that give the same features, and the first one's runs
    for all of them. Networks that take metadata don't belong here: each needs its own.
    """

    def __init__(self, networks: Sequence[Network], same: Sequence[Hashable]) -> None:
        super().__init__()
        first: dict[Hashable, int] = {}
        self.backbone_of = [first.setdefault(key, len(first)) for key in same]
        self.backbones = nn.ModuleList(networks[list(same).index(key)].backbone for key in first)
        self.heads = nn.ModuleList(network.head for network in networks)

    def forward(self, pixels_B3HW: Tensor) -> Tensor:
        features = [backbone(pixels_B3HW) for backbone in self.backbones]
        return torch.cat([head(features[number]) for head, number in zip(self.heads, self.backbone_of, strict=True)], dim=1)
