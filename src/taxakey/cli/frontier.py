"""`taxakey frontier`: accuracy against cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def frontier(
    context: typer.Context,
    out: Annotated[Path, typer.Argument(help="Folder for frontier.md, .csv, .json and the plot.")],
    predictions: Annotated[
        list[str], typer.Argument(help="Predictions of one part by each model or ensemble; NAME=FOLDER gives it a name.")
    ],
    under: Annotated[str | None, typer.Option(help="Which is best with weights of at most so many bytes: 10MB.")] = None,
    multiply_adds: Annotated[float | None, typer.Option(help="… with at most so many multiply-adds a picture: 3e8.")] = None,
    at_least: Annotated[float | None, typer.Option(help="… with at least so many pictures a second on this machine.")] = None,
    by: Annotated[str, typer.Option(help="What counts: top_1, macro_top_1 or ma_mrr.")] = "macro_top_1",
    pictures: Annotated[int, typer.Option(help="Pictures by which speed is measured; 0: not at all.")] = 64,
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples behind each interval.")] = 1000,
) -> None:
    """What each model reaches and costs, which of them no other beats, and the best one within limits.

    Example: taxakey frontier out/ small=a/predictions large=b/predictions ensemble/predictions --under 20MB
    """
    from taxakey.cli.again import again
    from taxakey.errors import BadInput
    from taxakey.frontier.measuring import measure
    from taxakey.frontier.page import to_markdown, write_frontier
    from taxakey.frontier.points import FIGURES, Limits
    from taxakey.predictions import Predictions
    from taxakey.size.comparison import parse_bytes

    if by not in FIGURES:
        raise BadInput(f"--by {by}: one of {', '.join(FIGURES)}")
    folders = _named(predictions)
    limits = Limits(
        bytes=None if under is None else float(parse_bytes(under)), multiply_adds=multiply_adds, pictures_per_second=at_least
    )
    points = measure(folders, pictures=pictures, resamples=resamples)
    observations = len(Predictions.read(next(iter(folders.values())) / "observations.parquet"))
    write_frontier(points, observations, out, again(context), limits, by)
    print(to_markdown(points, observations, again(context), limits, by))


def _named(texts: list[str]) -> dict[str, Path]:
    """Names and folders; without a name that of the run, else of the folder."""
    from taxakey.errors import BadInput
    from taxakey.prediction.members import Member

    found: dict[str, Path] = {}
    for text in texts:
        name, given, folder = text.partition("=")
        folder = folder if given else text
        name = name if given else Member.open(folder).name
        if name in found:
            raise BadInput(f"two models are called {name!r}; name each as NAME=FOLDER")
        found[name] = Path(folder)
    return found
