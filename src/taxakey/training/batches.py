"""Batches for the loop: stored features, or pictures decoded by worker processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from taxakey.dataset.preprocess import Preprocess, decode
from taxakey.dataset.reader import Part
from taxakey.training.recipe import Recipe


class StoredFeatures(Dataset):
    """Features and labels in memory; a whole batch is fetched by one indexing."""

    def __init__(self, features_ND: NDArray[np.float32], labels_N: NDArray[np.int64]) -> None:
        known = np.flatnonzero(labels_N >= 0)  # a validation species that was never trained has no column to compare with
        self.features_ND = torch.from_numpy(features_ND[known])
        self.labels_N = torch.from_numpy(labels_N[known])

    def __len__(self) -> int:
        return len(self.labels_N)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        return self.features_ND[row], self.labels_N[row]

    def __getitems__(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        picked = torch.as_tensor(rows)
        return self.features_ND[picked], self.labels_N[picked]


class Pictures(Dataset):
    """Pictures of a part, through the augmentation in training or the evaluation transform otherwise."""

    def __init__(self, part: Part, preprocess: Preprocess, augment: Callable[[NDArray[np.uint8]], Tensor] | None = None) -> None:
        self.part, self.preprocess, self.augment = part, preprocess, augment
        self.rows = np.flatnonzero(part.class_index >= 0)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        row = int(self.rows[index])
        label = int(self.part.class_index[row])
        if self.augment is not None:
            return self.augment(decode(self.part.image_bytes(row))), label
        return torch.from_numpy(self.preprocess.load(self.part.image_bytes(row))), label


def feature_loader(data: StoredFeatures, recipe: Recipe, *, training: bool) -> DataLoader:
    """Shuffled for training (by the recipe's seed), in order otherwise."""
    generator = torch.Generator().manual_seed(recipe.seed)
    size = recipe.loop.batch_size if training else 1024
    return DataLoader(data, size, shuffle=training, generator=generator, collate_fn=_as_it_is)


def picture_loader(data: Pictures, recipe: Recipe, *, training: bool) -> DataLoader:
    """The same for pictures; as many worker processes as there are cores, at most eight."""
    workers = min(os.cpu_count() or 1, 8)
    return DataLoader(
        data,
        recipe.loop.batch_size,
        shuffle=training,
        generator=torch.Generator().manual_seed(recipe.seed),
        num_workers=workers,
        persistent_workers=True,
        worker_init_fn=_one_thread_each,
        drop_last=training and len(data) > recipe.loop.batch_size,  # BatchNorm can't learn from a last batch of one
        pin_memory=torch.cuda.is_available(),
    )


def _as_it_is(batch: Any) -> Any:
    return batch


def _one_thread_each(_: int) -> None:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
