"""`taxakey names`: delivered names -> accepted species; `taxakey drift`: what became of classes in a newer checklist."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import pyarrow as pa

    from taxakey.records.naming.checklist import Checklist
    from taxakey.records.naming.name_drift import Drift


def names(
    source: Annotated[Path, typer.Argument(help="Records (what `taxakey records` wrote), or a CSV or Parquet file with names.")],
    checklist: Annotated[Path, typer.Argument(help="WCVP, Darwin Core taxa such as GBIF's backbone, or a plain list.")],
    out: Annotated[Path, typer.Argument(help="Folder to write matches.parquet and unmatched.csv to.")],
    column: Annotated[
        list[str] | None, typer.Option(help="ours=theirs: a column of a CSV under another name; repeatable.")
    ] = None,
    fuzzy: Annotated[bool, typer.Option(help="Also match names that are spelled nearly the same.")] = True,
    roll_up: Annotated[bool, typer.Option(help="Accepted names below species stand for their species.")] = True,
    prefer_accepted: Annotated[
        bool, typer.Option(help="A name without author that is accepted stands before its homonyms.")
    ] = False,
) -> None:
    """Match names to the accepted species of a checklist; what can't be decided is listed with candidates.

    Example: taxakey names work/records wcvp_names.csv work/names

    Example: taxakey names labels.csv backbone.zip work/names --column scientificName=species
    """
    from dataclasses import asdict

    from taxakey import progress
    from taxakey.artifacts import Plan, kind_of
    from taxakey.records.naming.checklist import read_checklist
    from taxakey.records.naming.matching import MatchOptions, match_names
    from taxakey.records.sources import source_hash

    table, columns = _delivered(source, column or [])
    options = MatchOptions(roll_up, fuzzy, prefer_accepted)
    inputs = {"names": source_hash(source / "manifest.json" if source.is_dir() else source), "checklist": source_hash(checklist)}
    with progress.working(f"reading {checklist}"):
        accepted = read_checklist(checklist)
    with progress.working(f"matching the names of {len(table):,} rows"):
        matches = match_names(table, accepted, options)
    finished = kind_of(out) == "names"
    manifest = matches.write(out, Plan("names", inputs, {"columns": columns, **asdict(options)}), checklist=accepted.counts)
    _summarise(manifest.counts, out, finished)


def drift(
    old: Annotated[Path, typer.Argument(help="The older checklist, or the taxonomy.parquet of a model.")],
    new: Annotated[Path, typer.Argument(help="The newer checklist.")],
    out: Annotated[Path | None, typer.Option(help="Folder to write classes.csv and mapping.csv to.")] = None,
    records: Annotated[
        Path | None, typer.Option(help="Records, or a table of names, that tell how the classes that were split divide.")
    ] = None,
) -> None:
    """Say which classes a newer checklist keeps, renames, merges, splits or drops.

    Example: taxakey drift wcvp_2022.csv wcvp_2025.csv --out work/drift --records work/records
    """
    from taxakey import progress
    from taxakey.artifacts import Plan
    from taxakey.records.naming.name_drift import find_drift, read_classes
    from taxakey.records.sources import source_hash

    with progress.working(f"comparing {old} with {new}"):
        classes, newer, older = read_classes(old, new)
        found = weighed(find_drift(classes, newer, older), records, older, newer)
    for change, number in found.counts().items():
        typer.echo(f"{number:>9,}  {change}")
    for line in found.examples():
        typer.echo(f"           {line}")
    if out is not None:
        inputs = {"old": source_hash(old), "new": source_hash(new)}
        found.write(out, Plan("drift", inputs | ({} if records is None else {"records": source_hash(records)})))
        typer.echo(f"drift: {out}")


def weighed(drift: Drift, records: Path | None, old: Checklist | None, new: Checklist) -> Drift:
    """With weights for split classes by the names on records, where these are given; raises BadInput without `old`."""
    from taxakey.errors import BadInput
    from taxakey.records.naming.matching import match_names
    from taxakey.records.naming.name_drift import weigh_splits

    if records is None:
        return drift
    if old is None:
        raise BadInput(f"{records}: records tell how classes were split only beside the older checklist; name it")
    names, _ = _delivered(records, [])
    return weigh_splits(drift, match_names(names, old), match_names(names, new))


def _delivered(source: Path, pairs: list[str]) -> tuple[pa.Table, dict[str, str]]:
    """The table with the names, under our columns, and how columns were named anew."""
    from taxakey.cli.records import _mapping
    from taxakey.errors import BadInput
    from taxakey.records.naming.delivered_names import read_names
    from taxakey.records.naming.matches import DELIVERED
    from taxakey.records.table import Observations

    columns = _mapping(pairs)
    if source.is_dir() and columns:
        raise BadInput(f"{source}: --column is for a CSV or Parquet file, and this is a folder; leave it out")
    if source.is_dir():
        return Observations.read(source).table.select(list(DELIVERED)), columns
    return read_names(source, columns), columns


def _summarise(counts: Mapping[str, int], out: Path, finished: bool) -> None:
    from taxakey.records.naming.matches import MATCH_TYPES

    if finished:
        typer.echo(f"{out}: was finished before, nothing to do")
    for match_type in MATCH_TYPES:
        if match_type in counts:
            typer.echo(f"{counts[match_type]:>9,}  {match_type}")
    for name, number in counts.items():
        stage, _, fact = name.partition(": ")
        if stage == "unmatched" and fact:
            typer.echo(f"           {number:,}: {fact}")
    typer.echo(f"{counts['distinct names']:>9,}  distinct names; those without a match are listed in {out / 'unmatched.csv'}")
    typer.echo(f"names: {out}")
