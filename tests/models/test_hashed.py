"""The hashed head against slow loops, and its draw of buckets."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from taxakey.losses.cross_entropy import CrossEntropy
from taxakey.losses.decision import Answer
from taxakey.models.hashed import HashedHead, HashedOptions, default_buckets, draw_buckets


def head(classes: int, *, hashes: int = 3, buckets: int | None = None, seed: int = 0) -> HashedHead:
    """A head on 7 features with weights large enough to matter."""
    torch.manual_seed(seed)
    made = HashedHead(7, classes, width=5, hashes=hashes, buckets=buckets, seed=seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_()
    return made


def bucket_probabilities(made: HashedHead, x: torch.Tensor) -> list[list[float]]:
    """p(bucket) of each hash for one image, from the layers' own weights."""
    logits = made.linear(made.bottleneck(x[None]))[0].tolist()
    rows = [logits[r * made.buckets : (r + 1) * made.buckets] for r in range(made.hashes)]
    return [[math.exp(value) / sum(map(math.exp, row)) for value in row] for row in rows]


@given(st.integers(1, 30), st.integers(1, 5), st.integers(0, 4), st.data())
def test_score_is_the_product_over_hashes(classes: int, hashes: int, seed: int, data: st.DataObject) -> None:
    made, x = head(classes, hashes=hashes, buckets=data.draw(st.integers(1, classes)), seed=seed), torch.randn(7)
    p = bucket_probabilities(made, x)
    products = [math.prod(p[r][made.bucket_RC[r, c]] for r in range(hashes)) for c in range(classes)]
    expected = torch.tensor([math.log(product) for product in products])
    assert_close(made(x[None])[0], expected, rtol=1e-4, atol=1e-4)
    assert_close(made.log_prob_all(x[None])[0], expected - math.log(sum(products)), rtol=1e-4, atol=1e-4)


def test_log_prob_is_that_of_all_classes_and_they_sum_to_one() -> None:
    made, features_BD, labels_B = head(23), torch.randn(4, 7) * 3, torch.tensor([0, 22, 5, 5])
    log_p_BC = made.log_prob_all(features_BD)
    assert_close(log_p_BC.exp().sum(1), torch.ones(4))
    assert_close(made.log_prob(features_BD, labels_B), log_p_BC[range(4), labels_B])


def test_training_loss_is_the_sum_over_hashes_and_not_the_likelihood() -> None:
    made, features_BD, labels_B = head(23), torch.randn(4, 7), torch.tensor([0, 22, 5, 5])
    decisions = made.decisions(features_BD, labels_B)
    loss = torch.stack([CrossEntropy().of_decision(decision).mean() for decision in decisions]).sum()
    expected = 0.0
    for x, label in zip(features_BD, labels_B.tolist(), strict=True):
        p = bucket_probabilities(made, x)
        expected -= sum(math.log(p[r][made.bucket_RC[r, label]]) for r in range(3)) / 4
    assert_close(loss, torch.tensor(expected))
    assert_close(loss, -made(features_BD)[range(4), labels_B].mean())
    assert loss > -made.log_prob(features_BD, labels_B).mean()  # products over all classes sum to less than one


@given(st.integers(1, 200), st.integers(1, 5), st.integers(0, 4), st.data())
def test_every_hash_deals_evenly(classes: int, hashes: int, seed: int, data: st.DataObject) -> None:
    buckets = data.draw(st.integers(1, classes))
    bucket_RC = draw_buckets(classes, buckets, hashes, seed)
    assert bucket_RC.shape == (hashes, classes)
    for bucket_C in bucket_RC:
        sizes = np.bincount(bucket_C, minlength=buckets)
        assert len(sizes) == buckets
        assert sizes.max() - sizes.min() <= 1


def test_hashes_are_independent_and_fixed_by_their_seed() -> None:
    drawn = draw_buckets(400, 40, 4, seed=3)
    assert (drawn == draw_buckets(400, 40, 4, seed=3)).all()
    assert (drawn != draw_buckets(400, 40, 4, seed=4)).any()
    for one, other in combinations(drawn, 2):
        # Two hashes agree on a class by chance, once in 40: 10 ± 3 of 400 classes.
        assert 1 <= (one == other).sum() <= 22


def test_default_buckets_tell_all_classes_of_a_large_flora_apart() -> None:
    assert [default_buckets(classes) for classes in (1, 5, 100, 80_000)] == [1, 5, 40, 1132]
    assert len(np.unique(draw_buckets(80_000, 1132, 4, seed=0), axis=1).T) == 80_000


def test_classes_in_the_same_buckets_tie_and_keep_their_order() -> None:
    made = head(6, hashes=1, buckets=2)
    ranked = made.top_k(torch.randn(3, 7), 6)
    together = [(made.bucket_RC[0] == bucket).nonzero().flatten().tolist() for bucket in range(2)]
    for row in ranked.classes.tolist():
        assert row in (together[0] + together[1], together[1] + together[0])


@given(st.permutations(range(9)))
def test_naming_classes_in_another_order_moves_the_answers_only(order: list[int]) -> None:
    plain, moved, features_BD = head(9), head(9), torch.randn(2, 7)
    moved.bucket_RC.copy_(plain.bucket_RC[:, order])
    assert_close(moved(features_BD), plain(features_BD)[:, order])


def test_what_is_stored_answers_the_same_whatever_the_seed() -> None:
    made, loaded, features_BD = head(30, seed=1), head(30, seed=2), torch.randn(3, 7)
    loaded.load_state_dict(made.state_dict())
    assert_close(loaded(features_BD), made(features_BD), rtol=0, atol=0)


def test_gradients_reach_every_parameter_from_the_start() -> None:
    made = HashedHead(7, 20, width=5)
    CrossEntropy()(Answer(made, torch.randn(8, 7), torch.arange(8))).mean().backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None, name
        assert (parameter.grad.abs() > 0).all(), name


def test_multiply_adds_and_parameters_by_hand() -> None:
    made = HashedHead(7, 100, width=5, hashes=3, buckets=10)
    assert made.multiply_adds(training=True) == made.multiply_adds(training=False) == 7 * 5 + 5 * 30
    assert sum(parameter.numel() for parameter in made.parameters()) == 7 * 5 + 5 + 30 * (5 + 1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_stays_finite_in_half_precision(dtype: torch.dtype) -> None:
    log_p_BC = head(40).to(dtype).log_prob_all((torch.randn(4, 7) * 10).to(dtype))
    assert log_p_BC.isfinite().all()
    assert_close(log_p_BC.exp().sum(1), torch.ones(4))


def test_one_class_is_certain() -> None:
    made = head(1)
    assert made.log_prob_all(torch.randn(2, 7)).tolist() == [[0.0], [0.0]]
    assert all(
        CrossEntropy().of_decision(decision).mean() == 0
        for decision in made.decisions(torch.randn(2, 7), torch.zeros(2, dtype=torch.long))
    )


def test_refuses_what_makes_no_head() -> None:
    for options in ({"width": 0}, {"hashes": 0}, {"buckets": 0}, {"seed": -1}):
        with pytest.raises(ValueError, match="at least"):
            HashedOptions(**options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="buckets is 6"):
        HashedHead(7, 5, buckets=6)
    with pytest.raises(ValueError, match="0 classes"):
        HashedHead(7, 0)
