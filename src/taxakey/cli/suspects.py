"""`taxakey suspects`: labels that are likely wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def suspects(
    model: Annotated[
        Path, typer.Argument(help="A run; a folder of folds, for the pictures that were trained on; or finished predictions.")
    ],
    dataset: Annotated[Path, typer.Argument(help="The dataset that it learned from.")],
    out: Annotated[Path, typer.Argument(help="Folder for suspects.html, .csv, .parquet and .json.")],
    part: Annotated[
        str | None,
        typer.Option(help="test or validation of a run; folds judge training and validation together unless test is named."),
    ] = None,
    embeddings: Annotated[Path | None, typer.Option(help="Vectors of the model's own backbone, to save computing them.")] = None,
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples behind the interval.")] = 200,
    seed: Annotated[int, typer.Option(help="Seed of the resamples.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
) -> None:
    """List observations whose name is likely wrong, with the likelier one, beside pictures of both species.

    Example: taxakey suspects run/ dataset/ suspects/ --part test

    Example: taxakey suspects folds/ dataset/ suspects/
    """
    from taxakey import progress
    from taxakey.evaluation.suspects import find_suspects
    from taxakey.report.suspects_page import verdict, write_suspects

    predictions = _predicted(model, dataset, out, part, embeddings, device)
    with progress.working("looking for wrong labels"):
        found = find_suspects(predictions, dataset, resamples=resamples, seed=seed)
        page = write_suspects(found, dataset, out)
    typer.echo(verdict(found).replace("\u00a0", " "))
    for note in found.notes:
        typer.echo(f"note: {note}")
    typer.echo(f"suspects: {page}")


def _predicted(model: Path, dataset: Path, out: Path, part: str | None, embeddings: Path | None, device: str) -> Path:
    """The folder of predictions, made below `out` where none are given."""
    from taxakey.artifacts import kind_of
    from taxakey.cli.device import resolve_device
    from taxakey.errors import BadInput
    from taxakey.evaluation.suspects import OUT_OF_FOLD, refuse_learned

    kind = kind_of(model)
    if kind in ("predictions", OUT_OF_FOLD):
        if part is not None:
            raise BadInput(f"{model}: predictions of one part already; leave out --part {part}")
        return model
    where = resolve_device(device)
    if kind == "folds" and part != "test":
        if part is not None:
            raise BadInput(f"--part {part}: folds judge training and validation together; leave it out, or say test")
        from taxakey.prediction.out_of_fold import predict_out_of_fold

        predict_out_of_fold(model, dataset, out / "predictions", embeddings_folder=embeddings, device=where)
        return out / "predictions"
    refuse_learned(part or "test", model)
    from taxakey.prediction.predict import predict

    predict(model, dataset, out / "predictions", part=part or "test", embeddings_folder=embeddings, device=where)
    return out / "predictions"
