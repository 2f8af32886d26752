"""Seesaw loss (Wang et al., 2021, "Seesaw Loss for Long-Tailed Instance Segmentation", arXiv 2008.10032), classification form.

Shapes: B images, K choices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from taxakey.losses.cross_entropy import cross_entropy
from taxakey.losses.decision import Decision, DecisionLoss
from taxakey.losses.facts import NOTHING_KNOWN, LossFacts, SmoothedOptions, check_smoothing


@dataclass(frozen=True)
class SeesawOptions(SmoothedOptions):
    """`p`: how much milder an image of a common class is with rarer classes. `q`: how much harder with classes it is taken for.

    `eps`: the least probability of the true class that `q` reckons with. DS@GT's entry to FungiCLEF 2024 took p 0.7 and q 0.3.
    """

    kind: Literal["seesaw"] = "seesaw"
    p: float = 0.8
    q: float = 2.0
    eps: float = 1e-2

    compares_choices: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self.p, self.q, self.eps)

    def build(self, facts: LossFacts = NOTHING_KNOWN) -> Seesaw:
        return Seesaw(self.p, self.q, self.eps, label_smoothing=self.label_smoothing)


def _check(p: float, q: float, eps: float) -> None:
    if p < 0 or q < 0:
        raise ValueError(f"p is {p} and q is {q}; neither may be below 0")
    if not 0 < eps <= 1:
        raise ValueError(f"eps is {eps}; it must lie above 0 and at most at 1")


class Seesaw(DecisionLoss):
    """Cross-entropy of z'_j = z_j + log(M_yj·F_yj) for j ≠ y, with counts N of the training images and s = softmax(z):

        M_yj = min(1, (N_j / N_y)^p)              an image of a common class pushes rarer classes down less
        F_yj = max(1, (s_j / max(s_y, eps))^q)    but a class that it is taken for more

    Neither carries a gradient. Both are sums in the logarithm, so that a row of M is made when it is needed and no K×K matrix is:
    at most two buffers as large as the logits live beside them and their gradient (tests/losses/test_memory.py). In a tree each
    node is such a decision, with the counts of its subtrees.
    """

    needs_counts = True

    def __init__(self, p: float = 0.8, q: float = 2.0, eps: float = 1e-2, *, label_smoothing: float = 0.0) -> None:
        super().__init__()
        _check(p, q, eps)
        check_smoothing(label_smoothing)
        self.p, self.q, self.eps, self.label_smoothing = p, q, eps, label_smoothing

    def of_decision(self, decision: Decision) -> Tensor:
        logits_BK = decision.logits.float()
        # No name for what is added: it is as large as the logits, and of no use afterwards.
        return cross_entropy(logits_BK + self._log_factors(logits_BK, decision), decision.labels, self.label_smoothing)

    @torch.no_grad()
    def _log_factors(self, logits_BK: Tensor, decision: Decision) -> Tensor:
        """log(M·F) [B, K]; the formulas give 0 for j = y by themselves, and for choices that can't be made anything finite."""
        true_B1 = decision.labels[:, None]
        # log F = q·max(0, log s_j − log max(s_y, eps)), and the log Σ exp in both logarithms falls out.
        least_B1 = logits_BK.logsumexp(1, keepdim=True) + math.log(self.eps)
        factor_BK = (logits_BK - torch.maximum(logits_BK.gather(1, true_B1), least_B1)).relu_().mul_(self.q)
        log_n_BK = decision.log_counts().expand_as(logits_BK)
        return factor_BK.add_((log_n_BK - log_n_BK.gather(1, true_B1)).clamp_(max=0), alpha=self.p)
