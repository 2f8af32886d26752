"""Shapes of trees against recursion over nested lists, walks from the root, and Huffman's algorithm done again by hand."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from slow_trees import FLORA, SHAPES, slow_paths

from taxakey.models.hierarchies import Hierarchy

Nested = list  # of classes (int) and of Nested


def flattened(root: Nested) -> tuple[list[int], list[int]]:
    """first_N1 and target_E of nested lists, by the definition: nodes breadth first, their edges side by side."""
    first, target, nodes = [0], [], [root]
    for node in nodes:  # grows while it is walked
        for child in node:
            if isinstance(child, list):
                nodes.append(child)
                target.append(len(nodes) - 1)
            else:
                target.append(-1 - child)
        first.append(len(target))
    return first, target


def assert_is(hierarchy: Hierarchy, nested: Nested) -> None:
    assert (hierarchy.first_N1.tolist(), hierarchy.target_E.tolist()) == flattened(nested)


def grouped(classes: Sequence[int], levels: Sequence[Sequence[int]]) -> Nested:
    """Classes in order, grouped by the codes of each level; groups as their first class comes; only children move up."""
    if not levels:
        return list(classes)
    groups: dict[int, list[int]] = {}
    for c in classes:
        groups.setdefault(levels[0][c], []).append(c)
    children = [grouped(members, levels[1:]) for members in groups.values()]
    return [child[0] if len(child) == 1 else child for child in children]


def chunked(items: Nested, fans: Sequence[int]) -> Nested:
    """Items in order, so many to a node from the lowest level up."""
    for fan in reversed(fans):
        items = [items[start : start + fan] for start in range(0, len(items), fan)]
    return items


def depths(hierarchy: Hierarchy) -> list[int]:
    return [len(path) for path in slow_paths(hierarchy)]


LEVELS = st.integers(1, 14).flatmap(
    lambda classes: st.tuples(
        st.lists(st.lists(st.integers(-1, 3), min_size=classes, max_size=classes), max_size=3),
        st.permutations(range(classes)),
    )
)
EVEN = st.tuples(
    st.integers(1, 30).flatmap(lambda classes: st.permutations(range(classes))), st.lists(st.integers(1, 5), min_size=1)
)
COUNTS = st.lists(st.integers(0, 40), min_size=1, max_size=20)


# ---- makers ----


@given(LEVELS)
def test_groups_of_levels_become_nodes_and_only_children_move_up(drawn: tuple[list[list[int]], list[int]]) -> None:
    levels, order = drawn
    nested = grouped(order, levels)
    if len(nested) == 1 and isinstance(nested[0], list):
        nested = nested[0]  # the root may have one child no more than any node, unless there is one class only
    hierarchy = Hierarchy.from_levels([np.array(codes) for codes in levels], np.array(order))
    assert_is(hierarchy, nested)
    assert len(order) == 1 or hierarchy.fan_N.min() >= 2


def test_the_taxonomic_tree_by_hand() -> None:
    place = {name: c for c, name in enumerate(FLORA.names)}
    mystica, herba, planta = place["Mystica alba"], place["Herba ignota"], place["Planta obscura"]
    # Without family come first ("" sorts before any name), then Asteraceae, whose unknown and single genera are classes.
    assert_is(
        SHAPES["taxa"],
        [
            [planta, [mystica, mystica + 1]],
            [herba, [place[f"Aster {name}"] for name in ("alpinus", "amellus", "tataricus")], place["Bellis annua"]],
            place["Quercus robur"],
            [[0, 1], [2, 3]],
        ],
    )
    assert_is(SHAPES["one family"], [[0, 1, 2], 3])
    assert_is(SHAPES["one genus"], [0, 1, 2])


@given(EVEN)
def test_even_nodes_are_slices_of_the_order(drawn: tuple[list[int], list[int]]) -> None:
    order, fans = drawn
    hierarchy = Hierarchy.even(np.array(order), fans)
    assert_is(hierarchy, chunked(order, fans))
    assert hierarchy.levels == len(fans) + 1
    if len(fans) == 1:  # SPEC section 1: position div S, position mod S
        assert_is(Hierarchy.even(np.array(order), fans[0]), chunked(order, fans))
        for position, c in enumerate(order):
            node_edge, leaf_edge = hierarchy.path_CL[c]
            assert node_edge == position // fans[0]
            assert leaf_edge - hierarchy.first_N1[1 + node_edge] == position % fans[0]


@given(st.data())
def test_built_from_parents_in_any_numbering(data: st.DataObject) -> None:
    original = SHAPES[data.draw(st.sampled_from(["even", "taxa", "huffman", "four levels", "only children", "one class"]))]
    rename = np.array(data.draw(st.permutations(range(original.nodes))))
    rank_C = np.empty(original.classes, dtype=np.int64)
    rank_C[_walk(original, 0)] = np.arange(original.classes)
    parent_N = np.full(original.nodes, -1)
    parent_N[rename[1:]] = rename[original.source_E[original.parent_edge_N[1:]]]
    parent_C = rename[original.source_E[original.leaf_edge_C]]
    built = Hierarchy.build(parent_N, parent_C, rank_C)
    # Siblings stand by the first class below them, in which huffman's differ: the classes keep their paths' lengths and nodes.
    assert depths(built) == depths(original)
    assert sorted(_families(built)) == sorted(_families(original))


def _walk(hierarchy: Hierarchy, node: int) -> list[int]:
    """The classes below a node, from left to right."""
    targets = hierarchy.target_E[hierarchy.first_N1[node] : hierarchy.first_N1[node + 1]].tolist()
    return [c for target in targets for c in ([-1 - target] if target < 0 else _walk(hierarchy, target))]


def _families(hierarchy: Hierarchy) -> list[list[int]]:
    return [sorted(_walk(hierarchy, node)) for node in range(hierarchy.nodes)]


def test_siblings_stand_by_rank_or_by_class() -> None:
    parent_N, parent_C = np.array([1, -1]), np.array([1, 0, 1, 0])
    assert_is(Hierarchy.build(parent_N, parent_C), [0, [1, 3], 2])
    assert_is(Hierarchy.build(parent_N, parent_C, np.array([3, 2, 1, 0])), [[3, 1], 2, 0])


# ---- Huffman ----


def classical_cost(counts: list[int], fan: int) -> int:
    """Σ count × depth of Huffman's tree: the sum of all merged counts, padded with zeros until the last merge is full."""
    heap = [*counts, *[0] * (-(len(counts) - 1) % (fan - 1))]
    heapq.heapify(heap)
    cost = 0
    while len(heap) > 1:
        merged = sum(heapq.heappop(heap) for _ in range(fan))
        cost += merged
        heapq.heappush(heap, merged)
    return cost


@given(COUNTS.filter(lambda counts: len(counts) > 1), st.integers(2, 6))
def test_huffman_costs_what_the_classical_algorithm_does(counts: list[int], fan: int) -> None:
    hierarchy = Hierarchy.huffman(np.array(counts), fan)
    depth_C = depths(hierarchy)
    assert sum(count * depth for count, depth in zip(counts, depth_C, strict=True)) == classical_cost(counts, fan)
    assert 2 <= hierarchy.fan_N.min() <= hierarchy.fan_N.max() <= fan
    assert hierarchy.fan_N[0] == min(fan, len(counts))
    by_count = sorted(zip(counts, depth_C, strict=True))
    assert all(a[0] == b[0] or a[1] >= b[1] for a, b in pairwise(by_count))


@given(st.lists(st.integers(0, 12), min_size=2, max_size=5), st.integers(2, 3))
def test_no_tree_at_all_beats_huffman(counts: list[int], fan: int) -> None:
    # A tree with leaves at these depths exists iff Σ fan^-depth is at most 1 (Kraft, 1949).
    trees = (d for d in product(range(1, len(counts)), repeat=len(counts)) if sum(float(fan) ** -x for x in d) <= 1 + 1e-9)
    best = min(sum(count * depth for count, depth in zip(counts, d, strict=True)) for d in trees)
    depth_C = depths(Hierarchy.huffman(np.array(counts), fan))
    assert sum(count * depth for count, depth in zip(counts, depth_C, strict=True)) == best


def test_huffman_by_hand() -> None:
    assert_is(Hierarchy.huffman(np.array([8, 1, 4, 2]), 2), [0, [2, [3, 1]]])
    assert_is(Hierarchy.huffman(np.array([1, 9, 9, 5]), 3), [1, 2, [3, 0]])
    assert_is(Hierarchy.huffman(np.array([7]), 2), [0])
    assert_is(Hierarchy.huffman(np.array([1, 2]), 5), [1, 0])


# ---- what is read off ----


@pytest.mark.parametrize("hierarchy", SHAPES.values(), ids=SHAPES.keys())
def test_tables_equal_a_walk_from_the_root(hierarchy: Hierarchy) -> None:
    paths = slow_paths(hierarchy)
    longest = max(map(len, paths))
    assert hierarchy.path_CL.tolist() == [path + [-1] * (longest - len(path)) for path in paths]
    assert hierarchy.leaf_edge_C.tolist() == [path[-1] for path in paths]
    assert (hierarchy.levels, hierarchy.classes) == (longest, len(paths))
    first, target = hierarchy.first_N1.tolist(), hierarchy.target_E.tolist()
    assert (hierarchy.nodes, hierarchy.edges) == (len(first) - 1, len(target))
    assert hierarchy.fan_N.tolist() == [end - start for start, end in pairwise(first)]
    assert hierarchy.source_E.tolist() == [n for n, fan in enumerate(hierarchy.fan_N) for _ in range(fan)]
    assert hierarchy.parent_edge_N.tolist() == [-1, *(target.index(n) for n in range(1, hierarchy.nodes))]
    # Level by level, from left to right.
    level, ends, listing = [0], [], []
    while level:
        edges = [e for n in level for e in range(first[n], first[n + 1])]
        ends.append(edges[-1] + 1)
        listing += [-1 - target[e] for e in edges if target[e] < 0]
        level = [target[e] for e in edges if target[e] >= 0]
    assert hierarchy.level_ends == tuple(ends)
    assert hierarchy.listing().tolist() == listing
    assert len(ends) == longest


# ---- refusals ----


@pytest.mark.parametrize(
    ("first", "target", "message"),
    [
        ([0, 0], [], "exactly once"),
        ([0, 2], [-1, -1], "exactly once"),
        ([0, 2], [-1, -3], "exactly once"),
        ([0, 1, 2], [1, 2], "exactly once"),
        ([0, 2], [-1, 1], "breadth first"),  # node 1 has no edges
        ([0, 1, 2], [-1, -2], "breadth first"),  # nothing leads to node 1
        ([0, 2, 3, 4], [2, 1, -1, -2], "breadth first"),
        ([0, 2, 3, 4], [1, 1, -1, -2], "breadth first"),
        ([0, 3], [-1, -2], "breadth first"),  # an edge more than there are
        ([0, 1], [-1, -2], "breadth first"),  # an edge fewer
        ([0, 2, 2], [-1, 1], "at least one child"),
        ([1, 3], [-1, -2, -3], "at least one child"),
        ([0, 1, 2], [-1, 1], "below itself"),
        ([0, 1, 3, 4], [-1, 1, 2, -2], "below itself"),
    ],
)
def test_refuses_arrays_that_are_no_tree(first: list[int], target: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Hierarchy(np.array(first), np.array(target, dtype=np.int64))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Hierarchy.build(np.array([-1, -1]), np.array([0, 1])), "one root"),
        (lambda: Hierarchy.build(np.array([1, 0]), np.array([0, 1])), "one root"),
        (lambda: Hierarchy.build(np.array([-1, 2, 1]), np.array([0, 0])), "own ancestor"),
        (lambda: Hierarchy.build(np.array([-1, 0]), np.array([0, 0])), "at least one child"),
        (lambda: Hierarchy.even(np.arange(4), 0), "slots"),
        (lambda: Hierarchy.even(np.arange(4), (2, -1)), "slots"),
        (lambda: Hierarchy.even(np.arange(4), ()), "slots"),
        (lambda: Hierarchy.even(np.array([0, 0, 1]), 2), "every class once"),
        (lambda: Hierarchy.even(np.array([1, 2, 3]), 2), "every class once"),
        (lambda: Hierarchy.even(np.arange(0), 2), "at least one"),
        (lambda: Hierarchy.from_levels([np.zeros(3, dtype=int)], np.array([0, 2, 2])), "every class once"),
        (lambda: Hierarchy.from_levels([], np.arange(0)), "at least one"),
        (lambda: Hierarchy.huffman(np.array([1, 2, 3]), 1), "at least 2"),
    ],
)
def test_refuses_what_makes_no_tree(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
