"""Scores of a few edges for each vector, out of very many: what a tree computes below its root.

Shapes: P pairs of a vector and a node, d width, E edges with weights, R edges opened (by all pairs), F most children of a node.

The product z·w is formed only for the edges opened, without copying their weights, and the gradient holds only their rows.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import torch
from torch import Tensor

with warnings.catch_warnings():
    # torch says once per process, at the first such tensor, that they are beta; ours are tested against plain products.
    warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
    torch.sparse_csr_tensor(torch.zeros(1, dtype=torch.long), [], [], size=(0, 0), check_invariants=False)


class Opened(NamedTuple):
    """The edges of the pairs' nodes, pair after pair: pair p's are edges_R[starts_P1[p] : starts_P1[p+1]].

    `fan`: how many each node has, where all have as many.
    """

    edges_R: Tensor
    starts_P1: Tensor
    fan: int | None = None

    def pairs_R(self) -> Tensor:
        """Which pair each opened edge belongs to."""
        fans_P = self.starts_P1.diff()
        return torch.repeat_interleave(torch.arange(len(fans_P), device=fans_P.device), fans_P, output_size=len(self.edges_R))


def open_nodes(first_P: Tensor, fans_P: Tensor) -> Opened:
    """List the edges first … first+fan-1 of each pair's node; a pair with fan 0 opens nothing."""
    fewest, fan = (int(end) for end in fans_P.aminmax()) if len(fans_P) else (0, 0)
    if fewest == fan > 0:
        edges_PF = first_P[:, None] + torch.arange(fan, device=first_P.device)
        return Opened(edges_PF.flatten(), torch.arange(0, edges_PF.numel() + 1, fan, device=first_P.device), fan)
    starts_P1 = torch.nn.functional.pad(fans_P.cumsum(0), (1, 0))
    edges = int(starts_P1[-1])
    shift_R = torch.repeat_interleave(first_P - starts_P1[:-1], fans_P, output_size=edges)
    return Opened(torch.arange(edges, device=first_P.device) + shift_R, starts_P1)


def edge_scores(z_Pd: Tensor, weight_Ed: Tensor, bias_E: Tensor, opened: Opened, *, sparse: bool = False) -> Tensor:
    """z·w + b [R] in float32 (float64 stays), for the opened edges of each pair.

    With `sparse` the gradients of weight and bias are coalesced sparse tensors of the rows opened, for an optimiser that updates
    only those; without, dense ones as large as the tree.
    """
    if not torch.is_grad_enabled():
        return _dots(z_Pd, weight_Ed, opened.edges_R, opened.starts_P1) + bias_E[opened.edges_R]
    return _EdgeScores.apply(z_Pd, weight_Ed, bias_E, *opened, sparse)


def padded(values_R: Tensor, opened: Opened, width: int, fill: float = -torch.inf) -> Tensor:
    """One row a pair [P, F], filled up behind its edges."""
    pairs = len(opened.starts_P1) - 1
    if opened.fan == width:
        return values_R.view(pairs, width)
    pairs_R = opened.pairs_R()
    columns_R = torch.arange(len(values_R), device=values_R.device) - opened.starts_P1[pairs_R]
    return values_R.new_full((pairs, width), fill).index_put((pairs_R, columns_R), values_R)


class _EdgeScores(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        z_Pd: Tensor,
        weight_Ed: Tensor,
        bias_E: Tensor,
        edges_R: Tensor,
        starts_P1: Tensor,
        fan: int | None,
        sparse: bool,
    ) -> Tensor:
        ctx.save_for_backward(z_Pd, weight_Ed, edges_R, starts_P1)
        ctx.fan, ctx.sparse, ctx.bias = fan, sparse, (bias_E.shape, bias_E.dtype)
        return _dots(z_Pd, weight_Ed, edges_R, starts_P1) + bias_E[edges_R]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        # Called under autocast, the sparse product would be asked for in bfloat16, which MKL doesn't have.
        with torch.autocast(gradients[0].device.type, enabled=False):
            return _EdgeScores._backward(ctx, gradients[0])

    @staticmethod
    def _backward(ctx: Any, gradient_R: Tensor) -> tuple[Tensor | None, ...]:
        z_Pd, weight_Ed, edges_R, starts_P1 = ctx.saved_tensors
        to_z = _weighted_sums(gradient_R, weight_Ed, edges_R, starts_P1).to(z_Pd.dtype) if ctx.needs_input_grad[0] else None
        if not (ctx.needs_input_grad[1] or ctx.needs_input_grad[2]):
            return to_z, None, None, None, None, None, None
        opened, z_Pd = Opened(edges_R, starts_P1, ctx.fan), z_Pd.to(gradient_R.dtype)
        sums = _sums_by_node(gradient_R, z_Pd, opened) if opened.fan else None
        edges_U, rows_Ud, sums_U = sums or _sums_by_edge(gradient_R, z_Pd, opened)
        rows_Ud, sums_U = rows_Ud.to(weight_Ed.dtype), sums_U.to(ctx.bias[1])
        if ctx.sparse:
            return to_z, _rows(edges_U, rows_Ud, weight_Ed.shape), _rows(edges_U, sums_U, ctx.bias[0]), None, None, None, None
        to_weight = rows_Ud.new_zeros(weight_Ed.shape).index_copy_(0, edges_U, rows_Ud)
        return to_z, to_weight, sums_U.new_zeros(ctx.bias[0]).index_copy_(0, edges_U, sums_U), None, None, None, None


def _sums_by_node(values_R: Tensor, z_Pd: Tensor, opened: Opened) -> tuple[Tensor, Tensor, Tensor] | None:
    """What `_sums_by_edge` gives, several times faster, for nodes with as many edges each; None where two share only some."""
    assert opened.fan
    first_P, order_P = opened.edges_R.view(len(z_Pd), -1)[:, 0].sort()
    step_P = first_P.diff()
    if ((step_P > 0) & (step_P < opened.fan)).any():
        return None
    new_P = torch.nn.functional.pad(step_P > 0, (1, 0), value=True)
    values_PF, z_Pd = values_R.view(len(z_Pd), -1)[order_P], z_Pd[order_P]
    values_NF, z_Nd, edges_NF = values_PF[new_P], z_Pd[new_P], opened.edges_R.view(len(z_Pd), -1)[order_P[new_P]]
    rows_NFd = values_NF[:, :, None] * z_Nd[:, None]
    if len(values_NF) < len(values_PF):
        # The other pairs with a node that another had before.
        again_P = ~new_P
        node_P = (new_P.cumsum(0) - 1)[again_P]
        rows_NFd.index_add_(0, node_P, values_PF[again_P][:, :, None] * z_Pd[again_P][:, None])
        values_NF.index_add_(0, node_P, values_PF[again_P])
    return edges_NF.flatten(), rows_NFd.flatten(0, 1), values_NF.flatten()


def _sums_by_edge(values_R: Tensor, z_Pd: Tensor, opened: Opened) -> tuple[Tensor, Tensor, Tensor]:
    """The edges opened, sorted, each once [U]; over each edge's pairs the sums of value·z [U, d] and of value [U].

    One product of a sparse matrix, edges by pairs: an edge's pairs are met one after the other, without a copy of z for each.
    """
    edges_R, order_R = opened.edges_R.sort(stable=True)
    values_R = values_R[order_R]
    edges_U, row_R, counts_U = edges_R.unique_consecutive(return_inverse=True, return_counts=True)
    starts_U1 = torch.nn.functional.pad(counts_U.cumsum(0), (1, 0))
    pattern = _pattern(values_R, opened.pairs_R()[order_R], starts_U1, len(z_Pd))
    return edges_U, pattern @ z_Pd, values_R.new_zeros(len(edges_U)).index_add_(0, row_R, values_R)


def _rows(rows_U: Tensor, values_U: Tensor, shape: torch.Size) -> Tensor:
    return torch.sparse_coo_tensor(rows_U[None], values_U, size=shape, is_coalesced=True, check_invariants=False)


def _accumulated_in(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _in_place(z_Pd: Tensor, weight_Ed: Tensor) -> bool:
    """Whether torch's sampled product takes the weights as they lie: float32 or float64."""
    return weight_Ed.dtype in (torch.float32, torch.float64) and len(z_Pd) > 0


def _pattern(values_R: Tensor, edges_R: Tensor, starts_P1: Tensor, edges: int) -> Tensor:
    return torch.sparse_csr_tensor(starts_P1, edges_R, values_R, size=(len(starts_P1) - 1, edges), check_invariants=False)


def _dots(z_Pd: Tensor, weight_Ed: Tensor, edges_R: Tensor, starts_P1: Tensor) -> Tensor:
    """z[pair]·w[edge], [R]."""
    dtype = _accumulated_in(weight_Ed.dtype)
    z_Pd = z_Pd.to(dtype)
    if _in_place(z_Pd, weight_Ed):
        pattern = _pattern(z_Pd.new_zeros(len(edges_R)), edges_R, starts_P1, len(weight_Ed))
        return torch.sparse.sampled_addmm(pattern, z_Pd.contiguous(), weight_Ed.t()).values()
    pairs_R = Opened(edges_R, starts_P1).pairs_R()
    return (weight_Ed[edges_R].to(dtype) * z_Pd[pairs_R]).sum(1)


def _weighted_sums(values_R: Tensor, weight_Ed: Tensor, edges_R: Tensor, starts_P1: Tensor) -> Tensor:
    """Sum over a pair's edges of value·w[edge], [P, d]."""
    if _in_place(values_R, weight_Ed):
        return _pattern(values_R.to(weight_Ed.dtype), edges_R, starts_P1, len(weight_Ed)) @ weight_Ed
    sums_Pd = values_R.new_zeros(len(starts_P1) - 1, weight_Ed.shape[1])
    return sums_Pd.index_add_(0, Opened(edges_R, starts_P1).pairs_R(), values_R[:, None] * weight_Ed[edges_R].to(values_R.dtype))
