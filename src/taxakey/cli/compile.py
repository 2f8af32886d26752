"""`taxakey compile`: a dataset's recipe -> records, names, selection, pictures, dataset, audit, page and publication, in one go."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import pyarrow as pa

    from taxakey.dataset.recipe import DatasetRecipe
    from taxakey.records.checklist import Checklist

GBIF = "gbif:"


def compile_dataset(
    recipe: Annotated[Path, typer.Argument(help="A dataset's recipe, such as recipes/naflora.yaml.")],
    out: Annotated[Path, typer.Argument(help="Folder for everything that is made.")],
    engine: Annotated[str | None, typer.Option(help="duckdb or spark (master by Spark's own settings); else the recipe's.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads or processes; by default as many as cores.")] = None,
) -> None:
    """Make a dataset that could be published, from downloads and a checklist, with an account of every record that isn't in it.

    Every stage is an artifact in OUT and a command of its own; an interrupted run goes on where it stopped. Pictures that could
    not be fetched are tried again by `taxakey fetch`.

    Example: taxakey compile recipes/naflora.yaml work/naflora
    """
    from dataclasses import replace

    from taxakey.dataset.recipe import read_dataset_recipe

    wanted = read_dataset_recipe(recipe)
    if engine is not None:
        wanted = replace(wanted, engine=engine)  # type: ignore[arg-type]
    begun = time.monotonic()

    def say(step: str) -> None:
        print(f"\n[{time.monotonic() - begun:4.0f} s] {step}", flush=True)

    _Compilation(wanted, out, workers, say).run()
    say("done")


class _Compilation:
    """The stages in their order; each writes the folder that is named after it."""

    def __init__(self, recipe: DatasetRecipe, out: Path, workers: int | None, say: Callable[[str], None]) -> None:
        self.recipe, self.out, self.workers, self.say = recipe, out, workers, say

    def run(self) -> None:
        self.records()
        checklist = self.names()
        self.candidates(checklist)
        self.pictures()
        self.selection(checklist)
        self.dataset()
        self.accounts()

    def records(self) -> None:
        from taxakey.artifacts import Plan
        from taxakey.progress import working
        from taxakey.records.sources import read_sources, source_hash

        self.say(f"records from {', '.join(self.recipe.sources)}")
        paths = [self._fetched_from_gbif(source) for source in self.recipe.sources]
        plan = Plan("records", {f"source {number}": source_hash(path) for number, path in enumerate(paths, 1)})
        if not self._is_finished("records"):
            with working("reading"):
                observations = read_sources(paths)
            observations.write(self.out / "records", plan)
        self._count("records", ("images", "observations", "species", "rejected"))

    def names(self) -> Checklist | None:
        from taxakey.artifacts import Plan, hash_of
        from taxakey.records.checklist import read_checklist
        from taxakey.records.engines import open_engine
        from taxakey.records.matching import match_names
        from taxakey.records.selection import given_names

        if self.recipe.checklist is None:
            return None
        self.say(f"names against {self.recipe.checklist}")
        checklist = read_checklist(self.recipe.checklist)
        with open_engine(self.recipe.engine) as engine:
            engine.read("observations", [self.out / "records" / "observations.parquet"])
            given = given_names(engine)
        from dataclasses import asdict

        inputs = {"records": hash_of(self.out / "records"), "checklist": hash_of(self.recipe.checklist)}
        plan = Plan("names", inputs, asdict(self.recipe.names))
        match_names(given, checklist, self.recipe.names).write(self.out / "names", plan, checklist=checklist.counts)
        self._count("names", None)
        return checklist

    def candidates(self, checklist: Checklist | None) -> None:
        """First selection, before anything is fetched: rules of records, hosts, and a cap."""
        self.say("candidates: rules of records, hosts and numbers")
        self._select([self.out / "records"], "candidates", checklist, last=False)

    def pictures(self) -> None:
        from taxakey.cli.fetch import summarise
        from taxakey.dataset.fetch import fetch
        from taxakey.dataset.inspection import inspect

        if self.recipe.fetch is not None:
            self.say("fetching pictures")
            counts = fetch(self.out / "candidates", self.out / "pictures", self.recipe.fetch).counts
            summarise(counts, self.out / "pictures")
        self.say("looking at every picture")
        pictures = None if self.recipe.fetch is None else self.out / "pictures"
        inspect(self.out / "candidates", self.out / "inspection", self.recipe.inspection, pictures=pictures, workers=self.workers)
        self._count("inspection", None)
