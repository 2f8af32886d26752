"""From a dataset's recipe to a dataset, stage by stage; each stage is an artifact in a folder that is named after it.

    records      what the sources deliver, a specimen of several portals once
    names        what the checklist says to their names
    candidates   what rules, hosts and numbers leave, before anything is fetched
    pictures     the files of what has an address only
    inspection   what every picture is like, and which are the same
    selected     what the inspection leaves, with parts that share no observation and no duplicate
    dataset      the pictures, masked and made small, in shards
    audit        whether the parts leak

A stage that is finished isn't done again, one that was interrupted goes on, and one whose inputs changed says so.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import pyarrow.parquet as pq

from taxakey.artifacts import Manifest, Plan, hash_of, read_json, read_manifest, start
from taxakey.dataset.auditing.audit import audit
from taxakey.dataset.build import PARTS, build
from taxakey.dataset.fetch import fetch
from taxakey.dataset.inspection import inspect, read_judged, read_near_groups
from taxakey.dataset.located import fetched_paths
from taxakey.dataset.recipe import DatasetRecipe
from taxakey.progress import working
from taxakey.records.coverage import write_coverage
from taxakey.records.engines import open_engine
from taxakey.records.flow import Step, read_flow, write_flow
from taxakey.records.naming.checklist import Checklist, read_checklist
from taxakey.records.naming.matches import Matches
from taxakey.records.naming.matching import match_names
from taxakey.records.selected import write_selection
from taxakey.records.selection import given_names, names_of
from taxakey.records.sources import read_sources, source_hash


class Compilation:
    """The stages of one recipe in one folder. Each method makes one artifact and returns its manifest."""

    def __init__(self, recipe: DatasetRecipe, out: Path | str, *, workers: int | None = None) -> None:
        self.recipe, self.out, self.workers = recipe, Path(out), workers
        self._checklist: Checklist | None = None

    def place(self, stage: str) -> Path:
        """The folder of a stage."""
        return self.out / stage

    def records(self, sources: list[Path]) -> Manifest:
        """`sources`: files and folders, in the order in which they go before each other.

        DOIs that `taxakey records --gbif` noted beside them go into the manifest, for the dataset's citation.
        """
        inputs = {f"source {number}": source_hash(path) for number, path in enumerate(sources, 1)}
        notes = [path.with_suffix(".json") for path in sources if path.suffix == ".zip" and path.with_suffix(".json").is_file()]
        plan = Plan("records", inputs, {"downloads": [read_json(note).get("doi") for note in notes]})
        if start(self.place("records"), plan) != "finished":
            with working("reading"):
                observations = read_sources(sources)
            observations.write(self.place("records"), plan)
        return read_manifest(self.place("records"), "records")

    def names(self) -> Manifest | None:
        """None where the recipe names no checklist."""
        if self.recipe.checklist is None:
            return None
        inputs = {"records": hash_of(self.place("records")), "checklist": source_hash(self.recipe.checklist)}
        plan = Plan("names", inputs, asdict(self.recipe.names))
        if start(self.place("names"), plan) != "finished":
            with working("matching names"), open_engine(self.recipe.engine) as engine:
                engine.read("observations", [self.place("records") / "observations.parquet"])
                matches = match_names(given_names(engine), self.checklist, self.recipe.names)
            matches.write(self.place("names"), plan, checklist=self.checklist.counts)
        return read_manifest(self.place("names"), "names")

    @property
    def checklist(self) -> Checklist:
        """The recipe's checklist, read once."""
        if self._checklist is None:
            assert self.recipe.checklist is not None
            with working(f"reading {self.recipe.checklist}"):
                self._checklist = read_checklist(self.recipe.checklist)
        return self._checklist

    def candidates(self) -> Manifest:
        names, inputs = None, {}
        if self.recipe.checklist is not None:
            names, inputs = names_of(Matches.read(self.place("names"))), {"names": hash_of(self.place("names"))}
        options = replace(self.recipe.selection, seed=self.recipe.seed, least={}, most={})
        with working("selecting"):
            return write_selection(
                [self.place("records")], self.place("candidates"), options, names=names, engine=self.recipe.engine, inputs=inputs
            )

    def pictures(self) -> Manifest | None:
        """None where the recipe has no `fetch`: then pictures are files that the sources name.

        What could not be had is tried again by a further run, until pictures were looked at: then they stay as they are.
        """
        if self.recipe.fetch is None:
            return None
        looked_at = (self.place("inspection") / "plan.json").is_file()
        folders = self.place("candidates"), self.place("pictures")
        return fetch(*folders, self.recipe.fetch, retry="none" if looked_at else "transient")

    def inspection(self) -> Manifest:
        pictures = None if self.recipe.fetch is None else self.place("pictures")
        return inspect(
            self.place("candidates"), self.place("inspection"), self.recipe.inspection, pictures=pictures, workers=self.workers
        )

    def selected(self) -> Manifest:
        """The rules of records were applied to the candidates; now those of pictures, numbers again, and the split."""
        options = replace(
            self.recipe.selection, seed=self.recipe.seed, hosts=None,
            basis_of_record=(), licences=(), require_date=False, require_coordinates=False,
        )  # fmt: skip
        folder = self.place("inspection")
        paths = None if self.recipe.fetch is None else fetched_paths(self.place("pictures"))
        with working("selecting"):
            return write_selection(
                [self.place("candidates")], self.place("selected"), options, inspection=read_judged(folder), paths=paths,
                split_options=replace(self.recipe.split, seed=self.recipe.seed), joined=read_near_groups(folder),
                engine=self.recipe.engine, inputs={"inspection": hash_of(folder)},
            )  # fmt: skip

    def dataset(self) -> Manifest:
        engine: Literal["local", "spark"] = "spark" if self.recipe.engine == "spark" else "local"
        return build(self.place("selected"), self.place("dataset"), self.recipe.build, engine=engine, workers=self.workers)

    def audit(self) -> Manifest:
        return audit(
            self.place("dataset"),
            self.place("audit"),
            self.recipe.audit,
            inspection=self.place("inspection"),
            workers=self.workers,
        )

    # ---- the account ----

    def account(self) -> tuple[Step, ...]:
        """Write flow.json, the steps of all stages, and with a checklist the two tables of coverage; returns the flow."""
        first, second = (read_flow(self.place(stage) / "flow.json") for stage in ("candidates", "selected"))
        dataset = read_manifest(self.place("dataset"), "dataset").counts
        stored = sum(dataset[part] for part in PARTS)
        lost = second[-1].kept - stored
        last = Step("stored", stored, {"picture can't be stored": lost} if lost else {})
        flow = (*self._steps_of_records(), *first[1:], *second[1:], last)
        write_flow(self.out / "flow.json", flow)
        if self.recipe.checklist is not None:
            counts = pq.read_table(self.place("candidates") / "counts.parquet")
            selected = pq.read_table(self.place("selected") / "observations.parquet", columns=["scientificName"])
            write_coverage(self.out, self.checklist.accepted_species(), counts, selected, self.recipe.selection.min_images)
        return flow

    def _steps_of_records(self) -> tuple[Step, Step]:
        counts = read_manifest(self.place("records"), "records").counts
        reasons = {name.removeprefix("rejected: "): n for name, n in counts.items() if name.startswith("rejected: ")}
        rows = Step("rows of the sources", counts["images"] + counts["rejected"], {})
        return rows, Step("valid records with a picture", counts["images"], reasons)
