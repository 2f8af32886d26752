"""The two-level hierarchical softmax (BioMachina, PlantCLEF 2022; SPEC section 1), and which class sits where in it.

Shapes: B images, D features, d bottleneck width, C classes, T top nodes, S slots a node (T·S >= C).

p(class) = p(node) · p(slot | node). The class at position q sits in node q div S, slot q mod S; `position_C` maps class index to
position, because the order decides accuracy: the tree learns no taxonomy by itself. Slots without a class take no probability.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from taxakey.models.heads import (
    Activation,
    Bottleneck,
    BottleneckHead,
    BottleneckOptions,
    Decision,
    Head,
    LinearHead,
    LinearOptions,
)
from taxakey.taxonomy import Taxonomy

Order = Literal["taxonomic", "listed"]


@dataclass(frozen=True)
class TreeOptions:
    """`slots`: S, by default ceil(sqrt(C)). `order`: by family, genus and name, or as the classes are listed (by name)."""

    kind: Literal["tree"] = "tree"
    width: int = 128
    slots: int | None = None
    order: Order = "taxonomic"
    activation: Activation = "none"

    def __post_init__(self) -> None:
        if self.width < 1 or (self.slots is not None and self.slots < 1):
            raise ValueError("width and slots must be at least 1")


HeadOptions = LinearOptions | BottleneckOptions | TreeOptions


def build_head(options: HeadOptions, in_features: int, taxonomy: Taxonomy) -> Head:
    """The head that the options describe, for the classes of a taxonomy."""
    classes = len(taxonomy)
    match options:
        case LinearOptions():
            return LinearHead(in_features, classes, dropout=options.dropout)
        case BottleneckOptions():
            return BottleneckHead(in_features, classes, width=options.width, activation=options.activation)
        case TreeOptions():
            position_C = class_positions(taxonomy, options.order)
            return TreeHead(in_features, position_C, width=options.width, slots=options.slots, activation=options.activation)


def class_positions(taxonomy: Taxonomy, order: Order) -> NDArray[np.int64]:
    """Position in the tree of each class [C]: a permutation of 0 … C-1."""
    if order == "listed":
        return np.arange(len(taxonomy), dtype=np.int64)
    lineage = list(zip(taxonomy.column("family"), taxonomy.column("genus"), taxonomy.names, strict=True))
    by_lineage = sorted(range(len(taxonomy)), key=lineage.__getitem__)
    position_C = np.empty(len(taxonomy), dtype=np.int64)
    position_C[by_lineage] = np.arange(len(taxonomy))
    return position_C


class TreeHead(Head):
    """Bottleneck, softmax over T nodes, softmax over the S slots of a node.

    Training computes the T node logits and the S slot logits of the TRUE node only: d·(T + S) multiply-adds a sample after the
    bottleneck. `forward` is the joint over ALL nodes; opening only the best node (the paper) or giving every node the best
    node's slots (its released code) is wrong for every class outside the best node.
    """

    position_C: Tensor
    empty_TS: Tensor

    def __init__(
        self,
        in_features: int,
        position_C: NDArray[np.int64],
        *,
        width: int = 128,
        slots: int | None = None,
        activation: Activation = "none",
    ) -> None:
        super().__init__()
        classes = len(position_C)
        if sorted(position_C.tolist()) != list(range(classes)):
            raise ValueError("position_C must be a permutation of 0 … C-1")
        self.in_features, self.classes = in_features, classes
        self.slots = slots or math.ceil(math.sqrt(classes))
        self.nodes = math.ceil(classes / self.slots)
        self.bottleneck = Bottleneck(in_features, width, activation)
        self.node_weight_Td = nn.Parameter(torch.empty(self.nodes, width).uniform_(-0.1, 0.1))
        self.node_bias_T = nn.Parameter(torch.zeros(self.nodes))
        self.slot_weight_TSd = nn.Parameter(torch.empty(self.nodes, self.slots, width).uniform_(-0.1, 0.1))
        self.slot_bias_TS = nn.Parameter(torch.zeros(self.nodes, self.slots))
        self.register_buffer("position_C", torch.as_tensor(position_C, dtype=torch.long))
        empty = torch.arange(self.nodes * self.slots) >= classes
        self.register_buffer("empty_TS", empty.view(self.nodes, self.slots), persistent=False)

    def decisions(self, features_BD: Tensor, labels_B: Tensor) -> list[Decision]:
        z_Bd = self.bottleneck(features_BD)
        position_B = self.position_C[labels_B]
        node_B, slot_B = position_B // self.slots, position_B % self.slots
        slot_logits_BS = torch.einsum("bd,bsd->bs", z_Bd, self.slot_weight_TSd[node_B].to(z_Bd.dtype))
        slot_logits_BS = slot_logits_BS + self.slot_bias_TS[node_B]
        return [
            Decision(self._node_logits(z_Bd), node_B),
            Decision(slot_logits_BS.float().masked_fill(self.empty_TS[node_B], -torch.inf), slot_B),
        ]

    def forward(self, features_BD: Tensor) -> Tensor:
        """Joint log-probabilities [B, C], in class order."""
        z_Bd = self.bottleneck(features_BD)
        node_log_p_BT = self._node_logits(z_Bd).float().log_softmax(1)
        slot_logits_BTS = torch.einsum("bd,tsd->bts", z_Bd, self.slot_weight_TSd.to(z_Bd.dtype)) + self.slot_bias_TS
        slot_log_p_BTS = slot_logits_BTS.float().masked_fill(self.empty_TS, -torch.inf).log_softmax(2)
        return (node_log_p_BT[:, :, None] + slot_log_p_BTS).flatten(1)[:, self.position_C]

    def _node_logits(self, z_Bd: Tensor) -> Tensor:
        return nn.functional.linear(z_Bd, self.node_weight_Td, self.node_bias_T)
