"""`taxakey challenge`: a challenge's file written from predictions, checked, scored."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

challenge = typer.Typer(
    help="Files for challenges (plantclef2022, herbarium2022, fungiclef2023, fungiclef2024): write one from predictions, check "
    "one as the organisers would, score one by their metrics.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Challenge = Annotated[
    str, typer.Argument(help="plantclef2022, herbarium2022, fungiclef2023 or fungiclef2024.", metavar="CHALLENGE")
]
Classes = Annotated[
    Path | None,
    typer.Option(help="CSV or JSON with scientificName and the challenge's number of each class; else the classes' taxonID."),
]


@challenge.command()
def write(
    name: Challenge,
    predictions: Annotated[Path, typer.Argument(help="What `taxakey predict` wrote.")],
    out: Annotated[Path, typer.Argument(help="The file to write.")],
    classes: Classes = None,
    ids: Annotated[
        Path | None, typer.Option(help="CSV with our image_id or occurrenceID and the challenge's id, where they differ.")
    ] = None,
    unknown_below: Annotated[
        float | None, typer.Option(help="FungiCLEF: answer -1 where the best probability is below this.")
    ] = None,
) -> None:
    """Write predictions as a challenge's file, and check it.

    Example: taxakey challenge write plantclef2022 predictions/ team_run1.run

    Example: taxakey challenge write fungiclef2024 predictions/ submission.csv --classes train_metadata.csv --unknown-below 0.2
    """
    from taxakey.evaluation.challenges.formats import format_of
    from taxakey.evaluation.challenges.writing import WritingOptions
    from taxakey.evaluation.challenges.writing import write as write_file

    found = write_file(predictions, format_of(name), out, WritingOptions(classes, ids, unknown_below))
    print(f"{out}: {found.rows:,} rows, {found.ids:,} {format_of(name).level}s")


@challenge.command()
def check(
    name: Challenge,
    file: Annotated[Path, typer.Argument(help="The file that would be sent.")],
    expected: Annotated[
        Path | None, typer.Option(help="List of the ids that must be in it: test metadata, sample submission, one id a line.")
    ] = None,
    classes: Annotated[Path | None, typer.Option(help="List of the class numbers that may be answered.")] = None,
) -> None:
    """Say whether the organisers would take a file, and every reason why not, with the numbers of its lines.

    Example: taxakey challenge check herbarium2022 submission.csv --expected sample_submission.csv
    """
    from taxakey.errors import BadInput
    from taxakey.evaluation.challenges.checking import check as check_file
    from taxakey.evaluation.challenges.formats import format_of

    format = format_of(name)
    found = check_file(file, format, expected=expected, classes=classes)
    for fault in found.faults:
        print(f"{'REJECTED' if fault.rejects else 'note'}  {fault}")
    if not found.accepted:
        raise BadInput(f"{file}: {name} would reject it, see above")
    unchecked = "" if expected else f"; whether all {format.level}s are in it wasn't looked at (--expected)"
    print(f"{file}: good, {found.rows:,} rows, {found.ids:,} {format.level}s{unchecked}")


@challenge.command()
def score(
    name: Challenge,
    file: Annotated[Path, typer.Argument(help="The file that would be sent.")],
    truth: Annotated[Path, typer.Argument(help="CSV with id and class, solution.csv, or predictions whose names are known.")],
    poisonous: Annotated[Path | None, typer.Option(help="FungiCLEF: list of poisonous classes, or class_id,poisonous.")] = None,
    classes: Classes = None,
) -> None:
    """Score a file by the organisers' metrics, on this machine.

    Example: taxakey challenge score fungiclef2023 submission.csv validation.csv --poisonous poison_status_list.csv
    """
    from taxakey.evaluation.challenges.formats import format_of
    from taxakey.evaluation.challenges.scoring import score as score_file

    for title, value in score_file(file, format_of(name), truth, poisonous=poisonous, classes=classes).items():
        print(f"{title:62}{value:.{2 if title.startswith(('F1 Score', 'Accuracy (%)')) else 4}f}")
