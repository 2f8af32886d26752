"""All losses under one name: their options, and the loss that a recipe's list of them describes. Shapes: B images, C classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from taxakey.losses.class_weighted import ClassWeightedOptions
from taxakey.losses.cross_entropy import CrossEntropyOptions
from taxakey.losses.decision import Answer, Loss
from taxakey.losses.facts import NOTHING_KNOWN, LossFacts
from taxakey.losses.focal import FocalOptions
from taxakey.losses.logit_adjusted import LogitAdjustedOptions
from taxakey.losses.marginal import MarginalOptions
from taxakey.losses.poisonous import PoisonousOptions
from taxakey.losses.seesaw import SeesawOptions
from taxakey.losses.weighted_triplet import WeightedTripletOptions

LossOptions = (
    CrossEntropyOptions
    | ClassWeightedOptions
    | FocalOptions
    | SeesawOptions
    | LogitAdjustedOptions
    | PoisonousOptions
    | WeightedTripletOptions
    | MarginalOptions
)


class WeightedSum(Loss):
    """Losses of the same answer, added up by their weights."""

    def __init__(self, losses: Sequence[Loss], weights: Sequence[float]) -> None:
        super().__init__()
        self.losses, self.weights = nn.ModuleList(losses), tuple(weights)
        self.needs_counts = any(loss.needs_counts for loss in losses)

    def forward(self, answer: Answer) -> Tensor:
        return torch.stack([weight * loss(answer) for weight, loss in zip(self.weights, self.losses, strict=True)]).sum(0)


class _Head(Protocol):
    def set_counts(self, counts_C: NDArray[np.integer]) -> None: ...


def build_loss(losses: Sequence[LossOptions], head: _Head, facts: LossFacts = NOTHING_KNOWN) -> Loss:
    """The loss that these add up to, for a head, which is told the counts of the classes where a loss needs them.

    Raises BadRecipe where a loss needs facts that aren't there, or a head has no counts for its choices.
    """
    plain = [options for options in losses if not isinstance(options, MarginalOptions)]
    loss: Loss = WeightedSum([options.build(facts) for options in plain], [options.weight for options in plain])
    for options in losses:
        if isinstance(options, MarginalOptions):
            loss = options.build(loss, facts)
    if loss.needs_counts:
        head.set_counts(facts.counts(", ".join(options.kind for options in plain)))
    return loss
