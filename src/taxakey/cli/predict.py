"""`taxakey predict`: a model's answers for a part of a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def predict(
    model: Annotated[Path, typer.Argument(help="A run, its model/ folder, or a folder of folds, whose members are averaged.")],
    dataset: Annotated[Path, typer.Argument(help="The dataset.")],
    out: Annotated[Path, typer.Argument(help="Folder for the predictions.")],
    part: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    embeddings: Annotated[Path | None, typer.Option(help="Vectors of the model's own backbone, to save computing them.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
) -> None:
    """Name every observation of a part and store the ranked answers with what evaluation needs.

    Example: taxakey predict run/ dataset/ predictions/ --part test
    """
    from taxakey.cli.device import resolve_device
    from taxakey.prediction.predict import predict as compute

    manifest = compute(model, dataset, out, part=part, embeddings_folder=embeddings, device=resolve_device(device))
    counts = manifest.counts
    print(f"{out}: answers for {counts['observations']:,} observations, {counts['images']:,} pictures of {part}")
