"""`taxakey calibrate`: probabilities that may be believed, and decisions on top of them, fitted anew to a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from taxakey.calibration import Calibration, Decisions


def calibrate(
    run: Annotated[Path, typer.Argument(help="A run or its model/ folder.")],
    dataset: Annotated[Path, typer.Argument(help="The dataset that it was trained on, or one of the same species.")],
    method: Annotated[
        Literal["temperature", "ranks", "bins", "best"],
        typer.Option(help="One temperature, one a rank, one by confidence; best: what does best on folds it wasn't fitted on."),
    ] = "temperature",
    precision: Annotated[float, typer.Option(help="Share of right answers promised at each rank of a roll-up.")] = 0.95,
    coverage: Annotated[float, typer.Option(help="Share of sets of species that hold the right one.")] = 0.9,
    by_species: Annotated[bool, typer.Option("--by-species", help="Keep the coverage for each species by itself.")] = False,
    kept: Annotated[float, typer.Option(help="Share of the part that isn't taken for pictures of no organism.")] = 0.99,
    unknown: Annotated[
        Literal["keep-known", "track4"],
        typer.Option(
            help="Flag as unknown species: so few that 95% of the known pass, or what costs least in FungiCLEF's Track 4."
        ),
    ] = "keep-known",
    part: Annotated[str, typer.Option(help="What it is fitted to; test would spoil every later figure of it.")] = "validation",
    embeddings: Annotated[Path | None, typer.Option(help="Vectors of the model's own backbone, to save computing them.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
) -> None:
    """Fit calibration.json and decisions.json of a finished run anew; the old calibration's facts stay in the new one.

    Export again afterwards: a bundle keeps those it was made with.

    Example: taxakey calibrate run/ dataset/ --method best --precision 0.9
    """
    from taxakey.calibration.validation import DecisionOptions
    from taxakey.cli.device import resolve_device
    from taxakey.prediction.calibrate import calibrate as fit

    known_kept = DecisionOptions().known_kept if unknown == "keep-known" else None
    options = DecisionOptions(precision, coverage=coverage, by_species=by_species, kept=kept, known_kept=known_kept)
    where = resolve_device(device)
    found = fit(run, dataset, method=method, options=options, part=part, embeddings_folder=embeddings, device=where)
    if found.before is not None:
        print(f"before: {_scaling(found.before)}")
    print(f"now:    {_scaling(found.calibration)}")
    for name, nll in found.calibration.measured.get("nll_of_methods", {}).items():
        print(f"        {name}: negative log-likelihood {nll:.4f} on folds it wasn't fitted on")
    print(found.calibration.meaning)
    for line in _decided(found.decisions):
        print(line)


def _scaling(calibration: Calibration) -> str:
    nll = calibration.measured.get("nll_after")
    told = "" if nll is None else f", negative log-likelihood {nll:.4f}"
    return f"{calibration.method}, temperature {calibration.temperature:.3f}{told}"


def _decided(decisions: Decisions) -> list[str]:
    sets = decisions.measured["sets"]
    covered = f"{sets['covered']:.1%} hold the right one ({decisions.coverage:.0%} promised)"
    lines = [
        f"{decisions.meaning} Promised are {decisions.precision:.0%}.",
        f"Sets of species: {covered}, {sets['mean_size']:.2f} species on average.",
    ]
    if decisions.organism is not None:
        lines.append(_rejected(decisions))
    if (unknown := decisions.unknown) is None:
        return [*lines, "No threshold for unknown species: the part holds too few species outside the model."]
    found = unknown.measured
    areas = ", ".join(f"{name} {area:.3f}" for name, area in found["auroc"].items())
    lines.append(f"Unknown species by {unknown.sureness}: AUROC {areas}; {found['fpr95']:.1%} pass with 95% of the known;")
    flagged = f"{found['unknown_flagged']:.1%} of the unknown and {found['known_flagged']:.1%} of the known are flagged"
    return [*lines, f"  {flagged}; Track 4 {found['track4']:.3f} instead of {found['track4_without']:.3f}."]


def _rejected(decisions: Decisions) -> str:
    assert decisions.organism is not None
    how = "their entropy, which noise passes: there were too few training pictures to measure the likeness to them"
    if decisions.likeness is not None:
        how = f"the likeness of their scores to those of {decisions.likeness.images:,} training pictures"
    return f"Pictures of no organism are found by {how}; {decisions.organism.measured['kept']:.1%} of the part pass."
