"""Softmax within groups of columns that may differ in size. Shapes: B rows, M columns, each in one of the groups."""

from __future__ import annotations

import torch
from torch import Tensor


def log_sum_exp(values_BM: Tensor, group_M: Tensor, groups: int) -> Tensor:
    """log Σ exp over the columns of each group, [B, groups]."""
    highest, _, sums = _centred(values_BM, group_M, groups)
    return sums.log() + highest


def log_softmax(values_BM: Tensor, group_M: Tensor, groups: int) -> Tensor:
    """Each column less the log Σ exp of its group [B, M]; centred first, because at 10,000 a float32 has no room for log 2."""
    _, centred_BM, sums = _centred(values_BM, group_M, groups)
    return centred_BM - sums.log()[:, group_M]


def _centred(values_BM: Tensor, group_M: Tensor, groups: int) -> tuple[Tensor, Tensor, Tensor]:
    """The highest value of each group [B, groups], values less that [B, M], and Σ exp of these over the group [B, groups]."""
    index_BM = group_M.expand_as(values_BM)
    # .shape, not len(): torch.export would take len() for a constant.
    highest = values_BM.new_full((values_BM.shape[0], groups), -torch.inf)
    highest = highest.scatter_reduce(1, index_BM, values_BM.detach(), "amax")
    centred_BM = values_BM - highest.gather(1, index_BM)
    return highest, centred_BM, torch.zeros_like(highest).scatter_add(1, index_BM, centred_BM.exp())
