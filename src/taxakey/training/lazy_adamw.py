"""AdamW that touches only the rows a batch touched."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw


class LazyAdamW(torch.optim.AdamW):
    """AdamW (Loshchilov and Hutter, 2019) whose step costs what the batch touched.

    A parameter with a dense gradient is updated as by torch's AdamW. Of one with a sparse gradient only the rows present move:
    their two moments first decay for all the steps they missed, as if a zero gradient had come each time, and so does the weight;
    only what the first moment would have moved the weight meanwhile is left out. torch's SparseAdam decays by one step however
    many were missed, has no weight decay, and takes no dense gradients.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # A fused AdamW takes float16's loss scale out of its own gradients only: let the scaler do it before, for all.
        self._step_supports_amp_scaling = False

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        sparse = [(group, p) for group in self.param_groups for p in group["params"] if p.grad is not None and p.grad.is_sparse]
        gradients = [p.grad for _, p in sparse]
        for group, p in sparse:
            self._update_rows(group, p)
            p.grad = None
        super().step()
        for (_, p), gradient in zip(sparse, gradients, strict=True):
            p.grad = gradient
        return loss

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        # torch gives every entry its parameter's dtype, and bfloat16 can't count beyond 256.
        stored = [state_dict["state"].get(index, {}) for group in state_dict["param_groups"] for index in group["params"]]
        mine = [p for group in self.param_groups for p in group["params"]]
        for p, state in zip(mine, stored, strict=True):
            if "last_step" in state:
                self.state[p]["last_step"] = state["last_step"].to(p.device, copy=True)

    def _update_rows(self, group: dict[str, Any], p: Tensor) -> None:
        rows_U, g = _distinct_rows(p.grad)  # type: ignore[arg-type]
        state = self.state[p]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
            state["last_step"] = torch.zeros(len(p), dtype=torch.int32, device=p.device)
        state["step"] += 1
        now = int(state["step"])
        if not len(rows_U):
            return
        missed = (now - 1 - state["last_step"].index_select(0, rows_U)).to(g.dtype).view(-1, *[1] * (g.ndim - 1))
        state["last_step"].index_fill_(0, rows_U, now)
        kept = (1 - float(group["lr"]) * group["weight_decay"], *group["betas"])
        values = [p.detach(), state["exp_avg"], state["exp_avg_sq"]]
        rows = [value.index_select(0, rows_U) for value in values]
        for row, share in zip(rows, kept, strict=True):
            if share != 1:
                row.mul_(share**missed)
        _adamw(rows, g, now, group)
        for value, row in zip(values, rows, strict=True):
            value.index_copy_(0, rows_U, row)


def _adamw(rows: list[Tensor], g: Tensor, now: int, group: dict[str, Any]) -> None:
    """torch's own step on weights and their two moments, in place."""
    p, first, second = rows
    (beta1, beta2), step = group["betas"], torch.tensor(now - 1.0, device=p.device if group["fused"] else "cpu")
    fixed: dict[str, Any] = {"weight_decay": group["weight_decay"], "eps": group["eps"], "amsgrad": False, "maximize": False}
    fused: dict[str, Any] = {"foreach": False, "fused": bool(group["fused"])}
    adamw([p], [g], [first], [second], [], [step], beta1=beta1, beta2=beta2, lr=group["lr"], **fixed, **fused)


def _distinct_rows(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and their values. Autograd forgets that a gradient was coalesced; looking is cheaper than doing it again."""
    rows_U = gradient._indices()[0]
    if (rows_U.diff() <= 0).any():
        gradient = gradient.coalesce()
    return gradient._indices()[0], gradient._values()


def clip_norm(parameters: Iterable[Tensor], largest: float) -> Tensor:
    """Scale all gradients so that their common norm is at most `largest`; returns the norm before. torch's can't."""
    values = []
    for p in parameters:
        if p.grad is not None and p.grad.is_sparse:
            rows_U, kept = _distinct_rows(p.grad)
            p.grad = torch.sparse_coo_tensor(rows_U[None], kept, p.shape, is_coalesced=True, check_invariants=False)
            values.append(p.grad._values())
        elif p.grad is not None:
            values.append(p.grad)
    norm = torch.nn.utils.get_total_norm(values)
    scale = (largest / (norm + 1e-6)).clamp(max=1.0)
    for value in values:
        value.mul_(scale.to(value.device))
    return norm
