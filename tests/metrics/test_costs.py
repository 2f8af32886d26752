"""Costs of errors: the organisers' own scores, slow loops, and the general costs beside the four tracks."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from taxakey.errors import BadInput
from taxakey.metrics import costs
from taxakey.metrics.cost_matrix import Costs, track3_costs, track4_costs
from taxakey.metrics.long_tail import macro_f1

LABELS = 5
POISONOUS = np.array([False, True, False, True, False])


@st.composite
def confusions(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """true, predicted [O]; -1 is unknown."""
    rows = draw(st.integers(1, 30))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return generator.integers(-1, LABELS, rows), generator.integers(-1, LABELS, rows)


def labels_of(file: Path) -> dict[str, int]:
    return {row["observationID"]: int(row["class_id"]) for row in csv.DictReader(file.read_text(encoding="utf-8").splitlines())}


def test_the_organisers_scores_to_the_printed_digit(shared_data: Path) -> None:
    folder = shared_data / "metrics" / "fungiclef2023_reference"
    truth, answer = (labels_of(folder / name) for name in ("gt.csv", "pred.csv"))
    expected = json.loads((folder / "expected_scores.json").read_text())
    true_O, predicted_O = (np.array([labels[key] for key in truth]) for labels in (truth, answer))
    poisonous_L = np.isin(np.arange(20), json.loads((folder / "poisonous_class_ids.json").read_text()))
    assert len(true_O) == 77
    # The organisers' F1 counts the unknown as a class, so labels move up by one.
    assert round(100 * macro_f1(true_O + 1, predicted_O + 1), 2) == expected["F1 Score"] == 56.78
    got = {
        "Track 1: Classification Error": costs.track1(true_O, predicted_O),
        "Track 2: Cost for Poisonousness Confusion": costs.track2(true_O, predicted_O, poisonous_L),
        "Track 3: User-Focused Loss": costs.track3(true_O, predicted_O, poisonous_L),
        "Track 4: Classification Error with Special Cost for Unknown": costs.track4(true_O, predicted_O),
    }
    assert {name: round(score, 4) for name, score in got.items()} == {name: expected[name] for name in got}
    assert list(got.values()) == pytest.approx([0.4286, 4.013, 4.4416, 0.8961], abs=5e-5)


@given(confusions())
def test_tracks_are_those_of_a_slow_loop(case: tuple[np.ndarray, np.ndarray]) -> None:
    track1 = track2 = track4 = 0.0
    told = missed = accused = poisonous_rows = 0
    for true, predicted in zip(*case, strict=True):
        poisonous, named = (label >= 0 and bool(POISONOUS[label]) for label in (true, predicted))
        poisonous_rows += poisonous
        told += poisonous == named
        missed += poisonous and not named
        accused += named and not poisonous
        track2 += 100 if poisonous and not named else 1 if named and not poisonous else 0
        if true != predicted:
            track1 += 1
            track4 += 10 if true == -1 else 0.1 if predicted == -1 else 1
    rows = len(case[0])
    assert costs.track1(*case) == pytest.approx(track1 / rows)
    assert costs.track2(*case, POISONOUS) == pytest.approx(track2 / rows)
    assert costs.track3(*case, POISONOUS) == pytest.approx((track1 + track2) / rows)
    assert costs.track4(*case) == pytest.approx(track4 / rows)
    assert costs.poison_accuracy(*case, POISONOUS) == pytest.approx(told / rows)
    if poisonous_rows:
        assert costs.poison_confusion(*case, POISONOUS) == pytest.approx(missed / poisonous_rows)
    if poisonous_rows < rows:
        assert costs.edible_confusion(*case, POISONOUS) == pytest.approx(accused / (rows - poisonous_rows))


def test_what_cannot_be_priced_is_said() -> None:
    with pytest.raises(BadInput, match="none of them is a poisonous species"):
        costs.poison_confusion([0], [1], POISONOUS)
    with pytest.raises(BadInput, match="label 5, where only the first 5"):
        costs.track2([5], [0], POISONOUS)
    with pytest.raises(BadInput, match="2 answers to 1 observations"):
        costs.track1([0], [0, 1])
    with pytest.raises(BadInput, match="the part is empty"):
        costs.track4(np.array([], dtype=int), np.array([], dtype=int))


# ---- costs of one's own ----


def any_costs(seed: int) -> Costs:
    generator = np.random.default_rng(seed)
    between_GG = generator.integers(0, 20, (3, 3)) * (1 - np.eye(3))
    pairs_CC = generator.integers(0, 9, (LABELS, LABELS)) * (generator.random((LABELS, LABELS)) < 0.3) * (1 - np.eye(LABELS))
    return Costs(0.5, generator.integers(0, 3, LABELS), between_GG, sparse.csr_array(pairs_CC))


def full_table(given_costs: Costs) -> np.ndarray:
    """The whole matrix [true, answer], entry by entry."""
    table = np.zeros((LABELS, LABELS))
    for true in range(LABELS):
        for answer in range(LABELS):
            table[true, answer] = given_costs.of(np.array([true]), np.array([answer]))[0]
    return table


@given(st.integers(0, 1000))
def test_expected_costs_are_those_of_the_whole_matrix(seed: int) -> None:
    given_costs = any_costs(seed)
    probabilities_OC = np.random.default_rng(seed).dirichlet(np.ones(LABELS), 7)
    table = full_table(given_costs)
    assert not np.diag(table).any()
    assert np.allclose(given_costs.expected(probabilities_OC), probabilities_OC @ table)


@given(confusions())
def test_the_tracks_are_special_costs(case: tuple[np.ndarray, np.ndarray]) -> None:
    true_O, predicted_O = case
    unknown_C = np.arange(LABELS + 1) == LABELS
    # The unknown is the last class here.
    true_C, predicted_C = (np.where(labels < 0, LABELS, labels) for labels in case)
    poisonous_C = np.append(POISONOUS, False)
    assert track3_costs(poisonous_C).of(true_C, predicted_C).mean() == pytest.approx(costs.track3(*case, POISONOUS))
    assert track4_costs(unknown_C).of(true_C, predicted_C).mean() == pytest.approx(costs.track4(true_O, predicted_O))


def test_two_unknown_classes_are_one() -> None:
    assert track4_costs(np.array([False, True, True])).of(np.array([1, 2, 1]), np.array([2, 1, 1])).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"group_C": np.array([0, 1])}, "both the group"),
        ({"group_C": np.array([0, 2]), "between_GG": np.zeros((2, 2))}, "groups up to 2"),
        ({"group_C": np.array([0, 1]), "between_GG": np.eye(2)}, "within a group"),
        ({"pairs_CC": sparse.csr_array(np.eye(3))}, "diagonal is 0"),
        ({"pairs_CC": sparse.csr_array(np.zeros((2, 3)))}, "square"),
    ],
)
def test_impossible_costs_are_refused(fields: dict, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        Costs(1.0, **fields)
