"""What the tests of trees share: a small flora, trees of every shape, and the joint softmax by plain loops.

Shapes: B images, D features, d bottleneck width, C classes, E edges.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from taxakey.models.groupings import similar_groups
from taxakey.models.head_options import ClassFacts, build_hierarchy, clustered_hierarchy
from taxakey.models.hierarchies import Hierarchy
from taxakey.models.trees import TreeHead, TreeOptions
from taxakey.taxonomy import Taxonomy

D = 6

# A family of one species, genera of one species (Bellis, Quercus), an unknown genus and two species of no known family.
_LINEAGES = {
    "Acer opalus": ("Acer", "Sapindaceae"),
    "Acer rubrum": ("Acer", "Sapindaceae"),
    "Aesculus flava": ("Aesculus", "Sapindaceae"),
    "Aesculus pavia": ("Aesculus", "Sapindaceae"),
    "Aster alpinus": ("Aster", "Asteraceae"),
    "Aster amellus": ("Aster", "Asteraceae"),
    "Aster tataricus": ("Aster", "Asteraceae"),
    "Bellis annua": ("Bellis", "Asteraceae"),
    "Herba ignota": ("", "Asteraceae"),
    "Mystica alba": ("Mystica", ""),
    "Mystica nigra": ("Mystica", ""),
    "Planta obscura": ("", ""),
    "Quercus robur": ("Quercus", "Fagaceae"),
}


def flora(names: list[str] | None = None) -> Taxonomy:
    """The species named, or all thirteen."""
    rows = ({"scientificName": n, "genus": _LINEAGES[n][0], "family": _LINEAGES[n][1]} for n in names or _LINEAGES)
    return Taxonomy.from_rows(rows)


FLORA = flora()
FACTS = ClassFacts(counts_C=np.array([40, 3, 3, 900, 7, 1, 12, 12, 90, 5, 1, 1, 300]))
_MEANS = np.random.default_rng(1).normal(size=(len(FLORA), 4)).astype(np.float32)

_OPTIONS = {
    "even": TreeOptions(slots=4, order="listed"),
    "even by default": TreeOptions(),
    "one class a node": TreeOptions(slots=1, order="random"),
    "one node": TreeOptions(slots=13, order="frequency"),
    "three levels": TreeOptions(slots=(2, 3), order="random"),
    "four levels": TreeOptions(slots=(2, 2, 2), order="random"),
    "only children": TreeOptions(slots=(2, 1, 3), order="random"),
    "taxa": TreeOptions(nodes="taxa"),
    "huffman": TreeOptions(nodes="huffman", slots=2),
    "huffman of three": TreeOptions(nodes="huffman", slots=3),
}

SHAPES: dict[str, Hierarchy] = {
    **{name: build_hierarchy(options, FLORA, FACTS) for name, options in _OPTIONS.items()},
    "clustered": clustered_hierarchy(_MEANS, (2, 3)),
    "clusters": Hierarchy.from_levels([similar_groups(_MEANS, 5)], np.arange(13)),
    "no nodes": Hierarchy.from_levels([], np.arange(13)),
    "one family": build_hierarchy(TreeOptions(nodes="taxa"), flora(list(_LINEAGES)[4:8]), ClassFacts()),
    "one genus": build_hierarchy(TreeOptions(nodes="taxa"), flora(list(_LINEAGES)[4:7]), ClassFacts()),
    "two classes": Hierarchy.even(np.array([1, 0]), 1),
    "one class": Hierarchy.even(np.array([0]), 1),
}


def tree(hierarchy: Hierarchy, *, seed: int = 0, width: int | None = 5, sparse: bool = False, scale: float = 1.0) -> TreeHead:
    """A head on D features with weights and biases large enough to matter."""
    torch.manual_seed(seed)
    head = TreeHead(D, hierarchy, width=width, sparse=sparse)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_(std=scale)
    return head


def slow_paths(hierarchy: Hierarchy) -> list[list[int]]:
    """The edges from the root to each class, by a walk down from the root."""
    paths: dict[int, list[int]] = {}

    def walk(node: int, above: list[int]) -> None:
        for edge in range(hierarchy.first_N1[node], hierarchy.first_N1[node + 1]):
            target = int(hierarchy.target_E[edge])
            if target < 0:
                paths[-1 - target] = [*above, edge]
            else:
                walk(target, [*above, edge])

    walk(0, [])
    return [paths[c] for c in range(len(paths))]


def slow_joint(head: TreeHead, features_BD: Tensor) -> Tensor:
    """Log-probability of every class [B, C] in float64, edge after edge, with gradients."""
    z_Bd = head.bottleneck(features_BD).double()
    weight_Ed = torch.cat([head.top_weight_Td, head.lower_weight_Ed]).double()
    bias_E = torch.cat([head.top_bias_T, head.lower_bias_E]).double()
    first = head.hierarchy.first_N1.tolist()
    rows = []
    for z_d in z_Bd:
        scores = [z_d @ weight_d + bias for weight_d, bias in zip(weight_Ed, bias_E, strict=True)]
        given: list[Tensor] = []
        for start, end in pairwise(first):
            total = torch.logsumexp(torch.stack(scores[start:end]), 0)
            given += [score - total for score in scores[start:end]]
        rows.append(torch.stack([torch.stack([given[edge] for edge in path]).sum() for path in slow_paths(head.hierarchy)]))
    return torch.stack(rows)
