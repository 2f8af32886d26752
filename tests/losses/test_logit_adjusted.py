from __future__ import annotations

import pytest
import torch
from plain_head import COUNTS, drawn, loss_of
from torch.testing import assert_close

from taxakey.losses.decision import Decision
from taxakey.losses.logit_adjusted import LogitAdjusted, LogitAdjustedOptions


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, 2.0])
def test_equals_the_pairwise_form_of_the_paper(strength: float) -> None:
    # Equation 10 of the paper: log(1 + Σ_{j≠y} (π_j / π_y)^τ · exp(z_j − z_y)), π the classes' shares.
    logits_BC, labels_B = drawn()
    share_C = torch.tensor(COUNTS / COUNTS.sum())
    expected = []
    for z_C, y in zip(logits_BC.double(), labels_B.tolist(), strict=True):
        others = [(share_C[j] / share_C[y]) ** strength * (z_C[j] - z_C[y]).exp() for j in range(len(z_C)) if j != y]
        expected.append(torch.log1p(torch.stack(others).sum()))
    assert_close(loss_of(LogitAdjustedOptions(strength=strength), logits_BC, labels_B), torch.stack(expected).float())


def test_matches_value_worked_out_by_hand() -> None:
    # Counts 9:1 at strength 1/2 give odds 3:1, so the rare class costs log(4).
    loss = LogitAdjusted(0.5).of_decision(Decision(torch.zeros(1, 2), torch.tensor([1]), torch.tensor([9, 1])))
    assert_close(loss, torch.tensor([1.386294]))


def test_a_class_without_images_counts_as_one() -> None:
    decision = Decision(torch.zeros(1, 2), torch.tensor([0]), torch.tensor([3, 0]))
    assert_close(LogitAdjusted().of_decision(decision), torch.tensor([4 / 3]).log())


def test_smoothing_spreads_over_the_adjusted_choices() -> None:
    logits_BC, labels_B = drawn()
    adjusted_BC = logits_BC + 0.7 * torch.tensor(COUNTS / COUNTS.sum(), dtype=torch.float32).log()
    expected = torch.nn.functional.cross_entropy(adjusted_BC, labels_B, label_smoothing=0.2, reduction="none")
    assert_close(loss_of(LogitAdjustedOptions(strength=0.7, label_smoothing=0.2), logits_BC, labels_B), expected)


def test_a_negative_strength_is_refused() -> None:
    with pytest.raises(ValueError, match="strength is -1"):
        LogitAdjustedOptions(strength=-1)
