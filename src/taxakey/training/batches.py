"""Batches for the loop: stored features, or pictures decoded by worker processes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from taxakey.cpu_memory import keep_freed_memory
from taxakey.dataset.augment import Augment
from taxakey.dataset.preprocess import Preprocess, decode
from taxakey.dataset.reader import Part
from taxakey.training.mixing import MixingOptions
from taxakey.training.recipe import Recipe
from taxakey.training.samplers import Draw, one_seed
from taxakey.training.shared_batches import AHEAD, SharedLoader, SharedPixels
from taxakey.training.shares import ALONE, Batches, Process, Share

NOT_COUNTED = -1
"""Label of a picture that only fills up a process's last batch of validation: another process counts it."""


class Batch(NamedTuple):
    """What a step learns from: pixels [B, 3, H, W] or stored features [B, D], and class indices [B].

    `metadata` [B, M]: what is known of each picture besides, encoded. `mixed_labels` [B]: classes of the pictures that were mixed
    in, and `share` [B] of the first ones. `rows` [B]: which pictures these are, of those that are learnt from in their order;
    `mixed_rows` likewise.
    """

    inputs: Tensor
    labels: Tensor
    metadata: Tensor | None = None
    mixed_labels: Tensor | None = None
    share: Tensor | None = None
    rows: Tensor | None = None
    mixed_rows: Tensor | None = None


class EpochShuffle(Sampler[int]):
    """The rows that `draw` gives for each epoch.

    They follow from seed and epoch alone, so that a resumed run goes on as if never interrupted. Yields
    `number * pictures + row`: `number` counts what the run has shown, so that a picture shown again is changed in another way,
    and the worker processes, which outlive an epoch, needn't be told which one it is.
    """

    def __init__(self, draw: Draw, pictures: int) -> None:
        self.draw, self.pictures, self.epoch = draw, pictures, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.draw.length

    def __iter__(self) -> Iterator[int]:
        numbers = self.epoch * len(self) + np.arange(len(self))
        return iter((numbers * self.pictures + self.draw.rows(self.epoch)).tolist())


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

    def __getitems__(self, rows: Sequence[int]) -> tuple[Batch, int]:
        """The batch, and what tells it from all other batches of the run."""
        rows_B = torch.as_tensor(rows)
        picked = rows_B % len(self)
        metadata_BM = None if self.metadata_NM is None else self.metadata_NM[picked]
        labels_B = self.labels_N[picked].masked_fill(rows_B < 0, NOT_COUNTED)
        return Batch(self.features_ND[picked], labels_B, metadata_BM, rows=picked), rows[0]


class Pictures(Dataset):
    """Pictures of a part, through the augmentation in training or the evaluation transform otherwise.

    `metadata_NM`: of all its pictures.
    """

    def __init__(
        self,
        part: Part,
        preprocess: Preprocess,
        augment: Augment | None = None,
        *,
        seed: int = 0,
        metadata_NM: NDArray[np.float32] | None = None,
    ) -> None:
        self.part, self.preprocess, self.augment, self.seed = part, preprocess, augment, seed
        self.rows = np.flatnonzero(part.class_index >= 0)
        self.labels_N = part.class_index[self.rows]
        self.metadata_NM = None if metadata_NM is None else torch.from_numpy(metadata_NM[self.rows])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[NDArray, int]:
        """Pixels [h, w, 3], uint8 in training, where the device standardises them; and the class.

        A negative index only fills up a batch: its label is NOT_COUNTED.
        """
        row, label = int(self.rows[index % len(self)]), int(self.labels_N[index % len(self)])
        data = self.part.image_bytes(row)
        if self.augment is None:
            return self.preprocess.load(data).transpose(1, 2, 0), label if index >= 0 else NOT_COUNTED
        image = decode(data, target_edge=self.augment.decoded_edge)
        return self.augment(image, label, (self.seed << 64) + index), label

    def __getitems__(self, indices: list[int]) -> list[int]:
        """The indices themselves: `into` reads the pictures, one by one, to where the batch will be."""
        return indices

    def into(self, indices: Sequence[int], out_BHW3: Tensor, *, mixing: MixingOptions | None) -> Batch:
        """The batch, its pixels in `out`, whose layout (channels last) needs no turning round on its way to the network.

        A picture is copied there while it is still in the processor's cache.
        """
        labels = []
        for place, index in zip(out_BHW3.numpy(), indices, strict=True):
            place[:], label = self[index]
            labels.append(label)
        rows_B = torch.as_tensor(indices) % len(self)
        metadata_BM = None if self.metadata_NM is None else self.metadata_NM[rows_B]
        batch = Batch(out_BHW3.permute(0, 3, 1, 2), torch.tensor(labels), metadata_BM, rows=rows_B)
        if mixing is None:
            return batch
        mixed = _mixed((batch, indices[0]), mixing, self.seed)
        return mixed._replace(inputs=batch.inputs.copy_(mixed.inputs))


def feature_loader(data: StoredFeatures, recipe: Recipe, draw: Draw | None = None, process: Process = ALONE) -> DataLoader:
    """This process's share: for training as drawn, all in order without a draw."""
    if draw is None:
        return DataLoader(data, batch_sampler=BatchSampler(Share(len(data), process), 1024, False), collate_fn=_unmixed)
    mixed = partial(_mixed, mixing=recipe.mixing, seed=recipe.seed)
    batches = Batches(EpochShuffle(draw, len(data)), recipe.loop.batch_size, process)
    return DataLoader(data, batch_sampler=batches, collate_fn=mixed)


def picture_loader(data: Pictures, recipe: Recipe, draw: Draw | None = None, process: Process = ALONE) -> DataLoader:
    """The same for pictures; as many worker processes as there are cores for each process of the run, at most eight."""
    workers, size = min(max((os.cpu_count() or 1) // process.on_this_machine, 1), 8), recipe.loop.batch_size
    read = partial(data.into, mixing=recipe.mixing if draw else None)
    _, height, width = data.preprocess.input_size
    batches = BatchSampler(Share(len(data), process), size, False)
    if draw is not None:
        # BatchNorm can't learn from a last batch of one.
        batches = Batches(EpochShuffle(draw, len(data)), size, process, drop_last=draw.length > size * process.world)
    return SharedLoader(
        data,
        batch_sampler=batches,
        num_workers=workers,
        persistent_workers=True,
        prefetch_factor=AHEAD,
        worker_init_fn=_one_thread_each,
        collate_fn=SharedPixels(read, (size, height, width, 3), torch.uint8 if data.augment else torch.float32, workers),
    )


def _mixed(numbered: tuple[Batch, int], mixing: MixingOptions, seed: int) -> Batch:
    batch, number = numbered
    mixed = mixing.mix(batch.inputs, one_seed(seed, number))
    if mixed is None:
        return batch
    metadata = batch.metadata
    if metadata is not None:
        metadata = torch.lerp(metadata[mixed.partner], metadata, mixed.share[:, None])
    partners = None if batch.rows is None else batch.rows[mixed.partner]
    return Batch(mixed.inputs, batch.labels, metadata, batch.labels[mixed.partner], mixed.share, batch.rows, partners)


def _unmixed(numbered: Any) -> Batch:
    return numbered[0]


def _one_thread_each(_: int) -> None:
    keep_freed_memory()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
