"""Cross-entropy with label smoothing, for flat heads and for each level of a tree. Shapes: B images, K choices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from taxakey.losses.decision import Decision, DecisionLoss


@dataclass(frozen=True)
class CrossEntropyOptions:
    """`label_smoothing`: share of the target spread evenly over all real choices (0.1 in NAFlora-1M)."""

    kind: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        _check_share(self.label_smoothing)

    def build(self) -> CrossEntropy:
        return CrossEntropy(label_smoothing=self.label_smoothing)


def _check_share(label_smoothing: float) -> None:
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing is {label_smoothing}; it must be at least 0 and below 1")


class CrossEntropy(DecisionLoss):
    """Cross-entropy that ignores choices whose logit is -inf, also when smoothing.

    torch's own spreads the smoothing over ALL columns and so gives inf as soon as a slot of a tree is masked; without masked
    columns the two agree. Computed in float32 whatever comes in.
    """

    def __init__(self, *, label_smoothing: float = 0.0) -> None:
        super().__init__()
        _check_share(label_smoothing)
        self.label_smoothing = label_smoothing

    def of_decision(self, decision: Decision) -> Tensor:
        logits_BK = decision.logits
        log_p_BK = logits_BK.float().log_softmax(dim=1)
        loss_B = nn.functional.nll_loss(log_p_BK, decision.labels, reduction="none")
        if self.label_smoothing:
            real_BK = logits_BK > -torch.inf
            even_B = -log_p_BK.masked_fill(~real_BK, 0).sum(1) / real_BK.sum(1)
            loss_B = (1 - self.label_smoothing) * loss_B + self.label_smoothing * even_B
        return loss_B
