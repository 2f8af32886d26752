"""The k most probable classes from few nodes: the same classes in the same order as the full joint gives them.

10,240 rankings of random and adversarial trees in all (`test_the_answer_is_that_of_the_full_joint`), k from 1 to C.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from slow_trees import D, slow_joint, tree
from torch.testing import assert_close

from taxakey.models.best_first import Children, best_first
from taxakey.models.heads import Ranked
from taxakey.models.hierarchies import Hierarchy
from taxakey.models.trees import TreeHead

TREES, IMAGES = 32, 40


def random_hierarchy(rng: np.random.Generator, classes: int) -> Hierarchy:
    """Two to four levels, even or not, sometimes with nodes of one child."""
    order_C = rng.permutation(classes)
    match rng.integers(5):
        case 0:
            return Hierarchy.even(order_C, int(rng.integers(1, 9)))
        case 1:
            return Hierarchy.even(order_C, tuple(rng.integers(1, 5, 2).tolist()))
        case 2:
            return Hierarchy.even(order_C, tuple(rng.integers(1, 4, 3).tolist()))
        case 3:
            return Hierarchy.from_levels([rng.integers(0, 4, classes), rng.integers(0, 4, classes)], order_C)
        case _:
            return Hierarchy.huffman(rng.integers(0, 30, classes), int(rng.integers(2, 5)))


def duplicated(rng: np.random.Generator) -> Hierarchy:
    """Nodes of equal shape, whose classes are dealt out: what ties comes from many nodes, in no order."""
    fans = tuple(rng.integers(1, 4, int(rng.integers(1, 4))).tolist())
    return Hierarchy.even(rng.permutation(int(np.prod(fans)) * int(rng.integers(1, 4))), fans)


def _random(p: torch.Tensor) -> torch.Tensor:
    return torch.randn_like(p)


def _by_row(values: Callable[[int], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    """The same number throughout a row: many edges score exactly alike."""
    return lambda p: values(len(p)).view(-1, *[1] * (p.ndim - 1)).expand_as(p)


# What the weights are, and how the features are scaled: 0.01 makes flat distributions, 100 very peaked ones. Integers and eighths
# make exact products, so that what ought to tie does.
SORTS: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], tuple[float, ...], torch.dtype]] = {
    "random in float64": (_random, (0.01, 1, 100), torch.float64),
    "random in float32": (_random, (1, 100), torch.float32),
    "flat in float32": (_random, (0.001,), torch.float32),
    "rounded to bfloat16, in float32": (lambda p: _random(p).bfloat16().to(p.dtype), (0.01, 1, 100), torch.float32),
    "small integers": (lambda p: torch.randint(-2, 3, p.shape), (0, 1, 100), torch.float32),
    "equal": (lambda p: torch.full_like(p, 0.25), (0, 1), torch.float32),
    "few rows": (_by_row(lambda rows: torch.randint(0, 2, (rows,)) / 8), (1, 100), torch.float32),
    "duplicated nodes": (lambda p: torch.randint(-8, 9, p.shape) / 8, (1, 100), torch.float32),
}


def head_of(sort: str, rng: np.random.Generator) -> tuple[TreeHead, torch.Tensor]:
    """A head without a bottleneck and its features [B, D]."""
    weights, scales, dtype = SORTS[sort]
    rounded = sort in ("small integers", "equal", "few rows", "duplicated nodes")
    # Wide nodes too where ties are exact: a sum taken in another order would part them in the last bit.
    hierarchy = (
        duplicated(rng) if sort == "duplicated nodes" else random_hierarchy(rng, int(rng.integers(1, 120 if rounded else 40)))
    )
    head = tree(hierarchy, width=None).to(dtype)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(weights(parameter))
        if sort == "duplicated nodes":
            _repeat_first_node(head)
    features_BD = torch.randint(-2, 3, (IMAGES, D)) if rounded else torch.randn(IMAGES, D)
    return head, features_BD.to(dtype) * float(rng.choice(scales))


def _repeat_first_node(head: TreeHead) -> None:
    """Give every node of a level the first one's children."""
    for top, lower in ((head.top_weight_Td, head.lower_weight_Ed), (head.top_bias_T, head.lower_bias_E)):
        values = torch.cat([top, lower])
        start = 0
        for end in head.hierarchy.level_ends:
            fan = int(head.hierarchy.fan_N[head.hierarchy.source_E[start]])
            values[start:end] = values[start : start + fan].repeat((end - start) // fan, *[1] * (values.ndim - 1))
            start = end
        top.copy_(values[: head.top])
        lower.copy_(values[head.top :])


def by_rank(log_p_BC: torch.Tensor, k: int) -> torch.Tensor:
    """The first k classes by (-log p, class), row by row."""
    classes = range(log_p_BC.shape[1])
    return torch.tensor([sorted(classes, key=lambda c: (-row[c], c))[:k] for row in log_p_BC.tolist()])


@pytest.mark.parametrize("sort", SORTS)
def test_the_answer_is_that_of_the_full_joint(sort: str) -> None:
    rng = np.random.default_rng(list(SORTS).index(sort))
    torch.manual_seed(7)
    with torch.no_grad():
        for number in range(TREES):
            head, features_BD = head_of(sort, rng)
            k = (1, head.classes, int(rng.integers(1, head.classes + 1)))[number % 3]
            joint_BC = head.log_prob_all(features_BD)
            got, wanted_Bk = head.top_k(features_BD, k), by_rank(joint_BC, k)
            wanted_log_p = joint_BC.gather(1, wanted_Bk)
            # Two ways to add up the same products may differ in the last bit: by 1e-6 where scores are a few units.
            nearly = 1e-6 * max(1.0, float(features_BD.abs().max()) / 4)
            if sort.endswith("in float32"):
                assert_close(joint_BC.gather(1, got.classes), wanted_log_p, rtol=0, atol=nearly)
                assert (got.classes.sort(1).values.diff(dim=1) > 0).all()
            else:
                assert got.classes.tolist() == wanted_Bk.tolist()
            assert_close(got.log_prob, wanted_log_p, rtol=1e-6, atol=nearly)
            assert (got.log_prob.diff(dim=1) <= 0).all()
            check_opened(head, joint_BC, got)


def check_opened(head: TreeHead, joint_BC: torch.Tensor, got: Ranked) -> None:
    """At most all nodes; at least the root and every node that is more probable than the k-th answer."""
    hierarchy = head.hierarchy
    p_BE = torch.zeros(len(joint_BC), hierarchy.edges, dtype=torch.float64)
    for edge_C in hierarchy.path_CL.T:
        reached = edge_C >= 0
        p_BE.index_add_(1, torch.from_numpy(edge_C[reached]), joint_BC[:, reached].double().exp())
    p_BM = p_BE[:, hierarchy.parent_edge_N[1:]]
    needed_B = 1 + (p_BM > got.log_prob[:, -1:].double().exp() * (1 + 1e-5)).sum(1)
    assert (got.opened >= needed_B).all()
    assert (got.opened <= hierarchy.nodes).all()


def test_float64_agrees_with_plain_loops_too() -> None:
    torch.manual_seed(1)
    for seed in range(10):
        head, features_BD = head_of("random in float64", np.random.default_rng(seed))
        with torch.no_grad():
            wanted = by_rank(slow_joint(head, features_BD[:5]), head.classes)
            assert head.top_k(features_BD[:5], head.classes).classes.tolist() == wanted.tolist()


def two_levels(nodes: int, peak: float) -> tuple[TreeHead, torch.Tensor]:
    """`nodes` nodes of `nodes` classes; the i-th image's best node stands out by `peak`."""
    head = tree(Hierarchy.even(np.arange(nodes * nodes), nodes), width=None)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
        head.top_weight_Td[:D] = torch.eye(D) * peak
    return head, torch.eye(D)


def test_peaked_scores_open_few_nodes_and_flat_ones_all() -> None:
    head, features_BD = two_levels(30, peak=50)
    got = head.top_k(features_BD, 10)
    assert got.opened.max() <= 5  # the root and one first round
    assert got.classes.tolist() == [[30 * image + place for place in range(10)] for image in range(D)]
    # An exact tie of all 900 classes: any node could hide a smaller index.
    flat, features_BD = two_levels(30, peak=0)
    got = flat.top_k(features_BD, 10)
    assert got.opened.tolist() == [31] * D
    assert got.classes.tolist() == [list(range(10))] * D


def test_images_of_a_batch_do_not_open_nodes_for_each_other() -> None:
    head, features_BD = two_levels(30, peak=50)
    mixed = torch.cat([features_BD, torch.zeros(1, D)])  # the last one is flat
    alone = [head.top_k(row[None], 7) for row in mixed]
    together = head.top_k(mixed, 7)
    assert together.opened.tolist() == [int(one.opened) for one in alone]
    assert together.opened[-1] == 31 > 5 >= together.opened[:-1].max()
    assert_close(together.log_prob, torch.cat([one.log_prob for one in alone]))
    assert together.classes.tolist() == torch.cat([one.classes for one in alone]).tolist()


def test_sure_answers_of_a_deep_tree_open_a_few_nodes_a_level() -> None:
    head = tree(Hierarchy.even(np.arange(6**3), (6, 6)), width=None)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
        head.top_weight_Td[:, 0] = torch.arange(6) * 100.0
        head.lower_weight_Ed[:36, 0], head.lower_weight_Ed[36:, 0] = torch.arange(36) % 6 * 70.0, torch.arange(216) % 6 * 10.0
    got = head.top_k(torch.eye(D)[:1], 3)
    assert got.classes.tolist() == [[215, 214, 213]]
    assert got.opened.tolist() == [1 + 4 + 4]


def test_images_searched_in_portions_get_the_same_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    head, features_BD = tree(Hierarchy.even(np.arange(60), (3, 5))), torch.randn(7, D) / 100  # flat: none is sure at once
    wanted = head.top_k(features_BD, 20)
    assert wanted.opened.min() > 9
    monkeypatch.setattr("taxakey.models.trees._SEARCHED", 2 * 60)  # two images at a time
    for got, expected in zip(head.top_k(features_BD, 20), wanted, strict=True):
        assert_close(got, expected, rtol=0, atol=0)


# ---- the search alone, on trees written down by hand ----

# p(node): 1/2, 1/4 and 1/8; class 9 hangs at the root with 1/8. Node 1 has one child, class 8.
HALVES = {
    0: [(1 / 4, 1), (1 / 8, -1 - 9), (1 / 2, 2), (1 / 8, 3)],
    1: [(1.0, -1 - 8)],
    2: [(1 / 2, -1 - 7), (1 / 4, -1 - 6), (1 / 4, -1 - 5)],
    3: [(1.0, -1 - 4)],
}


def search(nodes: dict[int, list[tuple[float, int]]], k: int, images: int = 1, levels: int = 2) -> tuple[Ranked, list[int]]:
    """The answer, and which nodes were opened, in order, for all images."""
    opened: list[int] = []

    def children(of: list[int]) -> Children:
        fan = max(len(nodes[n]) for n in of)
        rows = [nodes[n] + [(0.0, 0)] * (fan - len(nodes[n])) for n in of]  # padding points to a node that exists
        table = torch.tensor(rows, dtype=torch.float64)
        return Children(table[..., 0].log(), table[..., 1].long())

    def open_nodes(_image_P: torch.Tensor, node_P: torch.Tensor) -> Children:
        opened.extend(node_P.tolist())
        return children(node_P.tolist())

    return best_first(children([0] * images), open_nodes, k, levels=levels), opened


@pytest.mark.parametrize("levels", [2, 3, 5])
def test_ties_by_hand(levels: int) -> None:
    # 1/4: classes 7 and 8; 1/8: 4, 5, 6 and 9.
    for k, wanted in [(1, [7]), (2, [7, 8]), (3, [7, 8, 4]), (5, [7, 8, 4, 5, 6]), (6, [7, 8, 4, 5, 6, 9])]:
        got, opened = search(HALVES, k, levels=levels)
        assert got.classes.tolist() == [wanted]
        assert_close(got.log_prob.exp()[0], torch.tensor([1 / 4, 1 / 4, 1 / 8, 1 / 8, 1 / 8, 1 / 8][:k], dtype=torch.float64))
        assert sorted(opened) == [1, 2, 3]  # one first round holds all three
        assert got.opened.tolist() == [4]


def test_closed_nodes_strictly_below_the_answer_stay_closed() -> None:
    # Twenty nodes of p = 0.3, 0.15, … and two classes each, so that the best classes have 0.15, 0.15, 0.075, …
    nodes: dict[int, list[tuple[float, int]]] = {n: [(0.5, -2 * n), (0.5, -1 - 2 * n)] for n in range(1, 21)}
    nodes[0] = [(0.3 * 0.5 ** (n - 1), n) for n in range(1, 21)]
    got, opened = search(nodes, 1)
    assert opened == [1, 2, 3, 4]
    assert got.classes.tolist() == [[1]]
    got, opened = search(nodes, 9, images=2)
    assert got.classes.tolist() == [[1, 2, 3, 4, 5, 6, 7, 8, 9]] * 2
    # 1 … 4, then those of 5 … 12 that may reach the ninth answer: all, for it wasn't known yet.
    assert got.opened.tolist() == [13, 13]


def test_a_tie_far_down_a_chain_of_only_children_is_found() -> None:
    # Class 5 at the root ties with class 0, which hangs below ten nodes of one child.
    nodes: dict[int, list[tuple[float, int]]] = {0: [(0.5, -1 - 5), (0.5, 1)]}
    nodes |= {n: [(1.0, n + 1)] for n in range(1, 11)} | {11: [(1.0, -1)]}
    got, opened = search(nodes, 1, levels=12)
    assert got.classes.tolist() == [[0]]
    assert opened == list(range(1, 12))
    assert got.opened.tolist() == [12]
