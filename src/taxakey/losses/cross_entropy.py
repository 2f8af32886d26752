"""Cross-entropy with label smoothing, for flat heads and for each level of a tree. Shapes: B images, K choices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from taxakey.losses.decision import Decision, DecisionLoss
from taxakey.losses.facts import NOTHING_KNOWN, LossFacts, SmoothedOptions, check_smoothing


@dataclass(frozen=True)
class CrossEntropyOptions(SmoothedOptions):
    """−log p of the right choice: what each image would cost to tell."""

    kind: Literal["cross_entropy"] = "cross_entropy"

    def build(self, facts: LossFacts = NOTHING_KNOWN) -> CrossEntropy:
        return CrossEntropy(label_smoothing=self.label_smoothing)


class CrossEntropy(DecisionLoss):
    """Cross-entropy that ignores choices whose logit is -inf, also when smoothing."""

    def __init__(self, *, label_smoothing: float = 0.0) -> None:
        super().__init__()
        check_smoothing(label_smoothing)
        self.label_smoothing = label_smoothing

    def of_decision(self, decision: Decision) -> Tensor:
        return cross_entropy(decision.logits, decision.labels, self.label_smoothing)


def cross_entropy(logits_BK: Tensor, labels_B: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of each image [B], with the smoothing spread over the choices whose logit isn't -inf.

    torch's own spreads it over ALL columns and so gives inf as soon as a slot of a tree is masked; without masked columns the two
    agree. Computed in float32 whatever comes in.
    """
    if label_smoothing:
        return _Smoothed.apply(logits_BK.float(), labels_B, label_smoothing)
    return nn.functional.cross_entropy(logits_BK.float(), labels_B, reduction="none")


class _Smoothed(torch.autograd.Function):
    """(1−ε)·(−log p_y) + ε·(mean of −log p over the real choices).

    With a gradient written out, because autograd's own holds more than twice as much, and at 80,000 classes that is seen.
    """

    @staticmethod
    def forward(ctx: Any, logits_BK: Tensor, labels_B: Tensor, share: float) -> Tensor:
        masked_BK, column_B1 = logits_BK == -torch.inf, labels_B[:, None]
        real_B = logits_BK.shape[1] - masked_BK.sum(1)
        mean_logit_B = logits_BK.nan_to_num(nan=torch.nan, posinf=torch.inf, neginf=0).sum(1) / real_B
        log_p_BK = logits_BK.log_softmax(1)
        ctx.save_for_backward(log_p_BK, masked_BK, real_B, column_B1)
        ctx.share = share
        right_B = log_p_BK.gather(1, column_B1).squeeze(1)
        log_sum_B = logits_BK.gather(1, column_B1).squeeze(1) - right_B
        return share * (log_sum_B - mean_logit_B) - (1 - share) * right_B

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        log_p_BK, masked_BK, real_B, column_B1 = ctx.saved_tensors
        gradient_BK = log_p_BK.exp().sub_((ctx.share / real_B)[:, None]).masked_fill_(masked_BK, 0)
        gradient_BK.scatter_add_(1, column_B1, torch.full_like(gradient_BK[:, :1], ctx.share - 1))
        return gradient_BK.mul_(gradients[0][:, None]), None, None
