"""Records -> fewer records: the artifact of a selection, with an account of everything that isn't in it.

Beside the files of any records: flow.json (rows after each rule, and what it dropped), dropped.parquet (every row that was
dropped, and why), counts.parquet (pictures by accepted name, host and reason), hosts.csv (where hosts were chosen), split.parquet
(see `parted.py`, where it was split).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from taxakey.artifacts import Manifest, Plan, finish, hash_of, read_manifest, start, write_parquet
from taxakey.records.coverage import write_csv
from taxakey.records.engines import EngineName, open_engine
from taxakey.records.flow import write_flow
from taxakey.records.parted import write_parts
from taxakey.records.selection import Selection, SelectionOptions, select
from taxakey.records.splits import SplitOptions
from taxakey.records.table import Observations, read_partial


def write_selection(
    folders: Sequence[Path],
    out: Path,
    options: SelectionOptions,
    *,
    names: pa.Table | None = None,
    inspection: pa.Table | None = None,
    paths: pa.Table | None = None,
    split_options: SplitOptions | None = None,
    joined: pa.Table | None = None,
    engine: EngineName = "duckdb",
    inputs: Mapping[str, str] | None = None,
) -> Manifest:
    """Select from the artifacts "records" in `folders` into `out`, an artifact "records" again; with `split_options`, split too.

    `names`, `inspection`: see `selection.select`; `paths`: see `Observations.with_paths`; `joined`: see
    `splits.assign`; `inputs`: hashes of what these were made from. The engine changes no row, and so isn't part of the plan.
    """
    hashes = {f"records {number}": hash_of(folder) for number, folder in enumerate(folders, 1)} | dict(inputs or {})
    recipe = {"selection": _plain(asdict(options)), "split": None if split_options is None else asdict(split_options)}
    plan = Plan("records", hashes, recipe, options.seed)
    if start(out, plan) == "finished":
        return read_manifest(out, "records")
    with open_engine(engine, spill=out / "spill") as opened:
        opened.read("observations", [folder / "observations.parquet" for folder in folders])
        aside = out / f".dropped.{os.getpid()}.partial"
        selection = select(opened, options, names=names, inspection=inspection, dropped=aside)
    _replace(aside, out / "dropped.parquet")
    shutil.rmtree(out / "spill", ignore_errors=True)  # DuckDB makes it when memory runs out
    partial = pa.concat_tables(list(map(read_partial, folders)))
    observations = Observations(selection.table, _rejected(folders), selection.repaired, partial)
    if paths is not None:
        observations = observations.with_paths(paths)
    counts: dict[str, int] = {}
    if split_options is not None:
        observations, counts = write_parts(out, observations, split_options, joined)
    _write_tables(out, selection, observations)
    counts |= observations.counts() | {f"step: {step.step}": step.kept for step in selection.flow}
    return finish(out, plan, counts=counts)


def _replace(written: Path, place: Path) -> None:
    """A file takes the place of what an interrupted run left, and so does a folder, which is what Spark writes."""
    if place.is_dir():
        shutil.rmtree(place)
    os.replace(written, place)


def _rejected(folders: Iterable[Path]) -> pa.Table:
    return pa.concat_tables([pq.read_table(folder / "rejected.parquet") for folder in folders])


def _write_tables(out: Path, selection: Selection, observations: Observations) -> None:
    write_parquet(out / "observations.parquet", observations.table)
    write_parquet(out / "rejected.parquet", observations.rejected)
    observations.write_partial(out)
    write_parquet(out / "counts.parquet", selection.counts)
    write_flow(out / "flow.json", selection.flow)
    if selection.hosts is not None:
        write_csv(out / "hosts.csv", selection.hosts.table())


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
