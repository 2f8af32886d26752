from __future__ import annotations

from pathlib import Path

import pytest

from taxakey.errors import BadRecipe
from taxakey.models.trees import TreeOptions
from taxakey.training.recipe import built_in, read_recipe

ROOT = Path(__file__).parent.parent.parent


OF_DATASETS = ("naflora.yaml",)  # read by tests/cli/test_compile.py


@pytest.mark.parametrize(
    "source",
    [*(file for file in sorted((ROOT / "recipes").glob("*.yaml")) if file.name not in OF_DATASETS), *built_in()],
    ids=str,
)
def test_every_recipe_that_comes_along_can_be_read(source: Path | str) -> None:
    assert read_recipe(source).name


def test_what_is_written_is_read_back_the_same(tmp_path: Path) -> None:
    recipe = read_recipe(ROOT / "recipes" / "smoke.yaml")
    assert recipe.head == TreeOptions(width=16)
    recipe.write(tmp_path / "recipe.yaml")
    assert read_recipe(tmp_path / "recipe.yaml") == recipe


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nbogus: 1", "bogus: Unexpected keyword argument"),
        ("name: a\nhead: {kind: tree, wdth: 3}", "wdth: Unexpected keyword argument"),
        ("name: a\nhead: {kind: trea}", "does not match any of the expected tags"),
        ("name: a\nloop: {epochs: many}", "loop.epochs: Input should be a valid integer"),
        ("name: a\nloop: {epochs: -1}", "epochs at least 0"),
        ("name: a\noptimizer: {name: nonsense}", "timm has no optimizer 'nonsense'"),
        ("name: a\nloss: {kind: cross_entropy, label_smoothing: 2}", "label_smoothing is 2"),
        ("name: a\nhead: {kind: tree, slots: -1}", "width and slots must be at least 1"),
        ("- a", "a recipe is a mapping of keys"),
        ("a: [", "not YAML"),
    ],
)
def test_says_which_key_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(BadRecipe, match=message) as error:
        read_recipe(file)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unset_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TAXAKEY_DATA", raising=False)
    with pytest.raises(BadRecipe, match="TAXAKEY_DATA isn't set"):
        read_recipe(ROOT / "recipes" / "flowers102-linear.yaml").resolved()


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(BadRecipe, match="frozen-linear, scratch-small"):
        read_recipe("nonsense")


def test_a_frozen_backbone_without_weights_is_refused() -> None:
    with pytest.raises(BadRecipe, match="needs pretrained weights"):
        read_recipe("frozen-linear").with_weights("none").resolved()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("loop: {epochs: 0}", "no epochs leave a random head"),
        ("head: {kind: tree, sparse: true}", "needs the optimizer lazy_adamw"),
        ("train: all\nhead: {kind: tree, order: clustered}", "built from embeddings"),
        ("train: all\nhead: {kind: linear, start: class_means}", "built from embeddings"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_it_starts(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(f"name: a\nbackbone: {{weights: hub}}\n{text}\n")
    with pytest.raises(BadRecipe, match=message):
        read_recipe(file).resolved()
