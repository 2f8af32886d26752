"""`taxakey train`: a run by a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    dataset: Annotated[Path, typer.Argument(help="A finished dataset (from `taxakey build`).")],
    out: Annotated[Path, typer.Argument(help="Folder for the run: model, curves, checkpoints.")],
    recipe: Annotated[str, typer.Option(help="A recipe file or the name of a built-in one.")],
    embeddings: Annotated[
        list[Path] | None,
        typer.Option(help="Vectors (from `taxakey embed`), for `train: head`; twice where --unlabelled has its own."),
    ] = None,
    weights: Annotated[str | None, typer.Option(help="Pretrained weights: a file, `hub` or `none`; else the recipe's.")] = None,
    start_from: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="A finished run or model to go on from: its backbone, and its head as far as it knows the dataset's species "
            "(found again by name).",
        ),
    ] = None,
    fold: Annotated[
        str | None, typer.Option(help="One member of an ensemble, such as 2/5: validated on its fold, trained on the others.")
    ] = None,
    teacher: Annotated[
        list[Path] | None,
        typer.Option(
            help="Predictions of the training pictures (`taxakey predict RUN DATASET OUT --part train`, or an ensemble's) to "
            "learn from besides the labels, as the recipe's `distil` says; twice where --unlabelled has its own."
        ),
    ] = None,
    teacher_vectors: Annotated[
        list[Path] | None,
        typer.Option(help="The teacher's vectors of the same pictures (`taxakey embed … --from RUN`), to draw features to."),
    ] = None,
    unlabelled: Annotated[
        str | None,
        typer.Option(help="DATASET or DATASET:PART whose pictures are learnt from by the teacher's answers, not by a name."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Another seed than the recipe's.")] = None,
    fraction: Annotated[float | None, typer.Option(help="Share of each species' observations, for trying things out.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
) -> None:
    """Train by a recipe and calibrate on validation; an interrupted run goes on after its last epoch.

    Example: taxakey train dataset/ run/ --recipe frozen-linear --embeddings vectors/

    Example: taxakey train herbarium/ fine-tuned/ --recipe trusted.yaml --from web-run/

    Example: taxakey train dataset/ student/ --recipe small.yaml --teacher ensemble/predictions/

    Example: taxakey train dataset/ student/ --recipe small.yaml --teacher said/ --teacher said-of-web/ --unlabelled web/
    """
    from taxakey.cli.device import resolve_device
    from taxakey.dataset.folds import Fold
    from taxakey.errors import BadInput
    from taxakey.models.backbones import quiet_timm
    from taxakey.training.loop import train as fit
    from taxakey.training.recipe import read_recipe

    if start_from is not None and weights is not None:
        raise BadInput("--from brings its own weights; leave out --weights")
    quiet_timm()
    chosen = read_recipe(recipe).with_weights(weights).with_seed(seed).with_fraction(fraction)
    member = None if fold is None else Fold.parse(fold)
    fit(
        dataset, chosen, out, embeddings_folder=embeddings, start_from=start_from, fold=member, teacher=teacher,
        teacher_vectors=teacher_vectors, unlabelled=unlabelled, device=resolve_device(device),
    )  # fmt: skip
    print((out / "model" / "README.md").read_text(encoding="utf-8"))
    print(f"model: {out / 'model'}   curves: {out / 'curves.csv'}")
