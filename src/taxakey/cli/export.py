"""`taxakey export`: a model that runs without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ONLY = (
    "Without the other species' weights: a list of names (flora.csv), a country in it (flora.csv:Costa Rica), or taxa (Rosaceae)."
)


def export(
    model: Annotated[Path, typer.Argument(help="A run or its model/ folder.")],
    out: Annotated[Path, typer.Argument(help="Folder for the bundle.")],
    precision: Annotated[
        str, typer.Option(help="fp32, fp16 (half the bytes), int8-weights (a quarter), int8-dynamic or int8.")
    ] = "fp32",
    only: Annotated[str | None, typer.Option(help=ONLY)] = None,
    dataset: Annotated[Path | None, typer.Option(help="Its validation pictures judge the bundle, and calibrate int8.")] = None,
    pictures: Annotated[int, typer.Option(help="How many of them for each.")] = 256,
    agreement: Annotated[
        float, typer.Option(help="Share of pictures that must keep their best species, but for fp32: all.")
    ] = 0.98,
    format: Annotated[str, typer.Option(help="onnx, or executorch for phones.")] = "onnx",
) -> None:
    """Write a bundle for serving or for phones (network, names, calibration, card); refused when its answers aren't the model's.

    Example: taxakey export run/ bundle/ --precision int8 --dataset dataset/
    """
    from typing import cast

    from taxakey import progress
    from taxakey.export import ExportOptions, Format, Precision
    from taxakey.export import export as write

    options = ExportOptions(cast("Precision", precision), only, dataset, pictures, agreement, cast("Format", format))
    with progress.working("exporting and comparing answers"):
        manifest = write(model, out, options)
    print(f"{out}: {manifest.counts['classes']:,} species, {precision}")
    for note in manifest.notes:
        print(f"  {note}")
    print(f"serve it: taxakey serve {out}" if format == "onnx" else f"how an app runs it: {out / 'README.md'}")
