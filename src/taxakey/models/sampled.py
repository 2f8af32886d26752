"""A flat softmax that learns against a sample of the classes, after Partial FC (An et al., 2021, arXiv 2010.05222).

Shapes: B images, D features, d bottleneck width, C classes, P classes among the batch's labels, N sampled others, S = P + N.

A training step computes the logits of the batch's own classes and of a uniform sample of the others; an answer, all logits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor, nn

from taxakey.losses.decision import Decision
from taxakey.models.heads import Bottleneck, Head


@dataclass(frozen=True)
class SampledOptions:
    """`share`: of all classes, drawn anew for each batch beside its own; 0.1 is what the paper finds enough.

    `sparse`: gradients hold only the rows used, for an optimiser that updates only those.
    """

    kind: Literal["sampled"] = "sampled"
    width: int = 128
    share: float = 0.1
    sparse: bool = False

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError("width must be at least 1")
        _check_share(self.share)


def _check_share(share: float) -> None:
    if not 0 < share <= 1:
        raise ValueError(f"share is {share}; it must lie above 0 and at most at 1")


class SampledHead(Head):
    """A bottleneck head, D·d + d + d·C + C parameters, whose training decision is among S of the C classes.

    The batch's P classes are always among them. The N others are drawn without replacement from the C - P, each with chance
    N / (C - P); the log of that chance is taken off their logits, so that the sum of exponentials is an unbiased estimate of the
    flat softmax's. Partial FC leaves the correction out and so counts the others about 1 / share times too little. The logarithm
    of the estimate is below the true one on average (Jensen), less so the more are sampled; at share 1 the loss is the flat one.
    Label smoothing spreads over the S choices. `log_prob`, `log_prob_all` and `forward` are those of the flat softmax.
    """

    class_rows = MappingProxyType({"weight": "weight_Cd", "bias": "bias_C"})

    def __init__(self, in_features: int, classes: int, *, width: int = 128, share: float = 0.1, sparse: bool = False) -> None:
        super().__init__()
        if classes < 1:
            raise ValueError("a head needs at least one class")
        _check_share(share)
        self.in_features, self.classes, self.sparse = in_features, classes, sparse
        self.samples = math.ceil(share * classes)
        self.bottleneck = Bottleneck(in_features, width)
        self.weight_Cd = nn.Parameter(torch.empty(classes, width).normal_(std=0.01))
        self.bias_C = nn.Parameter(torch.zeros(classes))

    def decisions(self, features_BD: Tensor, labels_B: Tensor) -> list[Decision]:
        """One choice among the batch's classes, in columns 0 … P-1, and N others; another sample at each call."""
        own_P, column_B = labels_B.unique(return_inverse=True)
        others_N = self._sample_others(own_P)
        rows_S = torch.cat([own_P, others_N])
        weight_Sd = nn.functional.embedding(rows_S, self.weight_Cd, sparse=self.sparse)
        bias_S = self.bias_C.gather(0, rows_S, sparse_grad=self.sparse)
        logits_BS = nn.functional.linear(self.bottleneck(features_BD), weight_Sd, bias_S).float()
        if len(others_N):
            logits_BS[:, len(own_P) :] += math.log((self.classes - len(own_P)) / len(others_N))
        return [Decision(logits_BS, column_B, None if self.counts is None else self.counts[rows_S])]

    def _sample_others(self, own_P: Tensor) -> Tensor:
        """`samples` classes [N] that aren't among the given ones (sorted, each once), or all where there are fewer."""
        left = self.classes - len(own_P)
        rank_N = torch.randperm(left, device=own_P.device)[: self.samples]
        # The class with n others before it that aren't the batch's: n, plus the batch's classes that come before it.
        free_before_P = own_P - torch.arange(len(own_P), device=own_P.device)
        return rank_N + torch.searchsorted(free_before_P, rank_N, right=True)

    def forward(self, features_BD: Tensor) -> Tensor:
        return nn.functional.linear(self.bottleneck(features_BD), self.weight_Cd, self.bias_C)

    def log_prob(self, features_BD: Tensor, labels_B: Tensor) -> Tensor:
        """Log-probability [B] of the given classes among ALL classes; the training loss only estimates it."""
        return self.log_prob_all(features_BD).gather(1, labels_B[:, None]).squeeze(1)

    def multiply_adds(self, *, training: bool) -> int:
        """In training the sample and the image's own class; the other classes of its batch, at most B - 1, come on top."""
        width = self.weight_Cd.shape[1]
        columns = min(self.classes, self.samples + 1) if training else self.classes
        return width * (self.in_features + columns)
