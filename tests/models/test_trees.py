"""The tree head against slow loops, an explicit joint softmax and the hierarchicalsoftmax package."""

from __future__ import annotations

import hierarchicalsoftmax
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from taxakey.losses.cross_entropy import CrossEntropy
from taxakey.models.heads import BottleneckHead, Head, LinearHead
from taxakey.models.trees import TreeHead, TreeOptions, build_head, class_positions
from taxakey.taxonomy import Taxonomy

NAMES = ["Bellis annua", "Acer rubrum", "Aster alpinus", "Quercus robur", "Acer opalus"]
FAMILY = {"Bellis": "Asteraceae", "Aster": "Asteraceae", "Acer": "Sapindaceae", "Quercus": "Fagaceae"}
FLORA = Taxonomy.from_rows(
    {"scientificName": name, "genus": name.split()[0], "family": FAMILY[name.split()[0]]} for name in NAMES
)


def tree(classes: int, *, slots: int | None = None, seed: int = 0, order: list[int] | None = None) -> TreeHead:
    torch.manual_seed(seed)
    positions = np.array(order if order is not None else np.random.default_rng(seed).permutation(classes))
    return TreeHead(12, positions, width=6, slots=slots)


@torch.no_grad()
def joint_by_loops(head: TreeHead, features_D: torch.Tensor) -> list[float]:
    """log p(node) + log p(slot | node), one class after the other, in plain Python."""
    z = head.bottleneck(features_D[None])[0].detach()
    node_logits = [float(z @ head.node_weight_Td[t] + head.node_bias_T[t]) for t in range(head.nodes)]
    node_sum = np.log(sum(np.exp(node_logits)))
    answer = []
    for c in range(head.classes):
        position = int(head.position_C[c])
        t, s = position // head.slots, position % head.slots
        real = [q for q in range(head.slots) if t * head.slots + q < head.classes]
        slot_logits = {q: float(z @ head.slot_weight_TSd[t, q] + head.slot_bias_TS[t, q]) for q in real}
        answer.append(node_logits[t] - node_sum + slot_logits[s] - np.log(sum(np.exp(v) for v in slot_logits.values())))
    return answer


@given(st.integers(1, 30), st.integers(1, 9), st.integers(0, 5))
def test_joint_equals_slow_loops(classes: int, slots: int, seed: int) -> None:
    head = tree(classes, slots=slots, seed=seed)
    features_BD = torch.randn(2, 12)
    expected = torch.tensor([joint_by_loops(head, row) for row in features_BD], dtype=torch.float32)
    assert_close(head(features_BD), expected, rtol=1e-4, atol=1e-4)


@given(st.integers(2, 40), st.integers(0, 5))
def test_probabilities_sum_to_one_and_agree_with_log_prob(classes: int, seed: int) -> None:
    head = tree(classes, seed=seed)
    features_BD = torch.randn(3, 12) * 5
    labels_B = torch.randint(classes, (3,))
    joint_BC = head(features_BD)
    assert_close(joint_BC.exp().sum(1), torch.ones(3))
    assert_close(joint_BC.gather(1, labels_B[:, None]).squeeze(1), head.log_prob(features_BD, labels_B))


def test_loss_and_gradient_equal_the_joint_softmax() -> None:
    head, features_BD, labels_B = tree(23), torch.randn(5, 12), torch.tensor([0, 22, 7, 7, 13])
    by_decisions = sum(CrossEntropy()(*decision) for decision in head.decisions(features_BD, labels_B))
    gradient = torch.autograd.grad(by_decisions, list(head.parameters()))
    by_joint = torch.nn.functional.nll_loss(head(features_BD), labels_B)
    expected = torch.autograd.grad(by_joint, list(head.parameters()))
    assert_close(by_decisions, by_joint)
    for mine, theirs in zip(gradient, expected, strict=True):
        assert_close(mine, theirs)


def test_equals_the_hierarchicalsoftmax_package() -> None:
    head = tree(6, slots=3, order=list(range(6)))
    root = hierarchicalsoftmax.SoftmaxNode("root")
    nodes = [hierarchicalsoftmax.SoftmaxNode(f"node {t}", parent=root) for t in range(2)]
    leaves = [hierarchicalsoftmax.SoftmaxNode(f"class {c}", parent=nodes[c // 3]) for c in range(6)]
    root.set_indexes()
    features_BD, labels_B = torch.randn(8, 12), torch.tensor([0, 1, 2, 3, 4, 5, 5, 0])
    z_Bd = head.bottleneck(features_BD)
    # Its layer holds all nodes' logits side by side: first the root's children, then each node's.
    node_logits = z_Bd @ head.node_weight_Td.T + head.node_bias_T
    slot_logits = torch.einsum("bd,tsd->bts", z_Bd, head.slot_weight_TSd) + head.slot_bias_TS
    flat = torch.cat([node_logits, slot_logits.flatten(1)], dim=1)
    targets = torch.tensor([root.node_to_id[leaves[c]] for c in labels_B.tolist()])
    theirs = hierarchicalsoftmax.HierarchicalSoftmaxLoss(root=root)(flat, targets)
    assert_close(-head.log_prob(features_BD, labels_B).mean(), theirs)


def test_empty_slots_take_no_probability_and_no_smoothing() -> None:
    head = tree(5, slots=4, order=[0, 1, 2, 3, 4])  # the second node holds one class in four slots
    decisions = head.decisions(torch.randn(1, 12), torch.tensor([4]))
    assert decisions[1].logits.isfinite().tolist() == [[True, False, False, False]]
    assert_close(CrossEntropy(label_smoothing=0.3)(*decisions[1]), torch.tensor(0.0))


def test_a_move_of_classes_moves_their_answers_only() -> None:
    plain, moved = tree(6, slots=3, order=[0, 1, 2, 3, 4, 5]), tree(6, slots=3, order=[3, 4, 5, 0, 1, 2])
    moved.load_state_dict({**plain.state_dict(), "position_C": moved.position_C})
    features_BD = torch.randn(2, 12)
    assert_close(plain(features_BD)[:, [3, 4, 5, 0, 1, 2]], moved(features_BD))


def test_taxonomic_order_puts_relatives_side_by_side() -> None:
    position_C = class_positions(FLORA, "taxonomic")
    by_position = [FLORA.names[c] for c in np.argsort(position_C)]
    assert by_position == ["Aster alpinus", "Bellis annua", "Quercus robur", "Acer opalus", "Acer rubrum"]
    assert class_positions(FLORA, "listed").tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        # SPEC section 1, C = 80,000; shapes only, so nothing of that size is allocated.
        (lambda: LinearHead(1792, 80_000), 143_440_000),
        (lambda: BottleneckHead(1792, 80_000), 10_320_000 + 229_504),
        (lambda: TreeHead(1792, np.arange(80_000), slots=80), 10_449_000 + 229_504),
        (lambda: TreeHead(1792, np.arange(80_000), slots=200), 10_371_600 + 229_504),
    ],
)
def test_sizes_of_the_paper(head, expected: int) -> None:
    with torch.device("meta"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "as_tensor", lambda values, dtype=None: torch.empty(len(values), dtype=dtype, device="meta"))
        assert sum(parameter.numel() for parameter in head().parameters()) == expected


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_stays_finite_in_half_precision(dtype: torch.dtype) -> None:
    head, features_BD = tree(5, slots=4).to(dtype), (torch.randn(4, 12) * 30).to(dtype)
    assert head(features_BD).isfinite().all()
    assert head.log_prob(features_BD, torch.tensor([0, 1, 2, 4])).isfinite().all()


@pytest.mark.parametrize("head", [LinearHead(12, 5), BottleneckHead(12, 5, width=4), build_head(TreeOptions(width=4), 12, FLORA)])
def test_every_head_agrees_with_its_own_log_prob(head: Head) -> None:
    features_BD, labels_B = torch.randn(6, 12), torch.tensor([0, 1, 2, 3, 4, 0])
    expected = head(features_BD).log_softmax(1).gather(1, labels_B[:, None]).squeeze(1)
    assert_close(head.log_prob(features_BD, labels_B), expected)
    order = torch.tensor([3, 1, 0, 2, 5, 4])
    assert_close(head(features_BD[order]), head(features_BD)[order])
