"""`taxakey ensemble`: one answer from stored predictions of several models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from taxakey.prediction.ensemble import EnsembleOptions


def ensemble(
    context: typer.Context,
    out: Annotated[Path, typer.Argument(help="Folder for the ensemble: its predictions, weights, table and plot.")],
    members: Annotated[
        list[str],
        typer.Argument(
            help="Each member's predictions of validation and test: VALIDATION,TEST, or a folder that holds both. Predictions of "
            "one part alone are mixed unfitted."
        ),
    ],
    rule: Annotated[
        str | None, typer.Option(help="Take this rule, whatever validation says: mean, geometric, greedy, per class …")
    ] = None,
    prior: Annotated[float, typer.Option(help="Rows of equal weights that are added to the fit.")] = 10.0,
    folds: Annotated[int, typer.Option(help="Parts of validation by which rules are compared.")] = 3,
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples behind each interval.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the folds and resamples.")] = 0,
) -> None:
    """Fit every rule on validation, choose one there, and judge all of them once on test. No model is run.

    A folder that holds both: predictions-validation and predictions-test. Members may differ in class list, size and head.
    Where only one part was answered, as in others' submissions without labels, the members are mixed unfitted, and how far they
    disagree is all that is said.

    Example: taxakey ensemble out/ a/validation,a/test b/validation,b/test
    """
    from taxakey.artifacts import kind_of
    from taxakey.cli.again import again
    from taxakey.evaluation.ensembles import judge
    from taxakey.prediction.ensemble import EnsembleOptions, fit, require_fair, write_ensemble
    from taxakey.prediction.members import Member, open_pool
    from taxakey.report.ensemble import to_markdown, write_ensemble_report

    options = EnsembleOptions(rule=rule, prior=prior, folds=folds, seed=seed)
    if all(kind_of(text) == "predictions" for text in members):
        _mix_unfitted(out, members, options, again(context))
        return
    pairs = [pair(text) for text in members]
    fitted_on, judged_members = ([Member.open(pair[number]) for pair in pairs] for number in (0, 1))
    require_fair(fitted_on, judged_members)
    fitted = fit(open_pool(fitted_on), options)
    manifest = write_ensemble(fitted, judged_members, out / "predictions", options)
    found = judge(fitted, open_pool(judged_members), resamples=resamples, seed=seed, notes=manifest.notes[1:])
    write_ensemble_report(found, out, again(context))
    print(to_markdown(found, again(context)))
    print(f"predictions: {out / 'predictions'}")


def _mix_unfitted(out: Path, members: list[str], options: EnsembleOptions, command: str) -> None:
    from taxakey.prediction.ensemble import answered, single, unfitted, write_ensemble
    from taxakey.prediction.members import Member, open_pool
    from taxakey.report.ensemble import write_disagreement

    opened = [Member.open(text) for text in members]
    pool = open_pool(opened)
    fitted = unfitted(pool, options.rule)
    manifest = write_ensemble(fitted, opened, out / "predictions", options)
    each = {name: single(number, len(pool.names)) for number, name in enumerate(pool.names)}
    found = answered(pool, {**fitted.rules, **each})
    page = write_disagreement({name: of.first_O for name, of in found.items()}, fitted.chosen, out, command, manifest.notes)
    print(page.read_text(encoding="utf-8"))
    print(f"predictions: {out / 'predictions'}")


def pair(text: str) -> tuple[Path, Path]:
    """The folders of a member's predictions of validation and of test."""
    from taxakey.errors import MissingArtifact

    validation, comma, test = text.partition(",")
    both = (Path(validation), Path(test)) if comma else (Path(text) / "predictions-validation", Path(text) / "predictions-test")
    for folder in both:
        if not folder.is_dir():
            raise MissingArtifact(
                f"{folder}: no such folder; predict both parts: taxakey predict RUN DATASET {folder} --part "
                f"{'validation' if folder == both[0] else 'test'}"
            )
    return both
