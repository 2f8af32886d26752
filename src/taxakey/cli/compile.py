"""`taxakey compile`: a dataset's recipe -> records, names, selection, pictures, dataset, audit, page and publication."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from taxakey.artifacts import Manifest
    from taxakey.dataset.compilation import Compilation
    from taxakey.dataset.recipe import DatasetRecipe

GBIF = "gbif:"


def compile_dataset(
    recipe: Annotated[Path, typer.Argument(help="A dataset's recipe, such as recipes/naflora.yaml.")],
    out: Annotated[Path, typer.Argument(help="Folder for everything that is made.")],
    engine: Annotated[
        Literal["duckdb", "spark"] | None,
        typer.Option(help="duckdb or spark (master by Spark's own settings); else the recipe's."),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads or processes; by default as many as cores.")] = None,
) -> None:
    """Make a dataset that could be published, from downloads and a checklist, with an account of every record that isn't in it.

    Every stage is a folder in OUT; an interrupted run goes on where it stopped.

    Example: taxakey compile recipes/naflora.yaml work/naflora
    """
    from dataclasses import replace

    from taxakey.dataset.compilation import Compilation
    from taxakey.dataset.recipe import read_dataset_recipe

    wanted = read_dataset_recipe(recipe).resolved()
    if engine is not None:
        wanted = replace(wanted, engine=engine)
    begun = time.monotonic()

    def say(step: str) -> None:
        print(f"\n[{time.monotonic() - begun:4.0f} s] {step}", flush=True)

    compilation = Compilation(wanted, out, workers=workers)
    say(f"sources: {', '.join(wanted.sources)}")
    sources = list(_local(wanted, out))
    for step, stage in _stages(compilation, sources):
        say(step)
        _tell(stage())
    say("the account")
    _account(compilation)
    say("done")


def _local(recipe: DatasetRecipe, out: Path) -> Iterator[Path]:
    """The sources as files; what GBIF has ready is fetched first."""
    from taxakey.records.gbif.fetching import fetch
    from taxakey.records.gbif.service import Gbif

    for source in recipe.sources:
        if source.startswith(GBIF):
            service = Gbif()
            yield fetch(service, service.wait(source.removeprefix(GBIF)), out / "downloads")
        else:
            yield Path(source)


def _stages(compilation: Compilation, sources: list[Path]) -> Iterator[tuple[str, Callable[[], Manifest | None]]]:
    yield "records", lambda: compilation.records(sources)
    if compilation.recipe.checklist is not None:
        yield f"names, by {compilation.recipe.checklist}", compilation.names
    yield "candidates: rules of records, hosts, numbers", compilation.candidates
    if compilation.recipe.fetch is not None:
        yield "fetching pictures", compilation.pictures
    yield "looking at every picture", compilation.inspection
    yield "selection: rules of pictures, duplicates, numbers, parts", compilation.selected
    yield "dataset: shards of pictures", compilation.dataset
    yield "audit", compilation.audit


def _tell(manifest: Manifest | None) -> None:
    for fact, number in (manifest.counts if manifest else {}).items():
        typer.echo(f"{number:>12,}  {fact}")


def _account(compilation: Compilation) -> None:
    from taxakey.records.flow import flow_lines
    from taxakey.report.exploration_page import write_exploration

    flow = compilation.account()
    for line in flow_lines(flow):
        typer.echo(line)
    typer.echo(f"exploration: {write_exploration(compilation.place('dataset'), compilation.place('exploration'))}")
    if compilation.recipe.citation is not None:
        _publish(compilation)


def _publish(compilation: Compilation) -> None:
    from dataclasses import replace

    from taxakey.artifacts import read_manifest
    from taxakey.dataset.publishing.citation import downloads_of
    from taxakey.report.publication import PublicationOptions, publish

    recipe = compilation.recipe
    assert recipe.citation is not None
    downloads = downloads_of(read_manifest(compilation.place("records"), "records"))
    options = PublicationOptions(
        replace(recipe.citation, downloads=tuple(sorted({*recipe.citation.downloads, *downloads}))),
        flow=compilation.out / "flow.json", also=recipe.also,
        solution=compilation.place("solution") if recipe.also else None,
        halves=compilation.place("selected") / "split.parquet" if recipe.also and recipe.split.halves else None,
    )  # fmt: skip
    manifest = publish(compilation.place("dataset"), compilation.place("publication"), options)
    _tell(manifest)
    for note in manifest.notes:
        typer.echo(f"note: {note}")
    typer.echo(f"publication: {compilation.place('publication')}")
