"""`taxakey import-predictions`: somebody else's answers as a member of an ensemble."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def import_predictions(
    file: Annotated[Path, typer.Argument(help="A CSV, gzipped or not: a column of ids, then each class' probability.")],
    out: Annotated[Path, typer.Argument(help="Folder for the predictions.")],
    classes: Annotated[Path, typer.Option(help="A dataset, model or predictions with the same classes as the columns.")],
    part: Annotated[str, typer.Option(help="Which part of the dataset was answered.")] = "test",
    column: Annotated[
        list[str] | None, typer.Option(help="COLUMN=CLASS, where a column is called otherwise; may be repeated.")
    ] = None,
) -> None:
    """Take over others' answers, as submitted to a challenge. They hold no truth, so `taxakey ensemble` mixes them unfitted.

    Example: taxakey import-predictions submission.csv.gz theirs/ --classes dataset/
    """
    from taxakey.errors import BadInput
    from taxakey.prediction.submissions import import_submission

    if wrong := [text for text in column or [] if "=" not in text]:
        raise BadInput(f"--column {wrong[0]}: COLUMN=CLASS is needed")
    renamed = dict(text.split("=", 1) for text in column or [])
    manifest = import_submission(file, out, classes, part=part, renamed=renamed)
    print(f"{manifest.counts['observations']:,} answers: {out}")
