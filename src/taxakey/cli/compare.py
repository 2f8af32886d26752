"""`taxakey compare`: runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Finished runs, with their predictions in RUN/predictions, or predictions; the first is the base."),
    ],
    out: Annotated[Path | None, typer.Option(help="Folder for the page, comparison.md, .csv and .json; else only print.")] = None,
    dataset: Annotated[Path | None, typer.Option(help="The dataset, where it isn't any more where it was predicted.")] = None,
    rank: Annotated[str, typer.Option(help="species, genus or family.")] = "species",
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples behind each interval.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the resamples.")] = 0,
) -> None:
    """Print what each run cost and scores, micro and macro, with paired intervals of its difference from the first run; which
    species won and lost; rare species against common ones.

    Example: taxakey compare baseline/ seesaw/ tree/ --out comparison/
    """
    from taxakey import progress
    from taxakey.errors import BadInput
    from taxakey.evaluation.comparing import compare as measure
    from taxakey.report.comparison import to_markdown, write_comparison
    from taxakey.taxonomy import RANKS

    if rank not in RANKS:
        raise BadInput(f"unknown rank {rank!r}; one of {', '.join(RANKS)}")
    with progress.working("comparing, with bootstrap intervals"):
        found = measure(runs, rank=rank, dataset_folder=dataset, resamples=resamples, seed=seed)
    print(to_markdown(found))
    if out is not None:
        print(f"comparison: {write_comparison(found, out)}")
