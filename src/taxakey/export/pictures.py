"""The pictures that an exported model is judged on, and those that its ranges of numbers are taken from.

Shapes: N pictures, B of a batch, M metadata inputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from taxakey.dataset.preprocess import Preprocess
from taxakey.dataset.reader import Dataset, Part
from taxakey.errors import BadInput
from taxakey.export.onnx_file import noise, patches
from taxakey.metadata.encoder import MetadataEncoder

BATCH = 8
Given = dict[str, NDArray[np.float32]]
"""What a model is given: `pixels` [B, 3, H, W], and `metadata` [B, M] where it takes them."""


class Pictures(Protocol):
    """Some pictures, prepared anew each time they are asked for: none are held."""

    @property
    def words(self) -> str:
        """What they are, for people."""

    def __len__(self) -> int: ...

    def batches(self) -> Iterator[Given]:
        """BATCH at a time, always in the same order."""


@dataclass(frozen=True, eq=False)
class RealPictures:
    """Pictures of a dataset's part."""

    rows: Part
    preprocess: Preprocess
    metadata: MetadataEncoder | None

    @property
    def words(self) -> str:
        return f"{len(self.rows):,} {self.rows.name} pictures"

    def __len__(self) -> int:
        return len(self.rows)

    def batches(self) -> Iterator[Given]:
        for first in range(0, len(self), BATCH):
            some = range(first, min(first + BATCH, len(self)))
            given = {"pixels": np.stack([self.preprocess.load(self.rows.image_bytes(index)) for index in some])}
            if self.metadata is not None:
                given["metadata"] = self.metadata.encode(self.rows.table.slice(first, len(some)))
            yield given


@dataclass(frozen=True)
class DrawnPictures:
    """Noise and patches, for who has no dataset at hand. `metadata`: M, 0 for none."""

    size: tuple[int, int, int]
    metadata: int
    count: int = 32

    @property
    def words(self) -> str:
        return f"{self.count} drawn pictures"

    def __len__(self) -> int:
        return self.count

    def batches(self) -> Iterator[Given]:
        generator = np.random.default_rng(1)
        for first in range(0, self.count, BATCH):
            batch = min(BATCH, self.count - first)
            given = {"pixels": (noise, patches)[first // BATCH % 2](generator, batch, self.size)}
            if self.metadata:
                given["metadata"] = generator.uniform(-1, 1, (batch, self.metadata)).astype(np.float32)
            yield given


def validation_pictures(
    dataset_folder: Path | str, count: int, preprocess: Preprocess, metadata: MetadataEncoder | None
) -> tuple[RealPictures, RealPictures]:
    """`count` pictures of validation, drawn by a fixed seed, and as many others: to judge by, and to fit to.

    Of a small part the half for each. Raises BadInput where it has fewer than two.
    """
    part = Dataset.open(dataset_folder).part("validation")
    if len(part) < 2:
        raise BadInput(f"{dataset_folder}: its validation part has {len(part)} pictures; an export is verified on two or more")
    each = min(count, len(part) // 2)
    drawn = np.random.default_rng(0).permutation(len(part))
    judged, fitted = (part.only(np.sort(rows)) for rows in (drawn[:each], drawn[each : 2 * each]))
    return RealPictures(judged, preprocess, metadata), RealPictures(fitted, preprocess, metadata)
