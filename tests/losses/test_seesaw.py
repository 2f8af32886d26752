"""Seesaw against its formula by plain loops, with the K×K matrix that the loss never builds. Shapes: B images, K choices."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from plain_head import COUNTS, C, drawn, loss_of
from torch.testing import assert_close

from taxakey.losses.cross_entropy import CrossEntropyOptions
from taxakey.losses.decision import Decision
from taxakey.losses.seesaw import Seesaw, SeesawOptions


def slow_seesaw(
    logits_BK: torch.Tensor, labels_B: torch.Tensor, counts: list[float], p: float, q: float, eps: float
) -> torch.Tensor:
    """Multiplied out: −log of exp(z_y) / Σ_j M_yj·F_yj·exp(z_j), in float64, with gradients through exp(z) alone."""
    mitigation_KK = [[min(1.0, (theirs / own) ** p) for theirs in counts] for own in counts]
    losses = []
    for z_K, y in zip(logits_BK.double(), labels_B.tolist(), strict=True):
        s_K = z_K.detach().softmax(0).tolist()
        terms = []
        for j, z in enumerate(z_K):
            if j == y:
                terms.append(z.exp())
                continue
            compensation = (s_K[j] / max(s_K[y], eps)) ** q if s_K[j] > max(s_K[y], eps) else 1.0
            terms.append(mitigation_KK[y][j] * compensation * z.exp())
        losses.append(-(z_K[y].exp() / torch.stack(terms).sum()).log())
    return torch.stack(losses).float()


@given(st.floats(0, 2), st.floats(0, 3), st.sampled_from([1e-6, 1e-2, 0.3, 1.0]), st.integers(0, 99))
def test_value_and_gradient_equal_the_formula(p: float, q: float, eps: float, seed: int) -> None:
    logits_BK, labels_B = drawn(8, seed)
    mine_BK, slow_BK = logits_BK.clone().requires_grad_(), logits_BK.clone().requires_grad_()
    mine_B = loss_of(SeesawOptions(p=p, q=q, eps=eps), mine_BK, labels_B)
    slow_B = slow_seesaw(slow_BK, labels_B, COUNTS.tolist(), p, q, eps)
    assert_close(mine_B, slow_B, atol=1e-5, rtol=1e-5)
    gradients = [torch.autograd.grad(loss_B.sum(), values)[0] for loss_B, values in ((mine_B, mine_BK), (slow_B, slow_BK))]
    assert_close(*gradients, atol=1e-5, rtol=1e-5)


def test_matches_values_worked_out_by_hand() -> None:
    # Counts 16:1, p = 1/2: the rare class stands against an image of the common one with a quarter of its weight.
    loss = Seesaw(p=0.5, q=0)
    counts = torch.tensor([16, 1])
    assert_close(loss.of_decision(Decision(torch.zeros(1, 2), torch.tensor([0]), counts)), torch.tensor([math.log(1.25)]))
    assert_close(loss.of_decision(Decision(torch.zeros(1, 2), torch.tensor([1]), counts)), torch.tensor([math.log(2)]))
    # Probabilities 1/5 and 4/5, q = 1: the class that it is taken for weighs four times, 16 against 1.
    logits = torch.tensor([[0.0, math.log(4)]])
    found = Seesaw(p=0, q=1).of_decision(Decision(logits, torch.tensor([0]), counts))
    assert_close(found, torch.tensor([math.log(17)]))
    # With eps = 1/2 only (4/5) / (1/2) times.
    found = Seesaw(p=0, q=1, eps=0.5).of_decision(Decision(logits, torch.tensor([0]), counts))
    assert_close(found, torch.tensor([math.log(1 + 4 * 1.6)]))


def test_without_factors_it_is_cross_entropy() -> None:
    logits_BC, labels_B = drawn()
    for smoothing in (0.0, 0.2):
        plain = SeesawOptions(p=0, q=0, label_smoothing=smoothing)
        assert_close(
            loss_of(plain, logits_BC, labels_B), loss_of(CrossEntropyOptions(label_smoothing=smoothing), logits_BC, labels_B)
        )


def test_smoothing_is_that_of_the_shifted_logits() -> None:
    logits_BC, labels_B = drawn()
    shifted = [
        loss_of(SeesawOptions(p=0.7, q=0.3, label_smoothing=share), logits_BC, labels_B) for share in (0.0, 0.5)
    ]  # fmt: skip
    shift_BC = Seesaw(0.7, 0.3)._log_factors(logits_BC, Decision(logits_BC, labels_B, torch.tensor(COUNTS)))
    even_B = -(logits_BC + shift_BC).log_softmax(1).mean(1)
    assert_close(shifted[1], (shifted[0] + even_B) / 2)


def test_each_image_may_have_counts_of_its_own() -> None:
    logits_BK, labels_B = drawn(5)
    counts_BK = torch.randint(1, 500, (5, C), generator=torch.Generator().manual_seed(1))
    together = Seesaw(eps=0.2).of_decision(Decision(logits_BK, labels_B, counts_BK))
    for b in range(5):
        alone = slow_seesaw(logits_BK[[b]], labels_B[[b]], counts_BK[b].tolist(), 0.8, 2.0, 0.2)
        assert_close(together[[b]], alone, atol=1e-5, rtol=1e-5)


def test_a_class_without_images_counts_as_one() -> None:
    logits_BK, labels_B = drawn(5)
    found = [Seesaw().of_decision(Decision(logits_BK, labels_B, torch.tensor([9, least, 9, 9, 9, 9, 9]))) for least in (0, 1)]
    assert_close(*found)


@pytest.mark.parametrize(
    ("options", "message"), [({"p": -1}, "p is -1"), ({"eps": 0}, "eps is 0"), ({"weight": 0}, "weight is 0")]
)
def test_options_that_make_no_sense(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SeesawOptions(**options)
