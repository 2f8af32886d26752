"""Labels of images that are known only to genus or family. numpy only. Shapes: C classes, R ranks, O images.

A label below C is a class. From C on stand the genera, in the order of `Taxonomy.taxa("genus")`, then the families likewise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from taxakey.taxonomy import RANKS, Taxonomy

HIGHER = RANKS[1:]
"""The ranks beside species that an image may be labelled with, in the order of their labels."""


def first_label(taxonomy: Taxonomy, rank: str) -> int:
    """The label of the first taxon of a rank; raises ValueError for one that no label can name."""
    if rank not in HIGHER:
        raise ValueError(f"no label names a {rank}; one of {', '.join(HIGHER)}")
    return len(taxonomy) + sum(len(taxonomy.taxa(before)) for before in HIGHER[: HIGHER.index(rank)])


def no_label(taxonomy: Taxonomy) -> int:
    """The label of an image of which no taxon is known: the first beyond those of all ranks."""
    return len(taxonomy) + sum(len(taxonomy.taxa(rank)) for rank in HIGHER)


def taxon_labels(taxonomy: Taxonomy, rank: str, names: Sequence[str | None]) -> NDArray[np.int64]:
    """The labels [O] of images known to these taxa of a rank; -1 for a name that isn't there."""
    position_O = taxonomy.index_of(names, rank)
    return np.where(position_O >= 0, position_O + first_label(taxonomy, rank), -1)


def labels_above(taxonomy: Taxonomy) -> NDArray[np.int64]:
    """The labels [R, C] of each class's genus and family; -1 where it is unknown."""
    codes_RC = np.stack([taxonomy.codes(rank) for rank in HIGHER])
    firsts_R1 = np.array([[first_label(taxonomy, rank)] for rank in HIGHER])
    return np.where(codes_RC >= 0, codes_RC + firsts_R1, -1)
