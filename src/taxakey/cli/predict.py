"""`taxakey predict`: a model's answers for a part of a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def predict(
    model: Annotated[
        Path, typer.Argument(help="A run, its model/ folder, a bundle, or a folder of folds, whose members are averaged.")
    ],
    dataset: Annotated[Path, typer.Argument(help="The dataset.")],
    out: Annotated[Path, typer.Argument(help="Folder for the predictions.")],
    part: Annotated[str, typer.Option(help="train, validation, test, or partial.")] = "test",
    embeddings: Annotated[Path | None, typer.Option(help="Vectors of the model's own backbone, to save computing them.")] = None,
    crops: Annotated[str | None, typer.Option(help="Several crops of each picture: `five`, or how many at random.")] = None,
    crops_top: Annotated[int | None, typer.Option(help="Count only the so many most probable species of each crop.")] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Keep every class' probability too: an ensemble of more than 100 classes asks for it.")
    ] = False,
    shares: Annotated[
        str | None,
        typer.Option(
            help="Correct for shares of species that differ from training's: a CSV with scientificName,share (or counts), or "
            "`estimate` to find them from the part's pictures, unnamed. Evaluation says so."
        ),
    ] = None,
    unlabelled: Annotated[
        bool,
        typer.Option(
            "--unlabelled",
            help="The dataset's names aren't looked at, and may be others than the model's: for a student to learn from.",
        ),
    ] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
) -> None:
    """Name every observation of a part and store the ranked answers with what evaluation needs.

    Example: taxakey predict run/ dataset/ predictions/ --part test
    """
    from taxakey.cli.device import resolve_device
    from taxakey.dataset.crops import CropOptions
    from taxakey.errors import BadInput
    from taxakey.prediction.predict import predict as compute

    if crops_top is not None and crops is None:
        raise BadInput("--crops-top: of which crops? add --crops five, or a number")
    several = CropOptions.named(crops, crops_top) if crops else None
    where = resolve_device(device)
    manifest = compute(
        model, dataset, out, part=part, embeddings_folder=embeddings, device=where, crops=several, full_scores=full,
        shares=shares, unlabelled=unlabelled,
    )  # fmt: skip
    counts = manifest.counts
    print(f"{out}: answers for {counts['observations']:,} observations, {counts['images']:,} pictures of {part}")
    for note in manifest.notes:
        print(f"  {note}")
