"""Records -> fewer records: the artifact of a selection, with an account of everything that isn't in it.

Beside the files of any records: flow.json (rows after each rule, and what it dropped), dropped.parquet (every row that was
dropped, and why), counts.parquet (pictures by accepted name, host and reason), hosts.csv (where hosts were chosen), split.parquet
(group, part, half and fold of each picture, where it was split).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from taxakey.artifacts import Manifest, Plan, finish, hash_of, read_manifest, start, write_json, write_parquet
from taxakey.records.coverage import write_csv
from taxakey.records.engines import EngineName, open_engine
from taxakey.records.selection import Selection, SelectionOptions, Step, select
from taxakey.records.splits import SplitOptions, assign, with_split
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

    `names`, `inspection`: see `selection.select`; `paths`: image_id and path of pictures that were fetched; `joined`: see
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
    table = selection.table if paths is None else _with_paths(selection.table, paths)
    partial = pa.concat_tables(list(map(read_partial, folders)))
    partial = partial if paths is None else _with_paths(partial, paths)
    observations = Observations(table, _rejected(folders), selection.repaired, partial)
    counts = {}
    if split_options is not None:
        assigned = assign(observations, split_options, joined=joined)
        write_parquet(out / "split.parquet", assigned.table)
        observations = with_split(observations, assigned.table["split"])
        counts = {f"split: {fact}": number for fact, number in assigned.counts.items()}
    _write_tables(out, selection, observations)
    counts |= observations.counts() | {f"step: {step.step}": step.kept for step in selection.flow}
    return finish(out, plan, counts=counts)


def _with_paths(table: pa.Table, paths: pa.Table) -> pa.Table:
    """A fetched file goes before the path that a record has."""
    fetched = paths["path"].combine_chunks().take(pc.index_in(table["image_id"], paths["image_id"].combine_chunks()))
    column = table.schema.get_field_index("path")
    return table.set_column(column, table.schema.field(column), pc.coalesce(fetched, table["path"]))


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
    write_json(out / "flow.json", [asdict(step) for step in selection.flow])
    if selection.hosts is not None:
        write_csv(out / "hosts.csv", selection.hosts.table())


def flow_lines(flow: Sequence[Step] | Sequence[Mapping[str, Any]]) -> list[str]:
    """The account for people: a line a step, and one for each reason of dropping."""
    lines = []
    for step in flow:
        told = asdict(step) if isinstance(step, Step) else step
        lines.append(f"{told['kept']:>12,}  {told['step']}")
        lines += [f"{-number:>12,}    {reason}" for reason, number in told["dropped"].items()]
    return lines


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
