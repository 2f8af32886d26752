"""Figures of an epoch: those of the metrics on the same scores, however the pictures come in batches."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_loop import SMOKE

from taxakey.dataset.reader import Dataset
from taxakey.errors import BadRecipe
from taxakey.metrics import accuracy, costs, long_tail, taxonomic
from taxakey.predictions import rank_of
from taxakey.taxonomy import Taxonomy
from taxakey.training import preparation
from taxakey.training.curves import COLUMNS
from taxakey.training.loop import train
from taxakey.training.validation import FIGURES, ValidationFigures

CLASSES = 7
TAXONOMY = Taxonomy.from_rows(
    {"scientificName": f"S{number}", "genus": f"G{number // 2}" if number else "", "family": f"F{number // 4}", "poisonous": mark}
    for number, mark in enumerate([True, False, None, True, False, False, False])
)


def figures_of(log_p_OC: torch.Tensor, true_O: torch.Tensor, taxonomy: Taxonomy | None, batch: int) -> dict[str, float]:
    figures = ValidationFigures(log_p_OC.shape[1], taxonomy, torch.device("cpu"))
    for first in range(0, len(true_O), batch):
        figures.add(log_p_OC[first : first + batch], true_O[first : first + batch])
    return {name: float(value) for name, value in figures.figures(lambda value: value).items()}


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40))
def test_they_are_those_of_the_metrics(seed: int, pictures: int, batch: int) -> None:
    """With scores that are often equal, so that ties count."""
    generator = np.random.default_rng(seed)
    scores_OC = torch.from_numpy(generator.integers(0, 4, (pictures, CLASSES)).astype(np.float32))
    true_O = generator.integers(0, CLASSES, pictures)
    log_p_OC = scores_OC.log_softmax(1)
    got = figures_of(log_p_OC, torch.from_numpy(true_O), TAXONOMY, batch)
    assert tuple(got) == FIGURES
    plain_OC, poisonous_C = log_p_OC.numpy(), TAXONOMY.poisonous()
    answers_O, rank_O = plain_OC.argmax(1), rank_of(plain_OC, true_O)[0]
    height_O = taxonomic.ancestor_height(true_O, answers_O, [TAXONOMY.codes("genus"), TAXONOMY.codes("family")])
    expected = {
        "loss": -plain_OC[np.arange(pictures), true_O].mean(dtype=np.float64),
        "top_1": accuracy.top_k(rank_O, 1),
        "top_3": accuracy.top_k(rank_O, 3),
        "macro_top_1": accuracy.macro_top_k(rank_O, true_O, 1),
        "macro_f1": long_tail.macro_f1(true_O, answers_O),
        "poison_accuracy": costs.poison_accuracy(true_O, answers_O, poisonous_C),
    }
    if poisonous_C[true_O].any():
        expected["poison_confusion"] = costs.poison_confusion(true_O, answers_O, poisonous_C)
    if not poisonous_C[true_O].all():
        expected["edible_confusion"] = costs.edible_confusion(true_O, answers_O, poisonous_C)
    if (answers_O != true_O).any():
        expected["taxonomic_distance"] = taxonomic.mean_taxonomic_distance(height_O, answers_O != true_O)
    defined = {name.removeprefix("validation_"): value for name, value in got.items() if not np.isnan(value)}
    assert defined == pytest.approx(expected, rel=1e-6)


def test_without_marks_and_parents_nothing_is_said_of_them() -> None:
    bare = Taxonomy.from_rows({"scientificName": f"S{number}"} for number in range(3))
    for taxonomy in (bare, None):
        got = figures_of(torch.zeros(2, 3), torch.tensor([0, 2]), taxonomy, 2)
        assert tuple(got) == FIGURES[:5]


def test_scores_that_are_no_numbers_are_no_hits() -> None:
    got = figures_of(torch.full((2, CLASSES), torch.nan), torch.tensor([1, 2]), TAXONOMY, 2)
    assert (got["validation_top_1"], got["validation_top_3"]) == (0, 0)
    assert np.isnan(got["validation_loss"])


def test_a_run_writes_them_and_chooses_by_them(sheets_dataset: Path, tmp_path: Path) -> None:
    """The herbarium marks poisonous species; the last row's figures are those of the last epoch's weights."""
    recipe = replace(SMOKE, loop=replace(SMOKE.loop, epochs=3, best_by="validation_macro_f1"))
    train(sheets_dataset, recipe, tmp_path / "run", device="cpu")
    with open(tmp_path / "run" / "curves.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    poisonous_C = Dataset.open(sheets_dataset).taxonomy.poisonous()
    assert poisonous_C is not None
    assert poisonous_C.any(), "nothing of poison was tested"
    assert all(row[name] != "" for row in rows for name in FIGURES)
    assert all(float(row["validation_top_1"]) <= float(row["validation_top_3"]) <= 1 for row in rows)
    f1 = [float(row["validation_macro_f1"]) for row in rows]
    assert max(index for index, row in enumerate(rows) if row["best"] == "1") == f1.index(max(f1))
    logged = (tmp_path / "run" / "tensorboard").rglob("events*")
    assert any(b"validation_poison_confusion" in file.read_bytes() for file in logged)


def test_choosing_by_poison_needs_marks(sheets_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unmarked = Dataset.open(sheets_dataset)
    rows = [{**row, "poisonous": None} for row in unmarked.taxonomy.table.to_pylist()]
    unmarked.taxonomy = Taxonomy.from_rows(rows)
    monkeypatch.setattr(preparation.Dataset, "open", lambda _: unmarked)
    recipe = replace(SMOKE, loop=replace(SMOKE.loop, best_by="validation_poison_accuracy"))
    with pytest.raises(BadRecipe, match=r"marks no species as poisonous or not \(column poisonous\)"):
        train(sheets_dataset, recipe, tmp_path / "run", device="cpu")
