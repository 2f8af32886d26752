"""Opens what is to be explored: a records artifact, a dataset artifact, or anything that `taxakey records` can read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from taxakey.artifacts import Manifest, hash_of, kind_of, read_manifest
from taxakey.dataset.build import PARTS
from taxakey.dataset.reader import Dataset
from taxakey.errors import ArtifactError, BadInput
from taxakey.records.sources import read_source, source_hash
from taxakey.records.table import Observations
from taxakey.report.thumbnails import Load, from_paths, from_shards


@dataclass(frozen=True, eq=False)
class Explored:
    """`table`: columns of `records.table.SCHEMA`, and width and height of a dataset; `load`: a row's picture.

    `kind`: records, dataset or source; `refused`: rows or pictures that aren't in the table, by reason; `digest`: changes with
    the contents; `manifest` is None for a source.
    """

    table: pa.Table
    load: Load
    title: str
    kind: str
    digest: str
    refused: Mapping[str, int] = field(default_factory=dict)
    manifest: Manifest | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """What the page says of where the numbers come from."""
        if self.manifest is None:
            return {"kind": self.kind, "name": self.title}
        names = ("created", "taxakey", "seed", "taxonomy")
        return {"kind": self.kind, "name": self.title, **{name: getattr(self.manifest, name) for name in names}}


def open_explored(path: Path | str, columns: Mapping[str, str] | None = None) -> Explored:
    """Open `path`; `columns` (ours -> theirs) is for a CSV. Raises ArtifactError for another artifact, BadRecords, BadInput."""
    path = Path(path)
    kind = kind_of(path) if path.is_dir() else None
    if kind is not None and columns:
        raise BadInput(f"{path}: --column is for a CSV, and this is a finished {kind}; leave it out")
    if kind == "dataset":
        return _dataset(path)
    if kind == "records":
        return _records(path)
    if kind is not None:
        raise ArtifactError(f"{path}: holds {kind!r}; records or a dataset can be explored")
    observations = read_source(path, columns)
    title = path.resolve().stem if path.is_file() else path.resolve().name
    table = observations.table
    return Explored(table, from_paths(table), title, "source", source_hash(path), observations.rejections())


def _records(folder: Path) -> Explored:
    observations = Observations.read(folder)
    manifest = read_manifest(folder, "records")
    table = observations.table
    return Explored(
        table, from_paths(table), folder.resolve().name, "records", hash_of(folder), observations.rejections(), manifest
    )


def _dataset(folder: Path) -> Explored:
    dataset = Dataset.open(folder)
    table = pa.concat_tables([dataset.part(name).table for name in PARTS]).combine_chunks()
    failures = pq.read_metadata(folder / "failures.parquet").num_rows if (folder / "failures.parquet").is_file() else 0
    refused = {"picture can't be used (failures.parquet says why)": failures} if failures else {}
    name = folder.resolve().name
    return Explored(table, from_shards(folder), name, "dataset", hash_of(folder), refused, dataset.manifest)
