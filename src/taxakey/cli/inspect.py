"""`taxakey inspect`: one look at every picture of the records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def inspect(
    records: Annotated[Path, typer.Argument(help="Folder that `taxakey records` wrote.")],
    out: Annotated[Path, typer.Argument(help="Folder to write inspection.parquet and duplicates.parquet to.")],
    pictures: Annotated[
        Path | None, typer.Option(help="Folder that `taxakey fetch` wrote, for pictures that have no file.")
    ] = None,
    near_distance: Annotated[int, typer.Option(help="Bits of 256 in which the hashes of near duplicates may differ.")] = 24,
    scale_bars: Annotated[
        bool, typer.Option("--scale-bars", help="Also look for a scale bar: pixels per millimetre (a third of a second a sheet).")
    ] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads; by default as many as there are cores.")] = None,
) -> None:
    """Hash and measure every picture: duplicates, size, sharpness, exposure, colour cast; an interrupted run goes on.

    Example: taxakey inspect work/records work/inspection --pictures work/pictures
    """
    from taxakey.dataset.inspection import InspectOptions
    from taxakey.dataset.inspection import inspect as look_at_all

    options = InspectOptions(near_distance=near_distance, scale_bars=scale_bars)
    counts = look_at_all(records, out, options, pictures=pictures, workers=workers).counts
    typer.echo(f"{counts['images']:,} pictures, {counts['failures']:,} of them can't be looked at")
    for kind in ("exact", "near"):
        typer.echo(f"{counts[f'in_{kind}_groups']:,} pictures in {counts[f'{kind}_groups']:,} groups of {kind} duplicates")
    if scale_bars:
        typer.echo(f"{counts['with_scale']:,} pictures show a scale bar")
    typer.echo(f"inspection: {out}")
