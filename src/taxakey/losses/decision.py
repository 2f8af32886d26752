"""What a head says in a training step, and what a loss makes of it. Shapes: B images, K choices, D features, C classes.

To add a loss: a subclass of `Loss` (or of `DecisionLoss`, if it looks at one choice at a time) and a frozen options class with a
`kind` and a `build`, in a file of its own; a line in `LossOptions` (losses/loss_options.py).
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from taxakey.errors import BadRecipe


class Decision(NamedTuple):
    """One choice a head makes for each image: logits [B, K] (-inf: can't be chosen) and the right one [B].

    A flat head makes one decision among C; a tree makes one per level. `counts`, [K] or [B, K]: training images below each
    choice, where the head was told them; any number where the logit is -inf. `weight`: of this decision among the head's.
    """

    logits: Tensor
    labels: Tensor
    counts: Tensor | None = None
    weight: float = 1.0

    def log_counts(self) -> Tensor:
        """log(counts), [K] or [B, K], float32; a choice without training images counts as if it had one.

        Raises BadRecipe where the head says no counts.
        """
        if self.counts is None:
            raise BadRecipe(
                "this loss needs the number of training images behind each choice, and the head doesn't say it for all its "
                "decisions; take cross_entropy or class_weighted"
            )
        return self.counts.float().clamp(min=1).log()


class _Head(Protocol):
    def decisions(self, features_BD: Tensor, labels_B: Tensor) -> list[Decision]: ...
    def __call__(self, features_BD: Tensor) -> Tensor: ...
    def representation(self, features_BD: Tensor) -> Tensor: ...
    def log_prob_several(self, features_BD: Tensor, classes_BK: Tensor) -> Tensor: ...
    @property
    def classes(self) -> int: ...
    @property
    def flat(self) -> bool: ...
    @property
    def metadata(self) -> int: ...


class Answer:
    """A head's answer to a batch in training. What no loss asks for isn't computed.

    `named_B` [B]: whether an image's species is known; None where all are. The labels of the others say nothing.
    `rows_B` [B]: which of the training pictures they are, for what is known of each besides its label.
    """

    def __init__(
        self, head: _Head, features_BD: Tensor, labels_B: Tensor, named_B: Tensor | None = None, rows_B: Tensor | None = None
    ) -> None:
        self.head, self.features_BD, self.labels_B, self.named_B, self.rows_B = head, features_BD, labels_B, named_B, rows_B

    def only(self, some_B: Tensor) -> Answer:
        """To some of the images, by a mask [B]."""
        named_B, rows_B = (of_B if of_B is None else of_B[some_B] for of_B in (self.named_B, self.rows_B))
        return Answer(self.head, self.features_BD[some_B], self.labels_B[some_B], named_B, rows_B)

    @cached_property
    def decisions(self) -> list[Decision]:
        """What the head had to choose, the true way through it."""
        return self.head.decisions(self.features_BD, self.labels_B)

    @cached_property
    def scores_BC(self) -> Tensor:
        """Unnormalised log-probabilities of all classes [B, C]."""
        if self.head.flat:
            return self.decisions[0].logits  # the same, and computed already
        return self.head(self.features_BD)


class OfEachPicture:
    """A table [N, …] of which a step takes the rows of its pictures.

    No buffer of the loss that holds it: an average of the weights would copy it at every step, and a run of several processes
    send it around.
    """

    def __init__(self, table_N: Tensor) -> None:
        self.table_N = table_N

    def __getitem__(self, rows_B: Tensor) -> Tensor:
        if self.table_N.device != rows_B.device:
            self.table_N = self.table_N.to(rows_B.device)
        return self.table_N[rows_B]

    def __deepcopy__(self, memo: object) -> OfEachPicture:
        return self


class Loss(nn.Module):
    """A number for each image [B], float32: the mean over the batch is taken by whoever trains."""

    needs_counts = False
    """Whether it reads `Decision.counts`: the head is told them before training."""

    def forward(self, answer: Answer) -> Tensor:
        raise NotImplementedError


class DecisionLoss(Loss):
    """A loss of each decision, summed over the head's decisions by their weights: so it works for any head."""

    def of_decision(self, decision: Decision) -> Tensor:
        """The loss of one decision, image by image [B]."""
        raise NotImplementedError

    def forward(self, answer: Answer) -> Tensor:
        return torch.stack([decision.weight * self.of_decision(decision) for decision in answer.decisions]).sum(0)
