"""LazyAdamW against torch's AdamW, and where they differ by intent against plain loops."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from taxakey.models.edge_scores import edge_scores, open_nodes
from taxakey.training.lazy_adamw import LazyAdamW, clip_norm

ROWS = 7
OPTIONS: dict[str, Any] = {"lr": 0.03, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.2}


def parameters(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """A matrix and a vector with rows, and one for dense gradients."""
    torch.manual_seed(0)
    return [torch.randn(shape, dtype=dtype).requires_grad_() for shape in ((ROWS, 3), (ROWS,), (4, 2))]


def rows_of(p: Tensor, rows: list[int], values: Tensor) -> Tensor:
    """A sparse gradient, not yet coalesced."""
    return torch.sparse_coo_tensor(torch.tensor([rows], dtype=torch.long), values, p.shape, check_invariants=False)


def random_gradients(step: int, touched: list[int]) -> list[Tensor]:
    """Dense gradients for `parameters()`: the first two are zero in the rows that aren't touched."""
    generator = torch.Generator().manual_seed(step)
    gradients = [torch.randn(shape, generator=generator) for shape in ((ROWS, 3), (ROWS,), (4, 2))]
    missed = [row for row in range(ROWS) if row not in touched]
    for gradient in gradients[:2]:
        gradient[missed] = 0
    return gradients


def give(mine: list[Tensor], gradients: list[Tensor], touched: list[int]) -> None:
    """The first two as sparse gradients of the rows touched."""
    for p, gradient in zip(mine[:2], gradients, strict=False):
        p.grad = rows_of(p, touched, gradient[touched])
    mine[2].grad = gradients[2].clone()


def give_dense(mine: list[Tensor], gradients: list[Tensor]) -> None:
    for p, gradient in zip(mine, gradients, strict=True):
        p.grad = gradient.clone()


@pytest.mark.parametrize("fused", [False, True])
def test_dense_gradients_are_adamws_own(fused: bool) -> None:
    mine, theirs = parameters(), parameters()
    lazy, adamw = LazyAdamW(mine, **OPTIONS, fused=fused), torch.optim.AdamW(theirs, **OPTIONS, fused=fused)
    for step in range(6):
        for parts, optimizer in ((mine, lazy), (theirs, adamw)):
            give_dense(parts, random_gradients(step, list(range(ROWS))))
            optimizer.step()
    for p, q in zip(mine, theirs, strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("order", [list(range(ROWS)), [3, 0, 6, 1, 5, 4, 2]])
def test_with_every_row_touched_at_every_step_it_is_adamw(order: list[int], fused: bool) -> None:
    mine, theirs = parameters(), parameters()
    lazy, adamw = LazyAdamW(mine, **OPTIONS, fused=fused), torch.optim.AdamW(theirs, **OPTIONS, fused=fused)
    for step in range(12):
        gradients = random_gradients(step, order)
        give(mine, gradients, order)
        give_dense(theirs, gradients)
        for optimizer in (lazy, adamw):
            optimizer.param_groups[0]["lr"] = 0.03 / (1 + step)  # a schedule changes nothing about that
            optimizer.step()
        for p, q in zip(mine, theirs, strict=True):
            assert_close(p, q, rtol=1e-5, atol=1e-6)
            for moment in ("exp_avg", "exp_avg_sq"):
                assert_close(lazy.state[p][moment], adamw.state[q][moment], rtol=1e-5, atol=1e-7)


TOUCHES = st.lists(st.sets(st.integers(0, ROWS - 1)).map(sorted), min_size=1, max_size=12)


@given(TOUCHES)
def test_moments_of_touched_rows_are_those_of_adamw_with_zero_gradients(touches: list[list[int]]) -> None:
    mine, theirs = parameters(), parameters()
    lazy, adamw = LazyAdamW(mine, **OPTIONS), torch.optim.AdamW(theirs, **OPTIONS)
    for step, touched in enumerate(touches):
        gradients = random_gradients(step, touched)
        give(mine, gradients, touched)
        give_dense(theirs, gradients)
        before = [p.detach().clone() for p in mine]
        lazy.step()
        adamw.step()
        missed = [row for row in range(ROWS) if row not in touched]
        for p, q, old in zip(mine[:2], theirs[:2], before, strict=False):
            for moment in ("exp_avg", "exp_avg_sq"):
                assert_close(lazy.state[p][moment][touched], adamw.state[q][moment][touched], rtol=1e-5, atol=1e-7)
            assert torch.equal(p[missed], old[missed])  # to the bit
        assert_close(mine[2], theirs[2])


def by_loops(touches: list[list[int]], *, lr: float, betas: tuple[float, float], eps: float, weight_decay: float) -> list[float]:
    """The vector's entries after all steps: at a missed step moments decay and so does the weight, nothing else moves."""
    values = parameters()[1].tolist()
    for row in range(ROWS):
        first = second = 0.0
        weight = values[row]
        for step, touched in enumerate(touches, start=1):
            gradient = float(random_gradients(step, touched)[1][row])
            first = betas[0] * first + (1 - betas[0]) * gradient
            second = betas[1] * second + (1 - betas[1]) * gradient**2
            weight *= 1 - lr * weight_decay
            if row in touched:
                root = math.sqrt(second / (1 - betas[1] ** step))
                weight -= lr * first / (1 - betas[0] ** step) / (root + eps)
                values[row] = weight  # a row that isn't touched again keeps the weight it had
    return values


@given(TOUCHES)
def test_weights_equal_plain_loops_with_the_decay_caught_up(touches: list[list[int]]) -> None:
    mine = parameters()
    lazy = LazyAdamW(mine, **OPTIONS)
    for step, touched in enumerate(touches, start=1):
        give(mine, random_gradients(step, touched), touched)
        lazy.step()
    assert_close(mine[1].detach(), torch.tensor(by_loops(touches, **OPTIONS)), rtol=1e-4, atol=1e-5)


def test_a_row_first_touched_at_step_five_has_five_steps_of_decay() -> None:
    p = torch.ones(2, 3, requires_grad=True)
    lazy = LazyAdamW([p], lr=0.1, weight_decay=0.5)
    for step in range(5):
        p.grad = rows_of(p, [0] if step < 4 else [1], torch.zeros(1, 3))
        lazy.step()
    # The gradients are zero, so decay is all there is.
    assert_close(p.detach(), torch.tensor([[0.95**4] * 3, [0.95**5] * 3]))


def test_groups_keep_their_own_rate_and_decay() -> None:
    mine, theirs = parameters(), parameters()
    made = []
    for parts, kind in ((mine, LazyAdamW), (theirs, torch.optim.AdamW)):
        groups = [{"params": [parts[0], parts[2]], "lr": 0.1, "weight_decay": 0.3}, {"params": [parts[1]], "weight_decay": 0.0}]
        made.append(kind(groups, lr=0.01))
    for step in range(4):
        gradients = random_gradients(step, list(range(ROWS)))
        give(mine, gradients, list(range(ROWS)))
        give_dense(theirs, gradients)
        for optimizer in made:
            optimizer.step()
    for p, q in zip(mine, theirs, strict=True):
        assert_close(p, q)


def test_rows_named_twice_count_as_their_sum() -> None:
    mine, theirs = parameters(), parameters()
    lazy, other = LazyAdamW(mine[:1], **OPTIONS), LazyAdamW(theirs[:1], **OPTIONS)
    values = torch.arange(12.0).view(4, 3)
    mine[0].grad = rows_of(mine[0], [5, 2, 5, 0], values)
    theirs[0].grad = rows_of(theirs[0], [0, 2, 5], torch.stack([values[3], values[1], values[0] + values[2]]))
    lazy.step()
    other.step()
    assert torch.equal(mine[0], theirs[0])


def test_gradients_stay_after_a_step_and_a_closure_is_called() -> None:
    mine = parameters()
    lazy = LazyAdamW(mine, **OPTIONS)

    def closure() -> float:
        assert torch.is_grad_enabled()
        give(mine, random_gradients(1, [2]), [2])
        return 4.5

    assert lazy.step(closure) == 4.5
    assert mine[0].grad is not None
    assert mine[0].grad.is_sparse  # a logger may still want to see it
    lazy.zero_grad()
    assert mine[0].grad is None
    before = [p.detach().clone() for p in mine]
    assert lazy.step() is None  # nothing to do
    assert all(torch.equal(p, q) for p, q in zip(mine, before, strict=True))


# ---- storing ----


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_stored_state_goes_on_identically(dtype: torch.dtype) -> None:
    touches = [[1, 4], [0], [], [1, 2, 6], [5, 4], [0, 1], [3], [2, 6]]
    undisturbed = parameters(dtype)
    lazy = LazyAdamW(undisturbed, **OPTIONS)
    for step, touched in enumerate(touches):
        if step == 4:
            stored = copy.deepcopy(lazy.state_dict())
            resumed = [p.detach().clone().requires_grad_() for p in undisturbed]
            after = LazyAdamW(resumed, lr=1.0)
            after.load_state_dict(stored)
        for parts, optimizer in ((undisturbed, lazy), *([(resumed, after)] if step >= 4 else [])):
            give(parts, [gradient.to(dtype) for gradient in random_gradients(step, touched)], touched)
            optimizer.step()
    for p, q in zip(undisturbed, resumed, strict=True):
        assert torch.equal(p, q)
        for name, value in lazy.state[p].items():
            assert torch.equal(value, after.state[q][name]), name
            assert value.dtype == after.state[q][name].dtype, name


def test_counts_of_steps_survive_storing_beside_bfloat16() -> None:
    p = torch.ones(2, 3, dtype=torch.bfloat16, requires_grad=True)
    lazy = LazyAdamW([p], lr=0.0)
    for _ in range(259):  # bfloat16 goes on from 256 by twos
        p.grad = rows_of(p, [1], torch.ones(1, 3, dtype=torch.bfloat16))
        lazy.step()
    again = LazyAdamW([p], lr=0.0)
    stored = lazy.state_dict()
    again.load_state_dict(stored)
    assert again.state[p]["last_step"].tolist() == [0, 259]
    p.grad = rows_of(p, [0], torch.ones(1, 3, dtype=torch.bfloat16))
    again.step()
    assert stored["state"][0]["last_step"].tolist() == [0, 259]  # what was stored is left alone


# ---- with gradients of a head's own ----


def backward(mine: list[Tensor], first: list[int], *, sparse: bool) -> None:
    """Adds the gradient of a sum of squares over two edges from each of `first` on."""
    weight, bias, dense = mine
    opened = open_nodes(torch.tensor(first), torch.full((len(first),), 2))
    z_Pd = torch.linspace(-1, 1, 3 * len(first)).view(len(first), 3) + dense.sum()
    edge_scores(z_Pd, weight, bias, opened, sparse=sparse).square().sum().backward()


def test_accumulated_passes_make_one_step() -> None:
    touched = [0, 1, 2, 4, 5]
    lazy, dense, both = parameters(), parameters(), parameters()
    for first in ([4, 0], [1, 4], [0]):
        backward(lazy, first, sparse=True)
        backward(dense, first, sparse=False)
    give(both, [p.grad for p in dense], touched)
    assert lazy[0].grad is not None
    for parts in (lazy, both):
        LazyAdamW(parts, **OPTIONS).step()
    for p, q, old in zip(lazy, both, parameters(), strict=True):
        assert_close(p, q)
        assert not torch.equal(p, old)
    assert torch.equal(lazy[0][[3, 6]], parameters()[0][[3, 6]])


@pytest.mark.parametrize("passes", [[[4, 0]], [[4, 0], [1, 4]]])
@pytest.mark.parametrize("largest", [1e-3, 1.0, 1e9])
def test_clipping_equals_torchs_on_dense_gradients(passes: list[list[int]], largest: float) -> None:
    lazy, dense = parameters(), parameters()
    for first in passes:
        backward(lazy, first, sparse=True)
        backward(dense, first, sparse=False)
    before = clip_norm((p for p in lazy), largest)
    assert_close(before, torch.nn.utils.clip_grad_norm_(dense, largest))
    assert lazy[0].grad.is_sparse
    for p, q in zip(lazy, dense, strict=True):
        assert_close(p.grad.to_dense(), q.grad)
    assert_close(torch.stack([p.grad.to_dense().square().sum() for p in lazy]).sum().sqrt(), before.clamp(max=largest))
    # And the step takes what was clipped.
    adamw = parameters()
    give(adamw, [q.grad for q in dense], [row for row in range(ROWS) if dense[1].grad[row] != 0])
    for parts in (lazy, adamw):
        LazyAdamW(parts, **OPTIONS).step()
    for p, q in zip(lazy, adamw, strict=True):
        assert_close(p, q, rtol=1e-5, atol=1e-5)


def test_clipping_rows_named_twice_takes_the_norm_of_their_sum() -> None:
    p = torch.zeros(2, 1, requires_grad=True)
    p.grad = rows_of(p, [1, 1], torch.tensor([[3.0], [1.0]]))
    assert_close(clip_norm([p], 2.0), torch.tensor(4.0))
    assert_close(p.grad.to_dense(), torch.tensor([[0.0], [2.0]]), rtol=1e-5, atol=1e-5)


def test_clipping_nothing_is_no_error() -> None:
    assert clip_norm(parameters(), 1.0) == 0
