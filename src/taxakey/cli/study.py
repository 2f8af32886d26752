"""`taxakey study`: variants of a recipe trained alike and compared in one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def study(
    plan: Annotated[Path, typer.Argument(help="A study's YAML file, such as recipes/studies/biomachina.yaml.")],
    dataset: Annotated[
        Path, typer.Argument(help="The dataset that all variants are measured on, and trained on unless they say otherwise.")
    ],
    out: Annotated[Path, typer.Argument(help="Folder for the runs, the table and its plot.")],
    also: Annotated[list[str] | None, typer.Option(help="Another dataset that the study names: web=FOLDER.")] = None,
    seeds: Annotated[list[int] | None, typer.Option("--seed", help="Instead of the study's seeds; may be repeated.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Only this variant (and the reference); may be repeated.")] = None,
    smoke: Annotated[bool, typer.Option(help="Try it out: with the study's `smoke` changes, figures mean nothing.")] = False,
    part: Annotated[str, typer.Option(help="The part that is measured. Choose settings on validation.")] = "test",
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
) -> None:
    """Train every variant of a study with every seed, measure all on the same photographs, and write one table.

    Differences from the reference come with paired intervals. Interrupted, the same command goes on.

    Example: taxakey study recipes/studies/biomachina.yaml dataset/ study/ --also web=web-dataset/
    """
    from dataclasses import replace

    from taxakey.cli.device import resolve_device
    from taxakey.study.figures import rows_of
    from taxakey.study.plan import MAIN, read_study
    from taxakey.study.run import run_study
    from taxakey.study.tables import write_tables

    chosen = read_study(plan)
    chosen = replace(chosen, seeds=tuple(seeds)) if seeds else chosen
    chosen = chosen.only(tuple(only)) if only else chosen
    datasets = {MAIN: dataset, **_named(also or [])}
    device = resolve_device(device)
    predictions = run_study(
        chosen, datasets, out, device=device, smoke=smoke, part=part, say=lambda what: print(what, flush=True)
    )
    rows = rows_of(predictions, dataset, chosen.first)
    notes = ["A smoke run: it shows that the study runs, its figures mean nothing."] if smoke else []
    page = write_tables(chosen, rows, out, _command(plan, chosen.seeds, datasets, smoke, part), notes)
    print(page.read_text(encoding="utf-8"))


def _named(also: list[str]) -> dict[str, Path]:
    from taxakey.errors import BadInput

    if bad := [item for item in also if "=" not in item]:
        raise BadInput(f"--also {bad[0]}: a name and a folder, such as web=web-dataset/")
    return {name: Path(folder) for name, _, folder in (item.partition("=") for item in also)}


def _command(plan: Path, seeds: tuple[int, ...], datasets: dict[str, Path], smoke: bool, part: str) -> str:
    others = "".join(f" --also {name}={folder.name}" for name, folder in datasets.items() if name != "main")
    named = "".join(f" --seed {seed}" for seed in seeds)
    flags = (" --smoke" if smoke else "") + ("" if part == "test" else f" --part {part}")
    return f"taxakey study {plan.name} {datasets['main'].name} OUT{others}{named}{flags}"
