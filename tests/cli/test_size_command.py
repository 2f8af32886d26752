"""`taxakey size`, run as a person would."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from taxakey.cli.main import app
from taxakey.dataset.reader import Dataset
from taxakey.errors import BadInput, BadRecipe
from taxakey.taxonomy import Taxonomy

SMALL = ("--backbone", "test_vit")


def run(*arguments: object) -> Result:
    """In this process: loading torch takes longer than the command."""
    return CliRunner().invoke(app, ["size", *map(str, arguments)])


def as_json(*arguments: object) -> dict:
    result = run(*arguments, "--format", "json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def kinds(answer: dict) -> list[str]:
    return [row["head"]["kind"] for row in answer["heads"]]


def test_three_heads_stand_side_by_side_by_default() -> None:
    result = run("--classes", 5000, *SMALL)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    for head in ("linear ", "bottleneck, width 128 ", "tree, width 128 "):
        assert len([line for line in lines if line.startswith(head)]) == 3  # parameters, work, memory
    assert "5,000 classes on test_vit" in lines[0]
    assert max(map(len, lines)) <= 118
    assert "…" not in result.stdout  # no figure is cut
    for heading in ("in 32-bit", "in 16-bit", "peak"):
        assert heading in result.stdout


def test_json_has_the_same_heads_and_says_what_was_trained_how() -> None:
    answer = as_json("--classes", 5000, *SMALL, "--batch", 8, "--optimizer", "sgd", "--train", "all")
    assert kinds(answer) == ["linear", "bottleneck", "tree"]
    assert (answer["trained"], answer["batch_size"], answer["optimizer"]) == ("all", 8, "sgd")
    assert as_json("--classes", 5, *SMALL, "--device", "cuda")["device"] == "cuda"  # with or without a GPU here
    linear = answer["heads"][0]
    assert linear["parameters"]["classifier"] == 5000 * (answer["features"] + 1)
    assert linear["bytes"]["32-bit"] == 2 * linear["bytes"]["16-bit"] == 4 * linear["parameters"]["total"]


def test_a_dataset_gives_its_classes(sheets_dataset: Path) -> None:
    answer = as_json("--dataset", sheets_dataset, *SMALL, "--head", "linear", "--head", "factorised")
    assert kinds(answer) == ["linear", "factorised"]
    classes = len(Taxonomy.read(sheets_dataset / "taxonomy.parquet"))
    assert [row["classes"] for row in answer["heads"]] == [classes, classes]


def test_a_recipe_gives_head_optimiser_and_batch_and_stands_beside_its_controls(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "name: mine\ntrain: all\nbackbone: {name: test_vit, weights: none}\nhead: {kind: tree, width: 16, sparse: true}\n"
        "optimizer: {name: lazy_adamw}\nloop: {batch_size: 4, precision: bf16-mixed}\n"
    )
    answer = as_json("--classes", 300, "--recipe", recipe)
    assert kinds(answer) == ["tree", "linear", "bottleneck"]
    assert [row["head"].get("width") for row in answer["heads"]] == [16, None, 16]
    assert (answer["batch_size"], answer["precision"], answer["optimizer"]) == (4, "bf16-mixed", "lazy_adamw")
    assert as_json("--classes", 300, "--recipe", recipe, "--batch", 6)["batch_size"] == 6


def test_how_many_classes_fit_needs_no_number_of_classes() -> None:
    wide = ("--backbone", "test_efficientnet")  # 256 features, so that a bottleneck of 128 saves something
    answer = as_json("--memory", "30MB", *wide, "--head", "bottleneck", "--head", "linear")
    assert answer["heads"] == []
    bottleneck, linear = answer["fitting"]
    assert bottleneck["classes"] > 1.5 * linear["classes"] > 0
    assert all(row["training_memory"]["peak"] <= 30_000_000 for row in answer["fitting"])
    result = run("--memory", "30MB", *wide, "--head", "linear")
    assert f"{linear['classes']:,}" in result.stdout
    assert "none" in run("--memory", "1kB", *wide, "--head", "linear").stdout


def test_a_recipe_that_freezes_is_counted_as_it_trains(tmp_path: Path, sheets_dataset: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "name: a\ntrain: all\nbackbone: {name: test_vit, weights: none, image_size: [64, 32]}\ntuning: {freeze: -1}\n"
        "targets: {ranks: {genus: 1.0}}\n"
    )
    answer = as_json("--recipe", recipe, "--dataset", sheets_dataset)
    assert answer["input_size"] == [3, 64, 32]
    linear = answer["heads"][0]
    assert 0 < answer["learning_parameters"] < linear["parameters"]["backbone"] / 2
    taxonomy = Dataset.open(sheets_dataset).taxonomy
    outputs = len(taxonomy) + len(taxonomy.taxa("genus"))
    assert linear["parameters"]["classifier"] == outputs * (answer["features"] + 1)
    assert linear["training_memory"]["gradients"] == 4 * (answer["learning_parameters"] + linear["parameters"]["classifier"])
    shown = run("--recipe", recipe, "--dataset", sheets_dataset).stdout
    assert f"The head and {answer['learning_parameters']:,} numbers for the backbone are trained" in shown
    assert "as if nothing of it were frozen" in " ".join(shown.split())
    refused = run("--recipe", recipe, "--classes", 5)
    assert isinstance(refused.exception, BadInput)
    assert "hang on the taxonomy" in str(refused.exception)


def test_the_papers_table_beside_our_count() -> None:
    result = run("--paper")
    assert result.exit_code == 0, result.output
    for figure in ("160,988,616", "28,227,120", "187,428,032", "206,420,160", "28,098,120", "749.7", "56.4", "0.460", "98 M"):
        assert figure in result.stdout
    assert "Carranza-Rojas" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 118
    answer = as_json("--paper")
    assert [row["counted"]["total"] for row in answer["rows"]][:2] == [160_988_616, 28_227_120]
    assert answer["rows"][4]["printed"]["backbone"] == 98


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((), BadInput, "how many classes"),
        (("--classes", 5, "--dataset", "folder"), BadInput, "give one"),
        (("--classes", 5, "--backbone", "no_such_net"), BadRecipe, "no model named"),
        (("--classes", 5, "--head", "oak"), BadInput, "no head is called"),
        (("--classes", 5, "--train", "some"), BadRecipe, "train"),
        (("--memory", "much"), BadInput, "write 8GB"),
    ],
)
def test_what_cannot_be_answered_is_an_error_for_people(arguments: tuple, error: type[Exception], words: str) -> None:
    result = run(*arguments)
    assert isinstance(result.exception, error)
    assert words in str(result.exception)


def test_an_error_is_one_line_and_status_2() -> None:
    done = subprocess.run([sys.executable, "-m", "taxakey", "size"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("taxakey: how many classes?")
    assert len(done.stderr.splitlines()) == 1
    assert "taxakey size --classes 80000" in run("--help").stdout


def test_a_recipe_with_several_losses_is_sized(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(
        "name: tail\nbackbone: {name: test_vit, weights: hub}\nhead: {kind: bottleneck}\n"
        "loss: [{kind: seesaw, p: 0.7, q: 0.3}, {kind: poisonous, weight: 0.1}, {kind: marginal}]\n"
    )
    answer = as_json("--classes", 20_000, "--recipe", file)
    assert kinds(answer) == ["bottleneck", "linear"]
    plain = as_json("--classes", 20_000, *SMALL, "--head", "bottleneck")
    assert answer["heads"][0]["training_memory"]["temporary"] > plain["heads"][0]["training_memory"]["temporary"]
