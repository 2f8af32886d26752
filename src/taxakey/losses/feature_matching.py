"""Drawing a student's features to those of a teacher. Shapes: B images, N training images, D and T the widths of the two.

Romero et al., 2015, "FitNets: Hints for Thin Deep Nets" (arXiv 1412.6550), equation 3: the squared distance between the teacher's
features and a learnt projection of the student's. Here both are scaled to length 1, so that no backbone's scale asks for a weight
of its own; half the squared distance is then 1 − cosine. The last features are drawn, all through training (the paper: middle
ones, in a stage before).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn

from taxakey.losses.decision import Answer, Loss, OfEachPicture


@dataclass(frozen=True)
class FeatureOptions:
    """`weight`: of the distance, beside all that is learnt from labels and from the teacher's answers."""

    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.weight < math.inf:
            raise ValueError(f"weight is {self.weight}; it must be above 0 (leave features out instead)")


class FeatureMatching(Loss):
    """The loss `of_answers` + weight · (1 − cos(W f + b, t)), f the student's features and t the teacher's.

    `vectors_NT`: the teacher's, of any length; a vector of zeros draws nowhere, and costs 1. W and b are learnt with the network
    and kept in its checkpoints, so that a run can go on; no model has them.
    """

    def __init__(self, of_answers: Loss, options: FeatureOptions, vectors_NT: Tensor, width: int) -> None:
        super().__init__()
        self.of_answers, self.options, self.needs_counts = of_answers, options, of_answers.needs_counts
        self.vectors_NT = OfEachPicture(vectors_NT)
        self.projection = nn.Linear(width, vectors_NT.shape[1])

    def forward(self, answer: Answer) -> Tensor:
        return self.of_answers(answer) + self.options.weight * self.distance(answer)

    def distance(self, answer: Answer) -> Tensor:
        """1 − cosine of each image [B]."""
        assert answer.rows_B is not None, "the batches don't say which pictures they hold"
        mine_BT = self.projection(answer.head.representation(answer.features_BD))
        return 1 - nn.functional.cosine_similarity(mine_BT.float(), self.vectors_NT[answer.rows_B].float(), dim=1)
