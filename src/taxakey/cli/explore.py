"""`taxakey explore`: what records or a dataset hold, as one offline page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def explore(
    source: Annotated[Path, typer.Argument(help="Records, a dataset, or anything that `taxakey records` reads.")],
    out: Annotated[Path, typer.Argument(help="Folder for exploration.html, exploration.json and the charts as PNG.")],
    column: Annotated[
        list[str] | None, typer.Option(help="ours=theirs: a column of a CSV under another name; repeatable.")
    ] = None,
    families: Annotated[int, typer.Option(min=0, max=300, help="Families of which sample pictures are shown; 0: none.")] = 24,
) -> None:
    """Count pictures per species, part, family, institution, year, place and licence, and show samples.

    Example: taxakey explore work/dataset work/exploration

    Example: taxakey explore labels.csv exploration --column scientificName=label
    """
    from taxakey import progress
    from taxakey.cli.records import _mapping
    from taxakey.report.exploration_page import write_exploration
    from taxakey.report.thumbnails import SampleOptions

    with progress.working(f"exploring {source}"):
        page = write_exploration(source, out, _mapping(column or []), SampleOptions(families=families))
    typer.echo(f"exploration: {page}")
