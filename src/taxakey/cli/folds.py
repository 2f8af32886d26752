"""`taxakey folds`: an ensemble from one recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def folds(
    recipe: Annotated[str, typer.Argument(help="A recipe file or the name of a built-in one.")],
    dataset: Annotated[Path, typer.Argument(help="A finished dataset (from `taxakey build`).")],
    out: Annotated[Path, typer.Argument(help="Folder for the members, a run each.")],
    members: Annotated[int | None, typer.Option("--folds", help="How many; else the recipe's `folds`.")] = None,
    validation_only: Annotated[
        bool,
        typer.Option(
            "--validation-only",
            help="Deal the validation part alone, into one fold more than members; that one is held out, the others take turns.",
        ),
    ] = False,
    embeddings: Annotated[Path | None, typer.Option(help="Vectors (from `taxakey embed`), for `train: head`.")] = None,
    start_from: Annotated[Path | None, typer.Option("--from", help="A finished run that each member goes on from.")] = None,
    weights: Annotated[str | None, typer.Option(help="Pretrained weights: a file, `hub` or `none`; else the recipe's.")] = None,
    seed: Annotated[int | None, typer.Option(help="Another seed than the recipe's.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
) -> None:
    """Train k members that each keep another k-th of the training and validation observations for validation.

    `taxakey predict` takes the folder like a run and averages the members' calibrated probabilities.

    Example: taxakey folds frozen-linear dataset/ ensemble/ --folds 5 --embeddings vectors/
    """
    from taxakey.cli.device import resolve_device
    from taxakey.models.backbones import quiet_timm
    from taxakey.training.folds import train_folds
    from taxakey.training.recipe import read_recipe

    quiet_timm()
    manifest = train_folds(
        dataset,
        read_recipe(recipe).with_weights(weights).with_seed(seed),
        out,
        members=members,
        pool="validation" if validation_only else "all",
        embeddings_folder=embeddings,
        start_from=start_from,
        device=resolve_device(device),
    )
    print(f"{out}: {manifest.counts['members']} members; name the folder to `taxakey predict`, which averages them")
