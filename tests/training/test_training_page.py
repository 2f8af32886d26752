"""The recipes of docs/training.md are read, and say what the page says of them."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from taxakey.training.recipe import Recipe, recipe_from

PAGE = Path(__file__).parent.parent.parent / "docs" / "training.md"


def recipes() -> dict[str, Recipe]:
    blocks = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    contents = [yaml.safe_load(block) for block in blocks]
    return {content["name"]: recipe_from(content, PAGE) for content in contents}


def test_every_recipe_of_the_page_is_read() -> None:
    found = recipes()
    assert len(found) == PAGE.read_text(encoding="utf-8").count("```yaml")
    assert found["naflora-cnn"].optimizer.rate_batch == 256
    assert found["plantnet300k-resnet"].schedule.milestones == (20, 25)
    assert found["two-machines"].scale.world == 8
    for recipe in found.values():
        recipe.resolved()


def test_every_option_of_these_parts_is_on_the_page_or_explained_beside_its_code() -> None:
    text = PAGE.read_text(encoding="utf-8")
    recipe = next(iter(recipes().values()))
    for part in (recipe.averaging, recipe.scale, recipe.tracking):
        for name in vars(part):
            assert name in text or f"`{name}`" in (type(part).__doc__ or ""), name
