"""What must hold for every head that options can describe: one table, and each test runs over all of it."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from slow_trees import FLORA
from torch.testing import assert_close

from taxakey.errors import BadRecipe
from taxakey.losses.cross_entropy import CrossEntropy
from taxakey.losses.decision import Answer
from taxakey.models.adaptive import AdaptiveOptions
from taxakey.models.class_means import FeatureStatistics
from taxakey.models.cosine import ArcFaceOptions, CosineOptions
from taxakey.models.factorised import FactorisedOptions
from taxakey.models.hashed import HashedOptions
from taxakey.models.head_options import ClassFacts, HeadOptions, build_head, build_hierarchy, wants_statistics
from taxakey.models.heads import BottleneckOptions, Head, LinearOptions, first_k
from taxakey.models.hierarchies import Hierarchy
from taxakey.models.metadata import MetadataTransformerOptions
from taxakey.models.mlp import MlpOptions
from taxakey.models.sampled import SampledOptions
from taxakey.models.targets import SeveralTargets, TargetOptions, species_head, with_targets
from taxakey.models.trees import TreeHead, TreeOptions
from taxakey.taxonomy import Taxonomy

C, D = len(FLORA), 10

OPTIONS: dict[str, HeadOptions] = {
    "metadata transformer": MetadataTransformerOptions(layers=2, attention_heads=2, feed_forward=12, hidden=24, token_hidden=6),
    "linear": LinearOptions(dropout=0.3),
    "linear from means": LinearOptions(start="class_means"),
    "bottleneck": BottleneckOptions(width=8),
    "bottleneck with relu": BottleneckOptions(width=8, activation="relu"),
    "bottleneck from means": BottleneckOptions(width=8, start="class_means"),
    "tree": TreeOptions(width=8),
    "tree without bottleneck": TreeOptions(width=None, slots=3, order="listed"),
    "tree of three levels": TreeOptions(width=8, slots=(2, 3), order="random", activation="relu"),
    "tree of taxa": TreeOptions(width=8, nodes="taxa", sparse=True),
    "tree of taxa from means": TreeOptions(width=8, nodes="taxa", start="class_means"),
    "tree of genera": TreeOptions(width=8, nodes="genera"),
    "tree by frequency": TreeOptions(width=8, slots=5, order="frequency"),
    "tree by huffman": TreeOptions(width=8, nodes="huffman", slots=2, sparse=True),
    "tree of clusters": TreeOptions(width=8, nodes="clusters", slots=4),
    "tree of neighbours": TreeOptions(width=8, slots=(2, 3), order="clustered"),
    "factorised by family": FactorisedOptions(rank=6),
    "factorised by genus": FactorisedOptions(rank=6, groups="genus"),
    "adaptive": AdaptiveOptions(width=8),
    "adaptive on all features": AdaptiveOptions(width=None, cutoffs=(4, 9)),
    "hashed": HashedOptions(width=8, hashes=3, buckets=7),
    "sampled": SampledOptions(width=8, share=0.5),
    "sampled sparsely": SampledOptions(width=8, share=0.2, sparse=True),
    "mlp": MlpOptions(hidden=24, dropout=0.2),
    "mlp with squared relu": MlpOptions(hidden=24, activation="squared_relu"),
    "cosine": CosineOptions(scale=12),
    "arcface": ArcFaceOptions(scale=15, margin=0.4, centres=3),
    "linear, genus and family": LinearOptions(),
    "tree of taxa, genus and family": TreeOptions(width=8, nodes="taxa", sparse=True),
    "arcface, genus and family": ArcFaceOptions(scale=15),
}
RANKS = TargetOptions(species=0.9, ranks={"genus": 0.4, "family": 0.2})
every_head = pytest.mark.parametrize("name", OPTIONS)


def _vectors() -> tuple[np.ndarray, np.ndarray]:
    """Training vectors [O, D] and their classes, from two to thirty of each class."""
    rng = np.random.default_rng(0)
    labels_O = np.repeat(np.arange(C), np.array([30, 4, 5, 22, 7, 2, 12, 13, 19, 6, 3, 2, 25]))
    return (rng.normal(size=(C, D))[labels_O] + 0.7 * rng.normal(size=(len(labels_O), D))).astype(np.float32), labels_O


VECTORS_OD, LABELS_O = _vectors()
FACTS = ClassFacts(np.bincount(LABELS_O), FeatureStatistics.of([(VECTORS_OD, LABELS_O)], C), seed=3)


def built(name: str, taxonomy: Taxonomy, facts: ClassFacts | None = None, hierarchy: Hierarchy | None = None) -> Head:
    head = build_head(OPTIONS[name], D, taxonomy, facts, hierarchy)
    return with_targets(head, RANKS, taxonomy) if "genus and family" in name else head


def made(name: str, *, large: bool = True) -> Head:
    """A head as it answers; `large` weights, where they are random, make it sure of what it says."""
    torch.manual_seed(0)
    head = built(name, FLORA, FACTS).eval()
    if large and "means" not in name:
        with torch.no_grad():
            for parameter in head.parameters():
                parameter.normal_(std=0.5)
    return head


def hierarchy_of(head: Head) -> Hierarchy | None:
    """A tree's, rebuilt from what is stored."""
    stored = species_head(head).state_dict()
    return (
        Hierarchy(stored["first_N1"].numpy().astype(int), stored["target_E"].numpy().astype(int))
        if "first_N1" in stored
        else None
    )


def features(images: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(images, D, generator=torch.Generator().manual_seed(seed))


def test_every_kind_of_head_stands_in_the_table() -> None:
    assert {type(options) for options in OPTIONS.values()} == set(get_args(HeadOptions))


@every_head
def test_probabilities_of_all_classes_sum_to_one(name: str) -> None:
    head = made(name)
    for dtype in (torch.float32, torch.bfloat16):
        log_p_BC = head.to(dtype).log_prob_all(features(5).to(dtype) * 3)
        assert log_p_BC.shape == (5, C)
        assert log_p_BC.dtype == torch.float32
        assert_close(log_p_BC.exp().sum(1), torch.ones(5))


@every_head
@pytest.mark.parametrize("rank", ["genus", "family"])
def test_a_taxon_is_as_probable_as_its_classes_together(name: str, rank: str) -> None:
    head, features_BD, codes_C = made(name), features(4), FLORA.codes(rank)
    p_BC = head.log_prob_all(features_BD).exp()
    wanted_BG = torch.stack([p_BC[:, codes_C == g].sum(1) for g in range(codes_C.max() + 1)], dim=1)
    assert_close(head.node_log_prob(features_BD, codes_C).exp(), wanted_BG, rtol=1e-5, atol=1e-6)


@every_head
def test_no_images_have_no_answers(name: str) -> None:
    ranked = made(name).top_k(features(0), 3)
    assert [tuple(part.shape) for part in ranked] == [(0, 3), (0, 3), (0,)]


@every_head
def test_all_ways_to_ask_agree(name: str) -> None:
    head, features_BD = made(name), features(20)
    log_p_BC = head.log_prob_all(features_BD)
    assert_close(head(features_BD).log_softmax(1), log_p_BC)
    for c in range(C):
        assert_close(head.log_prob(features_BD, torch.full((20,), c)), log_p_BC[:, c], rtol=1e-5, atol=1e-5)
    for k in (1, 4, C):
        ranked, (expected_Bk, classes_Bk) = head.top_k(features_BD, k), first_k(log_p_BC, k)
        assert ranked.classes.tolist() == classes_Bk.tolist()
        assert_close(ranked.log_prob, expected_Bk)
        tree = species_head(head)
        nodes = tree.hierarchy.nodes if isinstance(tree, TreeHead) else 1
        assert 1 <= ranked.opened.min() <= ranked.opened.max() <= nodes
    for k in (0, C + 1):
        with pytest.raises(ValueError, match=f"{C} classes"):
            head.top_k(features_BD, k)


@every_head
def test_equal_probabilities_come_in_the_order_of_the_classes(name: str) -> None:
    head = made(name)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
    (log_p_C,) = head.log_prob_all(features(1)).tolist()
    expected = sorted(range(C), key=lambda c: (-log_p_C[c], c))
    for k in range(1, C + 1):
        assert head.top_k(features(2), k).classes.tolist() == [expected[:k]] * 2


@every_head
def test_an_image_is_answered_whatever_its_batch(name: str) -> None:
    head, features_BD = made(name), features(9)
    labels_B, order_B = torch.arange(9) % C, torch.randperm(9, generator=torch.Generator().manual_seed(2))
    whole, ranked = head.log_prob_all(features_BD), head.top_k(features_BD, 4)
    log_p_B = head.log_prob(features_BD, labels_B)
    assert_close(head.log_prob_all(features_BD[order_B]), whole[order_B])
    assert_close(head.log_prob(features_BD[order_B], labels_B[order_B]), log_p_B[order_B])
    assert head.top_k(features_BD[order_B], 4).classes.tolist() == ranked.classes[order_B].tolist()
    for image in range(9):
        alone = slice(image, image + 1)
        assert_close(head.log_prob_all(features_BD[alone]), whole[alone])
        assert_close(head.log_prob(features_BD[alone], labels_B[alone]), log_p_B[alone])
        one = head.top_k(features_BD[alone], 4)
        assert one.classes.tolist() == ranked.classes[alone].tolist()
        assert_close(one.log_prob, ranked.log_prob[alone])
        assert int(one.opened) == int(ranked.opened[image])


@every_head
def test_what_is_stored_answers_the_same_when_read(name: str) -> None:
    head, features_BD = made(name), features(6)
    torch.manual_seed(99)
    again = built(name, FLORA, hierarchy=hierarchy_of(head)).eval()  # no facts: what they decided is stored
    again.load_state_dict(head.state_dict())
    assert torch.equal(again.log_prob_all(features_BD), head.log_prob_all(features_BD))
    assert again.top_k(features_BD, 5).classes.tolist() == head.top_k(features_BD, 5).classes.tolist()
    for training in (True, False):
        assert again.multiply_adds(training=training) == head.multiply_adds(training=training)


@every_head
def test_naming_classes_in_another_order_changes_nothing(name: str) -> None:
    head, features_BD = made(name), features(6)
    old_C = np.random.default_rng(4).permutation(C)  # what the new classes were called before
    rows = FLORA.table.to_pylist()
    renamed = Taxonomy.from_rows({**rows[old], "scientificName": f"{new:02d}"} for new, old in enumerate(old_C))
    stored, hierarchy = dict(head.state_dict()), hierarchy_of(head)
    if hierarchy is not None:
        target_E = hierarchy.target_E.copy()
        target_E[hierarchy.leaf_edge_C[old_C]] = -1 - np.arange(C)
        hierarchy = Hierarchy(hierarchy.first_N1, target_E)
        stored["species.target_E" if isinstance(head, SeveralTargets) else "target_E"] = torch.from_numpy(target_E)
    else:
        per_class = {key for key, value in stored.items() if value.shape[:1] == (C,)}
        stored |= {key: stored[key][old_C] for key in per_class}
        stored |= {key: value[:, old_C] for key, value in stored.items() if key == "bucket_RC"}
    moved = built(name, renamed, FACTS, hierarchy).eval()
    moved.load_state_dict(stored)
    assert_close(moved.log_prob_all(features_BD), head.log_prob_all(features_BD)[:, old_C])
    labels_B = torch.arange(6)
    assert_close(moved.log_prob(features_BD, labels_B), head.log_prob(features_BD, torch.from_numpy(old_C)[:6]))
    new, old = moved.top_k(features_BD, 5), head.top_k(features_BD, 5)
    assert old_C[new.classes].tolist() == old.classes.tolist()
    assert new.opened.tolist() == old.opened.tolist()


@every_head
def test_training_lowers_the_loss_and_raises_the_likelihood(name: str) -> None:
    head = made(name, large=False).train()
    features_BD, labels_B = torch.from_numpy(VECTORS_OD), torch.from_numpy(LABELS_O)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    before = head.eval().log_prob(features_BD, labels_B).mean()
    losses = []
    for _ in range(25):
        decisions = head.train().decisions(features_BD, labels_B)
        assert all(decision.logits.shape[0] == decision.labels.shape[0] == len(labels_B) for decision in decisions)
        loss = torch.stack([CrossEntropy().of_decision(decision).mean() for decision in decisions]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.98 * np.mean(losses[:3])
    assert head.eval().log_prob(features_BD, labels_B).mean() > before + 0.02


@every_head
def test_sparse_gradients_come_only_where_they_were_asked_for(name: str) -> None:
    head = made(name)
    decisions = head.decisions(features(4), torch.tensor([1, 2, 5, 12]))
    torch.stack([CrossEntropy().of_decision(decision).mean() for decision in decisions]).sum().backward()
    sparse = [key for key, p in head.named_parameters() if p.grad is not None and p.grad.is_sparse]
    assert bool(sparse) == getattr(OPTIONS[name], "sparse", False)


# ---- trees from options ----


@pytest.mark.parametrize(
    "options", [TreeOptions(nodes="huffman"), *(options for options in OPTIONS.values() if isinstance(options, TreeOptions))]
)
def test_one_and_two_classes_make_trees_too(options: TreeOptions) -> None:
    for classes in (1, 2):
        few = Taxonomy.from_rows(FLORA.table.to_pylist()[:classes])
        labels_O = np.arange(10) % classes
        facts = ClassFacts(np.bincount(labels_O), FeatureStatistics.of([(VECTORS_OD[:10], labels_O)], classes))
        head = build_head(options, D, few, facts)
        log_p_BC = head.log_prob_all(features(3))
        assert log_p_BC.isfinite().all()
        assert_close(log_p_BC.exp().sum(1), torch.ones(3))
        assert head.top_k(features(3), classes).classes.shape == (3, classes)
        loss = CrossEntropy()(Answer(head, features(3), torch.zeros(3, dtype=torch.long))).mean()
        loss.backward()
        assert loss.isfinite()
        assert all(p.grad is None or p.grad.to_dense().isfinite().all() for p in head.parameters())


def test_default_slots_are_the_root_of_the_number_of_classes_rounded_up() -> None:
    assert build_hierarchy(TreeOptions(), FLORA, FACTS).fan_N.tolist() == [4, 4, 4, 4, 1]
    assert build_hierarchy(TreeOptions(nodes="huffman"), FLORA, FACTS).fan_N.max() == 4


def test_orders_decide_who_sits_where() -> None:
    counts_C = np.arange(C)[::-1]
    listed = build_hierarchy(TreeOptions(order="listed"), FLORA, FACTS)
    assert listed.listing().tolist() == list(range(C))
    rarest_last = build_hierarchy(TreeOptions(order="frequency"), FLORA, ClassFacts(counts_C[::-1].copy()))
    assert rarest_last.listing().tolist() == list(range(C))[::-1]
    shuffled = [
        build_hierarchy(TreeOptions(order="random"), FLORA, ClassFacts(seed=seed)).listing().tolist() for seed in (1, 1, 2)
    ]
    assert shuffled[0] == shuffled[1] != shuffled[2]
    taxa = [FLORA.names[c] for c in build_hierarchy(TreeOptions(), FLORA, FACTS).listing()]
    assert taxa[:4] == ["Planta obscura", "Mystica alba", "Mystica nigra", "Herba ignota"]


@pytest.mark.parametrize(
    "options",
    [
        TreeOptions(order="frequency"),
        TreeOptions(nodes="huffman"),
        TreeOptions(order="clustered"),
        TreeOptions(nodes="clusters"),
    ],
)
def test_facts_that_are_needed_and_missing_are_named(options: TreeOptions) -> None:
    with pytest.raises(BadRecipe, match=r"embeddings" if wants_statistics(options) else r"number of training pictures"):
        build_head(options, D, FLORA)


@pytest.mark.parametrize("name", OPTIONS)
def test_only_clusters_neighbours_and_means_ask_for_embeddings(name: str) -> None:
    assert wants_statistics(OPTIONS[name]) == any(word in name for word in ("clusters", "neighbours", "means"))
