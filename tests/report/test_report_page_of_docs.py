"""docs/report.md names every key of report.json and comparison.json, and no other."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from evaluated_world import make_rich_world, make_world

from taxakey.evaluation import evaluate
from taxakey.evaluation.comparing import Compared, Comparison, Costs
from taxakey.evaluation.winners import Changes, SpeciesChange

PAGE = Path(__file__).parents[2] / "docs" / "report.md"
OF_DATA = (
    "counts", "figures", "figures.*", "inputs", "settings", "packages", "definitions", "single_photographs",
    "analyses.differences", "analyses.variance", "analyses.rarity.images_by_percent", "analyses.costs.figures",
    "sources[].recipe", "sources[].counts", "sources[].packages",
)  # fmt: skip
"""Mappings whose keys are names."""
ENDS = {
    frozenset(("value", "low", "high", "level", "resamples")): "interval",
    frozenset(("value", "low", "high", "level", "resamples", "p_value")): "difference",
}


def keys_of(value: Any, path: str = "") -> set[str]:
    """Every path of a JSON value, those of intervals cut short."""
    if isinstance(value, list):
        return set().union(*(keys_of(item, f"{path}[]") for item in value)) if value else {f"{path}[]"}
    if not isinstance(value, dict):
        return {path}
    if frozenset(value) in ENDS:
        return {path}
    if path == "sources[].recipe" or (path in OF_DATA and not value):
        return {path if path == "sources[].recipe" else f"{path}.*"}
    return set().union(*(keys_of(item, f"{path}.{'*' if path in OF_DATA else key}".lstrip(".")) for key, item in value.items()))


def documented() -> set[str]:
    """Each row of the table names an object and its keys."""
    return documented_in("## The keys of report.json")


def documented_in(section: str) -> set[str]:
    table = PAGE.read_text(encoding="utf-8").split(section)[1].split("\n## ")[0]
    keys = set()
    for place, names, _ in re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", table, re.MULTILINE)[1:]:
        prefix = "" if place == "the top" else place.strip("`") + "."
        keys |= {prefix + name for name in re.findall(r"`([^`]+)`", names)}
    return keys


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """One with everything but a run, one with a run."""
    rich, small = make_rich_world(tmp_path_factory.mktemp("rich")), make_world(tmp_path_factory.mktemp("small"))
    made = [
        evaluate(rich.predictions, validation_folder=rich.validation, resamples=20),
        evaluate(small.predictions, resamples=20),
    ]
    return [json.loads(json.dumps(report.as_json(), allow_nan=False)) for report in made]


def test_the_page_names_the_keys(reports: list[dict[str, Any]]) -> None:
    found = set().union(*map(keys_of, reports))
    # What is null or empty in one report and not in the other.
    found -= {key for key in found if any(other.startswith((f"{key}.", f"{key}[")) for other in found)}
    named = documented()
    assert len(named) > 150
    assert found - named == set(), "keys that the page doesn't name"
    assert named - found == set(), "keys that aren't in a report"


def test_the_page_says_the_format(reports: list[dict[str, Any]]) -> None:
    assert f"`format` is {reports[0]['format']};" in PAGE.read_text(encoding="utf-8")


def test_the_page_names_the_keys_of_a_comparison() -> None:
    places = {
        "": Comparison, "runs[].": Compared, "runs[].costs.": Costs,
        "runs[].changes.": Changes, "runs[].changes.species[].": SpeciesChange,
    }  # fmt: skip
    found = {place + field.name for place, of in places.items() for field in fields(of)}
    assert documented_in("## The keys of comparison.json") == found
