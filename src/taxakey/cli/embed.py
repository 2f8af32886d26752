"""`taxakey embed`: vectors of a frozen backbone for every picture of a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def embed(
    dataset: Annotated[Path, typer.Argument(help="A finished dataset (from `taxakey build`).")],
    out: Annotated[Path, typer.Argument(help="Folder for the vectors.")],
    recipe: Annotated[str, typer.Option(help="A recipe file or the name of a built-in one; its backbone is used.")],
    weights: Annotated[str | None, typer.Option(help="Pretrained weights: a file, `hub` or `none`; else the recipe's.")] = None,
    start_from: Annotated[
        Path | None, typer.Option("--from", help="A finished run or model whose backbone is used; the recipe must name the same.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
) -> None:
    """Compute the vectors that a recipe's backbone gives to every picture; an interrupted run goes on.

    Example: taxakey embed dataset/ vectors/ --recipe frozen-linear --weights mobilenetv3.safetensors

    Example: taxakey embed dataset/ vectors/ --recipe frozen-linear --from fine-tuned-run/
    """
    from taxakey.cli.device import resolve_device
    from taxakey.embeddings import embed as compute
    from taxakey.models.backbones import quiet_timm
    from taxakey.training.continuation import Beginning
    from taxakey.training.recipe import read_recipe

    quiet_timm()
    chosen = read_recipe(recipe).with_weights(weights)
    if start_from is not None:
        chosen = Beginning.open(start_from).recipe(chosen)
    chosen = chosen.resolved()
    manifest = compute(dataset, chosen.backbone, out, device=resolve_device(device))
    total = sum(manifest.counts[part] for part in ("train", "validation", "test"))
    print(f"{out}: {total:,} vectors of {manifest.counts['width']:,} numbers from {chosen.backbone.name}")
