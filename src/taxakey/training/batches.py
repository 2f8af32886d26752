"""Batches for the loop: stored features, or pictures decoded by worker processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from taxakey.dataset.preprocess import Preprocess, decode
from taxakey.dataset.reader import Part
from taxakey.training.recipe import Recipe
from taxakey.training.shares import ALONE, Batches, Process, Share

NOT_COUNTED = -1
"""Label of a picture that only fills up a process's last batch of validation: another process counts it."""


class Batch(NamedTuple):
    """What a step learns from: pixels [B, 3, H, W] or stored features [B, D], and class indices [B].

    `metadata` [B, M]: what is known of each picture besides, encoded. `mixed_labels` [B]: classes of the pictures that were mixed
    in, and `share` [B] of the first ones.
    """

    inputs: Tensor
    labels: Tensor
    metadata: Tensor | None = None
    mixed_labels: Tensor | None = None
    share: Tensor | None = None


class EpochShuffle(Sampler[int]):
    """A new order each epoch that follows from seed and epoch alone, so that a resumed run goes on as if never interrupted.

    Yields `epoch * len + row`: the worker processes, which outlive an epoch, learn from it which epoch it is.
    """

    def __init__(self, length: int, seed: int) -> None:
        self.length, self.seed, self.epoch = length, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        order = torch.randperm(self.length, generator=torch.Generator().manual_seed(_mix(self.seed, self.epoch)))
        return iter((order + self.epoch * self.length).tolist())


def _mix(*numbers: int) -> int:
    """One seed from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


class StoredFeatures(Dataset):
    """Features and labels in memory; a whole batch is fetched by one indexing."""

    def __init__(self, features_ND: NDArray[np.float32], labels_N: NDArray[np.int64]) -> None:
        known = np.flatnonzero(labels_N >= 0)  # a validation species that was never trained has no column to compare with
        self.features_ND = torch.from_numpy(features_ND[known])
        self.labels_N = torch.from_numpy(labels_N[known])

    def __len__(self) -> int:
        return len(self.labels_N)

    def __getitems__(self, rows: Sequence[int]) -> Batch:
        rows_B = torch.as_tensor(rows)
        picked = rows_B % len(self)
        return Batch(self.features_ND[picked], self.labels_N[picked].masked_fill(rows_B < 0, NOT_COUNTED))


class Pictures(Dataset):
    """Pictures of a part, through the augmentation in training or the evaluation transform otherwise."""

    def __init__(
        self,
        part: Part,
        preprocess: Preprocess,
        augment: Callable[[NDArray[np.uint8]], Tensor] | None = None,
        *,
        seed: int = 0,
    ) -> None:
        self.part, self.preprocess, self.augment, self.seed = part, preprocess, augment, seed
        self.rows = np.flatnonzero(part.class_index >= 0)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        row = int(self.rows[index % len(self)])
        label = int(self.part.class_index[row]) if index >= 0 else NOT_COUNTED
        if self.augment is not None:
            torch.manual_seed(_mix(self.seed, index))  # in a worker process: what happens to a picture in an epoch is fixed
            return self.augment(decode(self.part.image_bytes(row))), label
        return torch.from_numpy(self.preprocess.load(self.part.image_bytes(row))), label


def feature_loader(data: StoredFeatures, recipe: Recipe, *, training: bool, process: Process = ALONE) -> DataLoader:
    """Shuffled for training (by the recipe's seed), in order otherwise; this process's share of it."""
    batches = (
        _batches(data, recipe, process, drop_last=False) if training else BatchSampler(Share(len(data), process), 1024, False)
    )
    return DataLoader(data, batch_sampler=batches, collate_fn=_as_it_is)


def picture_loader(data: Pictures, recipe: Recipe, *, training: bool, process: Process = ALONE) -> DataLoader:
    """The same for pictures; as many worker processes as there are cores for each process, at most eight."""
    size = recipe.loop.batch_size
    # BatchNorm can't learn from a last batch of one.
    drop_last = len(data) > size * process.world
    batches = (
        _batches(data, recipe, process, drop_last=drop_last) if training else BatchSampler(Share(len(data), process), size, False)
    )
    return DataLoader(
        data,
        batch_sampler=batches,
        num_workers=min(max((os.cpu_count() or 1) // process.on_this_machine, 1), 8),
        persistent_workers=True,
        worker_init_fn=_one_thread_each,
        collate_fn=_batch,
        pin_memory=torch.cuda.is_available(),
    )


def _batches(data: StoredFeatures | Pictures, recipe: Recipe, process: Process, *, drop_last: bool) -> Batches:
    return Batches(EpochShuffle(len(data), recipe.seed), recipe.loop.batch_size, process, drop_last=drop_last)


def _batch(pictures: Sequence[tuple[Tensor, int]]) -> Batch:
    pixels, labels = zip(*pictures, strict=True)
    return Batch(torch.stack(pixels), torch.tensor(labels))


def _as_it_is(batch: Any) -> Any:
    return batch


def _one_thread_each(_: int) -> None:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
