"""The weighted triplet loss by plain loops, and its limit, in which the hardest alone count. Shapes: B images, D features."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from plain_head import PlainHead
from torch.testing import assert_close

from taxakey.losses.decision import Answer
from taxakey.losses.weighted_triplet import WeightedTriplet, WeightedTripletOptions

LABELS = torch.tensor([0, 0, 1, 1, 1, 2, 3, 0])


def vectors(seed: int = 0) -> torch.Tensor:
    return torch.randn(8, 5, generator=torch.Generator().manual_seed(seed))


def slow(features_BD: torch.Tensor, margin: float, temperature: float) -> torch.Tensor:
    unit_BD = features_BD.double() / features_BD.double().norm(dim=1, keepdim=True)
    losses = []
    for anchor in range(8):
        mean = {}
        for same in (True, False):
            found = [b for b in range(8) if b != anchor and bool(LABELS[b] == LABELS[anchor]) == same]
            distances = [(unit_BD[anchor] - unit_BD[b]).norm() for b in found]
            weights = [math.exp((1 if same else -1) * float(d.detach()) / temperature) for d in distances]
            mean[same] = sum((w / sum(weights) * d for w, d in zip(weights, distances, strict=True)), torch.tensor(0.0))
            if not found:
                mean[True], mean[False] = torch.tensor(0.0), torch.tensor(math.inf)
                break
        losses.append((margin + mean[True] - mean[False]).clamp(min=0))
    return torch.stack(losses).float()


def loss(features_BD: torch.Tensor, margin: float, temperature: float, labels_B: torch.Tensor = LABELS) -> torch.Tensor:
    return WeightedTriplet(margin, temperature)(Answer(PlainHead(), features_BD, labels_B))


@given(st.floats(0, 1), st.floats(0.05, 5), st.integers(0, 99))
def test_value_and_gradient_equal_plain_loops(margin: float, temperature: float, seed: int) -> None:
    mine, theirs = vectors(seed).requires_grad_(), vectors(seed).requires_grad_()
    mine_B, slow_B = loss(mine, margin, temperature), slow(theirs, margin, temperature)
    assert_close(mine_B, slow_B, atol=1e-5, rtol=1e-4)
    (mine_BD,) = torch.autograd.grad(mine_B.sum(), mine)
    (slow_BD,) = torch.autograd.grad(slow_B.sum() + 0 * theirs.sum(), theirs)  # at margin 0 nothing may be left to learn
    assert_close(mine_BD, slow_BD, atol=1e-4, rtol=1e-3)


def test_at_a_low_temperature_it_is_batch_hard() -> None:
    features_BD = vectors()
    unit_BD = torch.nn.functional.normalize(features_BD, dim=1)
    distance_BB = torch.cdist(unit_BD, unit_BD)
    same_BB = LABELS[:, None] == LABELS
    hardest_B = 0.3 + distance_BB.where(same_BB, -1).amax(1) - distance_BB.where(~same_BB, 9).amin(1)
    expected_B = torch.where(same_BB.sum(1) > 1, hardest_B.clamp(min=0), 0)
    assert_close(loss(features_BD, 0.3, 1e-4), expected_B, atol=1e-5, rtol=1e-4)


def test_two_images_alike_and_batches_without_pairs_have_finite_gradients() -> None:
    twins_BD = vectors()[[0, 0, 1, 1, 2, 2, 3, 3]].requires_grad_()
    for labels_B in (torch.tensor([0, 0, 1, 1, 2, 2, 3, 3]), torch.zeros(8, dtype=torch.long), torch.arange(8)):
        loss_B = loss(twins_BD, 0.3, 0.1, labels_B)
        (gradient,) = torch.autograd.grad(loss_B.sum(), twins_BD)
        assert gradient.isfinite().all()
        if len(labels_B.unique()) in (1, 8):
            assert not loss_B.any()


def test_length_of_features_and_metadata_do_not_count() -> None:
    head = PlainHead()
    head.metadata = 2
    with_metadata = torch.cat([10 * vectors(), 100 * torch.randn(8, 2)], dim=1)
    found = WeightedTripletOptions(margin=0.4).build()(Answer(head, with_metadata, LABELS))
    assert_close(found, loss(vectors(), 0.4, 0.1))


def test_images_whose_species_is_not_known_take_no_part() -> None:
    named_B = torch.tensor([True] * 6 + [False, True])
    answer = Answer(PlainHead(), vectors(), LABELS.masked_fill(~named_B, 0), named_B)
    found_B = WeightedTriplet()(answer)
    assert found_B[6] == 0
    without = Answer(PlainHead(), vectors()[named_B], LABELS[named_B])
    assert_close(found_B[named_B], WeightedTriplet()(without))


def test_options_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="temperature 0"):
        WeightedTripletOptions(temperature=0)
