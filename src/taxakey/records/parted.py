"""Records -> the same records in parts: train, validation and test.

Beside the files of any records: split.parquet (group, part, half and fold of each picture).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa

from taxakey.artifacts import Manifest, Plan, finish, hash_of, read_manifest, start, write_parquet
from taxakey.records.splits import SplitOptions, assign, with_split
from taxakey.records.table import Observations


def write_split(
    folder: Path,
    out: Path,
    options: SplitOptions,
    *,
    joined: pa.Table | None = None,
    keep: bool = False,
    inputs: Mapping[str, str] | None = None,
) -> Manifest:
    """Split the artifact "records" in `folder` into `out`, an artifact "records" again; the parts that it has count only where
    `keep` says so.

    `joined`: see `splits.assign`; `inputs`: hashes of what it was made from.
    """
    recipe = {"split": asdict(options), "keep": keep}
    plan = Plan("records", {"records": hash_of(folder), **(inputs or {})}, recipe, options.seed)
    if start(out, plan) == "finished":
        return read_manifest(out, "records")
    given = Observations.read(folder)
    if not keep:
        given = with_split(given, pa.chunked_array([pa.nulls(len(given), pa.string())]))
    observations, counts = write_parts(out, given, options, joined)
    write_parquet(out / "observations.parquet", observations.table)
    write_parquet(out / "rejected.parquet", observations.rejected)
    return finish(out, plan, counts=counts | observations.counts())


def write_parts(
    out: Path, observations: Observations, options: SplitOptions, joined: pa.Table | None
) -> tuple[Observations, dict[str, int]]:
    """Write split.parquet; returns the observations with their parts, and counts of what had to give way."""
    assigned = assign(observations, options, joined=joined)
    write_parquet(out / "split.parquet", assigned.table)
    counts = {f"split: {fact}": number for fact, number in assigned.counts.items()}
    return with_split(observations, assigned.table["split"]), counts
