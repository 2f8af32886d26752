"""Which class hangs under which node: the shape of a tree, without weights. numpy only.

Shapes: C classes, N inner nodes (the root is 0), E edges (one to every class and to every node but the root), L levels.
An edge is what a tree head has a weight vector for. Nodes are numbered breadth first and a node's edges stand side by side, so
that a level is a slice, a node is a slice of it, and uneven nodes waste nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """`first_N1` [N+1]: the edges of node n are first_N1[n] … first_N1[n+1]-1. `target_E` [E]: a node, or -1-class for a class.

    Raises ValueError unless every class and every node but the root is the target of exactly one edge, breadth first.
    """

    first_N1: Ints
    target_E: Ints

    def __post_init__(self) -> None:
        nodes = self.target_E[self.target_E >= 0]
        classes = -1 - self.target_E[self.target_E < 0]
        if not len(classes) or (np.bincount(classes, minlength=len(classes)) != 1).any():
            raise ValueError("every class must hang in the hierarchy exactly once")
        if not np.array_equal(nodes, np.arange(1, len(self.first_N1) - 1)) or self.first_N1[-1] != len(self.target_E):
            raise ValueError("nodes must be numbered breadth first, each the target of one edge")
        if self.first_N1[0] != 0 or (np.diff(self.first_N1) < 1).any():
            raise ValueError("every node needs at least one child, the root's first")
        if (self.source_E[self.target_E >= 0] >= nodes).any():
            raise ValueError("a node hangs below itself: nodes must be numbered breadth first")

    @property
    def classes(self) -> int:
        """C"""
        return len(self.target_E) - self.nodes + 1

    @property
    def nodes(self) -> int:
        """N"""
        return len(self.first_N1) - 1

    @property
    def edges(self) -> int:
        """E"""
        return len(self.target_E)

    @cached_property
    def fan_N(self) -> Ints:
        """How many children each node has."""
        return np.diff(self.first_N1)

    @cached_property
    def source_E(self) -> Ints:
        """The node that each edge leaves."""
        return np.repeat(np.arange(self.nodes), self.fan_N)

    @cached_property
    def parent_edge_N(self) -> Ints:
        """The edge that leads to each node; -1 for the root."""
        inner = np.flatnonzero(self.target_E >= 0)
        return np.concatenate([[-1], inner])

    @cached_property
    def leaf_edge_C(self) -> Ints:
        """The edge that leads to each class."""
        leaves = np.flatnonzero(self.target_E < 0)
        edge_C = np.empty(self.classes, dtype=np.int64)
        edge_C[-1 - self.target_E[leaves]] = leaves
        return edge_C

    @cached_property
    def path_CL(self) -> Ints:
        """The edges from the root to each class [C, L]; -1 behind the end of a path that is shorter than the longest."""
        upwards = [self.leaf_edge_C]
        while True:
            edge_C = upwards[-1]
            above_C = np.where(edge_C >= 0, self.parent_edge_N[self.source_E[np.maximum(edge_C, 0)]], -1)
            if (above_C < 0).all():
                break
            upwards.append(above_C)
        path_CL = np.stack(upwards[::-1], axis=1)
        # Short paths start with -1 now: shift them to the front.
        missing_C = (path_CL < 0).sum(1)
        columns_CL = np.arange(path_CL.shape[1]) + missing_C[:, None]
        padded = np.concatenate([path_CL, np.full_like(path_CL, -1)], axis=1)
        return np.take_along_axis(padded, columns_CL, axis=1)

    @property
    def levels(self) -> int:
        """L, the edges on the longest path."""
        return self.path_CL.shape[1]

    @cached_property
    def level_ends(self) -> tuple[int, ...]:
        """Where the edges of each level end: level l is the edges from level_ends[l-1] (0 for the first) to level_ends[l]."""
        depth_N = np.zeros(self.nodes, dtype=np.int64)
        ends = []
        level = np.array([0])
        while len(level):
            ends.append(int(self.first_N1[level[-1] + 1]))
            targets = self.target_E[self.first_N1[level[0]] : ends[-1]]
            level = targets[targets >= 0]
            depth_N[level] = len(ends)
        return tuple(ends)

    def listing(self) -> Ints:
        """The classes [C] as a walk through the leaves meets them, by level and from left to right."""
        return -1 - self.target_E[self.target_E < 0]

    # ---- makers ----

    @classmethod
    def build(cls, parent_N: Ints, parent_C: Ints, rank_C: Ints | None = None) -> Hierarchy:
        """From parents: `parent_N` of each inner node (-1: the root), `parent_C` of each class, in any numbering.

        `rank_C` is a permutation that says in which order siblings stand; by default the class index. Nodes without children
        raise ValueError.
        """
        rank_C = np.arange(len(parent_C)) if rank_C is None else np.asarray(rank_C)
        depth_N = _depths(parent_N)
        low_N = np.full(len(parent_N), np.iinfo(np.int64).max)
        np.minimum.at(low_N, parent_C, rank_C)
        for depth in range(depth_N.max(), 0, -1):
            nodes = np.flatnonzero(depth_N == depth)
            np.minimum.at(low_N, parent_N[nodes], low_N[nodes])
        number_N = np.zeros(len(parent_N), dtype=np.int64)
        next_number = 1
        for depth in range(1, depth_N.max() + 1):
            nodes = np.flatnonzero(depth_N == depth)
            nodes = nodes[np.lexsort((low_N[nodes], number_N[parent_N[nodes]]))]
            number_N[nodes] = np.arange(next_number, next_number + len(nodes))
            next_number += len(nodes)
        below = np.flatnonzero(parent_N >= 0)
        source = number_N[np.concatenate([parent_N[below], parent_C])]
        target = np.concatenate([number_N[below], -1 - np.arange(len(parent_C))])
        order = np.lexsort((np.concatenate([low_N[below], rank_C]), source))
        first_N1 = np.concatenate([[0], np.cumsum(np.bincount(source, minlength=len(parent_N)))])
        return cls(first_N1, target[order])

    @classmethod
    def from_levels(cls, levels: Sequence[Ints], order_C: Ints) -> Hierarchy:
        """From group codes [C] per level, coarsest first (families, genera; or position div S), and the classes in order [C].

        A code means a group within its parent group only. A group with one child is no node: its child takes its place.
        """
        classes = len(order_C)
        parent_N, above_C = [np.array([-1])], np.zeros(classes, dtype=np.int64)
        for codes_C in levels:
            start = sum(map(len, parent_N))
            pairs, code_C = np.unique(np.stack([above_C, codes_C], axis=1), axis=0, return_inverse=True)
            parent_N.append(pairs[:, 0])
            above_C = start + code_C.reshape(-1)
        return cls.build(*_without_only_children(np.concatenate(parent_N), above_C), _positions(order_C))

    @classmethod
    def even(cls, order_C: Ints, slots: int | Sequence[int]) -> Hierarchy:
        """Classes in the given order, `slots` to a node (SPEC section 1: node = position div S); the last node may hold fewer.

        Several numbers make a deeper tree, from the top: (20, 50) puts 50 classes to a node and 20 such nodes to a node above.
        """
        fans = [slots] if isinstance(slots, int) else list(slots)
        if not fans or min(fans) < 1:
            raise ValueError("slots must be at least 1")
        position_C = _positions(order_C)
        sizes = np.cumprod(fans[::-1])[::-1]
        parent_N, above_C = [np.array([-1])], np.zeros(len(order_C), dtype=np.int64)
        for size in sizes:
            start = sum(map(len, parent_N))
            group_C = position_C // size
            parents = np.zeros(group_C.max() + 1, dtype=np.int64)
            parents[group_C] = above_C
            parent_N.append(parents)
            above_C = start + group_C
        return cls.build(np.concatenate(parent_N), above_C, position_C)

    @classmethod
    def huffman(cls, counts_C: NDArray[np.integer], fan: int) -> Hierarchy:
        """Frequent classes near the root: Huffman's tree with at most `fan` children a node (Huffman, 1952; fan-ary form)."""
        if fan < 2:
            raise ValueError("a Huffman tree needs at least 2 children a node")
        classes = len(counts_C)
        # Entries: (count, age, index); classes are 0 … C-1, nodes follow. The first node takes the odd ones, so the root is full.
        heap = [(int(count), index, index) for index, count in enumerate(counts_C)]
        heapq.heapify(heap)
        parent: list[int] = [-1] * classes
        take = (classes - 2) % (fan - 1) + 2 if classes > 1 else 1
        while True:
            children = [heapq.heappop(heap) for _ in range(min(take, len(heap)))]
            node = len(parent)
            parent.append(-1)
            for _, _, child in children:
                parent[child] = node
            if not heap:
                break
            heapq.heappush(heap, (sum(count for count, _, _ in children), node, node))
            take = fan
        above = np.array(parent)
        parent_N = np.where(above[classes:] >= 0, above[classes:] - classes, -1)
        rank_C = np.empty(classes, dtype=np.int64)
        rank_C[np.argsort(-np.asarray(counts_C), kind="stable")] = np.arange(classes)
        return cls.build(parent_N, above[:classes] - classes, rank_C)


def _positions(order_C: Ints) -> Ints:
    """Place of each class in an order."""
    if not len(order_C) or not np.array_equal(np.sort(order_C), np.arange(len(order_C))):
        raise ValueError("an order must hold every class once, and at least one")
    return np.argsort(order_C)


def _depths(parent_N: Ints) -> Ints:
    if (parent_N < 0).sum() != 1:
        raise ValueError("a hierarchy has one root")
    depth_N = np.zeros(len(parent_N), dtype=np.int64)
    above_N = parent_N
    while (above_N >= 0).any():
        depth_N += above_N >= 0
        if depth_N.max() >= len(parent_N):
            raise ValueError("a node is its own ancestor")
        above_N = np.where(above_N >= 0, parent_N[above_N], -1)
    return depth_N


def _without_only_children(parent_N: Ints, parent_C: Ints) -> tuple[Ints, Ints]:
    """Drop nodes with a single child (not the root, unless its only child is a node), renumbered."""
    parent_N, parent_C = parent_N.copy(), parent_C.copy()
    kept_N = np.ones(len(parent_N), dtype=bool)
    while True:
        below = kept_N & (parent_N >= 0)
        children_N = np.bincount(parent_N[below], minlength=len(parent_N)) + np.bincount(parent_C, minlength=len(parent_N))
        lone_N = below & (children_N == 1)
        if not lone_N.any():
            break
        # The grandparent may be lone itself: then it goes in the next round.
        above_N = np.where(lone_N, parent_N, np.arange(len(parent_N)))
        while (lone_N[above_N]).any():
            above_N = above_N[above_N]
        parent_C = above_N[parent_C]
        kept_N &= ~lone_N
        parent_N = np.where((parent_N >= 0) & kept_N, above_N[np.maximum(parent_N, 0)], -1)
    root = int(np.flatnonzero(kept_N & (parent_N < 0))[0])
    only = np.flatnonzero(kept_N & (parent_N == root))
    if len(only) == 1 and not (parent_C == root).any():
        kept_N[root], parent_N[only[0]] = False, -1
    number_N = np.cumsum(kept_N) - 1
    kept = np.flatnonzero(kept_N)
    above = parent_N[kept]
    return np.where(above >= 0, number_N[np.maximum(above, 0)], -1), number_N[parent_C]
