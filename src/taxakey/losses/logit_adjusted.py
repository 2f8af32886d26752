"""Logit adjustment (Menon et al., 2021, "Long-tail learning via logit adjustment", arXiv 2007.07314).

Shapes: B images, K choices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from taxakey.losses.cross_entropy import cross_entropy
from taxakey.losses.decision import Decision, DecisionLoss
from taxakey.losses.facts import NOTHING_KNOWN, LossFacts, SmoothedOptions, check_smoothing


@dataclass(frozen=True)
class LogitAdjustedOptions(SmoothedOptions):
    """`strength`: τ. At 1 the plain logits are those of a world where every class is as common as any other."""

    kind: Literal["logit_adjusted"] = "logit_adjusted"
    strength: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.strength < 0:
            raise ValueError(f"strength is {self.strength}; it must be at least 0")

    def build(self, facts: LossFacts = NOTHING_KNOWN) -> LogitAdjusted:
        return LogitAdjusted(self.strength, label_smoothing=self.label_smoothing)


class LogitAdjusted(DecisionLoss):
    """Cross-entropy of z_j + τ·log N_j; a prediction uses plain z.

    A common class starts ahead while training, so that the model must learn more than how common it is. That the formula has
    shares N_j / ΣN makes no difference: a softmax takes no note of what is added to all. In a tree each node is such a decision,
    with the counts of its subtrees.
    """

    needs_counts = True

    def __init__(self, strength: float = 1.0, *, label_smoothing: float = 0.0) -> None:
        super().__init__()
        check_smoothing(label_smoothing)
        self.strength, self.label_smoothing = strength, label_smoothing

    def of_decision(self, decision: Decision) -> Tensor:
        adjusted_BK = decision.logits.float() + self.strength * decision.log_counts()
        return cross_entropy(adjusted_BK, decision.labels, self.label_smoothing)
