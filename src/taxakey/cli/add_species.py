"""`taxakey add-species`: a model that knows more species, from a few photographs of each, without training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def add_species(
    model: Annotated[Path, typer.Argument(help="A run or its model/ folder.")],
    dataset: Annotated[
        Path,
        typer.Argument(
            help="A finished dataset (from `taxakey build`) with a few photographs of each new species; species that the model "
            "knows may be in it too, and aren't touched."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="Folder for the new run: everything that takes a run takes it.")],
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
) -> None:
    """Teach a model species from a few photographs of each, without training: old answers change only by what the new ones take.

    Uses the training and validation photographs of all species of the dataset that the model lacks.

    Example: taxakey add-species run/ dataset-with-more-species/ run-with-more-species/
    """
    from taxakey.cli.device import resolve_device
    from taxakey.models.backbones import quiet_timm
    from taxakey.training.extension import extend

    quiet_timm()
    manifest = extend(model, dataset, out, device=resolve_device(device))
    print((out / "model" / "README.md").read_text(encoding="utf-8"))
    print(f"model: {out / 'model'}   species: {manifest.counts['classes']:,}, {manifest.counts['added']:,} of them new")
