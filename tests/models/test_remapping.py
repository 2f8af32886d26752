"""Going on from another head: what both know keeps its answers, whatever the kind of head and wherever its classes stand."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from taxakey.models.adaptive import AdaptiveOptions
from taxakey.models.cosine import ArcFaceOptions, CosineOptions
from taxakey.models.factorised import FactorisedOptions
from taxakey.models.hashed import HashedOptions
from taxakey.models.head_options import ClassFacts, HeadOptions, build_head
from taxakey.models.heads import BottleneckOptions, Head, LinearOptions
from taxakey.models.hierarchies import Hierarchy
from taxakey.models.metadata import MetadataTransformerOptions
from taxakey.models.mlp import MlpOptions
from taxakey.models.remapping import same_edges, take_over
from taxakey.models.sampled import SampledOptions
from taxakey.models.trees import TreeHead, TreeOptions
from taxakey.taxonomy import Taxonomy, same_classes

FEATURES = 12
# Families of genera of species; the second flora lacks some, has others, and puts them all into another order.
FIRST = {"Aaceae": {"Aa": "abc", "Ab": "ab"}, "Baceae": {"Ba": "abcd", "Bb": "a"}, "Caceae": {"Ca": "ab"}}
SECOND = {"Zaceae": {"Za": "ab"}, "Aaceae": {"Aa": "bcz", "Ab": "ab"}, "Baceae": {"Ba": "acd"}, "Caceae": {"Ca": "ab"}}


def flora(families: dict[str, dict[str, str]], **ids: str) -> Taxonomy:
    rows = []
    for family, genera in families.items():
        for genus, species in genera.items():
            rows += [{"scientificName": f"{genus} {name}", "genus": genus, "family": family} for name in species]
    return Taxonomy.from_rows([{**row, "taxonID": ids.get(row["scientificName"].replace(" ", "_"), "")} for row in rows])


def made(options: HeadOptions, taxonomy: Taxonomy, seed: int) -> Head:
    """A head with weights all over, as after training."""
    torch.manual_seed(seed)
    counts_C = np.random.default_rng(seed).integers(1, 50, len(taxonomy))
    head = build_head(options, FEATURES, taxonomy, ClassFacts(counts_C, None, seed))
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_()
    return head.eval()


ALL = {kind: kind() for kind in get_args(HeadOptions)}
SMALL: dict[type, dict[str, object]] = {
    LinearOptions: {},
    FactorisedOptions: {"rank": 4},
    HashedOptions: {"width": 5, "buckets": 6},
    MlpOptions: {"hidden": 5},
    CosineOptions: {},
    ArcFaceOptions: {},
    MetadataTransformerOptions: {"layers": 1, "attention_heads": 1, "feed_forward": 5, "hidden": 5, "token_hidden": 3},
}


def options_of(kind: type) -> HeadOptions:
    return replace(ALL[kind], **SMALL.get(kind, {"width": 5}))


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_with_the_same_classes_every_head_goes_on_as_it_was(kind: type) -> None:
    taxonomy = flora(FIRST)
    old, new = made(options_of(kind), taxonomy, 1), made(options_of(kind), taxonomy, 2)
    if isinstance(old, TreeHead):
        assert old.hierarchy.edges == new.hierarchy.edges
    taken = take_over(new, old, same_classes(taxonomy, taxonomy))
    features_BD = torch.randn(4, FEATURES)
    assert taken.classes_C.all(), taken.words
    assert_close(new(features_BD), old(features_BD))


@pytest.mark.parametrize(
    "options",
    [LinearOptions(dropout=0.2), BottleneckOptions(width=5), SampledOptions(width=5), FactorisedOptions(rank=4),
     FactorisedOptions(rank=4, groups="genus"), HashedOptions(width=5, buckets=6), TreeOptions(width=5, nodes="taxa"),
     TreeOptions(width=None, nodes="genera")],
    ids=str,
)  # fmt: skip
def test_known_classes_keep_their_ratios_among_each_other(options: HeadOptions) -> None:
    """In a tree those of one node do; the others' also hang on what else its nodes hold now."""
    first, second = flora(FIRST), flora(SECOND)
    old, new = made(options, first, 1), made(options, second, 2)
    match_C = same_classes(second, first)
    taken = take_over(new, old, match_C)
    known = np.flatnonzero(match_C >= 0)
    assert taken.classes_C[known].all(), taken.words
    assert not taken.classes_C[match_C < 0].any()
    features_BD = torch.randn(4, FEATURES)
    mine, theirs = new(features_BD)[:, known].log_softmax(1), old(features_BD)[:, match_C[known]].log_softmax(1)
    genera = [second.names[c].split()[0] for c in known] if isinstance(new, TreeHead) else [""] * len(known)
    for genus in set(genera):
        rows = [row for row, other in enumerate(genera) if other == genus]
        assert_close(mine[:, rows].log_softmax(1), theirs[:, rows].log_softmax(1))


def test_new_classes_keep_what_they_were_drawn_with() -> None:
    first, second = flora(FIRST), flora(SECOND)
    old, new = made(LinearOptions(), first, 1), made(LinearOptions(), second, 2)
    before = new.linear.weight.clone()
    take_over(new, old, same_classes(second, first))
    fresh = [c for c, name in enumerate(second.names) if name not in first.names]
    assert [second.names[c] for c in fresh] == ["Aa z", "Za a", "Za b"]
    assert_close(new.linear.weight[fresh], before[fresh])
    a = second.names.index("Ab b")
    assert_close(new.linear.weight[a], old.linear.weight[first.names.index("Ab b")])


def test_a_sampled_head_and_a_bottleneck_head_are_the_same_network() -> None:
    taxonomy = flora(FIRST)
    old, new = made(SampledOptions(width=5), taxonomy, 1), made(BottleneckOptions(width=5), taxonomy, 2)
    assert take_over(new, old, same_classes(taxonomy, taxonomy)).classes_C.all()
    features_BD = torch.randn(4, FEATURES)
    assert_close(new(features_BD), old(features_BD))


def test_adaptive_rows_go_where_their_cluster_is_the_same() -> None:
    first, second = flora(FIRST), flora(SECOND)
    old, new = made(AdaptiveOptions(width=6, cutoffs=(4,)), first, 1), made(AdaptiveOptions(width=6, cutoffs=(5,)), second, 2)
    match_C = same_classes(second, first)
    taken = take_over(new, old, match_C)
    for index, before in enumerate(match_C):
        shortlisted = bool(new.place_C[index] < 5), bool(before >= 0 and old.place_C[before] < 4)
        assert taken.classes_C[index] == (before >= 0 and shortlisted[0] == shortlisted[1])
        if not taken.classes_C[index]:
            continue
        tables = [one.softmax.head.weight if shortlisted[0] else one.softmax.tail[0][1].weight for one in (new, old)]
        rows = [int(new.place_C[index]) - (0 if shortlisted[0] else 5), int(old.place_C[before]) - (0 if shortlisted[0] else 4)]
        assert_close(tables[0][rows[0]], tables[1][rows[1]])
    assert 0 < taken.classes_C.sum() < (match_C >= 0).sum(), "the case must hold both kinds"
    assert_close(new.softmax.head.weight[5], old.softmax.head.weight[4])  # the column of the cluster itself


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (TreeOptions(width=5), BottleneckOptions(width=5), "bottleneck only"),
        (BottleneckOptions(width=5), BottleneckOptions(width=6), "nothing of the head"),
        (BottleneckOptions(width=5, activation="relu"), BottleneckOptions(width=5), "nothing of the head"),
        (LinearOptions(), BottleneckOptions(width=5), "nothing of the head"),
        (HashedOptions(width=5, buckets=4), HashedOptions(width=5, buckets=6), "other numbers of hashes or buckets"),
        (AdaptiveOptions(width=6, cutoffs=(2, 4)), AdaptiveOptions(width=6, cutoffs=(4,)), "another number of clusters"),
        (FactorisedOptions(rank=4), FactorisedOptions(rank=3), "another rank"),
    ],
)
def test_what_does_not_fit_is_said_and_left_alone(old: HeadOptions, new: HeadOptions, words: str) -> None:
    taxonomy = flora(FIRST)
    before, head = made(old, taxonomy, 1), made(new, taxonomy, 2)
    drawn = {name: tensor.clone() for name, tensor in head.state_dict().items()}
    taken = take_over(head, before, same_classes(taxonomy, taxonomy))
    assert not taken.classes_C.any()
    assert words in taken.words
    changed = {name for name, tensor in head.state_dict().items() if not torch.equal(tensor, drawn[name])}
    assert all(name.startswith("bottleneck.") for name in changed)
    assert bool(changed) == ("bottleneck only" in words or "number" in words)


def test_edges_of_an_arbitrary_tree_match_only_where_the_sets_do() -> None:
    """Against plain sets of names, for even nodes that a new class has shifted."""
    first, second = flora(FIRST), flora(SECOND)
    trees = [Hierarchy.even(np.arange(len(taxonomy)), 4) for taxonomy in (first, second)]
    shared = set(first.names) & set(second.names)

    def sets(tree: Hierarchy, taxonomy: Taxonomy) -> list[tuple[frozenset[str], frozenset[str]]]:
        below = [frozenset(taxonomy.names[c] for c in np.flatnonzero((tree.path_CL == edge).any(1))) & shared for edge in
                 range(tree.edges)]  # fmt: skip
        above = [frozenset().union(*(below[other] for other in np.flatnonzero(tree.source_E == tree.source_E[edge]))) for edge in
                 range(tree.edges)]  # fmt: skip
        return list(zip(above, below, strict=True))

    old_sets, new_sets = sets(trees[0], first), sets(trees[1], second)
    match_E = same_edges(trees[1], trees[0], same_classes(second, first))
    for edge, (above, below) in enumerate(new_sets):
        possible = [other for other, pair in enumerate(old_sets) if pair == (above, below)] if below else []
        assert (match_E[edge] in possible) if possible else match_E[edge] == -1
    assert 0 < (match_E >= 0).sum() < len(match_E)


def test_a_renamed_class_is_found_by_its_id_where_both_lists_number_alike() -> None:
    before = flora({"F": {"A": "abc"}}, A_a="1", A_b="2", A_c="3")
    now = flora({"F": {"A": "ab", "B": "cd"}}, A_a="1", A_b="2", B_c="3", B_d="4")
    assert same_classes(now, before).tolist() == [0, 1, 2, -1]
    # Another checklist counts in its own way: its 3 is not ours.
    other = flora({"F": {"A": "ab", "B": "cd"}}, A_a="7", A_b="1", B_c="3", B_d="2")
    assert same_classes(other, before).tolist() == [0, 1, -1, -1]
    # An ID whose class is found by its name already belongs to nobody else.
    twice = flora({"F": {"A": "ab", "B": "c"}}, A_a="1", A_b="2", B_c="1")
    assert same_classes(twice, before).tolist() == [0, 1, -1]


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_with_no_class_in_common_no_class_is_taken_over(kind: type) -> None:
    first, second = flora(FIRST), flora({"Xaceae": {"Xa": "abcde", "Xb": "abcdef"}})
    old, new = made(options_of(kind), first, 1), made(options_of(kind), second, 2)
    assert not take_over(new, old, same_classes(second, first)).classes_C.any()
    assert torch.isfinite(new(torch.randn(2, FEATURES))).all()
