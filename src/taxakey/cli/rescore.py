"""`taxakey rescore`: a model's old answers under the names of a newer checklist."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def rescore(
    predictions: Annotated[Path, typer.Argument(help="Folder that `taxakey predict` wrote.")],
    new: Annotated[Path, typer.Argument(help="The newer checklist.")],
    out: Annotated[Path, typer.Argument(help="Folder for the same predictions under its names.")],
    old: Annotated[
        Path | None, typer.Option(help="The checklist that the model's names are from; without it no split is seen.")
    ] = None,
    records: Annotated[
        Path | None, typer.Option(help="Records, or a table of names, that tell how the classes that were split divide.")
    ] = None,
    heir: Annotated[
        bool, typer.Option("--heir", help="A class that was split, and nobody knows how, goes whole to the one with its type.")
    ] = False,
) -> None:
    """Add up the probabilities of classes that became one, rename the others; nothing is trained, nothing predicted again.

    Example: taxakey rescore predictions/ wcvp_2025.csv predictions-2025/ --old wcvp_2022.csv --records work/records
    """
    from taxakey import progress
    from taxakey.artifacts import read_manifest
    from taxakey.cli.names import weighed
    from taxakey.prediction.rescore import make_translation, write_rescored
    from taxakey.records.naming.checklist import read_checklist
    from taxakey.records.naming.name_drift import classes_of, find_drift
    from taxakey.records.sources import source_hash
    from taxakey.taxonomy import Taxonomy

    read_manifest(predictions, "predictions")
    taxonomy = Taxonomy.read(predictions / "taxonomy.parquet")
    with progress.working(f"comparing the model's names with {new}"):
        newer, older = read_checklist(new), None if old is None else read_checklist(old)
        found = weighed(find_drift(classes_of(taxonomy), newer, older), records, older, newer)
    translation = make_translation(taxonomy, found, undecided="heir" if heir else "refuse")
    places = {"new": new, "old": old, "records": records}
    inputs = {name: source_hash(place) for name, place in places.items() if place is not None}
    counts = write_rescored(predictions, out, translation, inputs).counts
    for change, number in found.counts().items():
        if change != "new":
            typer.echo(f"{number:>9,}  {change}")
    typer.echo(f"{counts['observations']:,} observations of {len(translation.old):,} classes, now {len(translation.new):,}")
    typer.echo(f"predictions: {out}")
