"""Every recipe line on docs/training-data.md can be read, and every kind and preset stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import yaml

from taxakey.dataset.augment import PRESETS
from taxakey.training.recipe import recipe_from
from taxakey.training.samplers import SamplerOptions

PAGE = (Path(__file__).parent.parent.parent / "docs" / "training-data.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS)
def test_the_lines_are_a_recipes(block: str) -> None:
    content = {"name": "page", "backbone": {"weights": "hub"}, **yaml.safe_load(block)}
    recipe = recipe_from(content, "docs/training-data.md").resolved()
    plain = recipe_from({"name": "page"}, "")
    assert [
        name for name in ("sampler", "augment", "mixing") if getattr(recipe, name) != getattr(plain, name)
    ] or "plain" in block


def test_every_kind_and_preset_is_told() -> None:
    assert len(BLOCKS) > 6
    kinds = [kind for options in get_args(SamplerOptions) for kind in get_args(get_type_hints(options)["kind"])]
    assert len(kinds) == 7
    for name in (*kinds, *PRESETS):
        assert f"| `{name}` |" in PAGE, name
