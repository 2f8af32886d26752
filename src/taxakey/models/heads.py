"""Heads: from pooled features to scores over classes. Shapes: B images, D features, C classes, d bottleneck width.

To add one: a subclass of `Head`, a frozen options class with a `kind`, a line in `HeadOptions` and in `build_head`
(models/head_options.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from taxakey.losses.decision import Decision
from taxakey.models.grouped_softmax import log_sum_exp

Activation = Literal["none", "relu"]
Start = Literal["random", "class_means"]
"""Where training begins: small random weights, or the classes' mean features (`models.class_means`; needs embeddings)."""


class Ranked(NamedTuple):
    """The k most probable classes of each image, best first: log-probabilities and class indices, both [B, k].

    `opened` [B]: how many nodes' children were scored to find them; a flat head has one node and opens it.
    """

    log_prob: Tensor
    classes: Tensor
    opened: Tensor


class Head(nn.Module):
    """What every head can do; `forward` gives unnormalised log-probabilities [B, C] in class order."""

    in_features: int
    classes: int
    metadata: int = 0
    """How many of the features, the last ones, are metadata and no backbone's."""
    class_rows: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """What a row means -> the tensor that has one row per class, in class order: so another head can go on from this one
    (`models.remapping`). Empty where classes share weights."""
    counts: Tensor | None
    """Training images below each choice, where the head was told them; not stored with the model."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("counts", None, persistent=False)

    @property
    def flat(self) -> bool:
        """Whether training makes one decision, among the scores of all classes."""
        return type(self).decisions is Head.decisions

    def set_counts(self, counts_C: NDArray[np.integer]) -> None:
        """Tell the training images of each class [C], for losses that ask how many stand behind a choice.

        Raises BadRecipe in a head whose choices have no counts that mean anything.
        """
        if len(counts_C) != self.classes:
            raise ValueError(f"{len(counts_C)} counts for {self.classes} classes")
        device = next(self.parameters()).device
        self.counts = torch.as_tensor(self.counts_of_choices(counts_C), dtype=torch.float32, device=device)

    def counts_of_choices(self, counts_C: NDArray[np.integer]) -> NDArray[np.number]:
        """What `decisions` finds its decisions' counts in: by default those of the classes [C]."""
        return counts_C

    def decisions(self, features_BD: Tensor, labels_B: Tensor) -> list[Decision]:
        """What training must get right, given the true classes [B]."""
        return [Decision(self(features_BD), labels_B, self.counts)]

    def representation(self, features_BD: Tensor) -> Tensor:
        """The last features that are learnt before the scores [B, width]: the backbone's, unless a head has further ones."""
        return features_BD[:, : features_BD.shape[1] - self.metadata]

    def log_prob(self, features_BD: Tensor, labels_B: Tensor) -> Tensor:
        """Log-probability [B] of the given classes."""
        decisions = self.decisions(features_BD, labels_B)
        return torch.stack([_log_prob(decision) for decision in decisions]).sum(0)

    def log_prob_several(self, features_BD: Tensor, classes_BK: Tensor) -> Tensor:
        """Log-probabilities [B, K] of several given classes of each image."""
        return self.log_prob_all(features_BD).gather(1, classes_BK)

    def log_prob_all(self, features_BD: Tensor) -> Tensor:
        """Normalised log-probabilities [B, C], float32, in class order: for as many classes as memory allows."""
        return self(features_BD).float().log_softmax(1)

    def node_log_prob(self, features_BD: Tensor, codes_C: NDArray[np.int64]) -> Tensor:
        """Log-probability [B, G] of each taxon of a rank, summed over its classes.

        `codes_C`: the classes' codes in that rank, -1 for none: `taxonomy.codes("genus")`.
        """
        members = np.flatnonzero(codes_C >= 0)
        log_p_BC = self.log_prob_all(features_BD)
        members_M, codes_M = (torch.from_numpy(part).to(log_p_BC.device) for part in (members, codes_C[members]))
        return log_sum_exp(log_p_BC[:, members_M], codes_M, int(codes_C.max(initial=-1)) + 1)

    def top_k(self, features_BD: Tensor, k: int) -> Ranked:
        """The k most probable classes of each image; equal probabilities in the order of the class index."""
        if not 1 <= k <= self.classes:
            raise ValueError(f"k is {k}; it must lie between 1 and the {self.classes} classes")
        return Ranked(*first_k(self.log_prob_all(features_BD), k), torch.ones_like(features_BD[:, 0], dtype=torch.long))

    def multiply_adds(self, *, training: bool) -> int:
        """Multiply-adds for one image, forward: of a training step's decisions, or of the scores of all classes."""
        raise NotImplementedError

    def forward(self, features_BD: Tensor) -> Tensor:
        raise NotImplementedError


def first_k(scores_BC: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k highest scores of each row and their columns, equal scores by rising column (torch.topk leaves them to chance)."""
    kth_B1 = scores_BC.topk(k, dim=1).values[:, -1:]
    # Everything that ties with the k-th must be in the race: it's usually one column, rarely many.
    rivals = int((scores_BC >= kth_B1).sum(1).max()) if len(scores_BC) else k
    columns_BR = scores_BC.topk(rivals, dim=1).indices.sort(1).values
    order_BR = scores_BC.gather(1, columns_BR).argsort(dim=1, descending=True, stable=True)[:, :k]
    columns_Bk = columns_BR.gather(1, order_BR)
    return scores_BC.gather(1, columns_Bk), columns_Bk


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
    start: Start = "random"

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise ValueError("dropout must be at least 0 and below 1")


@dataclass(frozen=True)
class BottleneckOptions:
    """A flat softmax on a narrow projection: the control for every claim about trees."""

    kind: Literal["bottleneck"] = "bottleneck"
    width: int = 128
    activation: Activation = "none"
    start: Start = "random"

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError("width must be at least 1")
        if self.activation != "none" and self.start == "class_means":
            raise ValueError("a start from class means needs activation: none")


FLAT_ROWS = MappingProxyType({"weight": "linear.weight", "bias": "linear.bias"})


class LinearHead(Head):
    """Dropout, then one linear layer: D·C + C parameters."""

    class_rows = FLAT_ROWS

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

    def multiply_adds(self, *, training: bool) -> int:
        return self.in_features * self.classes


class BottleneckHead(Head):
    """A linear layer on a bottleneck: D·d + d + d·C + C parameters."""

    class_rows = FLAT_ROWS

    def __init__(self, in_features: int, classes: int, *, width: int = 128, activation: Activation = "none") -> None:
        super().__init__()
        self.in_features, self.classes = in_features, classes
        self.bottleneck = Bottleneck(in_features, width, activation)
        self.linear = nn.Linear(width, classes)

    def forward(self, features_BD: Tensor) -> Tensor:
        return self.linear(self.bottleneck(features_BD))

    def multiply_adds(self, *, training: bool) -> int:
        width = self.linear.in_features
        return self.in_features * width + width * self.classes
