"""A triplet loss in which hard positives and negatives weigh more. Shapes: B images, D features.

It stands in for the "adaptive mining sample loss" of an entry to Herbarium 2022, whose formula isn't in reach; no figure of that
loss may be expected of it. It is batch-hard mining (Hermans et al., 2017, arXiv 1703.07737) made soft as by Ristani and Tomasi
(2018, "Features for Multi-Target Multi-Camera Tracking and Re-Identification").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from taxakey.losses.decision import Answer, Loss
from taxakey.losses.facts import NOTHING_KNOWN, LossFacts, WeightedOptions


@dataclass(frozen=True)
class WeightedTripletOptions(WeightedOptions):
    """`margin`: how much further other species shall lie than the own one; features are scaled to length 1, so at most 2 apart.

    `temperature`: towards 0 only the hardest positive and negative count; large, all alike. Needs batches that hold species more
    than once, and features that can learn: `train: all`.
    """

    kind: Literal["weighted_triplet"] = "weighted_triplet"
    margin: float = 0.3
    temperature: float = 0.1

    accompanies: ClassVar[bool] = True
    moves_features: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.margin < 0 or self.temperature <= 0:
            raise ValueError(f"margin is {self.margin}, temperature {self.temperature}; at least 0, and above 0")

    def build(self, facts: LossFacts = NOTHING_KNOWN) -> WeightedTriplet:
        return WeightedTriplet(self.margin, self.temperature)


class WeightedTriplet(Loss):
    """max(0, margin + Σ w⁺·d⁺ − Σ w⁻·d⁻) of each image, over the others of its batch.

    d: distances of the features scaled to length 1; w⁺ = softmax(d⁺ / temperature) over images of the same species, w⁻ =
    softmax(−d⁻ / temperature) over the rest, without gradient, as the choice of the hardest has none. An image that is alone with
    its species, or among nothing else, costs 0; one whose species isn't known takes no part.
    """

    def __init__(self, margin: float = 0.3, temperature: float = 0.1) -> None:
        super().__init__()
        self.margin, self.temperature = margin, temperature

    def forward(self, answer: Answer) -> Tensor:
        features_BD = _of_the_picture(answer)
        distance_BB = _distances(nn.functional.normalize(features_BD.float(), dim=1))
        positive_BB, negative_BB = _pairs(answer)
        positive_B = self._weighted(distance_BB, positive_BB, 1)
        negative_B = self._weighted(distance_BB, negative_BB, -1)
        return (self.margin + positive_B - negative_B).relu() * (positive_BB.any(1) & negative_BB.any(1))

    def _weighted(self, distance_BB: Tensor, among_BB: Tensor, sign: int) -> Tensor:
        # Where a row has none, even weights of nothing: its loss is 0 and must have no NaN in its gradient.
        scores_BB = (sign * distance_BB.detach() / self.temperature).masked_fill(~among_BB, torch.finfo(torch.float32).min)
        return (scores_BB.softmax(1) * distance_BB * among_BB).sum(1)


def _of_the_picture(answer: Answer) -> Tensor:
    """The features without the metadata at their end."""
    return answer.features_BD[:, : answer.features_BD.shape[1] - answer.head.metadata]


def _pairs(answer: Answer) -> tuple[Tensor, Tensor]:
    """Which images are another one of the same species, and which of another species, [B, B] both."""
    labels_B = answer.labels_B
    same_BB = labels_B[:, None] == labels_B
    other_BB = ~torch.eye(len(labels_B), dtype=torch.bool, device=labels_B.device)
    if answer.named_B is not None:
        other_BB &= answer.named_B & answer.named_B[:, None]
    return same_BB & other_BB, ~same_BB & other_BB


def _distances(features_BD: Tensor) -> Tensor:
    squares_BB = (2 - 2 * features_BD @ features_BD.T).clamp(min=1e-12)  # a root has no slope at 0
    return squares_BB.sqrt()
