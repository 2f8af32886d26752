"""What losses are told of each choice's training images, head by head, against walks through the tree and plain loops.

Shapes: B images, D features, C classes, K choices.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from slow_trees import FACTS, FLORA, SHAPES, D, slow_paths, tree
from test_head_options import OPTIONS, made
from torch.testing import assert_close

from taxakey.errors import BadRecipe
from taxakey.losses.cross_entropy import CrossEntropyOptions
from taxakey.losses.decision import Answer
from taxakey.losses.facts import LossFacts
from taxakey.losses.logit_adjusted import LogitAdjusted, LogitAdjustedOptions
from taxakey.losses.loss_options import build_loss
from taxakey.losses.marginal import MarginalOptions
from taxakey.losses.seesaw import Seesaw, SeesawOptions
from taxakey.losses.taxon_labels import taxon_labels
from taxakey.models.adaptive import AdaptiveHead
from taxakey.models.heads import Head
from taxakey.models.sampled import SampledHead

COUNTS = FACTS.counts_C
assert COUNTS is not None
C = len(FLORA)
LOSS_FACTS = LossFacts(COUNTS, FLORA)
RIGHT = torch.arange(C)


def features(images: int, width: int = D) -> torch.Tensor:
    return torch.randn(images, width, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["seesaw", "logit_adjusted"])
def test_in_a_tree_each_node_weighs_its_subtrees(shape: str, kind: str) -> None:
    """Walk each class's path and apply the formula at every node to its children, in float64."""
    hierarchy = SHAPES[shape]
    counts_C = COUNTS[: hierarchy.classes]
    head = tree(hierarchy)
    features_BD, labels_B = features(hierarchy.classes), RIGHT[: hierarchy.classes]
    head.set_counts(counts_C)
    loss = Seesaw(0.7, 1.5, 0.05) if kind == "seesaw" else LogitAdjusted(0.8)
    found_B = loss(Answer(head, features_BD, labels_B))
    paths = slow_paths(hierarchy)
    below_E = [sum(int(counts_C[c]) for c, path in enumerate(paths) if edge in path) for edge in range(hierarchy.edges)]
    scores_BE = slow_scores(head, features_BD)
    for b, label in enumerate(labels_B.tolist()):
        total = 0.0
        for edge in paths[label]:
            node = int(hierarchy.source_E[edge])
            children = range(hierarchy.first_N1[node], hierarchy.first_N1[node + 1])
            total += slow_node_loss(kind, scores_BE[b], below_E, edge, children)
        assert float(found_B[b].detach()) == pytest.approx(total, rel=1e-4, abs=1e-5), (shape, label)
    found_B.sum().backward()
    assert all(p.grad is None or p.grad.to_dense().isfinite().all() for p in head.parameters())


def slow_scores(head: Head, features_BD: torch.Tensor) -> list[list[float]]:
    z_Bd = head.bottleneck(features_BD).double()
    weight_Ed = torch.cat([head.top_weight_Td, head.lower_weight_Ed]).double()
    return (z_Bd @ weight_Ed.T + torch.cat([head.top_bias_T, head.lower_bias_E]).double()).tolist()


def slow_node_loss(kind: str, score_E: list[float], below_E: list[int], true: int, children: range) -> float:
    total = sum(np.exp(score_E[edge]) for edge in children)
    share = {edge: np.exp(score_E[edge]) / total for edge in children}
    terms = {}
    for edge in children:
        if kind == "logit_adjusted":
            terms[edge] = np.exp(score_E[edge]) * below_E[edge] ** 0.8
        else:
            milder = min(1.0, (below_E[edge] / below_E[true]) ** 0.7)
            harder = max(1.0, (share[edge] / max(share[true], 0.05)) ** 1.5)
            terms[edge] = np.exp(score_E[edge]) * (1.0 if edge == true else milder * harder)
    return float(-np.log(terms[true] / sum(terms.values())))


def test_an_adaptive_heads_clusters_weigh_their_classes() -> None:
    torch.manual_seed(0)
    head = AdaptiveHead(D, COUNTS, width=5, cutoffs=(4, 9), div_value=1.0)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_()
    told_C = np.arange(1, C + 1) ** 2  # other counts than those that gave the places
    head.set_counts(told_C)
    by_place = [int(told_C[c]) for place in range(C) for c in range(C) if int(head.place_C[c]) == place]
    first, *tails = head.decisions(features(C), RIGHT)
    assert first.counts is not None
    assert first.counts.tolist() == [*by_place[:4], sum(by_place[4:9]), sum(by_place[9:])]
    assert [decision.counts.tolist() for decision in tails] == [by_place[4:9], by_place[9:]]
    for decision in (first, *tails):
        assert decision.counts.shape == decision.logits.shape[1:]
    # A class's own count stands in the column that is right for it.
    for c in range(C):
        column = [float(d.counts[d.labels[c]]) for d in (first, *tails) if d.logits[c].isfinite().sum() > 1]
        assert column[-1] == told_C[c]


def test_a_sampled_heads_choices_have_their_classes_counts() -> None:
    torch.manual_seed(0)
    head = SampledHead(D, C, width=4, share=0.3)
    head.set_counts(np.arange(C) + 100)
    with torch.no_grad():
        head.bias_C.copy_(torch.arange(C))  # which class a column is can be read from its bias
        head.weight_Cd.zero_()
    (decision,) = head.decisions(features(3), torch.tensor([2, 7, 2]))
    assert decision.counts is not None
    correction = np.log((C - 2) / head.samples)
    classes_S = [round(float(b) - (correction if s >= 2 else 0)) for s, b in enumerate(decision.logits[0].detach())]
    assert decision.counts.tolist() == [c + 100 for c in classes_S]
    assert classes_S[:2] == [2, 7]


def test_a_sample_of_everything_is_adjusted_like_the_flat_head() -> None:
    torch.manual_seed(0)
    head = SampledHead(D, C, width=4, share=1.0)
    head.set_counts(COUNTS)
    features_BD, labels_B = features(5), torch.tensor([3, 1, 0, 12, 3])
    expected_B = torch.nn.functional.cross_entropy(
        head(features_BD) + torch.tensor(COUNTS, dtype=torch.float32).log(), labels_B, reduction="none"
    )
    assert_close(LogitAdjusted()(Answer(head, features_BD, labels_B)), expected_B)


@pytest.mark.parametrize("name", [name for name in OPTIONS if not name.startswith("hashed")])
def test_every_head_learns_by_the_losses_of_the_long_tail(name: str) -> None:
    head = made(name, large=False).train()
    lists = [(SeesawOptions(),), (LogitAdjustedOptions(label_smoothing=0.1),)]
    if not getattr(OPTIONS[name], "sparse", False):
        lists.append((CrossEntropyOptions(), MarginalOptions()))
    labels_B = torch.cat([RIGHT, torch.tensor([4, 4])])
    for losses in lists:
        loss = build_loss(losses, head, LOSS_FACTS)
        if isinstance(losses[-1], MarginalOptions):
            labels_B[-2:] = torch.as_tensor(taxon_labels(FLORA, "genus", ["Aster", "Acer"]))
        optimizer = torch.optim.SGD(head.parameters(), lr=0.05)
        history = []
        for _ in range(30):
            loss_B = loss(Answer(head, features(C + 2, 10), labels_B))
            assert loss_B.shape == (C + 2,)
            optimizer.zero_grad()
            loss_B.mean().backward()
            optimizer.step()
            history.append(float(loss_B.mean().detach()))
        assert np.isfinite(history).all()
        assert np.mean(history[-5:]) < np.mean(history[:5]), losses


def test_a_flat_head_gives_its_own_logits_as_scores_and_a_tree_its_joint() -> None:
    for name in ("bottleneck", "factorised by genus", "tree of taxa", "sampled", "adaptive", "hashed"):
        head = made(name)
        answer = Answer(head, features(4, 10), torch.tensor([0, 1, 2, 3]))
        assert_close(answer.scores_BC, head(features(4, 10)))
        assert head.flat == (name in ("bottleneck", "factorised by genus"))
        assert (answer.scores_BC is answer.decisions[0].logits) == head.flat


def test_hashed_buckets_refuse_counts() -> None:
    with pytest.raises(BadRecipe, match="buckets that hold rare and common classes together"):
        build_loss((SeesawOptions(),), made("hashed"), LOSS_FACTS)


def test_counts_are_not_stored_and_must_fit() -> None:
    for name in ("linear", "tree", "adaptive", "sampled"):
        head = made(name)
        before = set(head.state_dict())
        head.set_counts(COUNTS)
        assert set(head.state_dict()) == before
        with pytest.raises(ValueError, match="12 counts for 13 classes"):
            head.set_counts(COUNTS[:12])
