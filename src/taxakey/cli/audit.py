"""`taxakey audit`: leaks of a dataset, and whether a picture was in it. Exit status 3: leaks were found and `--fail-on` asks
for it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

LEAKED = 3


class FailOn(StrEnum):
    """What makes the command fail."""

    nothing = "nothing"
    leaks = "leaks"


def audit(
    dataset: Annotated[Path, typer.Argument(help="Dataset; with --was-it-there also an audit's folder or a split manifest.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the audit; by default beside the dataset, with -audit added.")
    ] = None,
    inspection: Annotated[
        Path | None, typer.Option(help="Folder that `taxakey inspect` wrote: hashes of the original files.")
    ] = None,
    was_it_there: Annotated[list[Path] | None, typer.Option(help="A file: in which part was this picture? Repeatable.")] = None,
    near_distance: Annotated[int, typer.Option(help="Bits of 256 in which the hashes of near duplicates may differ.")] = 24,
    cell_degrees: Annotated[float, typer.Option(help="Edge of a place, for pictures of the same place and date.")] = 0.1,
    fail_on: Annotated[
        FailOn, typer.Option(help="leaks: exit status 3 where a part has seen pictures of another.")
    ] = FailOn.nothing,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads; by default as many as there are cores.")] = None,
) -> None:
    """Look for pictures, observations and specimens that stand in two parts, and for what else makes figures doubtful.

    Example: taxakey audit work/dataset --fail-on leaks

    Example: taxakey audit split_manifest.parquet --was-it-there photograph.jpg
    """
    from taxakey.artifacts import kind_of
    from taxakey.dataset.auditing.audit import audit as audit_dataset
    from taxakey.dataset.auditing.leaks import AuditOptions

    if was_it_there and (dataset.is_file() or kind_of(dataset) == "audit"):
        return _answer(dataset, was_it_there, near_distance)
    out = out or dataset.parent / f"{dataset.resolve().name}-audit"
    options = AuditOptions(near_distance=near_distance, cell_degrees=cell_degrees)
    audit_dataset(dataset, out, options, inspection=inspection, workers=workers)
    if was_it_there:
        return _answer(out, was_it_there, near_distance)
    if _summarise(out) and fail_on is FailOn.leaks:
        raise typer.Exit(LEAKED)


def _summarise(out: Path) -> int:
    """Print the counts; returns the number of leaks."""
    from taxakey.artifacts import read_json
    from taxakey.dataset.auditing.leaks import LEAKS

    result = read_json(out / "audit.json")
    for kind, number in result["findings"].items():
        typer.echo(f"{number:,}: {kind}")
    for where, seen in result["seen"].items():
        typer.echo(f"{where}: {seen['pictures']:,} pictures ({100 * seen['share']:.1f} %) were seen")
    typer.echo(f"digest of the split manifest: {result['split_manifest']['digest']}")
    typer.echo(f"audit: {out / 'audit.md'}")
    return sum(result["findings"][kind] for kind in LEAKS)


def _answer(manifest: Path, files: list[Path], distance: int) -> None:
    from taxakey.dataset.auditing.split_manifest import SplitManifest

    known = SplitManifest.read(manifest)
    typer.echo(f"{len(known.rows):,} pictures, digest {known.digest}")
    for file in files:
        answers = known.was_it_there(file, distance)
        found = [f"{each.how} in {each.part} as {each.image_id} ({each.distance} bits apart)" for each in answers]
        typer.echo(f"{file}: {'; '.join(found) or 'no'}")
