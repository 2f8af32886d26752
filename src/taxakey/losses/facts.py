"""What losses want to know of the classes before training, and what all their options share. Shapes: C classes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from taxakey.errors import BadRecipe
from taxakey.taxonomy import Taxonomy


@dataclass(frozen=True, eq=False)
class LossFacts:
    """`counts_C`: training images of each class. `taxonomy`: the classes' parents, and which of them are poisonous.

    What is asked for and isn't known raises BadRecipe with the name of the loss.
    """

    counts_C: NDArray[np.int64] | None = None
    taxonomy: Taxonomy | None = None

    def counts(self, loss: str) -> NDArray[np.int64]:
        """Training images of each class [C]."""
        if self.counts_C is None:
            raise BadRecipe(f"loss {loss}: needs each class's number of training images, which isn't known here")
        return self.counts_C

    def parents(self, loss: str) -> Taxonomy:
        """The taxonomy."""
        if self.taxonomy is None:
            raise BadRecipe(f"loss {loss}: needs the classes' taxonomy, which isn't known here")
        return self.taxonomy

    def poisonous(self, loss: str) -> Tensor:
        """Mask [C] of the poisonous classes: some, and not all."""
        poisonous_C = self.parents(loss).poisonous()
        if poisonous_C is None or poisonous_C.all() or not poisonous_C.any():
            found = "no class either way" if poisonous_C is None else "all" if poisonous_C.all() else "none"
            raise BadRecipe(
                f"loss {loss}: needs poisonous classes and others, and the dataset's taxonomy marks {found} (column poisonous); "
                "give the records that column, or leave this loss out"
            )
        return torch.from_numpy(poisonous_C)


NOTHING_KNOWN = LossFacts()


@dataclass(frozen=True)
class WeightedOptions:
    """`weight`: of this loss among the recipe's.

    The flags say what a recipe must mind: whether the loss only accompanies one that teaches the species, asks for the scores of
    all classes, compares a decision's choices with each other, or learns through the features alone.
    """

    kind: str = ""
    weight: float = 1.0

    accompanies: ClassVar[bool] = False
    scores_all: ClassVar[bool] = False
    compares_choices: ClassVar[bool] = False
    moves_features: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 < self.weight < math.inf:
            raise ValueError(f"weight is {self.weight}; it must be above 0 (leave the loss out instead)")


@dataclass(frozen=True)
class SmoothedOptions(WeightedOptions):
    """`label_smoothing`: share of the target spread evenly over all real choices (0.1 in NAFlora-1M)."""

    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_smoothing(self.label_smoothing)


def check_smoothing(label_smoothing: float) -> None:
    """Raise ValueError for what is no share."""
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing is {label_smoothing}; it must be at least 0 and below 1")
