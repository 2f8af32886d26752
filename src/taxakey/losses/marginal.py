"""The marginal loss: learning from images that are known only to genus or family. Shapes: B images, C classes, R ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from taxakey.losses.decision import Answer, Loss
from taxakey.losses.facts import NOTHING_KNOWN, LossFacts, WeightedOptions
from taxakey.losses.taxon_labels import labels_above


@dataclass(frozen=True)
class MarginalOptions(WeightedOptions):
    """For labels beyond the classes (`losses.taxon_labels`). The recipe's other losses see images with a species alone."""

    kind: Literal["marginal"] = "marginal"

    accompanies: ClassVar[bool] = True
    scores_all: ClassVar[bool] = True

    def build(self, of_species: Loss, facts: LossFacts = NOTHING_KNOWN) -> Marginal:
        return Marginal(labels_above(facts.parents(self.kind)), of_species, self.weight)


class Marginal(Loss):
    """−log Σ p over the species below an image's taxon, times `weight`; for an image with a species, the loss `of_species`.

    The sum asks no more than is known: among the species of the genus the model stays free. Scores of all classes are needed,
    also from a tree.
    """

    label_RC: Tensor

    def __init__(self, label_RC: NDArray[np.int64], of_species: Loss, weight: float = 1.0) -> None:
        super().__init__()
        self.of_species, self.weight, self.needs_counts = of_species, weight, of_species.needs_counts
        self.register_buffer("label_RC", torch.from_numpy(label_RC), persistent=False)

    def forward(self, answer: Answer) -> Tensor:
        labels_B = answer.labels_B
        species_B = labels_B < self.label_RC.shape[1]
        # Whatever looks a label up finds class 0 in the place of a genus; what is made of it there is thrown away.
        named = Answer(answer.head, answer.features_BD, labels_B.where(species_B, 0), species_B)
        below_BC = species_B[:, None].expand(-1, self.label_RC.shape[1])  # all of them: a loss of 0, and no NaN in its gradient
        for label_C in self.label_RC:
            below_BC = below_BC | (label_C == labels_B[:, None])
        scores_BC = named.scores_BC.float()
        taxa_B = scores_BC.logsumexp(1) - scores_BC.where(below_BC, -torch.inf).logsumexp(1)
        return torch.where(species_B, self.of_species(named), self.weight * taxa_B)
