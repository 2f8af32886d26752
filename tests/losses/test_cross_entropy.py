from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from taxakey.losses.cross_entropy import CrossEntropy, CrossEntropyOptions


@given(st.floats(0, 0.9), st.integers(2, 9))
def test_equals_torch_where_nothing_is_masked(smoothing: float, choices: int) -> None:
    logits_BK, labels_B = torch.randn(7, choices), torch.randint(choices, (7,))
    expected = torch.nn.functional.cross_entropy(logits_BK, labels_B, label_smoothing=smoothing)
    assert_close(CrossEntropy(label_smoothing=smoothing)(logits_BK, labels_B), expected)


@given(st.floats(0, 0.9))
def test_masked_columns_are_as_if_they_were_not_there(smoothing: float) -> None:
    logits_BK, labels_B = torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 0])
    masked = torch.cat([logits_BK, torch.full((5, 3), -torch.inf)], dim=1).requires_grad_()
    loss = CrossEntropy(label_smoothing=smoothing)(masked, labels_B)
    assert_close(loss, CrossEntropy(label_smoothing=smoothing)(logits_BK, labels_B))
    (gradient,) = torch.autograd.grad(loss, masked)
    assert gradient.isfinite().all()
    assert not gradient[:, 4:].any()


def test_matches_value_worked_out_by_hand() -> None:
    # Two equal logits cost log 2 whatever the smoothing.
    assert_close(CrossEntropyOptions(label_smoothing=0.4).build()(torch.zeros(1, 2), torch.tensor([1])), torch.tensor(0.693147))


def test_refuses_a_share_that_is_none() -> None:
    with pytest.raises(ValueError, match="label_smoothing is 1"):
        CrossEntropy(label_smoothing=1.0)
