"""Who made each picture and what may be done with it; and which of GBIF's datasets the records came from.

attribution.parquet, attribution.csv   a row a picture, see `LEDGER`
licences.csv                           pictures and observations by licence
derived-dataset.csv                    for https://www.gbif.org/derived-dataset: dataset key and records, no header line
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from taxakey.artifacts import open_atomically, write_parquet
from taxakey.dataset.build import PARTS, shards_of
from taxakey.dataset.reader import Dataset
from taxakey.records.licences import spdx, url_of

LEDGER = pa.schema(
    [
        (name, pa.string())
        for name in (
            "image_id", "file", "license", "license_delivered", "rightsHolder", "creator", "institutionCode", "identifier",
            "gbifID", "datasetKey",
        )
    ]
)  # fmt: skip
"""`license`: SPDX where it is one of Creative Commons, else as delivered; `file`: the shard, or the published file."""

_NAMING = ("identifier", "gbifID", "datasetKey")
"""What leads from a picture to its record, and so to its name."""

_UUID = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"


def ledger(dataset: Dataset, file_of: Mapping[str, str] | None = None, id_of: Mapping[str, str] | None = None) -> pa.Table:
    """A row of `LEDGER` for each picture of the dataset.

    With `file_of` and `id_of` (by image_id) it speaks of the files that were published under new names, and only of these; what
    leads to the name of a test picture is then left out, its licence, rights holder, creator and institution stay.
    """
    tables = [_rows(dataset, part, file_of, id_of) for part in PARTS]
    return pa.concat_tables(tables).combine_chunks()


def _rows(dataset: Dataset, part: str, file_of: Mapping[str, str] | None, id_of: Mapping[str, str] | None) -> pa.Table:
    table = dataset.part(part).table
    columns = {name: table[name] for name in LEDGER.names if name in table.column_names}
    columns["license_delivered"] = table["license"]
    columns["license"] = normalised(table["license"])
    columns["file"] = _shard_of_each(dataset.folder, part)
    if file_of is not None and id_of is not None:
        ids = table["image_id"].to_pylist()
        columns["image_id"] = pa.array([id_of.get(image) for image in ids], pa.string())
        columns["file"] = pa.array([file_of.get(image) for image in ids], pa.string())
        if part == "test":
            columns |= dict.fromkeys(_NAMING, pa.nulls(len(ids), pa.string()))
    rows = pa.table({name: columns[name] for name in LEDGER.names}).cast(LEDGER)
    rows = rows.filter(pc.is_valid(rows["image_id"]))
    # A dataset lies in the order of hashes of its occurrenceIDs, which everybody can compute: under new names it must not show.
    return rows.sort_by("file") if file_of is not None else rows


def _shard_of_each(folder: Path, part: str) -> pa.Array:
    names = [(f"data/{shard.name}", pq.read_metadata(shard).num_rows) for shard in shards_of(folder, part)]
    return pa.concat_arrays([pa.repeat(pa.scalar(name, pa.string()), rows) for name, rows in names])


def normalised(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Licences under one name each, whatever their spelling; what can't be told keeps its own words, null stays null."""
    encoded = pc.dictionary_encode(column)
    chunks = [pa.array([spdx(text) or text for text in chunk.dictionary.to_pylist()], pa.string()).take(chunk.indices)
              for chunk in encoded.chunks]  # fmt: skip
    return pa.chunked_array(chunks, pa.string())


def licence_totals(dataset: Dataset) -> pa.Table:
    """Pictures and observations by licence, the most frequent first; "" where none is given."""
    tables = [dataset.part(part).table.select(["license", "occurrenceID"]) for part in PARTS]
    rows = pa.concat_tables(tables)
    rows = rows.set_column(0, "license", pc.fill_null(normalised(rows["license"]), ""))
    counted = rows.group_by("license").aggregate([([], "count_all"), ("occurrenceID", "count_distinct")])
    counted = counted.sort_by([("count_all", "descending"), ("license", "ascending")])
    urls = pa.array([url_of(name) or "" for name in counted["license"].to_pylist()], pa.string())
    totals = [counted["license"], urls, counted["count_all"], counted["occurrenceID_count_distinct"]]
    return pa.table(totals, names=["license", "url", "images", "observations"])


def derived_dataset(dataset: Dataset) -> tuple[pa.Table, int]:
    """Records (not pictures) by datasetKey, and the number of records that come from no dataset of GBIF."""
    names = ["datasetKey", "gbifID", "occurrenceID"]
    rows = pa.concat_tables([dataset.part(part).table.select(names) for part in PARTS])
    records = pa.table({"key": pc.utf8_lower(rows["datasetKey"]), "record": pc.coalesce(rows["gbifID"], rows["occurrenceID"])})
    known = pc.fill_null(pc.match_substring_regex(records["key"], _UUID), False)
    counted = records.filter(known).group_by("key").aggregate([("record", "count_distinct")]).sort_by("key")
    without = pc.count_distinct(records.filter(pc.invert(known))["record"]).as_py()
    return pa.table([counted["key"], counted["record_count_distinct"]], names=["datasetKey", "count"]), without


def write_attribution(dataset: Dataset, out: Path, rows: pa.Table) -> int:
    """Write the four files of this module; returns the number of records that come from no dataset of GBIF."""
    write_parquet(out / "attribution.parquet", rows)
    _write_csv(out / "attribution.csv", rows)
    _write_csv(out / "licences.csv", licence_totals(dataset))
    derived, without = derived_dataset(dataset)
    _write_csv(out / "derived-dataset.csv", derived, for_gbif=True)
    return without


def _write_csv(path: Path, table: pa.Table, *, for_gbif: bool = False) -> None:
    """For GBIF without header and quotes, which numbers and dataset keys don't need."""
    style = pyarrow.csv.WriteOptions(include_header=not for_gbif, quoting_style="none" if for_gbif else "needed")
    with open_atomically(path) as file:
        pyarrow.csv.write_csv(table, file, style)
