"""A head for some of its classes, without the weights of the others. Shapes: B images, D features, C classes, A kept, E edges.

Scores of a kept class stay what they were, up to a number that is the same for all kept classes of an image: so a softmax over
them, at any temperature, is the full one restricted and renormalised.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from taxakey.errors import BadInput
from taxakey.models.factorised import FactorisedHead
from taxakey.models.heads import Head
from taxakey.models.hierarchies import Hierarchy
from taxakey.models.targets import species_head
from taxakey.models.trees import TreeHead

Ints = NDArray[np.int64]


class FirstClasses(nn.Module):
    """The scores [B, A] of a head's first classes."""

    def __init__(self, head: Head, classes: int) -> None:
        super().__init__()
        self.head, self.classes = head, classes

    def forward(self, features_BD: Tensor) -> Tensor:
        return self.head(features_BD)[:, : self.classes]


@torch.no_grad()
def pruned(head: Head, kept_A: Ints) -> nn.Module:
    """features [B, D] -> scores [B, A] of the classes `kept_A`, rising positions among the head's C. The head isn't changed.

    Raises BadInput for a head whose classes share their weights.
    """
    if not len(kept_A) or (np.diff(kept_A) < 1).any() or kept_A[0] < 0 or kept_A[-1] >= head.classes:
        raise ValueError(f"classes to keep are positions below {head.classes}, at least one, rising")
    head = species_head(head)
    if isinstance(head, TreeHead):
        return _tree(head, kept_A)
    if isinstance(head, FactorisedHead):
        return _factorised(head, kept_A)
    if not head.class_rows:
        raise BadInput(
            f"the classes of a {type(head).__name__} share their weights, so none can be left out; export the whole model and "
            "restrict its answers: taxakey identify BUNDLE PHOTOGRAPHS --only ..."
        )
    return _rows(head, list(head.class_rows.values()), kept_A)


def _rows(head: Head, names: list[str], kept_A: Ints) -> Head:
    """A copy that has only the kept rows of these tensors; the whole ones are never copied."""
    rows = torch.from_numpy(kept_A)
    tensors = dict(head.named_parameters()) | dict(head.named_buffers())
    cut = {id(tensors[name]): _as_it_was(tensors[name], tensors[name][rows]) for name in names}
    smaller = copy.deepcopy(head, cut)
    smaller.classes = len(kept_A)
    smaller.counts = None
    return smaller


def _as_it_was(before: Tensor, values: Tensor) -> Tensor:
    return nn.Parameter(values) if isinstance(before, nn.Parameter) else values


def _factorised(head: FactorisedHead, kept_A: Ints) -> Head:
    """Groups that no kept class belongs to go too."""
    smaller = _rows(head, ["own_weight_Cr", "bias_C", "group_C"], kept_A)
    assert isinstance(smaller, FactorisedHead)
    groups, group_A = np.unique(smaller.group_C.numpy(), return_inverse=True)
    smaller.group_weight_GD = nn.Parameter(head.group_weight_GD[torch.from_numpy(groups)])
    smaller.group_C = torch.from_numpy(group_A.astype(np.int64))
    return smaller


# ---- trees ----


def _tree(head: TreeHead, kept_A: Ints) -> nn.Module:
    hierarchy, edges = pruned_hierarchy(head.hierarchy, kept_A)
    rows = torch.from_numpy(edges)
    smaller = TreeHead(head.in_features, hierarchy, width=None)
    smaller.bottleneck = head.bottleneck
    for top, lower in (("top_weight_Td", "lower_weight_Ed"), ("top_bias_T", "lower_bias_E")):
        kept = torch.cat([getattr(head, top), getattr(head, lower)])[rows]
        setattr(smaller, top, nn.Parameter(kept[: int(hierarchy.fan_N[0])]))
        setattr(smaller, lower, nn.Parameter(kept[int(hierarchy.fan_N[0]) :]))
    return FirstClasses(smaller, len(kept_A)).train(head.training)


def pruned_hierarchy(hierarchy: Hierarchy, kept_A: Ints) -> tuple[Hierarchy, Ints]:
    """The tree of the kept classes, and which of the old edges its edges are. Its first A classes are the kept ones.

    It begins at the lowest node above all kept classes. Below that one, a node keeps the edges to what is left out, as leaves
    (classes A, A+1 …) that nothing hangs under: they say how probable it is that the kept ones are meant, and without them a
    genus whose likeliest species was left out would hand its whole probability to the rest of it.
    """
    path_AL = hierarchy.path_CL[kept_A]
    reached_E = np.zeros(hierarchy.edges, dtype=bool)
    reached_E[path_AL[path_AL >= 0]] = True
    kept_N = np.append(True, reached_E[hierarchy.parent_edge_N[1:]])
    top = 0
    while len(on := _reached_from(hierarchy, top, reached_E)) == 1 and hierarchy.target_E[on[0]] >= 0:
        kept_N[top] = False
        top = int(hierarchy.target_E[on[0]])
    kept_E = kept_N[hierarchy.source_E] & (reached_E | (hierarchy.source_E != top))
    edges = np.flatnonzero(kept_E)
    number_N = np.cumsum(kept_N) - 1
    new_class_C = np.full(hierarchy.classes, -1)
    new_class_C[kept_A] = np.arange(len(kept_A))
    target = hierarchy.target_E[edges]
    inner = (target >= 0) & reached_E[edges]
    leaf = (target < 0) & reached_E[edges]
    new_target = np.empty(len(edges), dtype=np.int64)
    new_target[inner] = number_N[target[inner]]
    new_target[leaf] = -1 - new_class_C[-1 - target[leaf]]
    dead = ~inner & ~leaf
    new_target[dead] = -1 - len(kept_A) - np.arange(dead.sum())
    fan_N = np.bincount(number_N[hierarchy.source_E[edges]], minlength=int(kept_N.sum()))
    return Hierarchy(np.concatenate([[0], np.cumsum(fan_N)]), new_target), edges


def _reached_from(hierarchy: Hierarchy, node: int, reached_E: NDArray[np.bool_]) -> Ints:
    first, end = hierarchy.first_N1[node : node + 2]
    return first + np.flatnonzero(reached_E[first:end])
