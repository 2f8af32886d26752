"""A dataset's recipe: one YAML file that says how downloads and a checklist become a dataset that could be published."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from taxakey.dataset.auditing.leaks import AuditOptions
from taxakey.dataset.build import BuildOptions
from taxakey.dataset.fetch import FetchOptions
from taxakey.dataset.inspection import InspectOptions
from taxakey.dataset.masking import MaskOptions
from taxakey.dataset.publishing.citation import CitationOptions
from taxakey.errors import BadRecipe
from taxakey.recipe_file import checked, expanded, read_mapping, read_text, refuse_unknown_keys
from taxakey.records.engines import EngineName
from taxakey.records.hosts import HostOptions
from taxakey.records.naming.matching import MatchOptions
from taxakey.records.selection import SelectionOptions
from taxakey.records.splits import SplitOptions


@dataclass(frozen=True)
class DatasetRecipe:
    """`sources`: archives, folders or tables, or "gbif:KEY" for a prepared download; `checklist`: accepted names and synonyms;
    both may use ${VARIABLES} of the environment. `citation`: where it is given, what a publication needs is written too.

    `also`: further layouts of the publication; `mask`: see `taxakey.dataset.masking`.
    """

    name: str
    sources: tuple[str, ...]
    checklist: str | None = None
    seed: int = 0
    names: MatchOptions = field(default_factory=MatchOptions)
    selection: SelectionOptions = field(default_factory=SelectionOptions)
    fetch: FetchOptions | None = None
    inspection: InspectOptions = field(default_factory=InspectOptions)
    split: SplitOptions = field(default_factory=SplitOptions)
    build: BuildOptions = field(default_factory=BuildOptions)
    audit: AuditOptions = field(default_factory=AuditOptions)
    citation: CitationOptions | None = None
    also: tuple[Literal["herbarium2022"], ...] = ()
    engine: EngineName = "duckdb"

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError("sources is empty; name at least one archive, folder or table")
        if self.selection.seed or self.split.seed:
            raise ValueError("all stages have the recipe's own seed; say seed: beside name:, and nowhere else")
        if self.also and self.citation is None:
            raise ValueError("a further layout is part of a publication; say citation: {title: …, authors: […]}")

    def resolved(self) -> DatasetRecipe:
        """With environment variables filled in; raises BadRecipe where one isn't set."""
        step = "name the file itself in the recipe"
        sources = tuple(expanded(source, "sources", step) for source in self.sources)
        checklist = None if self.checklist is None else expanded(self.checklist, "checklist", step)
        return replace(self, sources=sources, checklist=checklist)


refuse_unknown_keys(
    DatasetRecipe, MatchOptions, SelectionOptions, HostOptions, FetchOptions, InspectOptions, SplitOptions,
    BuildOptions, MaskOptions, AuditOptions, CitationOptions,
)  # fmt: skip
_ADAPTER = TypeAdapter(DatasetRecipe)


def read_dataset_recipe(path: Path | str) -> DatasetRecipe:
    """Read a recipe, its variables not yet filled in; raises BadRecipe with the file, the key and what was expected."""
    path = Path(path)
    if not path.is_file():
        raise BadRecipe(f"{path}: no such file; name a recipe of a dataset, such as recipes/naflora.yaml")
    return checked(_ADAPTER, read_mapping(read_text(path), path), path)
