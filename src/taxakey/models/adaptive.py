"""Adaptive softmax (Grave et al., 2017, "Efficient softmax approximation for GPUs"): common classes dear, rare ones cheap.

Shapes: B images, D features, d bottleneck width (D without one), C classes, J tail clusters, R rows in a cluster, K its classes.

Classes stand by falling number of training images. The most common ones, the shortlist, share the first softmax with one column
per cluster of the others; a cluster has a softmax of its own on a projection that narrows from cluster to cluster. It is a
two-level tree whose shape comes from the counts: p(class) = p(its cluster) · p(class | cluster), normalised as it stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from taxakey.losses.decision import Decision
from taxakey.models.heads import Bottleneck, Head


@dataclass(frozen=True)
class AdaptiveOptions:
    """`width`: of the bottleneck, None for all features. `cutoffs`: places, by falling count, where each tail cluster begins; by
    default one begins behind the first quarter of the classes. `div_value`: the j-th projection is div_value^j times narrower.

    More clusters and torch's own 4 save more, on rare words; a macro average counts a rare species like any other.
    """

    kind: Literal["adaptive"] = "adaptive"
    width: int | None = 128
    cutoffs: tuple[int, ...] | None = None
    div_value: float = 2.0

    def __post_init__(self) -> None:
        if self.width is not None and self.width < 1:
            raise ValueError("width must be at least 1")
        if self.div_value < 1:
            raise ValueError(f"div_value is {self.div_value}; it must be at least 1")
        if self.cutoffs is not None and (not self.cutoffs or any(b <= a for a, b in pairwise((0, *self.cutoffs)))):
            raise ValueError(f"cutoffs are {self.cutoffs}; they must rise from at least 1")


def default_cutoffs(classes: int) -> tuple[int, ...]:
    """One tail cluster of all classes behind the first quarter."""
    return (max(1, classes // 4),)


def places_by_count(counts_C: NDArray[np.integer]) -> NDArray[np.int64]:
    """Place of each class [C] when the one with most training images comes first; equal counts in the order of the classes.

    >>> places_by_count(np.array([5, 9, 5])).tolist()
    [1, 0, 2]
    """
    place_C = np.empty(len(counts_C), dtype=np.int64)
    place_C[np.argsort(-np.asarray(counts_C, dtype=np.int64), kind="stable")] = np.arange(len(counts_C))
    return place_C


class AdaptiveHead(Head):
    """torch's AdaptiveLogSoftmaxWithLoss with classes in any order, trained by decisions whose losses add up to its own.

    `counts_C` [C]: training images of each class. What is made of them, `place_C` and `images_J1`, is stored with the model: one
    that is loaded takes any counts, zeros for instance. Raises ValueError for fewer than two classes, cutoffs that don't rise
    from 1 to at most C-1, or a `div_value` that leaves a cluster no feature.
    """

    place_C: Tensor
    images_J1: Tensor
    first_J: Tensor

    def __init__(
        self,
        in_features: int,
        counts_C: NDArray[np.integer],
        *,
        width: int | None = 128,
        cutoffs: Sequence[int] | None = None,
        div_value: float = 2.0,
    ) -> None:
        super().__init__()
        self.in_features, self.classes = in_features, len(counts_C)
        self.cutoffs = _checked(default_cutoffs(self.classes) if cutoffs is None else tuple(cutoffs), self.classes)
        narrow = in_features if width is None else width
        if narrow // div_value ** len(self.cutoffs) < 1:
            raise ValueError(f"{narrow} features divided {len(self.cutoffs)} times by {div_value} leave none; lower div_value")
        self.bottleneck: nn.Module = nn.Identity() if width is None else Bottleneck(in_features, width)
        self.softmax = nn.AdaptiveLogSoftmaxWithLoss(narrow, self.classes, self.cutoffs, div_value=div_value, head_bias=True)
        self._small_weights()
        place_C = places_by_count(counts_C)
        images_J1 = np.bincount(np.searchsorted(self.cutoffs, place_C, side="right"), weights=counts_C)
        self.register_buffer("place_C", torch.as_tensor(place_C))
        self.register_buffer("images_J1", torch.as_tensor(images_J1, dtype=torch.long))
        self.register_buffer("first_J", torch.as_tensor(self.cutoffs), persistent=False)

    def _small_weights(self) -> None:
        nn.init.normal_(self.softmax.head.weight, std=0.01)
        nn.init.zeros_(self.softmax.head.bias)
        for cluster in self.softmax.tail:
            _projection, output = cluster.parameters()
            nn.init.normal_(output, std=0.01)

    def decisions(self, features_BD: Tensor, labels_B: Tensor) -> list[Decision]:
        """One among shortlist and clusters, then one per cluster that holds a label of the batch.

        A cluster's logits are computed for its own images only. The other rows have a single choice, which costs nothing: so a
        mean over the batch weighs every image alike, and the sum over decisions is torch's loss.
        """
        z_Bd = self.bottleneck(features_BD)
        place_B = self.place_C[labels_B]
        cluster_B = torch.bucketize(place_B, self.first_J, right=True)  # 0: in the shortlist
        first_choice_B = torch.where(cluster_B == 0, place_B, self.cutoffs[0] + cluster_B - 1)
        decisions = [Decision(self.softmax.head(z_Bd), first_choice_B, self._counts(0, self.softmax.head_size))]
        for j, (first, tail) in enumerate(zip(self.cutoffs, self.softmax.tail, strict=True), start=1):
            rows_R = (cluster_B == j).nonzero().flatten()
            if len(rows_R):
                inside_B = torch.where(cluster_B == j, place_B - first, 0)
                logits_BK = _padded(tail(z_Bd[rows_R]), rows_R, len(z_Bd))
                decisions.append(Decision(logits_BK, inside_B, self._counts(len(self.cutoffs) + first, logits_BK.shape[1])))
        return decisions

    def counts_of_choices(self, counts_C: NDArray[np.integer]) -> NDArray[np.number]:
        """Of the shortlist, of the clusters, then of the classes in the clusters, in the order of the places."""
        by_place_C = np.empty(self.classes, dtype=np.int64)
        by_place_C[self.place_C.cpu().numpy()] = counts_C
        shortlist, behind = np.split(by_place_C, [self.cutoffs[0]])
        starts_J = np.array(self.cutoffs) - self.cutoffs[0]
        return np.concatenate([shortlist, np.add.reduceat(behind, starts_J), behind])

    def _counts(self, first: int, choices: int) -> Tensor | None:
        return None if self.counts is None else self.counts[first : first + choices]

    def forward(self, features_BD: Tensor) -> Tensor:
        """Log-probabilities [B, C], in class order: the same as torch's `log_prob`, which in half precision would round them."""
        z_Bd = self.bottleneck(features_BD)
        first_log_p = _log_softmax(self.softmax.head(z_Bd))
        shortlist = self.cutoffs[0]
        parts = [first_log_p[:, :shortlist]]
        for j, tail in enumerate(self.softmax.tail):
            parts.append(first_log_p[:, shortlist + j, None] + _log_softmax(tail(z_Bd)))
        return torch.cat(parts, dim=1)[:, self.place_C]

    def log_prob_all(self, features_BD: Tensor) -> Tensor:
        return self(features_BD)

    def multiply_adds(self, *, training: bool) -> int:
        """In training the mean over the training images: a tail cluster counts as often as its classes were photographed."""
        narrow = self.softmax.in_features
        first = narrow * self.softmax.head_size + (0 if isinstance(self.bottleneck, nn.Identity) else self.in_features * narrow)
        tail_J = [sum(weight.numel() for weight in cluster.parameters()) for cluster in self.softmax.tail]  # they have no biases
        if not training:
            return first + sum(tail_J)
        _, *images_J = self.images_J1.tolist()
        spent = sum(images * cost for images, cost in zip(images_J, tail_J, strict=True))
        return first + round(spent / max(1, int(self.images_J1.sum())))


def _checked(cutoffs: tuple[int, ...], classes: int) -> tuple[int, ...]:
    if classes < 2:
        raise ValueError("an adaptive softmax needs at least two classes; take a linear head")
    if not cutoffs or any(b <= a for a, b in pairwise((0, *cutoffs, classes))):
        raise ValueError(f"cutoffs are {cutoffs}; with {classes} classes they must rise from at least 1 to at most {classes - 1}")
    return cutoffs


def _log_softmax(logits: Tensor) -> Tensor:
    return logits.float().log_softmax(1)


def _padded(logits_RK: Tensor, rows_R: Tensor, images: int) -> Tensor:
    """The rows of a cluster among those of the batch [B, K]; the others can choose their first column only."""
    logits_BK = logits_RK.new_full((images, logits_RK.shape[1]), -torch.inf)
    logits_BK[:, 0] = 0
    return logits_BK.index_copy(0, rows_R, logits_RK)
