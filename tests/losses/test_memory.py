"""How much a loss allocates beyond logits and their gradient, in buffers as large as the logits. Shapes: B images, C classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from plain_head import PlainHead
from torch.profiler import ProfilerActivity, profile

from taxakey.losses.decision import Answer
from taxakey.losses.facts import LossFacts
from taxakey.losses.logit_adjusted import LogitAdjustedOptions
from taxakey.losses.loss_options import LossOptions, build_loss
from taxakey.losses.seesaw import SeesawOptions
from taxakey.size.memory import _Live

B, C = 64, 80_000
COUNTS = np.random.default_rng(0).integers(1, 1000, C)


def buffers(options: LossOptions) -> tuple[float, float]:
    """The most that lives at once beside logits and gradient: by torch's own record of its allocations, and tensor by tensor."""
    head = PlainHead()
    loss = build_loss([options], head, LossFacts(COUNTS))
    labels_B = torch.randint(C, (B,), generator=torch.Generator().manual_seed(0))
    logits_BC = torch.randn(B, C, requires_grad=True)

    def step() -> None:
        logits_BC.grad = None
        loss(Answer(head, logits_BC, labels_B)).mean().backward()

    step()
    logits_BC.grad = None
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        step()
    events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]  # type: ignore[union-attr]
    allocated = np.cumsum([event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]).max()
    logits_BC.grad = None
    live = _Live([logits_BC, labels_B])
    with live, live.recording() as history:
        step()
    logits = B * C * 4
    return allocated / logits - 1, max(history) / logits - 2


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("kind", [SeesawOptions, LogitAdjustedOptions])
def test_80_000_classes_need_three_buffers_at_most(kind: type[SeesawOptions | LogitAdjustedOptions], smoothing: float) -> None:
    allocated, counted = buffers(kind(label_smoothing=smoothing))
    assert allocated == pytest.approx(counted, abs=1.1), "what operations allocate within themselves is one buffer at most"
    assert max(allocated, counted) <= 3
    assert counted <= 2.3
