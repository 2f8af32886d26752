from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from taxakey.losses.cross_entropy import CrossEntropy, CrossEntropyOptions
from taxakey.losses.decision import Answer, Decision


def mean_loss(loss: CrossEntropy, logits_BK: torch.Tensor, labels_B: torch.Tensor) -> torch.Tensor:
    return loss.of_decision(Decision(logits_BK, labels_B)).mean()


@given(st.floats(0, 0.9), st.integers(2, 9))
def test_equals_torch_where_nothing_is_masked(smoothing: float, choices: int) -> None:
    logits_BK, labels_B = torch.randn(7, choices), torch.randint(choices, (7,))
    expected = torch.nn.functional.cross_entropy(logits_BK, labels_B, label_smoothing=smoothing)
    assert_close(mean_loss(CrossEntropy(label_smoothing=smoothing), logits_BK, labels_B), expected)


@given(st.floats(0, 0.9))
def test_masked_columns_are_as_if_they_were_not_there(smoothing: float) -> None:
    logits_BK, labels_B = torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 0])
    masked = torch.cat([logits_BK, torch.full((5, 3), -torch.inf)], dim=1).requires_grad_()
    loss = mean_loss(CrossEntropy(label_smoothing=smoothing), masked, labels_B)
    assert_close(loss, mean_loss(CrossEntropy(label_smoothing=smoothing), logits_BK, labels_B))
    (gradient,) = torch.autograd.grad(loss, masked)
    assert gradient.isfinite().all()
    assert not gradient[:, 4:].any()


def test_matches_value_worked_out_by_hand() -> None:
    # Two equal logits cost log 2 whatever the smoothing.
    loss = CrossEntropyOptions(label_smoothing=0.4).build()
    assert_close(mean_loss(loss, torch.zeros(1, 2), torch.tensor([1])), torch.tensor(0.693147))


def test_refuses_a_share_that_is_none() -> None:
    with pytest.raises(ValueError, match="label_smoothing is 1"):
        CrossEntropy(label_smoothing=1.0)


class TwoDecisions:
    """The head's part of a training step: one choice of two, one of three that counts half."""

    def decisions(self, features_BD: torch.Tensor, labels_B: torch.Tensor) -> list[Decision]:
        return [Decision(features_BD[:, :2], labels_B), Decision(features_BD[:, 2:], labels_B, weight=0.5)]

    def __call__(self, features_BD: torch.Tensor) -> torch.Tensor:
        raise AssertionError("nobody asked for all scores")


def test_decisions_add_up_by_their_weights() -> None:
    features_BD, labels_B = torch.randn(4, 5), torch.tensor([0, 1, 1, 0])
    cost = torch.nn.functional.cross_entropy
    expected_B = cost(features_BD[:, :2], labels_B, reduction="none") + cost(features_BD[:, 2:], labels_B, reduction="none") / 2
    assert_close(CrossEntropy()(Answer(TwoDecisions(), features_BD, labels_B)), expected_B)
