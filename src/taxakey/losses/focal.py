"""Focal loss (Lin et al., 2017, "Focal Loss for Dense Object Detection", arXiv 1708.02002). Shapes: B images, K choices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from taxakey.losses.decision import Decision, DecisionLoss
from taxakey.losses.facts import NOTHING_KNOWN, LossFacts, SmoothedOptions, check_smoothing


@dataclass(frozen=True)
class FocalOptions(SmoothedOptions):
    """`gamma`: how much less an image counts the surer the model is of it; 0 is cross-entropy."""

    kind: Literal["focal"] = "focal"
    gamma: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_gamma(self.gamma)

    def build(self, facts: LossFacts = NOTHING_KNOWN) -> Focal:
        return Focal(self.gamma, label_smoothing=self.label_smoothing)


def check_gamma(gamma: float) -> None:
    """Raise ValueError for an exponent that would make sure images count more."""
    if gamma < 0:
        raise ValueError(f"gamma is {gamma}; it must be at least 0")


class Focal(DecisionLoss):
    """−Σ_k t_k·(1−p_k)^γ·log p_k, where the target t is the right choice, or smoothed over the real ones."""

    def __init__(self, gamma: float = 2.0, *, label_smoothing: float = 0.0) -> None:
        super().__init__()
        check_gamma(gamma)
        check_smoothing(label_smoothing)
        self.gamma, self.label_smoothing = gamma, label_smoothing

    def of_decision(self, decision: Decision) -> Tensor:
        log_p_BK = decision.logits.float().log_softmax(1)
        loss_B = self._cost(log_p_BK.gather(1, decision.labels[:, None]).squeeze(1))
        if self.label_smoothing:
            real_BK = decision.logits > -torch.inf
            even_B = self._cost(log_p_BK.where(real_BK, 0)).sum(1) / real_BK.sum(1)
            loss_B = (1 - self.label_smoothing) * loss_B + self.label_smoothing * even_B
        return loss_B

    def _cost(self, log_p: Tensor) -> Tensor:
        # 1 − p without loss of digits; above 0, because a root has no slope there.
        wrong = (-log_p.expm1()).clamp(min=torch.finfo(log_p.dtype).tiny)
        return -(wrong**self.gamma) * log_p
