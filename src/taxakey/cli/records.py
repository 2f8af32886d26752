"""`taxakey records`: what was observed -> a table with a split."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer


def records(
    source: Annotated[Path, typer.Argument(help="Darwin Core Archive (zip or folder), folder per species, or CSV.")],
    out: Annotated[Path, typer.Argument(help="Folder to write the records to.")],
    column: Annotated[
        list[str] | None, typer.Option(help="ours=theirs: a column of a CSV under another name; repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the split into train, validation and test.")] = 0,
) -> None:
    """Read records and split them 70/10/20 by observation.

    Example: taxakey records photographs/ work/records

    Example: taxakey records labels.csv work/records --column scientificName=label
    """
    from dataclasses import asdict

    from taxakey import progress
    from taxakey.artifacts import Plan, kind_of
    from taxakey.records.sources import read_source, source_hash
    from taxakey.records.splits import SplitOptions, split

    columns = _mapping(column or [])
    options = SplitOptions(seed=seed)
    with progress.working(f"reading {source}"):
        observations = split(read_source(source, columns), options)
    recipe = {"columns": columns, "split": {key: value for key, value in asdict(options).items() if key != "seed"}}
    finished = kind_of(out) == "records"
    manifest = observations.write(out, Plan("records", {"source": source_hash(source)}, recipe, seed))
    _summarise(manifest.counts, out, finished)


def _mapping(pairs: list[str]) -> dict[str, str]:
    """["ours=theirs"] -> {"ours": "theirs"}; raises BadInput for anything else."""
    from taxakey.errors import BadInput

    columns = {}
    for pair in pairs:
        ours, equals, theirs = pair.partition("=")
        if not (ours.strip() and equals and theirs.strip()):
            raise BadInput(f"--column {pair}: not of the form ours=theirs, such as scientificName=label")
        columns[ours.strip()] = theirs.strip()
    return columns


def _summarise(counts: Mapping[str, int], out: Path, finished: bool) -> None:
    if finished:
        typer.echo(f"{out}: was finished before, nothing to do")
    typer.echo(f"{counts['images']:,} pictures of {counts['observations']:,} observations of {counts['species']:,} species")
    typer.echo(f"train {counts['train']:,}, validation {counts['validation']:,}, test {counts['test']:,} pictures")
    for name, number in counts.items():
        kind, _, fact = name.partition(": ")
        if fact:
            typer.echo(f"{kind} {number:,}: {fact}")
    if counts["rejected"]:
        typer.echo(f"rejected rows are listed in {out / 'rejected.parquet'}")
    typer.echo(f"records: {out}")
