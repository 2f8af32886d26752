"""A dataset on disk, opened for reading: its parts, classes, and any picture by its number.

Shapes: N images, C classes.
"""

from __future__ import annotations

import copy
import hashlib
import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from taxakey.artifacts import Manifest, hash_of, open_atomically, read_manifest
from taxakey.dataset.build import PARTS, shards_of
from taxakey.dataset.partial import PARTIAL
from taxakey.errors import ArtifactError, BadInput, MissingArtifact
from taxakey.predictions import Truth
from taxakey.records.table import PARTIAL_RANKS, SCHEMA
from taxakey.taxonomy import RANKS, Taxonomy

_BATCH_ROWS = 256
_copying = threading.Lock()


class Dataset:
    """A finished dataset; open it with `Dataset.open`."""

    def __init__(self, folder: Path, manifest: Manifest, taxonomy: Taxonomy) -> None:
        self.folder = folder
        self.manifest = manifest
        self.taxonomy = taxonomy
        self._parts: dict[str, Part] = {}

    @classmethod
    def open(cls, folder: Path | str) -> Dataset:
        """Raises MissingArtifact or ArtifactError where the folder isn't a finished dataset."""
        folder = Path(folder)
        manifest = read_manifest(folder, "dataset")
        return cls(folder, manifest, Taxonomy.read(folder / "taxonomy.parquet"))

    def part(self, name: str) -> Part:
        """The pictures of "train", "validation" or "test", or "partial" where such were kept; BadInput for another name."""
        if name == PARTIAL and (partial := self.partial()) is not None:
            return partial
        if name not in PARTS:
            raise BadInput(f"{name!r} is no part of a dataset; one of {', '.join(PARTS)}")
        if name not in self._parts:
            self._parts[name] = Part(self.folder, name, self.taxonomy)
        return self._parts[name]

    def fraction(self, share: float, seed: int) -> Dataset:
        """The same dataset with a part of the training and validation pictures; see `Part.fraction`. The test part stays."""
        smaller = Dataset(self.folder, self.manifest, self.taxonomy)
        smaller._parts = {name: self.part(name).fraction(share, seed) for name in ("train", "validation")}
        return smaller

    def partial(self) -> Part | None:
        """Pictures known to genus or family only (`BuildOptions.partial`), for training; None where none were kept."""
        if PARTIAL not in self._parts and shards_of(self.folder, PARTIAL):
            self._parts[PARTIAL] = Part(self.folder, PARTIAL, self.taxonomy)
        return self._parts.get(PARTIAL)

    def training(self, *, partial: bool) -> Part:
        """What is trained on: "train"; with `partial` those pictures too, under their taxon's label as `class_index`."""
        more = self.partial() if partial else None
        return self.part("train") if more is None else _PartlyLabelled([self.part("train"), more])

    def replaced(self, parts: Mapping[str, Part]) -> Dataset:
        """The same dataset with other pictures in some of its parts, for those who open it here; nothing is written."""
        other = Dataset(self.folder, self.manifest, self.taxonomy)
        other._parts = dict(parts)
        return other

    def among(self, taxonomy: Taxonomy) -> Dataset:
        """The same dataset with only the pictures of some of its species, numbered as in their taxonomy.

        Raises BadInput where one of them isn't a class here.
        """
        strangers = [
            name for name, index in zip(taxonomy.names, self.taxonomy.index_of(taxonomy.names), strict=True) if index < 0
        ]
        if strangers:
            raise BadInput(
                f"{self.folder}: it doesn't know {len(strangers):,} of {len(taxonomy):,} species (first: {strangers[0]})"
            )
        smaller = Dataset(self.folder, self.manifest, taxonomy)
        for name in PARTS:
            part = Part(self.folder, name, taxonomy)
            smaller._parts[name] = part.only(np.flatnonzero(part.class_index >= 0))
        return smaller

    def train_counts(self) -> NDArray[np.int64]:
        """Training pictures of each class, [C]; every class has at least one."""
        return np.bincount(self.part("train").class_index, minlength=len(self.taxonomy)).astype(np.int64)


class Part:
    """The pictures of one part, in the order of its shards. Can be pickled; a copy opens the files for itself."""

    def __init__(self, folder: Path, name: str, taxonomy: Taxonomy) -> None:
        self.folder = folder
        self.name = name
        self.taxonomy = taxonomy
        self.table = _read_columns(folder, name)
        self._rows_N: NDArray[np.int64] | None = None  # of the whole part, where this is some of it
        self._store: _Pictures | None = None

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_store": None}  # a memory map can't travel to another process

    def only(self, rows_N: NDArray[np.int64]) -> Part:
        """Some pictures of this part, in their order here, as a part of its own."""
        some = copy.copy(self)
        for name in ("class_index", "image_ids", "observation_ids"):
            some.__dict__.pop(name, None)
        some._rows_N = rows_N if self._rows_N is None else self._rows_N[rows_N]
        some.table = self.table.take(pa.array(rows_N))
        return some

    def unnamed(self) -> Part:
        """The same pictures without what they are: no names in the table, and no class."""
        same = self.only(np.arange(len(self)))
        for name in ("scientificName", "taxonRank", *RANKS[1:]):
            place = same.table.schema.get_field_index(name)
            if place >= 0:
                same.table = same.table.set_column(place, name, pa.nulls(len(self), pa.string()))
        return same

    def fraction(self, share: float, seed: int) -> Part:
        """A share of the observations of each species, rounded, at least one, with all their pictures of that species.

        Which ones follows from their occurrenceID and the seed: the first in the order of the MD5 of "{occurrenceID}:{seed}",
        so that a larger share holds the smaller one.
        """
        species, observations = self.table.column("scientificName").to_pylist(), self.observation_ids
        found: dict[str, set[str]] = {}
        for name, observation in zip(species, observations, strict=True):
            found.setdefault(name, set()).add(observation)
        kept = {
            name: set(sorted(ids, key=lambda i: _md5(f"{i}:{seed}"))[: max(1, round(len(ids) * share))])
            for name, ids in found.items()
        }
        rows = [
            row for row, (name, observation) in enumerate(zip(species, observations, strict=True)) if observation in kept[name]
        ]
        return self.only(np.array(rows, dtype=np.int64))

    @cached_property
    def class_index(self) -> NDArray[np.int64]:
        """Class of each picture, [N]; -1 where its species isn't in the taxonomy (no training picture)."""
        return self.taxonomy.index_of(self.table.column("scientificName").to_pylist())

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """As `class_index`; but a picture known to a genus or family of the taxonomy has a label from C on, [N].

        The genera stand there in the order of `taxonomy.taxa("genus")`, then the families likewise. A genus without a class
        counts as its family.
        """
        label_N, first = self.class_index.copy(), len(self.taxonomy)
        known_N = np.array([rank in PARTIAL_RANKS for rank in self.table.column("taxonRank").to_pylist()], dtype=bool)
        for rank in PARTIAL_RANKS:
            position_N = self.taxonomy.index_of(self.table.column(rank).to_pylist(), rank)
            label_N = np.where(known_N & (label_N < 0) & (position_N >= 0), first + position_N, label_N)
            first += len(self.taxonomy.taxa(rank))
        return label_N

    @cached_property
    def image_ids(self) -> list[str]:
        """image_id of each picture, [N]."""
        return self.table.column("image_id").to_pylist()

    @cached_property
    def observation_ids(self) -> list[str]:
        """occurrenceID of each picture, [N]; pictures of one observation stand together."""
        return self.table.column("occurrenceID").to_pylist()

    def truth(self) -> Truth:
        """Names of each picture, [N]. A class has the taxonomy's parents, a species outside it those of its own record."""
        return Truth(self.table.column("scientificName").to_pylist(), self._parents("genus"), self._parents("family"))

    def _parents(self, rank: str) -> list[str | None]:
        of_class = self.taxonomy.column(rank)
        own = self.table.column(rank).to_pylist()
        return [(of_class[index] if index >= 0 else name) or None for index, name in zip(self.class_index, own, strict=True)]

    def image_bytes(self, index: int) -> bytes:
        """The encoded picture number `index`. The first call makes the Arrow copy, if it isn't there."""
        if not 0 <= index < len(self):
            raise IndexError(f"picture {index} of part {self.name!r}, which has {len(self)}")
        if self._store is None:
            self._store = _Pictures(_arrow_copy(self.folder, self.name))
        return self._store[index if self._rows_N is None else int(self._rows_N[index])]


def require_pictures(part: Part) -> None:
    """Raise BadInput where a part is empty."""
    if not len(part):
        raise BadInput(
            f"{part.folder}: its part {part.name!r} has no pictures. Of few observations a species, larger shares give it some: "
            "taxakey split RECORDS PARTS --train 0.5 --validation 0.25 --test 0.25, then build and train on those"
        )


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


class JoinedPart(Part):
    """Pictures of several parts of a dataset as one; `name` joins theirs by "+", as the store of vectors understands it.

    `rows_N`: which of their pictures, counted through all of them, in the order wanted here.
    """

    def __init__(self, parts: Sequence[Part], rows_N: NDArray[np.int64]) -> None:
        self.folder, self.taxonomy = parts[0].folder, parts[0].taxonomy
        self.name = "+".join(part.name for part in parts)
        self.parts = tuple(parts)
        self.table = pa.concat_tables([part.table for part in parts]).take(pa.array(rows_N))
        self._starts = np.cumsum([0, *map(len, parts)])
        self._rows_N: NDArray[np.int64] = rows_N
        self._store = None

    def image_bytes(self, index: int) -> bytes:
        if not 0 <= index < len(self):
            raise IndexError(f"picture {index} of part {self.name!r}, which has {len(self)}")
        row = int(self._rows_N[index])
        part = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self.parts[part].image_bytes(row - int(self._starts[part]))


class _PartlyLabelled(JoinedPart):
    """All pictures of the parts, those without a species under the label of their taxon."""

    def __init__(self, parts: Sequence[Part]) -> None:
        super().__init__(parts, np.arange(sum(map(len, parts))))

    @cached_property
    def class_index(self) -> NDArray[np.int64]:
        return np.concatenate([part.labels for part in self.parts])


def _read_columns(folder: Path, name: str) -> pa.Table:
    """All columns but the pictures; those that came after the dataset was written are empty."""
    shards = shards_of(folder, name)
    if not shards:
        raise MissingArtifact(f"{folder / 'data'}: no shards of the part {name!r}; delete the folder and build it again")
    schema = pq.read_schema(shards[0]).remove_metadata()
    columns = [column for column in schema.names if column != "image"]
    tables = [pq.read_table(shard, columns=columns).replace_schema_metadata() for shard in shards]
    table = pa.concat_tables(tables).combine_chunks()
    for field in SCHEMA:
        if field.name not in table.column_names and field.name != "split":  # that one the shards' names say
            table = table.append_column(field, pa.nulls(len(table), field.type))
    return table


class _Pictures:
    """Random access to a memory-mapped Arrow file with one column of bytes."""

    def __init__(self, file: Path) -> None:
        reader = pa.ipc.open_file(pa.memory_map(str(file)))
        self._batches = [reader.get_batch(number).column(0) for number in range(reader.num_record_batches)]
        self._starts = np.cumsum([0, *(len(batch) for batch in self._batches)])

    def __getitem__(self, index: int) -> bytes:
        batch = int(np.searchsorted(self._starts, index, side="right")) - 1
        return bytes(self._batches[batch][index - int(self._starts[batch])].as_py())


def _arrow_copy(folder: Path, name: str) -> Path:
    """Path of the copy that fits this dataset, made when it's missing. Several processes may do so at once: the last one wins."""
    file = folder / "arrow" / f"{name}.arrow"
    dataset = hash_of(folder)
    with _copying:
        if file.is_file():
            with pa.memory_map(str(file)) as source:
                if (pa.ipc.open_file(source).schema.metadata or {}).get(b"dataset") == dataset.encode():
                    return file
        try:
            _copy(folder, name, file, dataset)
        except PermissionError as error:
            raise ArtifactError(
                f"{error.filename}: can't be written, and random access needs it; copy the dataset to a folder of your own"
            ) from None
    return file


def _copy(folder: Path, name: str, file: Path, dataset: str) -> None:
    schema = pa.schema([("bytes", pa.large_binary())], metadata={"dataset": dataset})
    with open_atomically(file) as aside, pa.ipc.new_file(aside, schema) as writer:
        for shard in shards_of(folder, name):
            with pq.ParquetFile(shard) as source:
                for batch in source.iter_batches(_BATCH_ROWS, columns=["image.bytes"]):
                    data = batch.column("image").field("bytes").cast(pa.large_binary())
                    writer.write_batch(pa.record_batch([data], schema=schema))
