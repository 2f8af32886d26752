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
from torch.utils.data import DataLoader, Dataset, Sampler

from taxakey.dataset.preprocess import Preprocess, decode
from taxakey.dataset.reader import Part
from taxakey.training.recipe import Recipe


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
    """Features, labels and metadata in memory; a whole batch is fetched by one indexing."""

    def __init__(
        self, features_ND: NDArray[np.float32], labels_N: NDArray[np.int64], metadata_NM: NDArray[np.float32] | None = None
    ) -> None:
        known = np.flatnonzero(labels_N >= 0)  # a validation species that was never trained has no column to compare with
        self.features_ND = torch.from_numpy(features_ND[known])
        self.labels_N = torch.from_numpy(labels_N[known])
        self.metadata_NM = None if metadata_NM is None else torch.from_numpy(metadata_NM[known])

    def __len__(self) -> int:
        return len(self.labels_N)

    def __getitems__(self, rows: Sequence[int]) -> Batch:
        picked = torch.as_tensor(rows) % len(self)
        metadata_BM = None if self.metadata_NM is None else self.metadata_NM[picked]
        return Batch(self.features_ND[picked], self.labels_N[picked], metadata_BM)


class Pictures(Dataset):
    """Pictures of a part, through the augmentation in training or the evaluation transform otherwise."""

    def __init__(
        self,
        part: Part,
        preprocess: Preprocess,
        augment: Callable[[NDArray[np.uint8]], Tensor] | None = None,
        *,
        seed: int = 0,
        metadata_NM: NDArray[np.float32] | None = None,
    ) -> None:
        self.part, self.preprocess, self.augment, self.seed = part, preprocess, augment, seed
        self.metadata_NM = metadata_NM
        self.rows = np.flatnonzero(part.class_index >= 0)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, int, Tensor | None]:
        row = int(self.rows[index % len(self)])
        label = int(self.part.class_index[row])
        metadata_M = None if self.metadata_NM is None else torch.from_numpy(self.metadata_NM[row])
        if self.augment is not None:
            torch.manual_seed(_mix(self.seed, index))  # in a worker process: what happens to a picture in an epoch is fixed
            return self.augment(decode(self.part.image_bytes(row))), label, metadata_M
        return torch.from_numpy(self.preprocess.load(self.part.image_bytes(row))), label, metadata_M


def feature_loader(data: StoredFeatures, recipe: Recipe, *, training: bool) -> DataLoader:
    """Shuffled for training (by the recipe's seed), in order otherwise."""
    if not training:
        return DataLoader(data, 1024, collate_fn=_as_it_is)
    sampler = EpochShuffle(len(data), recipe.seed)
    return DataLoader(data, recipe.loop.batch_size, sampler=sampler, collate_fn=_as_it_is)


def picture_loader(data: Pictures, recipe: Recipe, *, training: bool) -> DataLoader:
    """The same for pictures; as many worker processes as there are cores, at most eight."""
    workers = min(os.cpu_count() or 1, 8)
    return DataLoader(
        data,
        recipe.loop.batch_size,
        sampler=EpochShuffle(len(data), recipe.seed) if training else None,
        num_workers=workers,
        persistent_workers=True,
        worker_init_fn=_one_thread_each,
        collate_fn=_batch,
        drop_last=training and len(data) > recipe.loop.batch_size,  # BatchNorm can't learn from a last batch of one
        pin_memory=torch.cuda.is_available(),
    )


def _batch(pictures: Sequence[tuple[Tensor, int, Tensor | None]]) -> Batch:
    pixels, labels, metadata = zip(*pictures, strict=True)
    return Batch(torch.stack(pixels), torch.tensor(labels), None if metadata[0] is None else torch.stack(metadata))


def _as_it_is(batch: Any) -> Any:
    return batch


def _one_thread_each(_: int) -> None:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
