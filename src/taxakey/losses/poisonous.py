"""Whether the answer is poisonous, as a loss beside that of the species (DS@GT, FungiCLEF 2024). Shapes: B images, C classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from taxakey.losses.decision import Answer, Loss
from taxakey.losses.facts import NOTHING_KNOWN, LossFacts, SmoothedOptions, check_smoothing


@dataclass(frozen=True)
class PoisonousOptions(SmoothedOptions):
    """Needs the taxonomy's column `poisonous`; a species without a mark counts as harmless. Their weight was 0.1."""

    kind: Literal["poisonous"] = "poisonous"

    accompanies: ClassVar[bool] = True
    scores_all: ClassVar[bool] = True

    def build(self, facts: LossFacts = NOTHING_KNOWN) -> Poisonous:
        return Poisonous(facts.poisonous(self.kind), label_smoothing=self.label_smoothing)


class Poisonous(Loss):
    """Binary cross-entropy of "poisonous", whose logit is log Σ exp over poisonous classes − log Σ exp over the others.

    That is the log-odds of the summed probabilities, so the softmax over species learns it and no output is added. (The authors
    took plus or minus the best class's logit.) `label_smoothing` draws the target towards one half.
    """

    poisonous_C: Tensor
    poisonous_P: Tensor
    others_H: Tensor

    def __init__(self, poisonous_C: Tensor, *, label_smoothing: float = 0.0) -> None:
        super().__init__()
        check_smoothing(label_smoothing)
        self.label_smoothing = label_smoothing
        self.register_buffer("poisonous_C", poisonous_C, persistent=False)
        for name, mask_C in (("poisonous_P", poisonous_C), ("others_H", ~poisonous_C)):
            self.register_buffer(name, mask_C.nonzero().flatten(), persistent=False)

    def forward(self, answer: Answer) -> Tensor:
        scores_BC = answer.scores_BC.float()
        poisonous_B, others_B = (scores_BC.index_select(1, some).logsumexp(1) for some in (self.poisonous_P, self.others_H))
        target_B = self.poisonous_C[answer.labels_B].float() * (1 - self.label_smoothing) + self.label_smoothing / 2
        return nn.functional.binary_cross_entropy_with_logits(poisonous_B - others_B, target_B, reduction="none")
