"""Coverage, the headline of a benchmark (NAFlora-1M): how many of the checklist's species have records, enough pictures, and a
place in the dataset, by family; and which are missing."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from taxakey.artifacts import open_atomically

COVERAGE = pa.schema(
    [("scientificName", pa.string()), ("family", pa.string())] + [(name, pa.int64()) for name in ("records", "usable", "images")]
)
"""A row a species of the checklist: pictures found, pictures that no rule dropped, pictures in the dataset."""

FAMILIES = pa.schema(
    [("family", pa.string())] + [(name, pa.int64()) for name in ("species", "with_records", "with_enough", "in_dataset")]
)


def coverage(species: pa.Table, counts: pa.Table, selected: pa.Table) -> pa.Table:
    """Columns of `COVERAGE`, by name. `species`: scientificName and family of the checklist's accepted species, one row each;
    `counts` and `selected`: of `selection.Selection` (counts and table)."""
    found = counts.group_by("accepted").aggregate([("images", "sum")])
    usable = counts.filter(pc.is_null(counts["dropped"])).group_by("accepted").aggregate([("images", "sum")])
    kept = pc.value_counts(selected["scientificName"].combine_chunks())
    columns = [
        _looked_up(species["scientificName"], found["accepted"], found["images_sum"]),
        _looked_up(species["scientificName"], usable["accepted"], usable["images_sum"]),
        _looked_up(species["scientificName"], kept.field("values"), kept.field("counts")),
    ]
    table = pa.table([species["scientificName"], species["family"], *columns], names=COVERAGE.names)
    return table.cast(COVERAGE).sort_by("scientificName").combine_chunks()


def _looked_up(names: pa.ChunkedArray, keys: pa.Array, values: pa.Array) -> pa.ChunkedArray:
    if isinstance(keys, pa.ChunkedArray):
        keys, values = keys.combine_chunks(), values.combine_chunks()
    return pc.fill_null(values.cast(pa.int64()).take(pc.index_in(names, keys.cast(pa.string()), skip_nulls=True)), 0)


def by_family(table: pa.Table, enough: int) -> pa.Table:
    """Columns of `FAMILIES` from those of `COVERAGE`; `enough`: usable pictures that a species needs. Families by name."""
    flags = {
        "with_records": pc.greater(table["records"], 0),
        "with_enough": pc.greater_equal(table["usable"], enough),
        "in_dataset": pc.greater(table["images"], 0),
    }
    flagged = pa.table({"family": table["family"], **{name: flag.cast(pa.int64()) for name, flag in flags.items()}})
    grouped = flagged.group_by("family").aggregate([([], "count_all"), *((name, "sum") for name in flags)])
    grouped = grouped.rename_columns(["family", "species", *flags])
    return grouped.select(FAMILIES.names).cast(FAMILIES).sort_by("family").combine_chunks()


def write_coverage(folder: Path, species: pa.Table, counts: pa.Table, selected: pa.Table, enough: int) -> None:
    """Write coverage.csv and coverage_by_family.csv; the arguments are those of `coverage` and `by_family`."""
    table = coverage(species, counts, selected)
    write_csv(folder / "coverage.csv", table)
    write_csv(folder / "coverage_by_family.csv", by_family(table, enough))


def write_csv(path: Path, table: pa.Table) -> None:
    """Write a table as CSV, whole or not at all."""
    with open_atomically(path) as file:
        pyarrow.csv.write_csv(table, file)
