"""Cross-entropy, or focal loss, in which an image counts by how rare its class is. Shapes: B images, C classes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from taxakey.losses.cross_entropy import CrossEntropy
from taxakey.losses.decision import Answer, Loss
from taxakey.losses.facts import NOTHING_KNOWN, LossFacts, SmoothedOptions
from taxakey.losses.focal import Focal, check_gamma


@dataclass(frozen=True)
class ClassWeightedOptions(SmoothedOptions):
    """`by`: "inverse" (frequency), or "class_balanced" by `beta` (0.9 in NAFlora-1M's script; nearer 1 is nearer inverse).

    `gamma`: of a focal loss; 0 for cross-entropy.
    """

    kind: Literal["class_weighted"] = "class_weighted"
    by: Literal["inverse", "class_balanced"] = "inverse"
    beta: float = 0.9
    gamma: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_gamma(self.gamma)
        if not 0 <= self.beta < 1:
            raise ValueError(f"beta is {self.beta}; it must be at least 0 and below 1")

    def build(self, facts: LossFacts = NOTHING_KNOWN) -> ClassWeighted:
        counts_C = facts.counts(self.kind)
        weight_C = inverse_weights(counts_C) if self.by == "inverse" else class_balanced_weights(counts_C, self.beta)
        smoothing = {"label_smoothing": self.label_smoothing}
        return ClassWeighted(weight_C, Focal(self.gamma, **smoothing) if self.gamma else CrossEntropy(**smoothing))


def inverse_weights(counts_C: NDArray[np.integer]) -> NDArray[np.float64]:
    """1 / N_c, times what makes their mean over the training images 1; 0 for a class without images, which no label names.

    >>> inverse_weights(np.array([1, 3, 0])).round(4).tolist()
    [2.0, 0.6667, 0.0]
    """
    known_C = counts_C > 0
    return np.where(known_C, counts_C.sum() / (known_C.sum() * np.maximum(counts_C, 1)), 0.0)


def class_balanced_weights(counts_C: NDArray[np.integer], beta: float) -> NDArray[np.float64]:
    """(1−β)/(1−β^N_c) (Cui et al., 2019, arXiv 1901.05555), times what makes their mean over the classes 1.

    >>> class_balanced_weights(np.array([1, 2]), 0.5).round(4).tolist()
    [1.2, 0.8]
    """
    known_C = counts_C > 0
    # 1 − β^N, with its digits kept where β is near 1; at β = 0 it is 1.
    effective_C = -np.expm1(np.maximum(counts_C, 1) * math.log(beta)) if beta else np.ones(len(counts_C))
    weight_C = np.where(known_C, 1 / effective_C, 0.0)
    return weight_C * (known_C.sum() / weight_C.sum())


class ClassWeighted(Loss):
    """The weight of an image's class times another loss. In a tree all levels of an image have the weight of its class.

    Unlike torch's, the mean over a batch divides by the images and not by their weights: a batch of common species counts less
    than one of rare ones, which is the point.
    """

    weight_C: Tensor

    def __init__(self, weight_C: NDArray[np.floating], loss: Loss) -> None:
        super().__init__()
        self.loss = loss
        self.register_buffer("weight_C", torch.as_tensor(weight_C, dtype=torch.float32), persistent=False)

    def forward(self, answer: Answer) -> Tensor:
        return self.weight_C[answer.labels_B] * self.loss(answer)
