"""Trees of every shape against plain loops, an explicit joint softmax and the hierarchicalsoftmax package."""

from __future__ import annotations

import time

import hierarchicalsoftmax
import numpy as np
import pytest
import torch
from slow_trees import FLORA, SHAPES, D, slow_joint, slow_paths, tree
from torch.testing import assert_close

from taxakey.losses.cross_entropy import CrossEntropy
from taxakey.models.heads import BottleneckHead, Head, LinearHead
from taxakey.models.hierarchies import Hierarchy
from taxakey.models.trees import TreeHead, TreeOptions, branches

every_shape = pytest.mark.parametrize("hierarchy", SHAPES.values(), ids=SHAPES.keys())


def loss_of(head: Head, features_BD: torch.Tensor, labels_B: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
    loss = CrossEntropy(label_smoothing=smoothing)
    return torch.stack([loss.of_decision(decision).mean() for decision in head.decisions(features_BD, labels_B)]).sum()


def gradients(head: Head, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of every parameter, dense, zero where there is none."""
    head.zero_grad()
    loss.backward()
    return {n: torch.zeros_like(p) if p.grad is None else p.grad.to_dense().clone() for n, p in head.named_parameters()}


# ---- the formula ----


@every_shape
def test_every_way_to_ask_gives_the_joint_of_plain_loops(hierarchy: Hierarchy) -> None:
    head, features_BD = tree(hierarchy), torch.randn(4, D)
    wanted_BC = slow_joint(head, features_BD).float()
    assert_close(head(features_BD), wanted_BC, rtol=1e-5, atol=2e-5)
    assert_close(head.log_prob_all(features_BD), wanted_BC, rtol=1e-5, atol=2e-5)
    assert_close(head.log_prob_all(features_BD).exp().sum(1), torch.ones(4))
    for c in range(head.classes):
        assert_close(head.log_prob(features_BD, torch.full((4,), c)), wanted_BC[:, c], rtol=1e-5, atol=2e-5)
    ranked = head.top_k(features_BD, head.classes)
    assert_close(ranked.log_prob, wanted_BC.gather(1, ranked.classes), rtol=1e-5, atol=2e-5)
    assert ranked.classes.sort(1).values.tolist() == [list(range(head.classes))] * 4
    assert (ranked.opened == hierarchy.nodes).all()  # all classes can't be had for less


@every_shape
@pytest.mark.parametrize("sparse", [False, True])
def test_loss_and_gradient_equal_those_of_the_explicit_joint_softmax(hierarchy: Hierarchy, sparse: bool) -> None:
    head, features_BD = tree(hierarchy, sparse=sparse), torch.randn(20, D, requires_grad=True)
    labels_B = torch.arange(20) % head.classes
    mine = loss_of(head, features_BD, labels_B)
    got = gradients(head, mine) | {"features": features_BD.grad}
    features_BD.grad = None
    # A softmax over all C joint logits: it is one already, so nothing may change.
    theirs = torch.nn.functional.cross_entropy(slow_joint(head, features_BD), labels_B)
    wanted = gradients(head, theirs) | {"features": features_BD.grad}
    assert_close(mine, theirs.float(), rtol=1e-5, atol=1e-5)
    for name, gradient in got.items():
        assert_close(gradient, wanted[name], rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("shape", ["even", "taxa", "huffman", "only children"])
def test_sparse_gradients_hold_the_rows_touched_and_nothing_else(shape: str) -> None:
    dense, sparse = tree(SHAPES[shape]), tree(SHAPES[shape], sparse=True)
    features_BD, labels_B = torch.randn(3, D), torch.tensor([2, 5, 2])
    wanted, got = (gradients(head, loss_of(head, features_BD, labels_B)) for head in (dense, sparse))
    for name in wanted:
        assert_close(got[name], wanted[name])
    nodes = {int(dense.hierarchy.source_E[edge]) for c in (2, 5) for edge in slow_paths(SHAPES[shape])[c]} - {0}
    first = dense.hierarchy.first_N1
    rows = sorted(edge - dense.top for node in nodes for edge in range(first[node], first[node + 1]))
    for parameter in (sparse.lower_weight_Ed, sparse.lower_bias_E):
        assert parameter.grad is not None
        assert parameter.grad.is_sparse
        assert parameter.grad._indices()[0].tolist() == rows
    assert not sparse.top_weight_Td.grad.is_sparse
    untouched = np.setdiff1d(np.arange(len(dense.lower_bias_E)), rows)
    assert not wanted["lower_weight_Ed"][untouched].any()


@pytest.mark.parametrize(
    "levels",
    [
        [[0, 0, 0, 1, 1, 1]],
        [[0, 0, 1, 2, 2, 2]],  # the class of group 1 hangs at the root
        [[0, 0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 2, 3, 4]],  # three levels, uneven
        [[0, 0, 0, 0, 1, 1, 1, 2], [0, 0, 1, 1, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0, 1, 0]],
    ],
)
def test_equals_the_hierarchicalsoftmax_package(levels: list[list[int]]) -> None:
    hierarchy = Hierarchy.from_levels([np.array(codes) for codes in levels], np.arange(len(levels[0])))
    head, labels_B = tree(hierarchy), torch.arange(16) % hierarchy.classes
    features_BD = torch.randn(16, D)
    nodes = [hierarchicalsoftmax.SoftmaxNode("root")]
    leaves = {}
    for edge, target in enumerate(hierarchy.target_E.tolist()):
        child = hierarchicalsoftmax.SoftmaxNode(f"edge {edge}", parent=nodes[hierarchy.source_E[edge]])
        if target < 0:
            leaves[-1 - target] = child
        else:
            nodes.append(child)
    nodes[0].set_indexes()
    z_Bd = head.bottleneck(features_BD)
    logits_BE = torch.cat(
        [z_Bd @ head.top_weight_Td.T + head.top_bias_T, z_Bd @ head.lower_weight_Ed.T + head.lower_bias_E], dim=1
    )
    # Its layer holds the children of each node side by side, node after node in an order of its own.
    theirs_BE = torch.full_like(logits_BE, torch.nan)
    for n, node in enumerate(nodes):
        theirs_BE[:, node.softmax_start_index : node.softmax_end_index] = logits_BE[
            :, hierarchy.first_N1[n] : hierarchy.first_N1[n + 1]
        ]
    targets = torch.tensor([nodes[0].node_to_id[leaves[c]] for c in labels_B.tolist()])
    theirs = hierarchicalsoftmax.HierarchicalSoftmaxLoss(root=nodes[0])(theirs_BE, targets)
    mine = loss_of(head, features_BD, labels_B)
    assert_close(mine, theirs)
    wanted = gradients(head, theirs)
    for name, gradient in gradients(head, loss_of(head, features_BD, labels_B)).items():
        assert_close(gradient, wanted[name], rtol=1e-4, atol=1e-5)


# ---- padding ----


def test_what_fills_up_short_nodes_takes_no_probability_and_no_smoothing() -> None:
    head = tree(Hierarchy.even(np.arange(5), 4))  # the second node holds one class where the first holds four
    top, lower = head.decisions(torch.randn(2, D), torch.tensor([4, 1]))
    assert top.logits.isfinite().all()
    assert lower.logits.isfinite().tolist() == [[True, False, False, False], [True] * 4]
    assert lower.labels.tolist() == [0, 1]
    for smoothing in (0.0, 0.3):
        assert CrossEntropy(label_smoothing=smoothing).of_decision(lower)[0] == 0


@every_shape
def test_smoothing_spreads_over_the_children_of_each_node_on_the_path(hierarchy: Hierarchy) -> None:
    head, labels_B = tree(hierarchy), torch.arange(hierarchy.classes)
    features_BD = torch.randn(hierarchy.classes, D)
    z_Bd = head.bottleneck(features_BD)
    weight_Ed, bias_E = torch.cat([head.top_weight_Td, head.lower_weight_Ed]), torch.cat([head.top_bias_T, head.lower_bias_E])
    total = torch.tensor(0.0)
    for image, path in enumerate(slow_paths(hierarchy)):
        for edge in path:
            start, end = hierarchy.first_N1[hierarchy.source_E[edge]], hierarchy.first_N1[hierarchy.source_E[edge] + 1]
            log_p = (weight_Ed[start:end] @ z_Bd[image] + bias_E[start:end]).log_softmax(0)
            total = total - 0.8 * log_p[edge - start] - 0.2 * log_p.mean()
    assert_close(loss_of(head, features_BD, labels_B, smoothing=0.2), total / hierarchy.classes, rtol=1e-4, atol=1e-5)


# ---- precision ----


@every_shape
@pytest.mark.parametrize("how", ["module", "autocast", "autocast around the gradient too"])
def test_bfloat16_stays_finite_and_close(hierarchy: Hierarchy, how: str) -> None:
    plain, head = tree(hierarchy, scale=0.5), tree(hierarchy, scale=0.5)
    features_BD, labels_B = torch.randn(8, D), torch.arange(8) % hierarchy.classes
    wanted_BC, wanted_loss = plain(features_BD), loss_of(plain, features_BD, labels_B)
    wanted = gradients(plain, wanted_loss)
    if how == "module":
        head, features_BD = head.bfloat16(), features_BD.bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=how != "module"):
        got_BC, ranked = head(features_BD), head.top_k(features_BD, 1)
        loss = loss_of(head, features_BD, labels_B)
        if how.endswith("too"):
            got = gradients(head, loss)
    if not how.endswith("too"):
        got = gradients(head, loss)
    assert got_BC.dtype == loss.dtype == ranked.log_prob.dtype == torch.float32
    assert_close(got_BC, wanted_BC, rtol=0.03, atol=0.06)
    assert_close(got_BC.exp().sum(1), torch.ones(8))
    assert_close(ranked.log_prob[:, 0], wanted_BC.max(1).values, rtol=0.03, atol=0.06)
    assert_close(loss, wanted_loss, rtol=0.03, atol=0.03)
    for name, gradient in got.items():
        assert_close(gradient.float(), wanted[name], rtol=0.1, atol=0.05)


@every_shape
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_extreme_logits_give_no_nan(hierarchy: Hierarchy, dtype: torch.dtype) -> None:
    head = tree(hierarchy, width=None).to(dtype)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randint(-1, 2, parameter.shape) * 1e4)
    features_BD = torch.cat([torch.eye(D), -torch.eye(D), torch.zeros(1, D)]).to(dtype)
    labels_B = torch.arange(13) % hierarchy.classes
    log_p_BC = head(features_BD)
    assert log_p_BC.isfinite().all()
    assert_close(log_p_BC.exp().sum(1), torch.ones(13))
    loss = loss_of(head, features_BD, labels_B, smoothing=0.1)
    assert loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients(head, loss).values())
    ranked = head.top_k(features_BD, hierarchy.classes)
    assert ranked.log_prob.isfinite().all()
    assert_close(ranked.log_prob, log_p_BC.gather(1, ranked.classes))


def test_the_logarithm_of_a_half_survives_beside_a_logit_of_ten_thousand() -> None:
    head = tree(Hierarchy.even(np.arange(4), 2), width=None)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.fill_(1e4)
    features_BD = torch.zeros(1, D)
    wanted_BC = torch.full((1, 4), np.log(0.25), dtype=torch.float32)
    assert_close(head(features_BD), wanted_BC, rtol=0, atol=2e-7)
    assert_close(head.log_prob(features_BD.expand(4, D), torch.arange(4)), wanted_BC[0], rtol=0, atol=2e-7)
    assert_close(head.top_k(features_BD, 4).log_prob, wanted_BC, rtol=0, atol=2e-7)


def test_float64_stays() -> None:
    head, features_BD = tree(SHAPES["taxa"]).double(), torch.randn(3, D, dtype=torch.float64)
    assert_close(head(features_BD), slow_joint(head, features_BD), rtol=1e-12, atol=1e-12)
    assert head.top_k(features_BD, 3).log_prob.dtype == torch.float64


def test_compiled_gives_the_same() -> None:
    torch._dynamo.reset()
    head, plain = tree(SHAPES["taxa"], sparse=True), tree(SHAPES["taxa"], sparse=True)
    features_BD = torch.randn(8, D)
    assert_close(torch.compile(head, backend="aot_eager")(features_BD), plain(features_BD))
    decisions = torch.compile(head.decisions, backend="aot_eager")
    for labels_B in (torch.arange(8), torch.arange(3, 8)):  # then another batch: other nodes, another size
        got, wanted = decisions(features_BD[: len(labels_B)], labels_B), plain.decisions(features_BD[: len(labels_B)], labels_B)
        for mine, theirs in zip(got, wanted, strict=True):
            assert_close(mine.logits, theirs.logits)
            assert mine.labels.tolist() == theirs.labels.tolist()
        loss, wanted_loss = (
            torch.stack([CrossEntropy().of_decision(one).mean() for one in all_]).sum() for all_ in (got, wanted)
        )
        expected = gradients(plain, wanted_loss)
        for name, gradient in gradients(head, loss).items():
            assert_close(gradient, expected[name])


# ---- taxa ----


@every_shape
@pytest.mark.parametrize("rank", ["species", "genus", "family", "order"])
def test_probability_of_a_taxon_is_the_sum_over_its_species(hierarchy: Hierarchy, rank: str) -> None:
    head, features_BD = tree(hierarchy), torch.randn(5, D)
    codes_C = FLORA.codes(rank)[: hierarchy.classes]
    p_BC = head.log_prob_all(features_BD).exp()
    taxa = codes_C.max() + 1
    wanted_BG = torch.stack([p_BC[:, codes_C == g].sum(1) for g in range(taxa)], dim=1) if taxa else torch.zeros(5, 0)
    assert_close(head.node_log_prob(features_BD, codes_C).exp(), wanted_BG, rtol=1e-5, atol=1e-7)


def test_known_genera_and_families_are_branches_of_the_taxonomic_tree_and_gaps_are_left_out() -> None:
    hierarchy = SHAPES["taxa"]
    assert (branches(hierarchy, FLORA.codes("family")) >= 0).all()
    assert (branches(hierarchy, FLORA.codes("genus")) >= 0).all()
    assert branches(hierarchy, FLORA.codes("species")).tolist() == hierarchy.leaf_edge_C.tolist()
    # Listed four to a node, Sapindaceae are a node (0 … 3); Asteraceae (4 … 8) are not.
    edge_G = branches(SHAPES["even"], FLORA.codes("family"))
    assert dict(zip(FLORA.taxa("family"), (edge_G >= 0).tolist(), strict=True)) == {
        "Asteraceae": False,
        "Fagaceae": True,
        "Sapindaceae": True,
    }
    codes_C = np.full(13, -1)
    codes_C[[3, 4]] = 2  # taxa 0 and 1 have no species here
    log_p_BG = tree(hierarchy).node_log_prob(torch.zeros(1, D), codes_C)
    assert log_p_BG[:, :2].tolist() == [[-np.inf, -np.inf]]
    assert -np.inf < log_p_BG[0, 2] < 0


@every_shape
def test_a_branch_holds_exactly_its_taxons_classes(hierarchy: Hierarchy) -> None:
    paths = slow_paths(hierarchy)
    for seed in range(10):
        codes_C = np.random.default_rng(seed).integers(-1, 3, hierarchy.classes)
        codes_C = FLORA.codes("genus")[: hierarchy.classes] if seed == 0 else codes_C
        below = [{c for c, path in enumerate(paths) if edge in path} for edge in range(hierarchy.edges)]
        for g, edge in enumerate(branches(hierarchy, codes_C).tolist()):
            members = set(np.flatnonzero(codes_C == g).tolist())
            assert below[edge] == members if edge >= 0 else members not in below


def test_taxon_probabilities_train() -> None:
    # A label known to family only: its loss is -log of the sum over species, and it has a gradient.
    head, codes_C = tree(SHAPES["even"]), FLORA.codes("family")
    head.node_log_prob(torch.randn(2, D), codes_C)[:, 0].sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in head.parameters())


# ---- sizes ----


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        # SPEC section 1, C = 80,000; shapes only, so nothing of that size is allocated.
        (lambda: LinearHead(1792, 80_000), 143_440_000),
        (lambda: BottleneckHead(1792, 80_000), 10_320_000 + 229_504),
        (lambda: TreeHead(1792, Hierarchy.even(np.arange(80_000), 80)), 10_449_000 + 229_504),
        (lambda: TreeHead(1792, Hierarchy.even(np.arange(80_000), 200)), 10_371_600 + 229_504),
        (lambda: TreeHead(128, Hierarchy.even(np.arange(80_000), 80), width=None), 10_449_000),
    ],
)
def test_sizes_of_the_paper(head, expected: int) -> None:
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in head().parameters()) == expected


def test_multiply_adds_by_hand() -> None:
    with torch.device("meta"):
        head = TreeHead(1792, Hierarchy.even(np.arange(80_000), 80))
    assert head.multiply_adds(training=True) == 229_376 + 138_240  # SPEC section 1
    assert head.multiply_adds(training=False) == 229_376 + 128 * 81_000
    # The root's two nodes, the widest middle node's three, the widest low node's four; eleven edges more for all scores.
    uneven = Hierarchy.from_levels([np.array([0, 0, 0, 0, 0, 0, 0, 1, 1]), np.array([0, 0, 0, 0, 1, 1, 2, 3, 4])], np.arange(9))
    assert tree(uneven, width=None).multiply_adds(training=True) == D * (2 + 3 + 4)
    assert tree(uneven, width=None).multiply_adds(training=False) == D * 13


def test_a_million_classes_build_in_seconds() -> None:
    start = time.perf_counter()
    with torch.device("meta"):
        head = TreeHead(1792, Hierarchy.even(np.arange(1_000_000), 1000))
    assert time.perf_counter() - start < 5
    assert head.lower_weight_Ed.shape == (1_000_000, 128)
    assert head.lower_weight_Ed.is_meta


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width"),
        ({"slots": 0}, "slots"),
        ({"slots": (3, 0)}, "slots"),
        ({"nodes": "huffman", "slots": 1}, "at least 2"),
        ({"width": None, "activation": "relu"}, "bottleneck"),
    ],
)
def test_refuses_options_of_no_tree(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TreeOptions(**options)


@pytest.mark.parametrize("k", [-1, 0, 14])
def test_refuses_k_that_no_ranking_has(k: int) -> None:
    with pytest.raises(ValueError, match="13 classes"):
        tree(SHAPES["taxa"]).top_k(torch.zeros(1, D), k)
