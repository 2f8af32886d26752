"""A few small pictures of each of the largest families, the same at every run and bounded in number and bytes."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import simplejpeg

from taxakey.dataset.build import PARTS, shards_of
from taxakey.dataset.preprocess import decode
from taxakey.errors import BadImage, BadInput
from taxakey.progress import track

Load = Callable[[int], bytes | Path | None]
"""Row of the explored table -> its encoded picture or the picture's file; None where no file is known."""

_MOST_BYTES = 3 * 2**20


@dataclass(frozen=True)
class SampleOptions:
    """How many pictures of how many families, and their longest edge in pixels."""

    families: int = 24
    pictures: int = 5
    edge: int = 200

    def __post_init__(self) -> None:
        if not (0 <= self.families <= 300 and 1 <= self.pictures <= 20 and 32 <= self.edge <= 512):
            raise BadInput(
                f"{self.families} families (0 to 300), {self.pictures} pictures of each (1 to 20), edge {self.edge} (32 to 512)"
            )


@dataclass(frozen=True)
class Thumbnail:
    """A small JPEG of a species."""

    scientific_name: str
    jpeg: bytes


@dataclass(frozen=True)
class Samples:
    """Thumbnails by family, the largest family first; `unreadable`: pictures that were drawn and couldn't be shown."""

    families: dict[str, list[Thumbnail]]
    unreadable: int = 0


def draw_samples(table: pa.Table, load: Load, options: SampleOptions | None = None) -> Samples:
    """Of each of the families with most pictures some pictures, of as many species as it has, chosen by a hash of their ids.

    Stops at 3 MiB of thumbnails; a family that has begun is finished. A picture that can't be read is counted, not replaced.
    """
    options = options or SampleOptions()
    chosen = _choose(table, options)
    names, found, unreadable, size = table["scientificName"], {}, 0, 0
    for family, rows in track(chosen.items(), "sample pictures", total=len(chosen)):
        sources = [(row, load(row)) for row in rows]
        small = [(row, _shrink(source, options.edge)) for row, source in sources if source is not None]
        unreadable += sum(jpeg is None for _, jpeg in small)
        found[family] = [Thumbnail(names[row].as_py(), jpeg) for row, jpeg in small if jpeg is not None]
        size += sum(len(jpeg) for _, jpeg in small if jpeg is not None)
        if size > _MOST_BYTES:
            break
    return Samples({family: pictures for family, pictures in found.items() if pictures}, unreadable)


def _choose(table: pa.Table, options: SampleOptions) -> dict[str, list[int]]:
    """Rows by family: one of each species in turn, until there are enough."""
    counts = table["family"].value_counts().to_pylist()
    largest = sorted(
        ((pair["counts"], pair["values"]) for pair in counts if pair["values"]), key=lambda pair: (-pair[0], pair[1])
    )
    chosen = {}
    for _, family in largest[: options.families]:
        rows = np.flatnonzero(pc.fill_null(pc.equal(table["family"], family), False).to_numpy(zero_copy_only=False))
        ids, names = (table[name].take(pa.array(rows)).to_pylist() for name in ("image_id", "scientificName"))
        turn: Counter[str] = Counter()
        drawn = []
        for digest, name, row in sorted(zip(map(_hash, ids), names, rows.tolist(), strict=True)):
            turn[name] += 1
            drawn.append((turn[name], digest, row))
        chosen[family] = [row for *_, row in sorted(drawn)[: options.pictures]]
    return chosen


def _hash(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _shrink(source: bytes | Path, edge: int) -> bytes | None:
    """A JPEG with its longest edge at most `edge`; None for what can't be read."""
    try:
        image = decode(source, name="a sample picture", target_edge=edge)
    except BadImage:
        return None  # counted by the caller and said on the page
    ratio = min(1.0, edge / max(image.shape[:2]))
    size = max(1, round(image.shape[1] * ratio)), max(1, round(image.shape[0] * ratio))
    small = np.ascontiguousarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
    return simplejpeg.encode_jpeg(small, quality=72, colorspace="RGB", colorsubsampling="420")


# ---- where pictures are ----


def from_paths(table: pa.Table) -> Load:
    """Pictures that lie as files where the rows say."""
    paths = table["path"]

    def load(row: int) -> Path | None:
        path = paths[row].as_py()
        return Path(path) if path else None

    return load


def from_shards(folder: Path) -> Load:
    """Pictures of a dataset, by their place in its parts one after another; no copy of the dataset is made."""
    shards = [shard for part in PARTS for shard in shards_of(folder, part)]
    starts = np.cumsum([0, *(pq.read_metadata(shard).num_rows for shard in shards)])

    def load(row: int) -> bytes:
        number = int(np.searchsorted(starts, row, side="right")) - 1
        return _read_picture(shards[number], row - int(starts[number]))

    return load


def _read_picture(shard: Path, row: int) -> bytes:
    """Only the row group that holds it is read."""
    with pq.ParquetFile(shard) as file:
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if row < rows:
                column = file.read_row_group(group, columns=["image.bytes"])["image"]
                return bytes(pc.struct_field(column, "bytes")[row].as_py())
            row -= rows
    raise IndexError(f"row {row} is beyond the end of {shard}")
