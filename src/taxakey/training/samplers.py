"""Which pictures an epoch shows, and how often: a draw of rows that follows from seed and epoch alone.

Shapes: N training pictures, C classes, L pictures an epoch.

To add a sampler: a frozen options class with a `kind` and `build(part) -> Draw`, and its line in `SamplerOptions` below. It knows
nothing of batches, processes or resuming: `batches.EpochShuffle` deals out what it draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from taxakey.errors import BadInput

Integers = NDArray[np.int64]


class TrainingPart(NamedTuple):
    """What a sampler may know: class of each training picture [N], validation pictures of each class [C], the seed."""

    labels_N: Integers
    validation_C: Integers
    seed: int

    @property
    def counts_C(self) -> Integers:
        """Training pictures of each class."""
        return np.bincount(self.labels_N, minlength=len(self.validation_C))


class Draw(NamedTuple):
    """`rows(epoch)`: the rows [L] of that epoch, in the order in which they are shown; L, `length`, is that of every epoch."""

    length: int
    rows: Callable[[int], Integers]


def one_seed(*numbers: int) -> int:
    """One seed from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


@dataclass(frozen=True)
class PlainOptions:
    """Every picture once, in a new order each time. `length`: pictures an epoch as a multiple of the training pictures.

    A short epoch goes on where the one before stopped, so that all pictures are still seen equally often.
    """

    kind: Literal["plain"] = "plain"
    length: float = 1.0

    def __post_init__(self) -> None:
        _check_length(self.length)

    def build(self, part: TrainingPart) -> Draw:
        pictures = len(part.labels_N)
        length = _epoch_length(self.length, pictures)

        def order(turn: int) -> Integers:
            generator = torch.Generator().manual_seed(one_seed(part.seed, turn))
            return torch.randperm(pictures, generator=generator).numpy()

        def rows(epoch: int) -> Integers:
            first, last = epoch * length, (epoch + 1) * length - 1
            turns = range(first // pictures, last // pictures + 1)
            begin = first - turns[0] * pictures
            return np.concatenate([order(turn) for turn in turns])[begin : begin + length]

        return Draw(length, rows)


@dataclass(frozen=True)
class WeightedOptions:
    """With replacement, a picture of class c with a chance in proportion to a weight, N_c training pictures being of that class.

    inverse_frequency: 1/N_c, all classes equally often. square_root: 1/√N_c (Mahajan et al., 2018, from hashtags).
    effective_number: (1−β)/(1−β^N_c), β being `beta` (Cui et al., 2019). validation_ratio: share of c in validation over its
    share in training; a class without validation pictures would never be shown and is refused, unless `unseen` gives its weight.
    """

    kind: Literal["inverse_frequency", "square_root", "effective_number", "validation_ratio"]
    length: float = 1.0
    beta: float = 0.999
    unseen: float | None = None

    def __post_init__(self) -> None:
        _check_length(self.length)
        if not 0 <= self.beta < 1:
            raise ValueError(f"beta is {self.beta}; it must be at least 0 and below 1")
        if self.unseen is not None and not self.unseen >= 0:
            raise ValueError(f"unseen is {self.unseen}; it must be at least 0")

    def weights(self, part: TrainingPart) -> NDArray[np.float64]:
        """Weight [C] of a picture of each class; classes without training pictures have weight 0."""
        counts_C = np.maximum(part.counts_C, 1).astype(np.float64)
        match self.kind:
            case "inverse_frequency":
                weights_C = 1 / counts_C
            case "square_root":
                weights_C = 1 / np.sqrt(counts_C)
            case "effective_number":
                weights_C = (1 - self.beta) / (1 - self.beta**counts_C)
            case "validation_ratio":
                weights_C = self._validation_ratio(part)
        return np.where(part.counts_C > 0, weights_C, 0.0)

    def _validation_ratio(self, part: TrainingPart) -> NDArray[np.float64]:
        unseen_C = (part.validation_C == 0) & (part.counts_C > 0)
        if unseen_C.any() and self.unseen is None:
            raise BadInput(
                f"sampler validation_ratio: {int(unseen_C.sum()):,} classes have no validation picture (first: class "
                f"{int(unseen_C.argmax())}) and would never be shown; give their weight as sampler.unseen (1: as they come)"
            )
        in_validation_C = part.validation_C / max(int(part.validation_C.sum()), 1)
        in_training_C = np.maximum(part.counts_C, 1) / len(part.labels_N)
        return np.where(unseen_C, self.unseen or 0.0, in_validation_C / in_training_C)

    def build(self, part: TrainingPart) -> Draw:
        weights_C = self.weights(part)
        chances_N = weights_C[part.labels_N]
        if not chances_N.sum() > 0:
            raise BadInput(f"sampler {self.kind}: no training picture has a weight above 0; give sampler.unseen")
        chances_N /= chances_N.sum()
        length = _epoch_length(self.length, len(chances_N))
        return Draw(length, lambda epoch: _generator(part.seed, epoch).choice(len(chances_N), size=length, p=chances_N))


@dataclass(frozen=True)
class UnderSamplingOptions:
    """At most `most` pictures of a class in an epoch, other ones each time; null: as many as the rarest class has."""

    kind: Literal["under_sampling"]
    most: int | None = None

    def __post_init__(self) -> None:
        if self.most is not None and self.most < 1:
            raise ValueError(f"most is {self.most}; it must be at least 1")

    def build(self, part: TrainingPart) -> Draw:
        counts_C = part.counts_C
        most = self.most or int(counts_C[counts_C > 0].min())

        def rows(epoch: int) -> Integers:
            generator = _generator(part.seed, epoch)
            shuffled_N = generator.permutation(len(part.labels_N))
            return generator.permutation(shuffled_N[_nth_of_its_kind(part.labels_N[shuffled_N]) < most])

        return Draw(int(np.minimum(counts_C, most).sum()), rows)


@dataclass(frozen=True)
class RepeatFactorOptions:
    """Every picture at least once; those of a class with less than `threshold` of all pictures are repeated.

    A class with the share f of the pictures is repeated r = max(1, √(threshold/f)) times (Gupta et al., 2019, LVIS, with
    pictures of one class each). The fraction of r is drawn anew each epoch.
    """

    kind: Literal["repeat_factor"]
    threshold: float = 0.001

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ValueError(f"threshold is {self.threshold}; it must lie above 0 and not above 1")

    def build(self, part: TrainingPart) -> Draw:
        share_C = np.maximum(part.counts_C, 1) / len(part.labels_N)
        repeats_N = np.maximum(1, np.sqrt(self.threshold / share_C))[part.labels_N]
        # Every epoch must have the same length: drawing the fractions one by one would vary it, a common start of all doesn't.
        length = math.ceil(float(repeats_N.sum()) - 1e-6)
        repeats_N *= length / repeats_N.sum()

        def rows(epoch: int) -> Integers:
            generator = _generator(part.seed, epoch)
            order_N = generator.permutation(len(repeats_N))
            ends_N = np.cumsum(repeats_N[order_N])
            starts_L = np.arange(length) + generator.random()
            drawn_L = order_N[np.minimum(np.searchsorted(ends_N, starts_L, side="right"), len(order_N) - 1)]
            return generator.permutation(drawn_L)

        return Draw(length, rows)


SamplerOptions = PlainOptions | WeightedOptions | UnderSamplingOptions | RepeatFactorOptions


def _check_length(length: float) -> None:
    if not 0 < length < math.inf:
        raise ValueError(f"length is {length}; it must be above 0 (1: as many as there are training pictures)")


def _epoch_length(length: float, pictures: int) -> int:
    return max(1, round(length * pictures)) if pictures else 0


def _generator(seed: int, epoch: int) -> np.random.Generator:
    return np.random.default_rng([seed, epoch])


def _nth_of_its_kind(labels_N: Integers) -> Integers:
    """How many of the same class stand before each [N]."""
    order_N = np.argsort(labels_N, kind="stable")
    in_order_N = labels_N[order_N]
    begins_N = np.searchsorted(in_order_N, in_order_N, side="left")
    nth_N = np.empty(len(labels_N), dtype=np.int64)
    nth_N[order_N] = np.arange(len(labels_N)) - begins_N
    return nth_N
