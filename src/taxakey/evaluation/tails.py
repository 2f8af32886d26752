"""Accuracy by number of training images: NAFlora's bins, the gap between its ends, and thirds of the species.

Shapes: O observations, L labels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from taxakey.evaluation.labels import Labelled
from taxakey.metrics.accuracy import hits
from taxakey.metrics.bins import NAFLORA_EDGES, THIRDS, bin_of, quantile_bin_of
from taxakey.metrics.intervals import Statistic, difference_of, macro_mean_of

COMMON, RARE = (80, 90), (5, 10)
"""The bins between which NAFlora-1M reads a model's gap."""


def bin_name(number: int) -> str:
    """`10-19` of the bin [10, 20); `90+` of the last.

    >>> bin_name(0), bin_name(2), bin_name(len(NAFLORA_EDGES) - 1)
    ('0-4', '10-19', '90+')
    """
    low = NAFLORA_EDGES[number]
    return f"{low}+" if number + 1 == len(NAFLORA_EDGES) else f"{low}-{NAFLORA_EDGES[number + 1] - 1}"


GAP = f"gap_{bin_name(bin_of([COMMON[0]], NAFLORA_EDGES)[0])}_{bin_name(bin_of([RARE[0]], NAFLORA_EDGES)[0])}"

THIRDS_GAP = "gap_head_tail"


def tail_statistics(rows: Labelled, counts_L: NDArray[np.int64]) -> dict[str, Statistic]:
    """Mean over the species present of their top-1: "images_10-19" …, "third_tail" …, "gap_80-89_5-9", "gap_head_tail".

    A bin or a gap without a species isn't there. Thirds are of the model's taxa, by their training images; taxa outside it (0
    images) are in the first bin and in no third.
    """
    top_1 = hits(rows.rank_O, 1)
    inside_L = counts_L > 0
    third_L = np.full(len(counts_L), -1)
    third_L[inside_L] = quantile_bin_of(counts_L[inside_L], len(THIRDS))
    grouped = {f"images_{bin_name(number)}": bin_of(counts_L, NAFLORA_EDGES) == number for number in range(len(NAFLORA_EDGES))}
    grouped |= {f"third_{name}": third_L == number for number, name in enumerate(THIRDS)}
    found = {}
    for name, members_L in grouped.items():
        label_O = np.where(rows.known_O & members_L[rows.label_O], rows.label_O, -1)
        if (label_O >= 0).any():
            found[name] = macro_mean_of(top_1, label_O)
    common, rare = (f"images_{name}" for name in GAP.split("_")[1:])
    for name, (high, low) in {GAP: (common, rare), THIRDS_GAP: ("third_head", "third_tail")}.items():
        if high in found and low in found:
            found[name] = difference_of(found[high], found[low])
    return found
