"""The adaptive head against torch's own module and a slow loop."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from taxakey.losses.cross_entropy import CrossEntropy
from taxakey.models import adaptive
from taxakey.models.adaptive import AdaptiveHead, AdaptiveOptions, default_cutoffs, places_by_count

COUNTS = np.array([4, 90, 4, 31, 7, 1, 55, 12, 2, 3])
BY_COUNT = [1, 6, 3, 7, 4, 0, 2, 9, 8, 5]  # classes 0 and 2 tie


def head(counts: np.ndarray = COUNTS, *, seed: int = 0, **options) -> AdaptiveHead:
    """A head on 8 features with weights large enough to matter."""
    torch.manual_seed(seed)
    made = AdaptiveHead(8, counts, **{"width": 6, "cutoffs": (3, 6), **options})
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_()
    return made


def loss_of(made: AdaptiveHead, features_BD: torch.Tensor, labels_B: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
    loss = CrossEntropy(label_smoothing=smoothing)
    return torch.stack([loss.of_decision(decision).mean() for decision in made.decisions(features_BD, labels_B)]).sum()


@given(st.integers(2, 25), st.integers(1, 7), st.integers(0, 3), st.booleans(), st.data())
def test_loss_and_gradient_equal_those_of_torch(classes: int, images: int, seed: int, narrow: bool, data: st.DataObject) -> None:
    cutoffs = data.draw(st.sets(st.integers(1, classes - 1), min_size=1, max_size=2).map(sorted))
    counts = np.random.default_rng(seed).integers(1, 9, classes)
    made = head(counts, seed=seed, cutoffs=cutoffs, width=6 if narrow else None)
    features_BD, labels_B = torch.randn(images, 8), torch.randint(classes, (images,))
    mine = loss_of(made, features_BD, labels_B)
    theirs = made.softmax(made.bottleneck(features_BD), made.place_C[labels_B]).loss
    assert_close(mine, theirs)
    wanted = torch.autograd.grad(theirs, list(made.parameters()), allow_unused=True)
    for got, expected in zip(torch.autograd.grad(mine, list(made.parameters()), allow_unused=True), wanted, strict=True):
        assert (got is None) == (expected is None)
        if got is not None and expected is not None:
            assert_close(got, expected, rtol=1e-4, atol=1e-5)


@given(st.integers(2, 25), st.integers(0, 3))
def test_log_probabilities_equal_those_of_torch_in_class_order(classes: int, seed: int) -> None:
    made = head(np.random.default_rng(seed).integers(1, 9, classes), seed=seed, cutoffs=None)
    features_BD = torch.randn(3, 8)
    by_place = made.softmax.log_prob(made.bottleneck(features_BD))
    for c in range(classes):
        assert_close(made(features_BD)[:, c], by_place[:, made.place_C[c]])
    assert_close(made.log_prob_all(features_BD).exp().sum(1), torch.ones(3))


def test_log_prob_is_that_of_a_slow_loop_and_of_all_classes() -> None:
    made, features_BD, labels_B = head(), torch.randn(10, 8), torch.arange(10)
    z_Bd = made.bottleneck(features_BD)
    expected = []
    for image, label in enumerate(labels_B.tolist()):
        place = BY_COUNT.index(label)
        first = made.softmax.head(z_Bd[image]).softmax(0)  # 3 of the shortlist, 2 clusters
        if place < 3:
            expected.append(first[place].log())
        else:
            cluster, start = (0, 3) if place < 6 else (1, 6)
            expected.append((first[3 + cluster] * made.softmax.tail[cluster](z_Bd[image]).softmax(0)[place - start]).log())
    assert_close(made.log_prob(features_BD, labels_B), torch.stack(expected))
    assert_close(made.log_prob_all(features_BD)[range(10), labels_B], torch.stack(expected))
    assert_close(loss_of(made, features_BD, labels_B), -torch.stack(expected).mean())


def test_a_cluster_sees_only_its_own_images() -> None:
    made, labels_B = head(), torch.tensor([1, 4, 3, 5])  # places 0, 4, 2, 9
    rows_seen: list[int] = []
    for tail in made.softmax.tail:
        tail.register_forward_hook(lambda _module, inputs, _output: rows_seen.append(len(inputs[0])))
    decisions = made.decisions(torch.randn(4, 8), labels_B)
    assert rows_seen == [1, 1]
    assert [decision.labels.tolist() for decision in decisions] == [[0, 3, 2, 4], [0, 1, 0, 0], [0, 0, 0, 3]]
    for decision, own in zip(decisions[1:], (1, 3), strict=True):
        others = [row for row in range(4) if row != own]
        assert decision.logits[own].isfinite().all()
        assert (decision.logits[others, 1:] == -torch.inf).all()
        loss_B = torch.nn.functional.cross_entropy(decision.logits, decision.labels, reduction="none")
        assert loss_B[others].tolist() == [0, 0, 0]
    only_common = made.decisions(torch.randn(2, 8), torch.tensor([1, 6]))
    assert len(only_common) == 1


def test_smoothing_spreads_over_a_cluster_for_its_own_images_only() -> None:
    made, features_BD, labels_B = head(), torch.randn(2, 8), torch.tensor([5, 1])
    z_Bd = made.bottleneck(features_BD)
    first = torch.nn.functional.cross_entropy(made.softmax.head(z_Bd), torch.tensor([4, 0]), label_smoothing=0.2)
    second = torch.nn.functional.cross_entropy(made.softmax.tail[1](z_Bd[:1]), torch.tensor([3]), label_smoothing=0.2)
    assert_close(loss_of(made, features_BD, labels_B, smoothing=0.2), first + second / 2)


def test_places_fall_with_the_count_and_ties_keep_the_order_of_the_classes() -> None:
    assert [BY_COUNT[place] for place in places_by_count(COUNTS)] == list(range(10))
    assert head().place_C.tolist() == places_by_count(COUNTS).tolist()
    assert places_by_count(np.array([1, 2], dtype=np.uint8)).tolist() == [1, 0]
    many = np.random.default_rng(0).integers(0, 4, 500)
    assert np.argsort(places_by_count(many)).tolist() == sorted(range(500), key=lambda c: (-many[c], c))
    assert doctest.testmod(adaptive).failed == 0


@given(st.permutations(range(10)))
def test_naming_classes_in_another_order_moves_the_answers_only(order: list[int]) -> None:
    counts = np.arange(10)[::-1] + 1  # no ties: those go by class index
    plain, moved, features_BD = head(counts), head(counts[order]), torch.randn(2, 8)
    assert_close(moved(features_BD), plain(features_BD)[:, order])
    assert moved.multiply_adds(training=True) == plain.multiply_adds(training=True)


def test_what_is_stored_needs_no_counts_when_read() -> None:
    made, loaded, features_BD = head(), head(np.zeros(10, dtype=np.int64), seed=7), torch.randn(3, 8)
    loaded.load_state_dict(made.state_dict())
    assert_close(loaded(features_BD), made(features_BD), rtol=0, atol=0)
    assert loaded.multiply_adds(training=True) == made.multiply_adds(training=True)
    assert {"place_C", "images_J1"} <= set(made.state_dict())


def test_gradients_reach_every_parameter_from_the_start() -> None:
    made = AdaptiveHead(8, COUNTS, width=6, cutoffs=(3, 6))
    loss_of(made, torch.randn(10, 8), torch.arange(10)).backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None, name
        assert (parameter.grad.flatten(1).abs().sum(1) > 0).all() if parameter.dim() > 1 else parameter.grad.any(), name


def test_multiply_adds_by_hand() -> None:
    made = head()  # 8 -> 6, then 3 + 2 columns; 3 classes on 6 // 2 features; 4 classes on 6 // 4
    first, tails = 8 * 6 + 6 * 5, [6 * 3 + 3 * 3, 6 * 1 + 1 * 4]
    assert made.multiply_adds(training=False) == first + sum(tails)
    # Of the 209 images 176 are of the three most common classes, 23 of the next three, 10 of the last four.
    assert made.images_J1.tolist() == [176, 23, 10]
    assert made.multiply_adds(training=True) == first + round((23 * tails[0] + 10 * tails[1]) / 209)
    assert head(width=None).multiply_adds(training=False) == 8 * 5 + (8 * 4 + 4 * 3) + (8 * 2 + 2 * 4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_answers_in_float32_from_half_precision(dtype: torch.dtype) -> None:
    made, features_BD = head().to(dtype), torch.randn(4, 8).to(dtype)
    log_p_BC = made.log_prob_all(features_BD)
    assert log_p_BC.dtype == torch.float32
    assert_close(log_p_BC.exp().sum(1), torch.ones(4))
    assert_close(made.log_prob(features_BD, torch.tensor([1, 4, 3, 5])), log_p_BC[range(4), [1, 4, 3, 5]])


@pytest.mark.parametrize(("classes", "expected"), [(2, (1,)), (7, (1,)), (8, (2,)), (80_000, (20_000,))])
def test_default_cutoffs_fit_any_number_of_classes(classes: int, expected: tuple[int, ...]) -> None:
    assert default_cutoffs(classes) == expected
    assert AdaptiveHead(8, np.ones(min(classes, 8), dtype=np.int64)).classes == min(classes, 8)


@pytest.mark.parametrize(
    ("counts", "options", "message"),
    [
        ([3], {"cutoffs": None}, "at least two classes"),
        ([3, 2, 1], {"cutoffs": (3,)}, "at most 2"),
        ([3, 2, 1], {"cutoffs": (2, 1)}, "must rise"),
        ([3, 2, 1], {"cutoffs": (0, 1)}, "at least 1"),
        ([3, 2, 1], {"cutoffs": ()}, "must rise"),
        ([3, 2, 1], {"cutoffs": (1, 2), "div_value": 4}, "leave none"),
    ],
)
def test_refuses_what_makes_no_head(counts: list[int], options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        head(np.array(counts), **options)


@pytest.mark.parametrize("options", [{"width": 0}, {"div_value": 0.5}, {"cutoffs": ()}, {"cutoffs": (5, 5)}, {"cutoffs": (0, 5)}])
def test_refuses_options_that_fit_no_number_of_classes(options: dict) -> None:
    with pytest.raises(ValueError, match="must"):
        AdaptiveOptions(**options)
