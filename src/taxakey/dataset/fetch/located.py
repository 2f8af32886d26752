"""Records and their fetched pictures, put together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from taxakey.artifacts import read_manifest
from taxakey.records.table import Observations

NOT_FETCHED = "picture not fetched"


def located(observations: Observations, pictures_folder: Path | str) -> Observations:
    """The records with the absolute path of each fetched picture; those without any file are rejected.

    Rows that had a path keep it. Raises MissingArtifact or ArtifactError unless the folder is one that `fetch` finished.
    """
    folder = Path(pictures_folder)
    read_manifest(folder, "pictures")
    pictures = pq.read_table(folder / "pictures.parquet", columns=["image_id", "path"])
    table, partial = (_with_paths(rows, pictures, folder) for rows in (observations.table, observations.partial))
    missing = pc.is_null(table["path"])
    return replace(observations, table=table, partial=partial).reject(
        missing, NOT_FETCHED, f"{folder / 'failures.parquet'} says why"
    )


def _with_paths(rows: pa.Table, pictures: pa.Table, folder: Path) -> pa.Table:
    at = pc.index_in(rows["image_id"], value_set=pictures["image_id"].combine_chunks())
    fetched = pc.binary_join_element_wise(str(folder.resolve()), pictures["path"].combine_chunks().take(at), "/")
    column = rows.schema.get_field_index("path")
    return rows.set_column(column, rows.schema.field(column), pc.coalesce(rows["path"], fetched))
