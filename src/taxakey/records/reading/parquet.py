"""Parquet files, GBIF's snapshots among them -> tables of text, only the columns wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from taxakey.errors import BadRecords
from taxakey.records.reading.delimited import Compactor, stack

_MAGIC = b"PAR1"


def parts_of(path: Path) -> list[Path]:
    """The Parquet files that `path` is: itself, or the parts in a folder (GBIF's have names such as 000001); empty if none."""
    files = [path]
    if path.is_dir():
        inner = path / "occurrence.parquet"
        files = sorted(file for file in (inner if inner.is_dir() else path).iterdir() if not file.name.startswith((".", "_")))
    return [file for file in files if file.is_file() and _is_parquet(file)]


def _is_parquet(file: Path) -> bool:
    with open(file, "rb") as opened:
        return opened.read(4) == _MAGIC


def column_names(path: Path) -> list[str]:
    """Names of the columns; raises BadRecords where the parts differ in them or can't be read."""
    parts = parts_of(path)
    schemas = [_open(part).schema_arrow.names for part in parts]
    if not schemas:
        raise BadRecords(f"{path}: not a Parquet file; name one, or a folder of the parts of one")
    for part, names in zip(parts, schemas, strict=True):
        if names != schemas[0]:
            raise BadRecords(f"{part}: has other columns than {parts[0].name}; put tables that differ into folders of their own")
    return list(schemas[0])


def read_columns(path: Path, wanted: Mapping[str, Sequence[str]]) -> pa.Table:
    """Columns `wanted` of all parts as text (ours -> theirs, the first that isn't empty counts); lists have bars in them."""
    theirs = sorted({name for names in wanted.values() for name in names})
    compact = Compactor()
    tables = []
    for part in parts_of(path):
        for batch in _open(part).iter_batches(columns=theirs):
            text = {name: _as_text(batch.column(name), part, name) for name in theirs}
            tables.append(compact({ours: pc.coalesce(*(text[name] for name in names)) for ours, names in wanted.items()}))
    return stack(tables) if tables else pa.table({name: pa.array([], pa.string()) for name in wanted})


def _open(file: Path) -> Any:
    try:
        return pq.ParquetFile(file)
    except pa.ArrowInvalid as error:
        raise BadRecords(f"{file}: can't be read as Parquet ({error}); download it again") from None


def _as_text(column: pa.Array, file: Path, name: str) -> pa.Array:
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        ends = np.cumsum(pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False))
        values = _as_text(pc.list_flatten(column), file, name)
        column = pc.binary_join(pa.ListArray.from_arrays(pa.array(np.r_[0, ends], pa.int32()), values), " | ")
    if pa.types.is_struct(kind):
        return _as_text(pc.struct_field(column, [0]), file, name)
    if pa.types.is_boolean(kind):
        column = pc.if_else(column, "true", "false")
    try:
        text = pc.utf8_trim_whitespace(column.cast(pa.string()))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise BadRecords(f"{file}: the column {name!r} can't be made text ({error}); write it as text") from None
    return pc.if_else(pc.equal(text, ""), None, text)
