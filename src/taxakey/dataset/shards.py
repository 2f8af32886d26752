"""The shards of a dataset: what their columns are, and how a table of prepared pictures becomes a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from taxakey.artifacts import open_atomically
from taxakey.records.table import SCHEMA as RECORD_SCHEMA

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
BOXES = pa.list_(pa.list_(pa.int32()))
SCHEMA = pa.schema(
    [
        ("image", IMAGE),
        *RECORD_SCHEMA,
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("masked", pa.bool_()),
        ("masked_boxes", BOXES),
    ]
)
"""`masked`: whether something was painted over; `masked_boxes`: where, a box as x and y of its four corners in pixels of the
stored picture, empty where nothing was found, null where nothing was looked for (no masking asked, or not a herbarium sheet)."""
PREPARED = SCHEMA.append(pa.field("reason", pa.string()))
"""With `reason`: why a picture can't be used, null for a good one."""
FAILURES = pa.schema([(name, pa.string()) for name in ("image_id", "occurrenceID", "path", "reason")])

_ROW_GROUP = 100


class Picture(NamedTuple):
    """A picture as it is stored, or the reason why it isn't."""

    data: bytes
    width: int
    height: int
    reason: str | None = None
    boxes: list[list[int]] | None = None
    """see `masked_boxes`"""


def prepared_rows(rows: pa.Table, pictures: list[Picture]) -> pa.Table:
    """Records and their pictures, in the same order, as one table of `PREPARED`."""
    images = [
        None if picture.reason else {"bytes": picture.data, "path": f"{name}.jpg"}
        for picture, name in zip(pictures, rows["image_id"].to_pylist(), strict=True)
    ]
    columns = [pa.array(images, IMAGE), *(rows[name] for name in RECORD_SCHEMA.names)]
    columns += [pa.array([getattr(picture, edge) for picture in pictures], pa.int32()) for edge in ("width", "height")]
    columns += [pa.array([bool(picture.boxes) for picture in pictures], pa.bool_())]
    columns += [pa.array([picture.boxes for picture in pictures], BOXES)]
    return pa.table([*columns, pa.array([picture.reason for picture in pictures], pa.string())], schema=PREPARED)


def write_shard(file: Path, prepared: pa.Table) -> None:
    """One Parquet file with the good pictures; the bad ones are listed in its metadata until the end of the build.

    So a shard and its failures appear together or not at all.
    """
    good = pc.is_null(prepared["reason"])
    failures = prepared.filter(pc.invert(good)).select(FAILURES.names).to_pylist()
    metadata = {"huggingface": json.dumps({"info": {"features": _features()}}), "taxakey.failures": json.dumps(failures)}
    table = prepared.filter(good).select(SCHEMA.names).combine_chunks().replace_schema_metadata(metadata)
    texts = [name for name in SCHEMA.names if name not in ("image", "masked_boxes")]
    boxes = "masked_boxes.list.element.list.element"
    with open_atomically(file) as aside:  # JPEGs don't shrink, and statistics of them would be pictures in the footer
        pq.write_table(
            table, aside, row_group_size=_ROW_GROUP, use_dictionary=texts, write_statistics=texts,
            compression={**dict.fromkeys([*texts, boxes], "zstd"), "image.bytes": "none", "image.path": "zstd"},
        )  # fmt: skip


def failures_of(shard: Path) -> list[dict[str, str | None]]:
    """The rows of `FAILURES` of a shard that was written."""
    return json.loads((pq.read_schema(shard).metadata or {})[b"taxakey.failures"])


def shards_of(folder: Path, part: str) -> list[Path]:
    """The shards of a part in their order."""
    return sorted((folder / "data").glob(f"{part}-[0-9]*-of-[0-9]*.parquet"))


def _features() -> dict[str, Any]:
    """The columns as the package `datasets` names their types."""
    return {field.name: {"_type": "Image"} if field.name == "image" else _feature(field.type) for field in SCHEMA}


def _feature(kind: pa.DataType) -> dict[str, Any]:
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "Sequence"}
    names = {pa.string(): "string", pa.bool_(): "bool", pa.int32(): "int32", pa.float64(): "float64"}
    return {"dtype": names[kind], "_type": "Value"}
