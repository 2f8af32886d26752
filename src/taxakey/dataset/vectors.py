"""The store of embeddings: written shard by shard, read memory-mapped. No torch.

An "embeddings" artifact holds, per part of a dataset, files `vectors/train-00000.arrow` (Arrow IPC, uncompressed) with the
columns `image_id` and `vector` (fixed-size list of float32). Rows stand in the order of the dataset's part.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from taxakey.artifacts import Manifest, open_atomically, read_manifest
from taxakey.dataset.preprocess import Preprocess
from taxakey.errors import BadInput


def shard_file(folder: Path | str, part: str, shard: int) -> Path:
    """Where the vectors of a shard lie."""
    return Path(folder) / "vectors" / f"{part}-{shard:05d}.arrow"


def write_shard(path: Path, image_ids: Sequence[str], vectors_ND: NDArray[np.float32]) -> None:
    """Write one shard, atomically."""
    flat = pa.array(np.ascontiguousarray(vectors_ND, dtype=np.float32).reshape(-1))
    vectors = pa.FixedSizeListArray.from_arrays(flat, vectors_ND.shape[1])
    table = pa.table({"image_id": pa.array(image_ids, pa.string()), "vector": vectors})
    with open_atomically(path) as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


class Vectors:
    """A finished embeddings artifact."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.manifest: Manifest = read_manifest(folder, "embeddings")

    @property
    def width(self) -> int:
        """D, the length of a vector."""
        return self.manifest.counts["width"]

    @property
    def backbone_hash(self) -> str:
        """Hash of the weights that computed the vectors (`models.backbones.state_hash`)."""
        return self.manifest.recipe["backbone_hash"]

    def come_from(self, backbone_hash: str, preprocess: Preprocess) -> bool:
        """Whether these weights computed them, from pictures prepared like this: at 160 px they say other things than at 224."""
        return self.backbone_hash == backbone_hash and Preprocess.from_config(self.manifest.recipe["preprocess"]) == preprocess

    def part(self, name: str, image_ids: Sequence[str]) -> NDArray[np.float32]:
        """Vectors [N, D] of these pictures of a part, all of it or some; BadInput unless each of them is stored.

        Several parts are named as "train+validation".
        """
        folder = self.folder / "vectors"
        files = [file for one in name.split("+") for file in sorted(folder.glob(f"{one}-*.arrow"))]
        tables = [pa.ipc.open_file(pa.memory_map(str(file))).read_all() for file in files]
        stored = [image_id for table in tables for image_id in table.column("image_id").to_pylist()]
        place = {image_id: number for number, image_id in enumerate(stored)}
        if not place.keys() >= set(image_ids):
            raise BadInput(
                f"{self.folder}: its {len(stored):,} vectors of {name!r} aren't those of this dataset's {len(image_ids):,} "
                "pictures; run `taxakey embed` on this dataset"
            )
        if not tables:
            return np.zeros((0, self.width), dtype=np.float32)
        columns = [chunk for table in tables for chunk in table.column("vector").chunks]
        vectors_ND = np.concatenate([chunk.flatten().to_numpy().reshape(len(chunk), -1) for chunk in columns])
        whole = stored == list(image_ids)
        return vectors_ND if whole else vectors_ND[[place[image_id] for image_id in image_ids]]
