from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from plain_head import C, drawn, loss_of
from torch.testing import assert_close
from torchvision.ops import sigmoid_focal_loss

from taxakey.losses.cross_entropy import CrossEntropyOptions
from taxakey.losses.decision import Decision
from taxakey.losses.focal import Focal, FocalOptions


@given(st.floats(0, 5), st.integers(0, 99))
def test_two_choices_equal_torchvisions_binary_one(gamma: float, seed: int) -> None:
    logits_B = 3 * torch.randn(6, generator=torch.Generator().manual_seed(seed))
    right_B = torch.tensor([0, 1, 1, 0, 1, 0])
    expected_B = sigmoid_focal_loss(logits_B, right_B.float(), alpha=-1, gamma=gamma)
    two_B2 = torch.stack([torch.zeros(6), logits_B], dim=1)
    assert_close(Focal(gamma).of_decision(Decision(two_B2, right_B)), expected_B, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_equals_the_sum_over_the_targets(smoothing: float) -> None:
    logits_BC, labels_B = drawn()
    p_BC = logits_BC.double().softmax(1)
    target_BC = torch.nn.functional.one_hot(labels_B, C) * (1 - smoothing) + smoothing / C
    expected_B = -(target_BC * (1 - p_BC) ** 1.7 * p_BC.log()).sum(1)
    assert_close(loss_of(FocalOptions(gamma=1.7, label_smoothing=smoothing), logits_BC, labels_B), expected_B.float())


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_at_gamma_0_it_is_cross_entropy(smoothing: float) -> None:
    logits_BC, labels_B = drawn()
    plain = loss_of(CrossEntropyOptions(label_smoothing=smoothing), logits_BC, labels_B)
    assert_close(loss_of(FocalOptions(gamma=0, label_smoothing=smoothing), logits_BC, labels_B), plain)


def test_matches_value_worked_out_by_hand() -> None:
    # p = 1/2 and γ = 2: a quarter of log 2.
    assert_close(FocalOptions().build().of_decision(Decision(torch.zeros(1, 2), torch.tensor([1]))), torch.tensor([0.173287]))
