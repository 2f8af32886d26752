"""What a search may change in a recipe: keys and the values to try. Plain Python; Optuna is asked to choose elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taxakey.errors import BadRecipe
from taxakey.recipe_file import read_mapping, read_text
from taxakey.training.recipe import Recipe, recipe_from

SPACES: Mapping[str, Mapping[str, Any]] = {
    "rates": {
        "optimizer.rate": {"low": 1e-4, "high": 1e-1, "log": True},
        "optimizer.weight_decay": {"low": 1e-5, "high": 0.3, "log": True},
        "schedule.warmup": [0.0, 0.05, 0.2],
    },
    "fine-tuning": {
        "optimizer.rate": {"low": 1e-5, "high": 1e-2, "log": True},
        "optimizer.backbone_rate": {"low": 0.01, "high": 1.0, "log": True},
        "optimizer.weight_decay": {"low": 1e-4, "high": 0.3, "log": True},
        "augment.smallest_part": [0.2, 0.5, 0.8],
    },
}
"""Spaces that come with Taxakey, by name."""


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, whole ones where both are; `log`: as many per power of ten; `step`: only these."""

    low: float
    high: float
    log: bool = False
    step: float | None = None

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.log and self.low <= 0) or (self.step is not None and (self.log or self.step <= 0)):
            raise ValueError("low must lie below high, above 0 where log is set, and step goes without log")

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int) and isinstance(self.step, int | None)

    @property
    def examples(self) -> tuple[Any, ...]:
        return self.low, self.high

    def suggest(self, trial: Any, key: str) -> Any:
        """Ask an Optuna trial."""
        if self.whole:
            return trial.suggest_int(key, self.low, self.high, log=self.log, step=1 if self.step is None else self.step)
        return trial.suggest_float(key, self.low, self.high, log=self.log, step=self.step)


@dataclass(frozen=True)
class Choice:
    """One of several values, of any kind that a recipe holds: a number, a word, a list, or a mapping for a whole section."""

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if len(self.values) < 2:
            raise ValueError("a choice needs two values or more")

    @property
    def examples(self) -> tuple[Any, ...]:
        return self.values

    def suggest(self, trial: Any, key: str) -> Any:
        """Ask an Optuna trial, which knows scalars only: what isn't one is chosen by its JSON."""
        if all(value is None or isinstance(value, str | int | float) for value in self.values):
            return trial.suggest_categorical(key, self.values)
        by_text = {json.dumps(value, sort_keys=True): value for value in self.values}
        return by_text[trial.suggest_categorical(key, tuple(by_text))]


Space = Mapping[str, Range | Choice]


def read_space(source: Path | str, recipe: Recipe) -> Space:
    """A YAML file of keys with dots, or the name of one of `SPACES`; checked against the recipe, key by key and value by value.

    A list is a choice, {low, high, log, step} a range. Raises BadRecipe with the file, the key and what is wrong.
    """
    path = Path(source)
    if path.is_file():
        content: Mapping[str, Any] = read_mapping(read_text(path), path)
    elif str(source) in SPACES:
        content = SPACES[str(source)]
    else:
        raise BadRecipe(f"{source}: neither a file nor a space that comes with Taxakey ({', '.join(SPACES)})")
    if not content:
        raise BadRecipe(f"{source}: no key in it, so there is nothing to search")
    space = {key: _parsed(value, f"{source}: {key}") for key, value in content.items()}
    for key, values in space.items():
        for value in values.examples:
            varied(recipe, {key: value}, f"{source}: {key} = {value}")
    return space


def _parsed(value: Any, where: str) -> Range | Choice:
    try:
        if isinstance(value, list):
            return Choice(tuple(value))
        if isinstance(value, Mapping) and "choices" in value:
            return Choice(tuple(value["choices"]))
        return Range(**value)
    except (TypeError, ValueError) as error:
        raise BadRecipe(f"{where}: a list of values, or low and high (and log or step), is needed ({error})") from None


def varied(recipe: Recipe, values: Mapping[str, Any], origin: object) -> Recipe:
    """The recipe with other values; a key such as optimizer.rate names a field of a section. Raises BadRecipe for a wrong one."""
    plain = recipe.to_dict()
    for key, value in values.items():
        *sections, last = key.split(".")
        place = plain
        for section in sections:
            place = place.get(section, {}) if isinstance(place, dict) else {}
        if not isinstance(place, dict) or last not in place:
            raise BadRecipe(
                f"{origin}: the recipe {recipe.name!r} has no {key}; keys are such as optimizer.rate or loop.batch_size"
            )
        place[last] = value
    return recipe_from(plain, origin)
