"""The page on losses: its examples are read, its options exist, its figures are those of the recorded run."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest

from taxakey.losses.loss_options import LossOptions
from taxakey.training.recipe import read_recipe

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "losses.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
RESULTS = json.loads((ROOT / "benchmarks" / "results" / "losses-cpu-2026-11-21.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_can_be_trained(example: str, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(f"name: a\nbackbone: {{weights: hub}}\n{example}")
    assert read_recipe(file).resolved().loss


def test_every_loss_has_an_example_and_every_option_is_told() -> None:
    text = "\n".join(EXAMPLES)
    for options in get_args(LossOptions):
        assert f"kind: {options().kind}" in text, options
        for option in fields(options):
            assert re.search(rf"[`{{ ]{option.name}[:`]", PAGE), (options, option.name)


def test_the_figures_are_those_of_the_recorded_run() -> None:
    classes = RESULTS["classes"]
    assert list(classes) == ["1000", "10000", "80000"]
    for name in dict.fromkeys(row["loss"] for rows in classes.values() for row in rows):
        cells = []
        for rows in classes.values():
            found = [row for row in rows if row["loss"] == name]
            cells += [f"{found[0]['times_plain']:.1f}", f"{found[0]['buffers']:.2f}"] if found else ["too large", ""]
        assert f"| {name} | {' | '.join(cells)} |" in PAGE


def test_files_that_the_page_names_exist() -> None:
    named = re.findall(r"\]\(([\w./-]+)\)", PAGE) + re.findall(r"`((?:src|tests|docs|benchmarks)/[\w./-]+)`", PAGE)
    assert len(named) > 3
    assert not [name for name in named if not (ROOT / name).exists() and not (ROOT / "docs" / name).exists()]
