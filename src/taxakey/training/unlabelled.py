"""Pictures without a known species, which a student learns from by its teacher's answers alone.

They are a part of any dataset, whose names aren't looked at. Shapes: N pictures, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from taxakey.artifacts import hash_of
from taxakey.dataset.build import PARTS
from taxakey.dataset.partial import PARTIAL
from taxakey.dataset.reader import Dataset, JoinedPart, Part
from taxakey.dataset.vectors import Vectors
from taxakey.errors import BadInput


@dataclass(frozen=True, eq=False)
class Unlabelled:
    """A part of a dataset. `hash`: the dataset's."""

    part: Part
    hash: str

    @classmethod
    def open(cls, wanted: str) -> Unlabelled:
        """DATASET or DATASET:PART; without a part its training part."""
        folder, _, part = wanted.rpartition(":")
        if part not in (*PARTS, PARTIAL):
            folder, part = wanted, "train"
        return cls(Dataset.open(folder).part(part), hash_of(folder))

    @property
    def name(self) -> str:
        """For people: the dataset's folder and the part."""
        return f"{self.part.folder.resolve().name}:{self.part.name}"

    def beside(self, training: Part, dataset: Dataset, label: int) -> WithUnlabelled:
        """The training pictures and after them these, under one label.

        Left out is what has the id or the observation of a picture that the student is trained, validated or tested on; in
        another dataset also of one that a fraction left out, for ids must tell pictures apart. Raises BadInput where none is
        left.
        """
        whole = dataset if hash_of(dataset.folder) == self.hash else Dataset.open(dataset.folder)
        own = [training, *(whole.part(name) for name in PARTS)]
        images, observations = ({one for part in own for one in getattr(part, ids)} for ids in ("image_ids", "observation_ids"))
        pairs = zip(self.part.image_ids, self.part.observation_ids, strict=True)
        rows = [row for row, (image, of) in enumerate(pairs) if image not in images and of not in observations]
        if not rows:
            raise BadInput(
                f"{self.name}: the student is trained, validated or tested on every one of its {len(self.part):,} pictures, and "
                "unlabelled ones must be others; name another part or dataset, or train on a --fraction"
            )
        return WithUnlabelled(training, self.part.only(np.array(rows)).unnamed(), label, self.hash)


class WithUnlabelled(JoinedPart):
    """Training pictures, then unlabelled ones. `dataset`: the hash of the latter's."""

    def __init__(self, labelled: Part, unlabelled: Part, label: int, dataset: str) -> None:
        unlabelled.table = _as(unlabelled.table, labelled.table.schema)
        super().__init__([labelled, unlabelled], np.arange(len(labelled) + len(unlabelled)))
        self.label, self.dataset = label, dataset

    @cached_property
    def class_index(self) -> NDArray[np.int64]:
        labelled, unlabelled = self.parts
        return np.concatenate([labelled.class_index, np.full(len(unlabelled), self.label)])


def _as(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """With the columns of a schema; null for those that aren't there."""
    columns = {
        field.name: table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(len(table), field.type)
        for field in schema
    }
    return pa.table(columns, schema=schema)


def vectors_of(part: Part, stores: Sequence[Vectors]) -> NDArray[np.float32]:
    """Vectors [N, D] of a part's pictures: from the first store, of unlabelled ones from that which was made of their dataset.

    Raises BadInput where vectors are missing.
    """
    if not isinstance(part, WithUnlabelled):
        return stores[0].part(part.name, part.image_ids)
    labelled, unlabelled = part.parts
    more_ND = store_of(part, stores).part(unlabelled.name, unlabelled.image_ids)
    return np.concatenate([vectors_of(labelled, stores), more_ND])


def store_of(part: WithUnlabelled, stores: Sequence[Vectors]) -> Vectors:
    """The store that was made of the unlabelled pictures' dataset; BadInput where there is none."""
    for store in stores:
        if store.manifest.inputs.get("dataset") == part.dataset:
            return store
    raise BadInput(
        f"{', '.join(str(store.folder) for store in stores)}: no vectors of the unlabelled pictures in {part.parts[1].folder}; "
        "run `taxakey embed` on that dataset, with the same backbone, and name its folder too"
    )
