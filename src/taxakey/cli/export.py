"""`taxakey export`: a model that runs without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    model: Annotated[Path, typer.Argument(help="A run or its model/ folder.")],
    out: Annotated[Path, typer.Argument(help="Folder for the bundle.")],
) -> None:
    """Write a bundle for serving (ONNX, names, calibration, card); refused when its answers aren't those of the model.

    Example: taxakey export run/ bundle/
    """
    from taxakey import progress
    from taxakey.export import export as write

    with progress.working("exporting and comparing answers"):
        manifest = write(model, out)
    print(f"{out}: {manifest.counts['classes']:,} species; {manifest.notes[0]}")
    print(f"serve it: taxakey serve {out}")
