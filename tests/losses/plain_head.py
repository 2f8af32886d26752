"""What the tests of losses share: a head whose scores are given, a small flora, and the losses of every kind.

Shapes: B images, K choices, C classes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from taxakey.losses.class_weighted import ClassWeightedOptions
from taxakey.losses.cross_entropy import CrossEntropyOptions
from taxakey.losses.decision import Answer, Decision, Loss
from taxakey.losses.facts import LossFacts
from taxakey.losses.focal import FocalOptions
from taxakey.losses.logit_adjusted import LogitAdjustedOptions
from taxakey.losses.loss_options import LossOptions, build_loss
from taxakey.losses.marginal import MarginalOptions
from taxakey.losses.poisonous import PoisonousOptions
from taxakey.losses.seesaw import SeesawOptions
from taxakey.losses.weighted_triplet import WeightedTripletOptions
from taxakey.taxonomy import Taxonomy

COUNTS = np.array([40, 3, 900, 7, 1, 12, 12])
C = len(COUNTS)
GENERA = ("Acer", "Acer", "Bellis", "Bellis", "Bellis", "Quercus", "")
FAMILIES = ("Sapindaceae", "Sapindaceae", "Asteraceae", "Asteraceae", "Asteraceae", "Fagaceae", "Asteraceae")
POISONOUS = (True, False, False, True, False, False, None)


def flora(order: list[int] | None = None) -> Taxonomy:
    """Seven species; `order` says which of them each class is."""
    return Taxonomy.from_rows(
        {"scientificName": f"{new}", "genus": GENERA[old], "family": FAMILIES[old], "poisonous": POISONOUS[old]}
        for new, old in enumerate(order or range(C))
    )


FACTS = LossFacts(COUNTS, flora())
KINDS: dict[str, LossOptions] = {
    "cross_entropy": CrossEntropyOptions(),
    "cross_entropy smoothed": CrossEntropyOptions(label_smoothing=0.2),
    "inverse": ClassWeightedOptions(),
    "class_balanced": ClassWeightedOptions(by="class_balanced", beta=0.99, label_smoothing=0.1),
    "class_balanced focal": ClassWeightedOptions(by="class_balanced", gamma=1.5),
    "focal": FocalOptions(),
    "focal smoothed": FocalOptions(gamma=0.5, label_smoothing=0.3),
    "seesaw": SeesawOptions(),
    "seesaw smoothed": SeesawOptions(p=0.7, q=0.3, eps=0.3, label_smoothing=0.1),
    "logit_adjusted": LogitAdjustedOptions(strength=0.8),
    "logit_adjusted smoothed": LogitAdjustedOptions(label_smoothing=0.1),
    "poisonous": PoisonousOptions(),
    "poisonous smoothed": PoisonousOptions(label_smoothing=0.1),
    "weighted_triplet": WeightedTripletOptions(margin=0.5, temperature=0.3),
}
BESIDE = {"marginal": (CrossEntropyOptions(), MarginalOptions(weight=0.5))}
LISTS = {**{name: (options,) for name, options in KINDS.items()}, **BESIDE}


class PlainHead:
    """Its features are its scores."""

    flat, metadata, classes = True, 0, C

    def __init__(self) -> None:
        self.counts: Tensor | None = None

    def set_counts(self, counts_C: np.ndarray) -> None:
        self.counts = torch.as_tensor(counts_C, dtype=torch.float32)

    def decisions(self, features_BD: Tensor, labels_B: Tensor) -> list[Decision]:
        return [Decision(features_BD, labels_B, self.counts)]

    def log_prob_several(self, features_BD: Tensor, classes_BK: Tensor) -> Tensor:
        raise AssertionError("the decision holds the scores already")

    def __call__(self, features_BD: Tensor) -> Tensor:
        raise AssertionError("the decision holds the scores already")


def built(*losses: LossOptions, facts: LossFacts = FACTS) -> tuple[Loss, PlainHead]:
    head = PlainHead()
    return build_loss(losses, head, facts), head


def loss_of(
    losses: LossOptions | tuple[LossOptions, ...], logits_BC: Tensor, labels_B: Tensor, facts: LossFacts = FACTS
) -> Tensor:
    """The loss [B] of these scores."""
    loss, head = built(*(losses if isinstance(losses, tuple) else (losses,)), facts=facts)
    return loss(Answer(head, logits_BC, labels_B))


def drawn(images: int = 9, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Scores [B, C] that spread over some units, and labels."""
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(images, C, generator=generator), torch.randint(C, (images,), generator=generator)
