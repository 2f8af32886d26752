"""A pruned head's answers are the full head's, restricted and renormalised."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from taxakey.errors import BadInput
from taxakey.models.head_options import (
    AdaptiveOptions,
    ArcFaceOptions,
    BottleneckOptions,
    ClassFacts,
    CosineOptions,
    FactorisedOptions,
    HashedOptions,
    HeadOptions,
    LinearOptions,
    MlpOptions,
    SampledOptions,
    TreeOptions,
    build_head,
)
from taxakey.models.heads import Head
from taxakey.models.hierarchies import Hierarchy
from taxakey.models.metadata import MetadataTransformerOptions
from taxakey.models.pruning import pruned, pruned_hierarchy
from taxakey.models.targets import TargetOptions, with_targets
from taxakey.taxonomy import Taxonomy

SPECIES = 24
FEATURES = 8
ROWS = [
    LinearOptions(),
    BottleneckOptions(width=5),
    MlpOptions(hidden=9),
    CosineOptions(),
    ArcFaceOptions(),
    SampledOptions(width=4),
]
TREES = [
    TreeOptions(width=5),
    TreeOptions(width=None, nodes="taxa"),
    TreeOptions(width=5, nodes="genera", order="taxonomic"),
    TreeOptions(width=5, nodes="huffman", slots=3, order="frequency"),
    TreeOptions(width=5, slots=(2, 3, 2), order="random"),
]
KEPT = [[3], [0, 1, 2], [0, 5, 6, 13, 23], list(range(1, SPECIES)), list(range(SPECIES)), [4, 5, 6, 7]]


@pytest.fixture(scope="module")
def taxonomy() -> Taxonomy:
    rows = [{"scientificName": f"G{i // 4} s{i:02d}", "genus": f"G{i // 4}", "family": f"F{i // 8}"} for i in range(SPECIES)]
    return Taxonomy.from_rows(rows)


def lively(options: HeadOptions, taxonomy: Taxonomy) -> Head:
    torch.manual_seed(3)
    metadata = (2, 1) if isinstance(options, MetadataTransformerOptions) else ()
    counts_C = np.arange(SPECIES)[::-1] ** 2 + 1
    head = build_head(options, FEATURES, taxonomy, ClassFacts(counts_C, seed=1), metadata=metadata)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return head.eval()


def expected(head: Head, features_BD: torch.Tensor, kept: list[int], temperature: float) -> torch.Tensor:
    restricted = (head(features_BD) / temperature).softmax(1)[:, kept]
    return restricted / restricted.sum(1, keepdim=True)


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: f"{len(kept)} from {kept[0]}")
@pytest.mark.parametrize(
    "options",
    [*ROWS, FactorisedOptions(rank=3), *TREES, MetadataTransformerOptions(layers=1, attention_heads=2, feed_forward=8, hidden=6)],
    ids=lambda options: f"{options.kind} {getattr(options, 'nodes', '')}",
)
def test_answers_are_the_full_ones_restricted_and_renormalised(options: HeadOptions, kept: list[int], taxonomy: Taxonomy) -> None:
    head = lively(options, taxonomy)
    before = {name: tensor.clone() for name, tensor in head.state_dict().items()}
    smaller = pruned(head, np.array(kept))
    features = torch.randn(6, head.in_features, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for temperature in (1.0, 1.7):
            found = (smaller(features) / temperature).softmax(1)
            torch.testing.assert_close(found, expected(head, features, kept, temperature), atol=1e-6, rtol=1e-4)
    assert all(torch.equal(tensor, before[name]) for name, tensor in head.state_dict().items())
    assert not smaller.training


@pytest.mark.parametrize("options", ROWS, ids=lambda options: options.kind)
def test_nothing_of_the_other_classes_is_left(options: HeadOptions, taxonomy: Taxonomy) -> None:
    head = lively(options, taxonomy)
    smaller = pruned(head, np.array([2, 9, 17]))
    for role, name in head.class_rows.items():
        rows, kept = head.state_dict()[name], smaller.state_dict()[name]
        assert torch.equal(kept, rows[[2, 9, 17]]), role
    assert smaller.state_dict().keys() == head.state_dict().keys()


def test_a_group_without_a_kept_class_goes(taxonomy: Taxonomy) -> None:
    smaller = pruned(lively(FactorisedOptions(rank=3, groups="genus"), taxonomy), np.array([0, 1, 20]))
    assert len(smaller.group_weight_GD) == 2


def test_a_tree_keeps_the_edges_that_its_kept_classes_need() -> None:
    # root -> (n1 -> 0, 1), (n2 -> 2, 3), 4
    hierarchy = Hierarchy.build(np.array([-1, 0, 0]), np.array([1, 1, 2, 2, 0]))
    assert hierarchy.target_E.tolist() == [1, 2, -5, -1, -2, -3, -4]
    smaller, edges = pruned_hierarchy(hierarchy, np.array([0, 2, 3]))
    # Class 4's edge at the root goes: one number for all. Class 1's stays: what it takes from n1 isn't taken from n2.
    assert edges.tolist() == [0, 1, 3, 4, 5, 6]
    assert smaller.target_E.tolist() == [1, 2, -1, -4, -2, -3]
    smaller, edges = pruned_hierarchy(hierarchy, np.array([2, 3]))
    assert (edges.tolist(), smaller.nodes) == ([5, 6], 1)  # the root of n2's own tree
    smaller, edges = pruned_hierarchy(hierarchy, np.array([1, 4]))
    assert edges.tolist() == [0, 2, 3, 4]


def test_of_a_head_with_further_targets_the_species_are_kept(taxonomy: Taxonomy) -> None:
    plain = lively(LinearOptions(), taxonomy)
    several = with_targets(plain, TargetOptions(ranks={"genus": 0.5}), taxonomy)
    assert torch.equal(pruned(several, np.array([1, 3])).state_dict()["linear.weight"], plain.linear.weight[[1, 3]])


@pytest.mark.parametrize("options", [HashedOptions(width=4), AdaptiveOptions(width=4)], ids=lambda options: options.kind)
def test_shared_weights_can_not_be_left_out(options: HeadOptions, taxonomy: Taxonomy) -> None:
    with pytest.raises(BadInput, match=r"share their weights.*--only"):
        pruned(lively(options, taxonomy), np.array([0, 1]))


@pytest.mark.parametrize("kept", [[], [3, 1], [1, 1], [0, SPECIES]])
def test_positions_are_checked(kept: list[int], taxonomy: Taxonomy) -> None:
    with pytest.raises(ValueError, match="rising"):
        pruned(lively(LinearOptions(), taxonomy), np.array(kept, dtype=np.int64))
