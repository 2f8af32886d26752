"""Cosine softmax and sub-centre ArcFace, against angles worked out in plain Python."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from taxakey.losses.cross_entropy import CrossEntropy
from taxakey.losses.decision import Answer
from taxakey.models.cosine import ArcFaceOptions, CosineHead, CosineOptions

B, D, C, K = 7, 5, 6, 3


def slow_logits(head: CosineHead, x_BD: np.ndarray, labels_B: list[int] | None) -> np.ndarray:
    """By angles, one image, class and centre at a time; with the margin where the labels are given."""
    logits = np.empty((len(x_BD), head.classes))
    for b, x in enumerate(x_BD.astype(np.float64)):
        for c, centres in enumerate(head.centres_CKD.detach().double().numpy()):
            cosine = max(float(x @ w) / math.sqrt(float(x @ x) * float(w @ w)) for w in centres)
            angle = math.acos(cosine)
            if labels_B is not None and c == labels_B[b]:
                over = angle + head.margin > math.pi
                cosine = math.cos(angle) - head.margin * math.sin(head.margin) if over else math.cos(angle + head.margin)
            logits[b, c] = head.scale * cosine
    return logits


@pytest.mark.parametrize(("scale", "margin", "centres"), [(30.0, 0.5, 3), (64.0, 0.3, 1), (10.0, 1.2, 2), (30.0, 0.0, 1)])
def test_scores_and_decisions_are_those_of_the_angles(scale: float, margin: float, centres: int) -> None:
    torch.manual_seed(1)
    head = CosineHead(D, C, scale=scale, margin=margin, centres=centres)
    x_BD = torch.randn(B, D)
    labels_B = torch.arange(B) % C
    x_BD[0] = -head.centres_CKD[0].mean(0).detach()  # far on the other side of its class: θ + m > π for large margins
    assert_close(head(x_BD).double(), torch.from_numpy(slow_logits(head, x_BD.numpy(), None)), rtol=1e-4, atol=1e-4)
    (decision,) = head.decisions(x_BD, labels_B)
    expected = torch.from_numpy(slow_logits(head, x_BD.numpy(), labels_B.tolist()))
    assert_close(decision.logits.double(), expected, rtol=1e-4, atol=1e-4)
    loss_B = CrossEntropy()(Answer(head, x_BD, labels_B))
    assert_close(loss_B.double(), expected.logsumexp(1) - expected.gather(1, labels_B[:, None])[:, 0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("degrees", [0.5, 40, 90, 140, 151, 152, 170, 179.9])
def test_the_margin_by_hand(degrees: float) -> None:
    head, angle = CosineHead(2, 2, margin=0.5), math.radians(degrees)
    expected = math.cos(angle + 0.5) if angle + 0.5 <= math.pi else math.cos(angle) - 0.5 * math.sin(0.5)
    assert head.with_margin(torch.tensor([math.cos(angle)], dtype=torch.float64)).item() == pytest.approx(expected, abs=1e-6)


@given(st.floats(0, math.pi), st.floats(0.01, 1.5))
def test_the_margin_always_makes_it_harder(angle: float, margin: float) -> None:
    cosine = torch.tensor(math.cos(angle), dtype=torch.float64)
    assert CosineHead(2, 2, margin=margin).with_margin(cosine) < cosine


def test_the_margin_is_for_training_alone() -> None:
    head, x_BD, labels_B = CosineHead(D, C, margin=0.5, centres=K).train(), torch.randn(B, D), torch.arange(B) % C
    plain_BC = head(x_BD)
    (decision,) = head.decisions(x_BD, labels_B)
    own = torch.nn.functional.one_hot(labels_B, C).bool()
    assert (decision.logits[own] < plain_BC[own]).all()
    assert_close(decision.logits[~own], plain_BC[~own])
    assert_close(head.log_prob(x_BD, labels_B), plain_BC.log_softmax(1).gather(1, labels_B[:, None])[:, 0])


def test_a_class_learns_by_its_nearest_centre_alone() -> None:
    head = CosineHead(2, 1, centres=2)
    with torch.no_grad():
        head.centres_CKD.copy_(torch.tensor([[[1.0, 0.1], [0.1, 1.0]]]))
    head(torch.tensor([[0.9, 0.0]])).sum().backward()
    assert head.centres_CKD.grad is not None
    assert head.centres_CKD.grad[0, 0].abs().sum() > 0
    assert head.centres_CKD.grad[0, 1].abs().sum() == 0


def test_length_tells_nothing_and_gradients_are_finite_at_the_ends() -> None:
    head = CosineHead(D, C, margin=0.5, centres=K)
    x_BD = torch.randn(3, D)
    assert_close(head(x_BD), head(7 * x_BD))
    towards_BD = torch.cat([head.centres_CKD[:2, 0], -head.centres_CKD[:2, 0], torch.zeros(1, D)]).detach().requires_grad_()
    (decision,) = head.decisions(towards_BD, torch.tensor([0, 1, 0, 1, 2]))
    decision.logits.sum().backward()
    assert decision.logits.isfinite().all()
    assert towards_BD.grad is not None
    assert towards_BD.grad.isfinite().all()
    assert head.centres_CKD.grad is not None
    assert head.centres_CKD.grad.isfinite().all()


def test_cosines_stay_in_float32_under_mixed_precision() -> None:
    head, x_BD = CosineHead(D, C, scale=64.0), torch.randn(B, D)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        halved = head(x_BD)
    assert_close(halved, head(x_BD))


def test_options_out_of_bounds() -> None:
    for wrong in ({"scale": 0.0}, {"centres": 0}, {"margin": -0.1}, {"margin": 1.6}):
        with pytest.raises(ValueError, match="must be"):
            ArcFaceOptions(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="scale is -1"):
        CosineOptions(scale=-1)
