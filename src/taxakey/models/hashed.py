"""Small softmaxes over random buckets of classes, after MACH (Medini et al., 2019, "Extreme Classification in Log Memory").

Shapes: B images, D features, d bottleneck width, C classes, R hashes, K buckets.

Each of R hashes throws the classes into K buckets, and a softmax learns the bucket. Two classes are told apart where any hash
parts them, so R·K columns do the work of C. The price: classes thrown together have nothing in common, and one linear softmax on
a narrow bottleneck is asked to recognise them by one vector. Nothing is known of taxonomy or counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from taxakey.errors import BadRecipe
from taxakey.losses.decision import Decision
from taxakey.models.heads import Bottleneck, Head


@dataclass(frozen=True)
class HashedOptions:
    """`hashes`: R. `buckets`: K, by default 4·ceil(sqrt(C)) and never more than C. `seed`: of the draw."""

    kind: Literal["hashed"] = "hashed"
    width: int = 128
    hashes: int = 4
    buckets: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.width < 1 or self.hashes < 1 or (self.buckets is not None and self.buckets < 1):
            raise ValueError("width, hashes and buckets must be at least 1")
        if self.seed < 0:
            raise ValueError("seed must be at least 0")


def default_buckets(classes: int) -> int:
    """4·ceil(sqrt(C)): with four hashes about one flora in 500 has a pair of classes that shares all its buckets, whatever C."""
    return min(classes, 4 * math.ceil(math.sqrt(classes)))


def draw_buckets(classes: int, buckets: int, hashes: int, seed: int) -> NDArray[np.int64]:
    """Bucket of each class in each hash [R, C]; within a hash the buckets differ in size by at most one.

    A shuffle dealt out, rather than independent draws: no bucket stays empty and none is crowded. Two classes share all buckets
    in about C² / (2·K^R) pairs; no score can tell those apart.
    """
    random = np.random.default_rng(seed)
    return np.stack([random.permutation(classes) % buckets for _ in range(hashes)])


class HashedHead(Head):
    """A bottleneck, then R softmaxes over K buckets: D·d + d + R·K·(d + 1) parameters.

    THE TRAINING LOSS IS NOT THE LIKELIHOOD OF THE CLASSES: it sums over hashes the cross-entropy of the true class's bucket.
    `forward` is the sum over hashes of log p(bucket of the class), `log_prob` and `log_prob_all` normalise its exponential over
    all classes. MACH averages the buckets' probabilities instead, an unbiased estimate that may be negative; the product puts the
    classes that all hashes find likely further ahead. The R hashes are counted as independent evidence, which they aren't (they
    read one bottleneck), so probabilities are too sure until a temperature is fitted.
    """

    bucket_RC: Tensor

    def __init__(
        self,
        in_features: int,
        classes: int,
        *,
        width: int = 128,
        hashes: int = 4,
        buckets: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if classes < 1 or hashes < 1:
            raise ValueError(f"{classes} classes, {hashes} hashes; both must be at least 1")
        self.buckets = default_buckets(classes) if buckets is None else buckets
        if not 1 <= self.buckets <= classes:
            raise ValueError(f"buckets is {self.buckets}; it must lie between 1 and the {classes} classes")
        self.in_features, self.classes, self.hashes = in_features, classes, hashes
        self.bottleneck = Bottleneck(in_features, width)
        self.linear = nn.Linear(width, hashes * self.buckets)
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)
        # Stored with the model: the weights mean nothing without it, whatever a later numpy draws from the seed.
        self.register_buffer("bucket_RC", torch.as_tensor(draw_buckets(classes, self.buckets, hashes, seed), dtype=torch.long))

    def decisions(self, features_BD: Tensor, labels_B: Tensor) -> list[Decision]:
        """The bucket of the true class, once per hash."""
        logits_BRK = self._logits(features_BD)
        return [Decision(logits_BRK[:, r], bucket_C[labels_B]) for r, bucket_C in enumerate(self.bucket_RC)]

    def counts_of_choices(self, counts_C: NDArray[np.integer]) -> NDArray[np.number]:
        raise BadRecipe(
            "a hashed head chooses among buckets that hold rare and common classes together, so their counts of training images "
            "say nothing; take another head, or a loss that needs none (cross_entropy, class_weighted, focal)"
        )

    def forward(self, features_BD: Tensor) -> Tensor:
        log_p_BRK = self._logits(features_BD).float().log_softmax(2)
        scores_BC = log_p_BRK[:, 0, self.bucket_RC[0]]
        for r in range(1, self.hashes):
            scores_BC = scores_BC + log_p_BRK[:, r, self.bucket_RC[r]]
        return scores_BC

    def log_prob(self, features_BD: Tensor, labels_B: Tensor) -> Tensor:
        """Log-probability [B] of the given classes, normalised over all classes; not minus the training loss."""
        return self.log_prob_all(features_BD).gather(1, labels_B[:, None]).squeeze(1)

    def multiply_adds(self, *, training: bool) -> int:
        """The same for both: scoring all classes only adds up R numbers for each."""
        return self.linear.in_features * (self.in_features + self.linear.out_features)

    def _logits(self, features_BD: Tensor) -> Tensor:
        return self.linear(self.bottleneck(features_BD)).unflatten(1, (self.hashes, self.buckets))
