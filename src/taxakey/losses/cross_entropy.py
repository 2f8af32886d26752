"""Cross-entropy with label smoothing, for flat heads and for each level of a tree. Shapes: B images, K choices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
    logits_BK = logits_BK.float()
    real_BK = logits_BK > -torch.inf if label_smoothing else None
    log_p_BK = logits_BK.log_softmax(dim=1)
    del logits_BK  # a loss that shifts logits has no other use for them, and at 80,000 classes they are large
    loss_B = nn.functional.nll_loss(log_p_BK, labels_B, reduction="none")
    if real_BK is not None:
        even_B = -log_p_BK.where(real_BK, 0).sum(1) / real_BK.sum(1)
        loss_B = (1 - label_smoothing) * loss_B + label_smoothing * even_B
    return loss_B
