"""All heads under one name: their options, and the head that they describe.

Shapes: C classes, D features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from taxakey.errors import BadRecipe
from taxakey.models.adaptive import AdaptiveHead, AdaptiveOptions
from taxakey.models.class_means import Discriminants, FeatureStatistics, related_means, start_from_means
from taxakey.models.cosine import ArcFaceOptions, CosineHead, CosineOptions
from taxakey.models.factorised import FactorisedHead, FactorisedOptions
from taxakey.models.groupings import frequency_order, random_order, similar_groups, taxonomic_order
from taxakey.models.hashed import HashedHead, HashedOptions
from taxakey.models.heads import BottleneckHead, BottleneckOptions, Head, LinearHead, LinearOptions
from taxakey.models.hierarchies import Hierarchy
from taxakey.models.metadata import MetadataTransformerHead, MetadataTransformerOptions
from taxakey.models.mlp import MlpHead, MlpOptions
from taxakey.models.sampled import SampledHead, SampledOptions
from taxakey.models.trees import TreeHead, TreeOptions
from taxakey.taxonomy import Taxonomy

HeadOptions = (
    LinearOptions
    | BottleneckOptions
    | TreeOptions
    | FactorisedOptions
    | AdaptiveOptions
    | HashedOptions
    | SampledOptions
    | MlpOptions
    | MetadataTransformerOptions
    | CosineOptions
    | ArcFaceOptions
)

_CLUSTERED_IN = 32
"""Directions in which similar classes are looked for: what lies beyond is mostly noise of rare classes' means (docs/LOG.md)."""


@dataclass(frozen=True, eq=False)
class ClassFacts:
    """What some heads want to know of the classes before they are trained.

    `counts_C`: training pictures of each class. `statistics`: of their feature vectors. `seed`: of orders and of clustering.
    """

    counts_C: NDArray[np.int64] | None = None
    statistics: FeatureStatistics | None = None
    seed: int = 0


def wants_statistics(options: HeadOptions) -> bool:
    """Whether the head can only be built from `ClassFacts.statistics`, that is, from embeddings."""
    grouped = isinstance(options, TreeOptions) and (options.order == "clustered" or options.nodes == "clusters")
    return grouped or getattr(options, "start", "random") == "class_means"


def build_head(
    options: HeadOptions,
    in_features: int,
    taxonomy: Taxonomy,
    facts: ClassFacts | None = None,
    hierarchy: Hierarchy | None = None,
    metadata: Sequence[int] = (),
) -> Head:
    """The head that the options describe, for the classes of a taxonomy.

    `metadata`: inputs of each group of metadata (`MetadataEncoder.widths`), which come behind the `in_features` of the picture.
    `hierarchy` is that of a stored tree; without it one is made. Raises BadRecipe where a tree's shape needs facts that aren't
    there. `start: class_means` without `facts.statistics` leaves random weights: for a head about to be loaded or counted.
    """
    facts = facts or ClassFacts()
    if metadata and wants_statistics(options):
        raise BadRecipe(f"a {options.kind} head built from embeddings takes no metadata; leave metadata out, or start: random")
    head = _random_head(options, in_features + sum(metadata), taxonomy, facts, hierarchy, metadata)
    head.metadata = sum(metadata)
    if getattr(options, "start", "random") == "class_means" and hierarchy is None and facts.statistics is not None:
        start_from_means(head, facts.statistics, _relatives(taxonomy))
    return head


def _relatives(taxonomy: Taxonomy) -> list[NDArray[np.int64]]:
    return [taxonomy.codes(rank) for rank in ("family", "genus")]


def _random_head(
    options: HeadOptions,
    in_features: int,
    taxonomy: Taxonomy,
    facts: ClassFacts,
    hierarchy: Hierarchy | None,
    metadata: Sequence[int],
) -> Head:
    classes = len(taxonomy)
    match options:
        case LinearOptions():
            return LinearHead(in_features, classes, dropout=options.dropout)
        case BottleneckOptions():
            return BottleneckHead(in_features, classes, width=options.width, activation=options.activation)
        case FactorisedOptions():
            return FactorisedHead(in_features, taxonomy.codes(options.groups), rank=options.rank)
        case AdaptiveOptions():
            # A stored head brings its own order, which takes the place of this one.
            counts_C = np.ones(classes, dtype=np.int64) if facts.counts_C is None else facts.counts_C
            return AdaptiveHead(in_features, counts_C, width=options.width, cutoffs=options.cutoffs, div_value=options.div_value)
        case HashedOptions():
            return HashedHead(
                in_features, classes, width=options.width, hashes=options.hashes, buckets=options.buckets, seed=options.seed
            )
        case SampledOptions():
            return SampledHead(in_features, classes, width=options.width, share=options.share, sparse=options.sparse)
        case MlpOptions():
            return MlpHead(in_features, classes, hidden=options.hidden, activation=options.activation, dropout=options.dropout)
        case MetadataTransformerOptions():
            return MetadataTransformerHead(in_features, classes, metadata, options)
        case CosineOptions():
            return CosineHead(in_features, classes, scale=options.scale)
        case ArcFaceOptions():
            return CosineHead(in_features, classes, scale=options.scale, margin=options.margin, centres=options.centres)
        case TreeOptions():
            hierarchy = hierarchy or build_hierarchy(options, taxonomy, facts)
            return TreeHead(in_features, hierarchy, width=options.width, activation=options.activation, sparse=options.sparse)


def build_hierarchy(options: TreeOptions, taxonomy: Taxonomy, facts: ClassFacts) -> Hierarchy:
    """The shape of a tree: its nodes, and the classes in them by the options' order."""
    slots = options.slots or math.ceil(math.sqrt(len(taxonomy)))
    lowest = slots if isinstance(slots, int) else slots[-1]
    match options.nodes:
        case "taxa":
            return Hierarchy.from_levels(_relatives(taxonomy), taxonomic_order(taxonomy))
        case "genera":
            return Hierarchy.from_levels([taxonomy.codes("genus")], taxonomic_order(taxonomy))
        case "huffman":
            return Hierarchy.huffman(_counts(facts), max(2, lowest))  # 1 only by default, for a single class
        case "clusters":
            groups = math.ceil(len(taxonomy) / lowest)
            codes_C = similar_groups(_positions(facts), groups, seed=facts.seed)
            return Hierarchy.from_levels([codes_C], np.argsort(codes_C, kind="stable"))
        case "even" if options.order == "clustered":
            return clustered_hierarchy(_positions(facts), slots, facts.seed)
        case "even":
            return Hierarchy.even(_order(options, taxonomy, facts), slots)


def clustered_hierarchy(means_CD: NDArray[np.floating], slots: int | tuple[int, ...], seed: int = 0) -> Hierarchy:
    """Nodes of at most `slots` similar classes, nodes of at most so many similar nodes above them, and so on, from the top."""
    fans = [slots] if isinstance(slots, int) else list(slots)
    points = np.asarray(means_CD, dtype=np.float32)
    levels: list[NDArray[np.int64]] = []
    group_C = np.arange(len(points))
    for fan in reversed(fans):
        codes = similar_groups(points, math.ceil(len(points) / fan), capacity=fan, seed=seed)
        codes = np.unique(codes, return_inverse=True)[1].reshape(-1)  # without the empty ones
        group_C = codes[group_C]
        levels.append(group_C)
        sums = np.stack([np.bincount(codes, weights=column) for column in points.T], axis=1)
        points = (sums / np.bincount(codes)[:, None]).astype(np.float32)
    return Hierarchy.from_levels(levels[::-1], np.lexsort(tuple(levels)))


def _order(options: TreeOptions, taxonomy: Taxonomy, facts: ClassFacts) -> NDArray[np.int64]:
    match options.order:
        case "taxonomic":
            return taxonomic_order(taxonomy)
        case "frequency":
            return frequency_order(_counts(facts))
        case "random":
            return random_order(len(taxonomy), facts.seed)
        case _:
            return np.arange(len(taxonomy), dtype=np.int64)


def _counts(facts: ClassFacts) -> NDArray[np.int64]:
    if facts.counts_C is None:
        raise BadRecipe("this tree puts classes by their number of training pictures, which aren't known here")
    return facts.counts_C


def _positions(facts: ClassFacts) -> NDArray[np.float64]:
    """Where the classes lie along the directions that tell them apart best [C, d]: what counts as similar."""
    if facts.statistics is None:
        raise BadRecipe(
            "this tree puts similar classes together and needs embeddings to see which are: use train: head, or order: taxonomic"
        )
    found = Discriminants.of(facts.statistics, min(_CLUSTERED_IN, facts.statistics.means_CD.shape[1]))
    return related_means(found.means(facts.statistics), facts.statistics.counts_C, [])
