"""Scores of a few edges against products written out, in value, gradient and kind of gradient."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from taxakey.models.edge_scores import Opened, edge_scores, open_nodes, padded

E, WIDTH = 30, 5

# First edge and number of edges of each pair's node: overlapping, repeated, empty, in no order.
NODES = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 8)), min_size=1, max_size=12)
PAIRS = [(20, 5), (3, 4), (0, 1), (3, 4), (7, 0), (5, 6)]


def opened_of(nodes: list[tuple[int, int]]) -> Opened:
    first, fans = zip(*nodes, strict=True) if nodes else ((), ())
    return open_nodes(torch.tensor(first, dtype=torch.long), torch.tensor(fans, dtype=torch.long))


def inputs(nodes: list[tuple[int, int]], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """z [P, d], weight [E, d], bias [E], with gradients."""
    torch.manual_seed(len(nodes))
    return [torch.randn(shape, dtype=dtype).requires_grad_() for shape in ((len(nodes), WIDTH), (E, WIDTH), (E,))]


def by_loops(z_Pd: Tensor, weight_Ed: Tensor, bias_E: Tensor, nodes: list[tuple[int, int]]) -> Tensor:
    scores = [z_Pd[p] @ weight_Ed[e] + bias_E[e] for p, (first, fan) in enumerate(nodes) for e in range(first, first + fan)]
    return torch.stack(scores) if scores else z_Pd.new_zeros(0)


@given(NODES)
def test_lists_the_edges_of_each_node_pair_after_pair(nodes: list[tuple[int, int]]) -> None:
    opened = opened_of(nodes)
    assert opened.edges_R.tolist() == [e for first, fan in nodes for e in range(first, first + fan)]
    assert opened.pairs_R().tolist() == [p for p, (_, fan) in enumerate(nodes) for _ in range(fan)]
    rows = padded(opened.edges_R.float(), opened, 9, fill=-1)
    assert rows.tolist() == [[*range(first, first + fan), *[-1] * (9 - fan)] for first, fan in nodes]


@given(NODES, st.booleans(), st.sampled_from([torch.float32, torch.float64]))
def test_scores_and_gradients_equal_those_of_loops(nodes: list[tuple[int, int]], sparse: bool, dtype: torch.dtype) -> None:
    z_Pd, weight_Ed, bias_E = mine = inputs(nodes, dtype)
    got, wanted = edge_scores(*mine, opened_of(nodes), sparse=sparse), by_loops(*mine, nodes)
    assert got.dtype == dtype
    assert_close(got, wanted)
    slopes_R = torch.linspace(-1, 2, len(got), dtype=dtype)
    got_gradients = torch.autograd.grad(got @ slopes_R, mine)
    expected = torch.autograd.grad((wanted @ slopes_R) + 0 * (z_Pd.sum() + weight_Ed.sum() + bias_E.sum()), mine)
    for gradient, right in zip(got_gradients, expected, strict=True):
        assert_close(gradient.to_dense() if gradient.is_sparse else gradient, right)


def test_gradients_pass_the_numerical_check() -> None:
    opened = opened_of(PAIRS)
    assert torch.autograd.gradcheck(lambda *mine: edge_scores(*mine, opened), inputs(PAIRS, torch.float64))


@given(NODES)
def test_sparse_gradients_are_sorted_and_hold_each_opened_row_once(nodes: list[tuple[int, int]]) -> None:
    mine = inputs(nodes)
    _, weight, bias = torch.autograd.grad(edge_scores(*mine, opened_of(nodes), sparse=True).sum(), mine)
    rows = sorted({e for first, fan in nodes for e in range(first, first + fan)})
    for gradient, shape in ((weight, (E, WIDTH)), (bias, (E,))):
        assert gradient.is_sparse
        assert gradient.shape == shape
        assert gradient._indices().tolist() == [rows]
        torch.sparse_coo_tensor(gradient._indices(), gradient._values(), shape, is_coalesced=True, check_invariants=True)


def test_only_empty_nodes_or_no_pairs_give_nothing() -> None:
    for nodes, sparse in ([(3, 0), (5, 0)], True), ([(3, 0), (5, 0)], False), ([], True), ([], False):
        mine, opened = inputs(nodes), opened_of(nodes)
        scores = edge_scores(*mine, opened, sparse=sparse)
        assert scores.shape == (0,)
        assert padded(scores, opened, 2).shape == (len(nodes), 2)
        for gradient in torch.autograd.grad(scores.sum(), mine):
            assert not gradient.to_dense().any()


@pytest.mark.parametrize("sparse", [False, True])
def test_bfloat16_adds_up_in_float32(sparse: bool) -> None:
    mine = inputs(PAIRS, torch.bfloat16)
    scores = edge_scores(*mine, opened_of(PAIRS), sparse=sparse)
    assert scores.dtype == torch.float32
    wanted = by_loops(*(part.float() for part in mine), PAIRS)  # of the rounded numbers, but exactly
    assert_close(scores, wanted)
    got, right = torch.autograd.grad(scores.square().sum(), mine), torch.autograd.grad(wanted.square().sum(), mine)
    for gradient, expected in zip(got, right, strict=True):
        assert gradient.dtype == torch.bfloat16
        assert_close(gradient.to_dense() if gradient.is_sparse else gradient, expected, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("vectors", [torch.float32, torch.bfloat16])
def test_under_autocast_as_without(vectors: torch.dtype, sparse: bool) -> None:
    # A layer before gives bfloat16 vectors to float32 weights; the gradient may be asked for inside or outside.
    z_Pd, weight_Ed, bias_E = inputs(PAIRS)
    z_Pd = z_Pd.detach().to(vectors).requires_grad_()
    opened = opened_of(PAIRS)
    plain = by_loops(z_Pd.float(), weight_Ed, bias_E, PAIRS)
    expected = torch.autograd.grad(plain.square().sum(), (z_Pd, weight_Ed, bias_E))
    for inside in (True, False):
        with torch.autocast("cpu", torch.bfloat16):
            scores = edge_scores(z_Pd, weight_Ed, bias_E, opened, sparse=sparse)
            loss = scores.square().sum()
        with torch.autocast("cpu", torch.bfloat16, enabled=inside):
            got = torch.autograd.grad(loss, (z_Pd, weight_Ed, bias_E))
        assert_close(scores, plain)
        for gradient, right in zip(got, expected, strict=True):
            assert gradient.dtype == right.dtype
            assert_close(gradient.to_dense() if gradient.is_sparse else gradient, right)


def test_vectors_may_lie_in_memory_as_they_like() -> None:
    _, weight_Ed, bias_E = inputs(PAIRS)
    z_dP = torch.randn(WIDTH, len(PAIRS))
    strided = torch.randn(len(PAIRS), 2 * WIDTH)[:, ::2]
    for z_Pd in (z_dP.t(), strided, torch.randn(1, WIDTH).expand(len(PAIRS), WIDTH)):
        assert_close(edge_scores(z_Pd, weight_Ed, bias_E, opened_of(PAIRS)), by_loops(z_Pd, weight_Ed, bias_E, PAIRS))


@pytest.mark.parametrize("trained", [(0,), (1,), (2,), (0, 2), (1, 2)])
@pytest.mark.parametrize("sparse", [False, True])
def test_what_is_frozen_gets_no_gradient_and_the_others_theirs(trained: tuple[int, ...], sparse: bool) -> None:
    mine = [part.detach().requires_grad_(index in trained) for index, part in enumerate(inputs(PAIRS))]
    edge_scores(*mine, opened_of(PAIRS), sparse=sparse).square().sum().backward()
    expected = torch.autograd.grad(by_loops(*mine, PAIRS).square().sum(), [mine[index] for index in trained])
    for index, part in enumerate(mine):
        assert (part.grad is not None) == (index in trained)
    for index, right in zip(trained, expected, strict=True):
        assert_close(mine[index].grad.to_dense() if mine[index].grad.is_sparse else mine[index].grad, right)


def test_two_passes_add_up() -> None:
    dense, lazy = inputs(PAIRS), inputs(PAIRS)
    for nodes in (PAIRS, PAIRS[::-1]):
        for mine, sparse in ((dense, False), (lazy, True)):
            edge_scores(*mine, opened_of(nodes), sparse=sparse).square().sum().backward()
    for one, other in zip(dense, lazy, strict=True):
        assert_close(one.grad, other.grad.to_dense() if other.grad.is_sparse else other.grad)
