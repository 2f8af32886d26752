from __future__ import annotations

import doctest

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from plain_head import COUNTS, drawn, loss_of
from sklearn.utils.class_weight import compute_class_weight
from torch.testing import assert_close

from taxakey.losses import class_weighted
from taxakey.losses.class_weighted import ClassWeightedOptions, class_balanced_weights, inverse_weights
from taxakey.losses.focal import FocalOptions

counts = st.lists(st.integers(1, 2000), min_size=1, max_size=8).map(np.array)


def test_examples_in_the_docstrings() -> None:
    assert doctest.testmod(class_weighted).failed == 0


@given(counts)
def test_inverse_weights_are_those_that_scikit_learn_calls_balanced(counts_C: np.ndarray) -> None:
    labels_N = np.repeat(np.arange(len(counts_C)), counts_C)
    expected_C = compute_class_weight("balanced", classes=np.arange(len(counts_C)), y=labels_N)
    np.testing.assert_allclose(inverse_weights(counts_C), expected_C)
    assert inverse_weights(counts_C)[labels_N].mean() == pytest.approx(1)


@given(counts, st.sampled_from([0.0, 0.9, 0.99, 0.999, 0.9999]))
def test_class_balanced_weights_are_those_of_the_effective_number(counts_C: np.ndarray, beta: float) -> None:
    # The effective number as the sum it comes from: 1 + β + β² + … + β^(N−1).
    effective_C = np.array([sum(beta**n for n in range(count)) for count in counts_C])
    expected_C = 1 / effective_C
    np.testing.assert_allclose(class_balanced_weights(counts_C, beta), expected_C / expected_C.mean(), rtol=1e-7)


def test_between_even_and_inverse() -> None:
    assert class_balanced_weights(COUNTS, 0.0).tolist() == [1] * len(COUNTS)
    inverse_C = inverse_weights(COUNTS)
    np.testing.assert_allclose(class_balanced_weights(COUNTS, 1 - 1e-12), inverse_C / inverse_C.mean(), rtol=1e-6)


def test_classes_without_images_have_no_part_in_the_mean() -> None:
    for weights in (inverse_weights, lambda counts_C: class_balanced_weights(counts_C, 0.9)):
        np.testing.assert_allclose(weights(np.array([5, 0, 2, 0]))[[0, 2]], weights(np.array([5, 2])))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_equals_torchs_weighted_cross_entropy(smoothing: float) -> None:
    logits_BC, labels_B = drawn()
    weight_C = torch.tensor(compute_class_weight("balanced", classes=np.arange(7), y=np.repeat(np.arange(7), COUNTS)))
    expected_B = weight_C.float()[labels_B] * torch.nn.functional.cross_entropy(
        logits_BC, labels_B, reduction="none", label_smoothing=smoothing
    )
    assert_close(loss_of(ClassWeightedOptions(label_smoothing=smoothing), logits_BC, labels_B), expected_B)


def test_class_balanced_focal() -> None:
    logits_BC, labels_B = drawn()
    weight_B = torch.tensor(class_balanced_weights(COUNTS, 0.99), dtype=torch.float32)[labels_B]
    found = loss_of(ClassWeightedOptions(by="class_balanced", beta=0.99, gamma=1.5), logits_BC, labels_B)
    assert_close(found, weight_B * loss_of(FocalOptions(gamma=1.5), logits_BC, labels_B))


@pytest.mark.parametrize(("options", "message"), [({"beta": 1}, "beta is 1"), ({"gamma": -1}, "gamma is -1")])
def test_options_that_make_no_sense(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClassWeightedOptions(**options)
