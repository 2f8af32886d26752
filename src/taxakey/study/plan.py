"""A study's file: a base recipe, what each variant changes in it, the seeds, and the rows that a paper printed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from taxakey.errors import BadRecipe
from taxakey.recipe_file import checked, read_mapping, read_text, refuse_unknown_keys
from taxakey.training.recipe import Recipe, recipe_from

MAIN = "main"
"""The dataset that a variant is trained on unless it names another one."""


@dataclass(frozen=True)
class Variant:
    """What one row of the table does.

    `recipe`: changes to the base recipe, key by key. `dataset`: the name of the dataset it learns from. `start`: the variant
    whose run of the same seed it goes on from. `measured: false`: a first stage that is no row of the table.
    """

    recipe: Mapping[str, Any] = field(default_factory=dict)
    dataset: str = MAIN
    start: str | None = None
    measured: bool = True


@dataclass(frozen=True)
class Published:
    """Rows as a paper printed them, for the eye: they were measured on other data. `rows`: name -> column -> value."""

    source: str
    data: str
    rows: Mapping[str, Mapping[str, float | int | str | None]]


@dataclass(frozen=True)
class Study:
    """`base`: the recipe's keys. `reference`: the variant that the others are compared with, by default the first.

    `smoke`: changes to all variants that make them quick, for trying the study out.
    """

    study: str
    title: str
    base: Mapping[str, Any]
    variants: Mapping[str, Variant]
    seeds: tuple[int, ...] = (0,)
    reference: str | None = None
    smoke: Mapping[str, Any] = field(default_factory=dict)
    published: Published | None = None

    def __post_init__(self) -> None:
        if not self.variants or not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError("a study needs at least one variant and one seed, each seed once")
        earlier: set[str] = set()
        for name, variant in self.variants.items():
            if variant.start is not None and variant.start not in earlier:
                raise ValueError(f"the variant {name!r} starts from {variant.start!r}, which is no variant above it")
            earlier.add(name)
        if self.first not in self.measured:
            raise ValueError(f"the reference {self.first!r} is none of the measured variants ({', '.join(self.measured)})")

    @property
    def measured(self) -> tuple[str, ...]:
        """The variants that are rows of the table."""
        return tuple(name for name, variant in self.variants.items() if variant.measured)

    @property
    def first(self) -> str:
        """The variant that the others are compared with."""
        return self.reference or next(iter(self.measured), "")

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of the datasets that must be given."""
        return tuple(dict.fromkeys((MAIN, *(variant.dataset for variant in self.variants.values()))))

    def recipe(self, name: str, *, smoke: bool = False) -> Recipe:
        """A variant's recipe; raises BadRecipe, which names the variant."""
        content = merged(self.base, self.variants[name].recipe)
        if smoke:
            content = merged(content, self.smoke)
        return recipe_from({**content, "name": f"{self.study}: {name}"}, f"{self.study}, variant {name!r}")

    def only(self, names: tuple[str, ...]) -> Study:
        """The study with these rows only, the reference and what they start from."""
        if unknown := sorted(set(names) - set(self.variants)):
            raise BadRecipe(f"{self.study} has no variant {unknown[0]!r}; it has: {', '.join(self.variants)}")
        wanted = {*names, self.first}
        for name in reversed(list(self.variants)):  # what a variant starts from stands above it
            start = self.variants[name].start
            if name in wanted and start is not None:
                wanted.add(start)
        return replace(self, variants={name: variant for name, variant in self.variants.items() if name in wanted})


refuse_unknown_keys(Study, Variant, Published)
_ADAPTER = TypeAdapter(Study)


def read_study(path: Path | str) -> Study:
    """Read and check a study and all its recipes. Raises BadRecipe with the file, the key or variant, and what was expected."""
    path = Path(path)
    if not path.is_file():
        raise BadRecipe(f"{path}: no such file; a study is a YAML file, see recipes/studies")
    study = checked(_ADAPTER, read_mapping(read_text(path), path), path)
    for name in study.variants:
        study.recipe(name)
        study.recipe(name, smoke=True)
    return study


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes`, mapping by mapping. One of another `kind` or `name` takes the old one's place whole.

    >>> merged({"head": {"kind": "tree", "width": 64}, "seed": 1}, {"head": {"width": 32}})
    {'head': {'kind': 'tree', 'width': 32}, 'seed': 1}
    >>> merged({"head": {"kind": "tree", "width": 64}}, {"head": {"kind": "linear"}})
    {'head': {'kind': 'linear'}}
    """
    result = dict(base)
    for key, value in changes.items():
        old = base.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping) and not _another(old, value):
            result[key] = merged(old, value)
        else:
            result[key] = dict(value) if isinstance(value, Mapping) else value
    return result


def _another(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return any(key in new and new[key] != old.get(key) for key in ("kind", "name"))
