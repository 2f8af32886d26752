"""`taxakey evaluate`: the figures of a predictions artifact and its report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    predictions: Annotated[Path, typer.Argument(help="Predictions of a part whose names are known (from `taxakey predict`).")],
    out: Annotated[Path, typer.Argument(help="Folder for report.html, report.md and report.json.")],
    dataset: Annotated[Path | None, typer.Option(help="The dataset, where it isn't any more where it was predicted.")] = None,
    run: Annotated[Path | None, typer.Option(help="The run, likewise.")] = None,
    validation: Annotated[
        Path | None, typer.Option(help="Predictions of the validation part by the same model: for answer sets (average-k).")
    ] = None,
    card: Annotated[
        bool, typer.Option("--card", help="Write the figures into the model card, RUN/model/README.md, too.")
    ] = False,
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples behind each interval.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the resamples.")] = 0,
) -> None:
    """Measure predictions at species, genus and family, with intervals, and write a report with plots and pictures.

    Example: taxakey evaluate predictions/ report/
    """
    from taxakey import progress
    from taxakey.evaluation import evaluate as measure
    from taxakey.evaluation.meanings import METRICS
    from taxakey.report.card import update_card
    from taxakey.report.write import write_report

    with progress.working("measuring, with bootstrap intervals"):
        report = measure(
            predictions, dataset_folder=dataset, run_folder=run, validation_folder=validation, resamples=resamples, seed=seed
        )
        page = write_report(report, out)
    for rank, figures in report.figures.items():
        print(f"{rank:8}" + "  ".join(f"{METRICS[name].title} {figure}" for name, figure in figures.items()))
    for note in report.notes:
        print(f"note: {note}")
    print(f"report: {page}")
    if card:
        print(f"card: {update_card(report, predictions, run)}")
