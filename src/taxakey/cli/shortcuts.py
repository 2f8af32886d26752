"""`taxakey shortcuts`: does a model look at the plant?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from taxakey.evaluation.shortcuts import Finding, Settings
    from taxakey.report.shortcuts_page import Sample


def shortcuts(
    context: typer.Context,
    out: Annotated[Path, typer.Argument(help="Folder for shortcuts.html and shortcuts.json.")],
    seen: Annotated[Path | None, typer.Option(help="Predictions of a model that learnt from the institution, too.")] = None,
    unseen: Annotated[
        Path | None, typer.Option(help="Predictions of one that never saw it (`taxakey split --held-out`), with --seen.")
    ] = None,
    institution: Annotated[str | None, typer.Option(help="Its code, where several are in the part and not in training.")] = None,
    plain: Annotated[Path | None, typer.Option(help="Predictions of a dataset as it is.")] = None,
    masked: Annotated[Path | None, typer.Option(help="Predictions of the same with its text masked, with --plain.")] = None,
    blank: Annotated[Path | None, typer.Option(help="A run that is asked about pictures whose plant is painted over.")] = None,
    dataset: Annotated[Path | None, typer.Option(help="The dataset for --blank.")] = None,
    part: Annotated[str, typer.Option(help="Its part to ask about: test or validation.")] = "test",
    box: Annotated[
        str, typer.Option(help="What is painted over, as shares of the picture: left,top,right,bottom.")
    ] = "0,0.05,1,0.87",
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples behind each interval.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the resamples.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
) -> None:
    """Test whether a model lives off an institution's sheets, the text on them or the background, each with paired intervals.

    Example: taxakey shortcuts shortcuts/ --blank run/ --dataset dataset/

    Example: taxakey shortcuts shortcuts/ --seen run/predictions --unseen without-K/predictions --plain a/ --masked b/
    """
    from taxakey.cli.again import again
    from taxakey.errors import BadInput
    from taxakey.evaluation.shortcuts import Settings, held_out, masked_or_not
    from taxakey.report.shortcuts_page import write_shortcuts

    for name, pair in {"--seen and --unseen": (seen, unseen), "--plain and --masked": (plain, masked)}.items():
        if (pair[0] is None) != (pair[1] is None):
            raise BadInput(f"{name} belong together; name both")
    if blank is not None and dataset is None:
        raise BadInput("--blank: which pictures? add --dataset")
    if seen is None and plain is None and blank is None:
        raise BadInput("nothing to test: name --seen and --unseen, --plain and --masked, or --blank and --dataset")
    settings = Settings(resamples, seed)
    findings: list[Finding] = []
    samples: list[Sample] = []
    if seen is not None and unseen is not None:
        findings.append(held_out(seen, unseen, institution, settings=settings))
    if plain is not None and masked is not None:
        findings.append(masked_or_not(plain, masked, settings=settings))
    if blank is not None and dataset is not None:
        finding, samples = _blank(blank, dataset, part, box, settings, device)
        findings.append(finding)
    page = write_shortcuts(findings, samples, out, again(context))
    for finding in findings:
        typer.echo(f"{finding.title} ({finding.observations:,} observations)")
        for sentence in finding.says:
            typer.echo(f"  {sentence}")
    typer.echo(f"shortcuts: {page}")


def _blank(run: Path, dataset: Path, part: str, box: str, settings: Settings, device: str) -> tuple[Finding, list[Sample]]:
    from taxakey.artifacts import hash_of
    from taxakey.cli.device import resolve_device
    from taxakey.dataset.blanking import BlankOptions
    from taxakey.evaluation.shortcuts import painted_over, what_is_left
    from taxakey.prediction.blank import look_at_blank
    from taxakey.report.shortcuts_page import samples_of

    looked = look_at_blank(run, dataset, BlankOptions.parse(box), part=part, seed=settings.seed, device=resolve_device(device))
    finding = painted_over(what_is_left(looked), settings=settings, inputs={"dataset": hash_of(dataset)})
    return finding, samples_of(looked.test)
