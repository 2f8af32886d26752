"""Figures by class, bin and group: scikit-learn, slow loops, values by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_fscore_support

from taxakey.errors import BadInput
from taxakey.metrics.accuracy import class_mean, hits
from taxakey.metrics.bins import (
    NAFLORA_EDGES,
    bin_of,
    by_bin,
    by_group,
    classes_above,
    images_by_percent,
    per_class,
    quantile_bin_of,
)


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@given(st.integers(1, 40), st.integers(0, 9999))
def test_each_class_as_in_scikit_learn(rows: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    true_O, predicted_O = generator.integers(-1, 6, rows) * 3, generator.integers(0, 7, rows) * 3
    known = true_O >= 0
    if not known.any():
        with pytest.raises(BadInput, match="no row to measure"):
            per_class(true_O, predicted_O)
        return
    table = per_class(true_O, predicted_O)
    precision, recall, f1, support = precision_recall_fscore_support(
        true_O[known], predicted_O[known], labels=table.label, zero_division=0
    )
    assert table.label.tolist() == sorted(set(true_O[known].tolist()))
    for got, expected in ((table.precision, precision), (table.recall, recall), (table.f1, f1), (table.observations, support)):
        assert np.allclose(got, expected)
    assert table.answers.tolist() == [int((predicted_O[known] == label).sum()) for label in table.label]


def test_each_class_as_in_torchmetrics() -> None:
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional.classification")
    generator = np.random.default_rng(4)
    true_O, predicted_O = generator.integers(0, 6, 300), generator.integers(0, 6, 300)
    options = {"num_classes": 6, "average": "none"}
    tensors = torch.from_numpy(predicted_O), torch.from_numpy(true_O)
    table = per_class(true_O, predicted_O)
    assert np.allclose(table.recall, functional.multiclass_recall(*tensors, **options))
    assert np.allclose(table.precision, functional.multiclass_precision(*tensors, **options))
    assert np.allclose(table.f1, functional.multiclass_f1_score(*tensors, **options))


def test_bins_of_naflora() -> None:
    images = [0, 4, 5, 9, 10, 19, 20, 79, 80, 89, 90, 5000]
    assert bin_of(images, NAFLORA_EDGES).tolist() == [0, 0, 1, 1, 2, 2, 3, 8, 9, 9, 10, 10]
    assert bin_of([3], (5, 10)).tolist() == [-1]
    with pytest.raises(BadInput, match="must rise"):
        bin_of([1], (5, 5))


@given(st.lists(st.integers(0, 6), min_size=1, max_size=30), st.integers(1, 6))
def test_quantile_bins_keep_equals_together_and_rise(images: list[int], bins: int) -> None:
    bin_L = quantile_bin_of(images, bins)
    assert bin_L.min() == 0
    assert bin_L.max() < bins
    for images_of_bin in (set(np.array(images)[bin_L == number].tolist()) for number in range(bins)):
        assert all((bin_L[np.array(images) == count] == bin_L[images.index(count)]).all() for count in images_of_bin)
    order = np.argsort(images, kind="stable")
    assert (np.diff(bin_L[order]) >= 0).all()


def test_thirds_of_classes_without_ties_are_thirds() -> None:
    images = np.random.default_rng(0).permutation(9)
    assert np.bincount(quantile_bin_of(images, 3)).tolist() == [3, 3, 3]
    assert set(images[quantile_bin_of(images, 3) == 2]) == {6, 7, 8}


@given(st.integers(1, 40), st.integers(0, 9999))
def test_bins_are_class_means_of_their_rows(rows: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels_O, right_O = generator.integers(-1, 8, rows), hits(generator.integers(0, 3, rows), 1)
    bin_L = generator.integers(-1, 3, 8)
    figures = {figure.bin: figure for figure in by_bin(right_O, labels_O, bin_L)}
    for number in range(3):
        inside = (labels_O >= 0) & (bin_L[labels_O] == number)
        assert inside.any() == (number in figures)
        if not inside.any():
            continue
        figure, present = figures[number], np.unique(labels_O[inside])
        assert figure.mean == pytest.approx(class_mean(right_O[inside], labels_O[inside]))
        assert (figure.classes, figure.observations) == (len(present), inside.sum())
        means = [right_O[labels_O == label].mean() for label in present]
        expected = np.std(means, ddof=1) / np.sqrt(len(means)) if len(means) > 1 else None
        assert figure.standard_error == (None if expected is None else pytest.approx(expected))


def test_groups_by_hand() -> None:
    right = np.array([1, 0, 1, 1])
    month = [5, None, 4, 4]
    assert by_group(lambda rows: (int(right[rows].sum()), len(rows)), month) == {4: (2, 2), 5: (1, 1)}


def test_shares_at_the_edge() -> None:
    assert classes_above([9 / 10, 0.91, 27 / 30]) == 1
    # 0.29 · 100 is 28.999999999999996 for a computer.
    assert images_by_percent([29 / 100, 0.999], [4, 8]) == {29: 4.0, 99: 8.0}
