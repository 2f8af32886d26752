"""A head that goes on from another one: classes that both know keep their weights, the others start as the new head drew them.

Shapes: C classes of the new head, K of the old one, E edges of a tree, N its inner nodes, D features.

Classes are found again by name, never by position. A row of weights is taken over only where it means the same there as it did
before: where everything that computes what the row is multiplied with can be taken over too, and in a tree where the edge parts
the same classes from the same siblings, as far as both trees know them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from taxakey.models.adaptive import AdaptiveHead
from taxakey.models.factorised import FactorisedHead
from taxakey.models.hashed import HashedHead
from taxakey.models.heads import Head
from taxakey.models.hierarchies import Hierarchy
from taxakey.models.trees import TreeHead

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Taken:
    """What a head took over. `classes_C` [C]: classes all of whose weights are the old head's; `words`: of what, for people."""

    classes_C: NDArray[np.bool_]
    words: str


@torch.no_grad()
def take_over(head: Head, old: Head, match_C: Ints) -> Taken:
    """Copy into `head`, in place, what means the same in both; `match_C` as of `same_classes`.

    A head with a row per class says so in `class_rows`. Of heads that have nothing else in common a bottleneck of the same shape
    is taken over. Nothing is ever guessed from shapes alone.
    """
    none_C = np.zeros(head.classes, dtype=bool)
    if np.array_equal(match_C, np.arange(old.classes)) and _alike(head, old):
        head.load_state_dict(old.state_dict())
        return Taken(~none_C, "the whole head")
    for kind, take in _BY_KIND.items():
        if isinstance(head, kind) and isinstance(old, kind) and _take_bottleneck(head, old):
            return take(head, old, match_C)
    if head.class_rows and head.class_rows.keys() == old.class_rows.keys() and _take_rest(head, old):
        known_C = match_C >= 0
        for role, name in head.class_rows.items():
            _copy_rows(_tensor(head, name), _tensor(old, old.class_rows[role]), np.flatnonzero(known_C), match_C[known_C])
        return Taken(known_C, "the weights of each class that both know, and what lies before them")
    if _has_bottleneck(head) and _take_bottleneck(head, old):
        return Taken(none_C, "the bottleneck only: the two heads part their classes in different ways")
    return Taken(none_C, f"nothing of the head: a {type(old).__name__} and a {type(head).__name__} of these shapes don't fit")


def _copy_rows(new: Tensor, old: Tensor, to: Ints, come: Ints) -> None:
    new[torch.from_numpy(to)] = old[torch.from_numpy(come)].to(new)


def _tensor(head: Head, name: str) -> Tensor:
    return head.state_dict()[name]


def _alike(head: Head, old: Head) -> bool:
    """Whether they are of one kind, all tensors have the same names and shapes, and a tree also the same edges."""
    mine, theirs = head.state_dict(), old.state_dict()
    if mine.keys() != theirs.keys() or any(mine[name].shape != theirs[name].shape for name in mine) or repr(head) != repr(old):
        return False
    return all(torch.equal(mine[name], theirs[name].to(mine[name].device)) for name in ("first_N1", "target_E") if name in mine)


# ---- what all classes share ----


def _has_bottleneck(head: Head) -> bool:
    return not isinstance(getattr(head, "bottleneck", nn.Identity()), nn.Identity)


def _take_bottleneck(head: Head, old: Head) -> bool:
    """Copy the bottleneck; false where there are two different ones. Heads without one agree, if they take the same features."""
    mine, theirs = (getattr(one, "bottleneck", nn.Identity()) for one in (head, old))
    if repr(mine) != repr(theirs) or head.in_features != old.in_features:
        return False
    mine.load_state_dict(theirs.state_dict())
    return True


def _take_rest(head: Head, old: Head) -> bool:
    """Copy all tensors that have no row per class; false, and nothing copied, unless all of them and the rows' shapes agree."""
    mine, theirs = (
        {name: t for name, t in one.state_dict().items() if name not in one.class_rows.values()} for one in (head, old)
    )
    rows = [(_tensor(head, name), _tensor(old, old.class_rows[role])) for role, name in head.class_rows.items()]
    fits = mine.keys() == theirs.keys() and all(mine[name].shape == theirs[name].shape for name in mine)
    same_bottleneck = repr(getattr(head, "bottleneck", None)) == repr(getattr(old, "bottleneck", None))
    if not fits or not same_bottleneck or any(new.shape[1:] != before.shape[1:] for new, before in rows):
        return False
    for name, tensor in mine.items():
        tensor.copy_(theirs[name])
    return True


# ---- trees: an edge means the same where it parts the same classes from the same siblings ----


def _take_edges(head: TreeHead, old: TreeHead, match_C: Ints) -> Taken:
    match_E = same_edges(head.hierarchy, old.hierarchy, match_C)
    known = np.flatnonzero(match_E >= 0)
    for top, lower in (("top_weight_Td", "lower_weight_Ed"), ("top_bias_T", "lower_bias_E")):
        new, before = (torch.cat([getattr(one, top), getattr(one, lower)]) for one in (head, old))
        _copy_rows(new, before, known, match_E[known])
        getattr(head, top).copy_(new[: head.top])
        getattr(head, lower).copy_(new[head.top :])
    path_CL = head.hierarchy.path_CL
    whole_C = ((path_CL < 0) | (match_E[path_CL] >= 0)).all(1) & (match_C >= 0)
    return Taken(whole_C, f"{len(known):,} of the tree's {len(match_E):,} edges, those that part the same classes as before")


def same_edges(hierarchy: Hierarchy, old: Hierarchy, match_C: Ints) -> Ints:
    """For each edge [E] the old one that leads to the same classes from a node above the same classes, -1 where there is none.

    Only classes that both trees hold count. An edge to a class is looked for among edges to classes first: a genus of one
    species may be a node in one tree and none in the other.
    """
    # A set of classes is the sum of its members' random numbers, modulo 2^64: equal sets, equal sums, and hardly ever else.
    number_K = np.random.default_rng(0).integers(1, 2**63, old.classes, dtype=np.uint64)
    shared_K = np.zeros(old.classes, dtype=np.uint64)
    known_C = match_C >= 0
    shared_K[match_C[known_C]] = number_K[match_C[known_C]]
    number_C = np.where(known_C, number_K[match_C], np.uint64(0))
    below_E, mine = _edge_keys(hierarchy, number_C)
    _, theirs = _edge_keys(old, shared_K)
    match_E = np.full(hierarchy.edges, -1, dtype=np.int64)
    for key_E, old_key_E in zip(mine, theirs, strict=True):
        keys, first = np.unique(old_key_E, return_index=True)
        place_E = np.minimum(np.searchsorted(keys, key_E), len(keys) - 1)
        found_E = (keys[place_E] == key_E) & (below_E > 0) & (match_E < 0)
        match_E[found_E] = first[place_E[found_E]]
    return match_E


def _edge_keys(hierarchy: Hierarchy, number_C: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], list[NDArray[np.uint64]]]:
    """The set below each edge [E], and two keys of each: one tells edges to classes from edges to nodes, the other doesn't."""
    below_E = np.zeros(hierarchy.edges, dtype=np.uint64)
    for edge_C in hierarchy.path_CL.T:
        reached = edge_C >= 0
        np.add.at(below_E, edge_C[reached], number_C[reached])
    above_N = np.zeros(hierarchy.nodes, dtype=np.uint64)
    np.add.at(above_N, hierarchy.source_E, below_E)
    loose_E = below_E * np.uint64(0x9E3779B97F4A7C15) + above_N[hierarchy.source_E]
    strict_E = loose_E * np.uint64(0xD1342543DE82EF95) + (hierarchy.target_E < 0).astype(np.uint64)
    return below_E, [strict_E, loose_E]


# ---- heads that share weights between classes ----


def _take_buckets(head: HashedHead, old: HashedHead, match_C: Ints) -> Taken:
    """Known classes go back into their old buckets, so that the softmaxes over buckets can be taken over whole."""
    if (head.hashes, head.buckets) != (old.hashes, old.buckets):
        return Taken(
            np.zeros(head.classes, dtype=bool), "the bottleneck only: the old head has other numbers of hashes or buckets"
        )
    head.linear.load_state_dict(old.linear.state_dict())
    known_C = match_C >= 0
    head.bucket_RC[:, torch.from_numpy(known_C)] = old.bucket_RC[:, torch.from_numpy(match_C[known_C])]
    return Taken(known_C, "the buckets of each class that both know, with their weights")


def _take_clusters(head: AdaptiveHead, old: AdaptiveHead, match_C: Ints) -> Taken:
    """Rows of classes that are in the shortlist of both, or in the same cluster of both with a projection of the same width."""
    clusters = len(head.cutoffs)
    if clusters != len(old.cutoffs):
        return Taken(np.zeros(head.classes, dtype=bool), "the bottleneck only: the old head has another number of clusters")
    place_C, place_K = head.place_C.numpy(), old.place_C.numpy()
    old_place_C = np.where(match_C >= 0, place_K[match_C], -1)
    group_C = np.searchsorted(head.cutoffs, place_C, side="right")
    same_C = (old_place_C >= 0) & (np.searchsorted(old.cutoffs, old_place_C, side="right") == group_C)
    first = np.flatnonzero(same_C & (group_C == 0))
    columns = np.arange(clusters)
    to, come = np.append(place_C[first], head.cutoffs[0] + columns), np.append(old_place_C[first], old.cutoffs[0] + columns)
    for name in ("weight", "bias"):
        _copy_rows(getattr(head.softmax.head, name), getattr(old.softmax.head, name), to, come)
    for j, tails in enumerate(zip(head.softmax.tail, old.softmax.tail, strict=True)):
        (projection, output), (old_projection, old_output) = (list(tail.children()) for tail in tails)
        members = np.flatnonzero(same_C & (group_C == j + 1))
        if repr(projection) != repr(old_projection):
            same_C[members] = False
            continue
        projection.load_state_dict(old_projection.state_dict())
        to, come = place_C[members] - head.cutoffs[j], old_place_C[members] - old.cutoffs[j]
        _copy_rows(output.get_parameter("weight"), old_output.get_parameter("weight"), to, come)
    return Taken(same_C, "the weights of each class that stands in the same cluster as before")


def _take_groups(head: FactorisedHead, old: FactorisedHead, match_C: Ints) -> Taken:
    """A group's vector comes from the old group that most of its known classes were in."""
    if head.projection.weight.shape != old.projection.weight.shape:
        return Taken(np.zeros(head.classes, dtype=bool), "nothing of the head: the old one has another rank")
    head.projection.load_state_dict(old.projection.state_dict())
    known = np.flatnonzero(match_C >= 0)
    old_group_C = np.where(match_C >= 0, old.group_C.numpy()[match_C], -1)
    group_C = head.group_C.numpy()
    pairs, counts = np.unique(np.stack([group_C[known], old_group_C[known]], axis=1), axis=0, return_counts=True)
    pairs = pairs[np.argsort(-counts, kind="stable")]
    groups, first = np.unique(pairs[:, 0], return_index=True)
    _copy_rows(head.group_weight_GD, old.group_weight_GD, groups, pairs[first, 1])
    for name in ("own_weight_Cr", "bias_C"):
        _copy_rows(getattr(head, name), getattr(old, name), known, match_C[known])
    came_G = np.full(int(group_C.max()) + 1, -2)
    came_G[groups] = pairs[first, 1]
    return Taken((match_C >= 0) & (came_G[group_C] == old_group_C), "the weights of each class that both know, and of its group")


_BY_KIND: dict[type[Head], Callable[..., Taken]] = {
    TreeHead: _take_edges,
    HashedHead: _take_buckets,
    AdaptiveHead: _take_clusters,
    FactorisedHead: _take_groups,
}
