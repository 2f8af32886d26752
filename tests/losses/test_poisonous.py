from __future__ import annotations

import math

import pytest
import torch
from plain_head import POISONOUS, drawn, loss_of
from torch.testing import assert_close

from taxakey.losses.poisonous import PoisonousOptions


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_equals_the_cross_entropy_of_the_summed_probabilities(smoothing: float) -> None:
    logits_BC, labels_B = drawn()
    marked = torch.tensor([mark is True for mark in POISONOUS])
    poisonous_B = logits_BC.double().softmax(1)[:, marked].sum(1)
    target_B = marked[labels_B].double() * (1 - smoothing) + smoothing / 2
    expected_B = torch.nn.functional.binary_cross_entropy(poisonous_B, target_B, reduction="none").float()
    assert_close(loss_of(PoisonousOptions(label_smoothing=smoothing), logits_BC, labels_B), expected_B)


def test_matches_value_worked_out_by_hand() -> None:
    # Even scores: two of seven species are poisonous, whatever else they are called.
    found = loss_of(PoisonousOptions(), torch.zeros(2, 7), torch.tensor([0, 6]))
    assert_close(found, torch.tensor([math.log(7 / 2), math.log(7 / 5)]))


def test_it_tells_no_poisonous_species_from_another() -> None:
    logits_BC, _ = drawn(1)
    logits_BC.requires_grad_()
    for label in (0, 3):  # both poisonous
        (gradient,) = torch.autograd.grad(loss_of(PoisonousOptions(), logits_BC, torch.tensor([label])).sum(), logits_BC)
        assert (gradient[0, [0, 3]] < 0).all()
        assert (gradient[0, [1, 2, 4, 5, 6]] > 0).all()
