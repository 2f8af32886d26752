"""Confident learning against a slow loop, by hand, and on labels that were made wrong on purpose."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxakey.errors import BadInput
from taxakey.metrics.intervals import bootstrap
from taxakey.metrics.label_errors import Answers, confident_learning, share_among_surest, share_of_wrong_labels


def answers(probabilities_OC: np.ndarray, given_O: np.ndarray, k: int | None = None) -> Answers:
    order = np.argsort(-probabilities_OC, axis=1, kind="stable")[:, :k]
    rows = np.arange(len(given_O))
    stored = np.take_along_axis(probabilities_OC, order, axis=1)
    return Answers(order, stored, given_O, probabilities_OC[rows, given_O], probabilities_OC.shape[1])


def drawn(seed: int, observations: int = 60, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(classes), observations)
    labels = rng.integers(0, classes - 1, observations)  # the last class bears no label
    labels[:classes] = np.arange(classes) % (classes - 1)
    return probabilities, labels


def slowly(probabilities: np.ndarray, labels: np.ndarray) -> tuple[list[int], float]:
    """The paper's algorithm in loops: thresholds, confident joint, calibration."""
    observations, classes = probabilities.shape
    threshold = {}
    for label in set(labels.tolist()):
        own = [probabilities[row, label] for row in range(observations) if labels[row] == label]
        threshold[label] = sum(own) / len(own)
    joint, counted = np.zeros((classes, classes)), []
    for row in range(observations):
        reached = [c for c in threshold if probabilities[row, c] >= threshold[c] * (1 - 1e-9)]
        best = max(reached, key=lambda c: probabilities[row, c]) if reached else -1
        counted.append(best)
        if best >= 0:
            joint[labels[row], best] += 1
    wrong = 0.0
    for label in threshold:
        if joint[label].sum():
            wrong += (1 - joint[label, label] / joint[label].sum()) * (labels == label).sum()
    return counted, wrong / observations


@given(st.integers(0, 10_000))
def test_equals_the_algorithm_in_loops(seed: int) -> None:
    probabilities, labels = drawn(seed)
    counted, share = slowly(probabilities, labels)
    found = confident_learning(answers(probabilities, labels))
    assert found.counted_O.tolist() == counted
    assert found.share == pytest.approx(share, abs=1e-12)


def test_thresholds_worked_out_by_hand() -> None:
    # Class 0 is named twice, with 0.9 and 0.3: 0.6. Class 1 once, with 0.5. Class 2 never.
    probabilities = np.array([[0.9, 0.1, 0.0], [0.3, 0.6, 0.1], [0.1, 0.5, 0.4]])
    found = confident_learning(answers(probabilities, np.array([0, 0, 1])))
    np.testing.assert_allclose(found.threshold_C, [0.6, 0.5, np.nan])
    assert found.counted_O.tolist() == [0, 1, 1]
    assert found.share == pytest.approx(1 / 3)
    np.testing.assert_allclose(found.share_C, [0.5, 0.0, np.nan])


def test_renaming_classes_and_another_order_of_rows_change_nothing() -> None:
    probabilities, labels = drawn(3)
    rng = np.random.default_rng(0)
    rows, classes = rng.permutation(60), rng.permutation(5)
    before = confident_learning(answers(probabilities, labels))
    after = confident_learning(answers(probabilities[rows][:, classes], np.argsort(classes)[labels[rows]]))
    assert after.share == pytest.approx(before.share)
    renamed = np.append(np.argsort(classes), -1)[before.counted_O[rows]]
    assert after.counted_O.tolist() == renamed.tolist()


def test_a_label_beyond_the_stored_answers_is_confirmed_by_its_own_probability() -> None:
    probabilities = np.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]])
    found = confident_learning(answers(probabilities, np.array([2, 2]), k=1))
    assert found.counted_O.tolist() == [2, 2]  # class 0 bears no label, so it has no threshold


def test_planted_wrong_labels_lie_in_the_interval_and_head_the_list() -> None:
    rng = np.random.default_rng(5)
    true = rng.integers(0, 6, 1500)
    wrong = rng.random(1500) < 0.08
    labels = np.where(wrong, (true + rng.integers(1, 6, 1500)) % 6, true)
    scores = rng.normal(size=(1500, 6))
    scores[np.arange(1500), true] += 6
    said = answers(np.exp(scores) / np.exp(scores).sum(1, keepdims=True), labels)
    statistics = {"all": share_of_wrong_labels(said), "surest": share_among_surest(said)}
    for interval in bootstrap(statistics, 1500, resamples=200).values():
        assert interval.low <= wrong.mean() <= interval.high
        assert 0.02 < interval.high - interval.low < 0.08
    counted = confident_learning(said).counted_O
    suspect = (counted >= 0) & (counted != labels)
    assert wrong[suspect].mean() > 0.95
    assert suspect[wrong].mean() > 0.6  # the others look like nothing enough: below the mean of their class
    assert (counted == true)[wrong & suspect].mean() > 0.95


def test_the_surest_third_is_counted() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.45, 0.55], [0.5, 0.5], [0.51, 0.49]])
    said = answers(probabilities, np.array([0, 1, 0, 0, 0, 0]))
    assert share_among_surest(said)(np.ones((1, 6))) == pytest.approx([0.5])


@pytest.mark.parametrize("labels", [[], [0, -1], [0, 2]])
def test_labels_outside_the_model_are_refused(labels: list[int]) -> None:
    rows = len(labels)
    with pytest.raises(BadInput, match="labelled observations"):
        Answers(np.zeros((rows, 1), dtype=int), np.ones((rows, 1)), np.array(labels, dtype=int), np.ones(rows), 2)
