"""Accuracy against number of training photographs: bins, thirds, the saturation point, classes above 90 %.

Shapes: O observations, L labels (see `labels`), P species that occur.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from taxakey.errors import BadInput
from taxakey.evaluation.analyses import CountBin, Rarity, Third
from taxakey.evaluation.labels import Labelled
from taxakey.metrics.accuracy import hits
from taxakey.metrics.bins import (
    NAFLORA_EDGES,
    THIRDS,
    BinFigure,
    bin_of,
    by_bin,
    classes_above,
    images_by_percent,
    per_class,
    quantile_bin_of,
)
from taxakey.metrics.intervals import Interval, Statistic, macro_mean_of
from taxakey.metrics.saturation import Saturation, saturation

QUANTILE_BINS = 10
GAP = ((80, 90), (5, 10))
"""The bins whose distance NAFlora-1M reads as what rarity costs."""


def third_statistics(species: Labelled, counts_L: NDArray[np.int64]) -> dict[str, Statistic]:
    """Macro top-1 of each third that occurs, by its name."""
    third_L = thirds_of(counts_L)
    return {name: found for number, name in enumerate(THIRDS) if (found := _macro(species, third_L == number)) is not None}


def gap_statistics(species: Labelled, counts_L: NDArray[np.int64]) -> tuple[Statistic, Statistic] | None:
    """Macro top-1 of the species with [80, 90) and with [5, 10) training photographs; None unless both occur."""
    upper, lower = (_macro(species, (counts_L >= low) & (counts_L < high)) for low, high in GAP)
    return None if upper is None or lower is None else (upper, lower)


def rarity(
    species: Labelled, counts_L: NDArray[np.int64], thirds: dict[str, Interval], *, resamples: int, level: float, seed: int
) -> Rarity:
    """Everything of this file; `thirds`: the figures of `third_statistics`. Species outside the model have no number."""
    right_O = hits(species.rank_O, 1)
    held_L = counts_L > 0
    table = per_class(species.label_O, species.predicted_O)
    held_P = held_L[table.label]
    images_P, recall_P = counts_L[table.label][held_P], table.recall[held_P]
    ten_L = np.where(held_L, bin_of(counts_L, NAFLORA_EDGES), -1)
    return Rarity(
        tens=tuple(_ten(each) for each in by_bin(right_O, species.label_O, ten_L)),
        quantiles=_quantiles(species, counts_L, table.label[held_P]),
        thirds=_third_rows(species, counts_L, thirds),
        saturation=_saturation(recall_P, images_P, resamples, level, seed),
        images_by_percent=images_by_percent(recall_P, images_P),
        above_90=classes_above(table.recall),
    )


def _saturation(recall_P: NDArray, images_P: NDArray, resamples: int, level: float, seed: int) -> Saturation | None:
    """None where there are too few species for one."""
    try:
        return saturation(recall_P, images_P, resamples=resamples, level=level, seed=seed)
    except BadInput:
        return None  # said by the page


def _ten(figure: BinFigure) -> CountBin:
    low, high = [*pairwise(NAFLORA_EDGES), (NAFLORA_EDGES[-1], None)][figure.bin]
    last = None if high is None else high - 1
    return CountBin(max(low, 1), last, figure.classes, figure.observations, figure.mean, figure.standard_error)


def _quantiles(species: Labelled, counts_L: NDArray[np.int64], present_P: NDArray[np.int64]) -> tuple[CountBin, ...]:
    """Bins of the species that occur; empty bins don't appear."""
    bin_L = np.full(len(counts_L), -1)
    bin_L[present_P] = quantile_bin_of(counts_L[present_P], QUANTILE_BINS)
    rows = []
    for figure in by_bin(hits(species.rank_O, 1), species.label_O, bin_L):
        inside = counts_L[bin_L == figure.bin]
        rows.append(
            CountBin(
                int(inside.min()), int(inside.max()), figure.classes, figure.observations, figure.mean, figure.standard_error
            )
        )
    return tuple(rows)


def _third_rows(species: Labelled, counts_L: NDArray[np.int64], found: dict[str, Interval]) -> tuple[Third, ...]:
    third_L, rows = thirds_of(counts_L), []
    known = species.label_O[species.known_O]
    for number, name in enumerate(THIRDS):
        if name in found:
            inside = third_L == number
            labels = known[inside[known]]
            counts = counts_L[inside]
            rows.append(Third(name, int(counts.min()), int(counts.max()), len(np.unique(labels)), len(labels), found[name]))
    return tuple(rows)


def thirds_of(counts_L: NDArray[np.int64]) -> NDArray[np.int64]:
    """Third of each species that was trained, whether it occurs here or not; -1 outside the model [L]."""
    third_L = np.full(len(counts_L), -1)
    third_L[counts_L > 0] = quantile_bin_of(counts_L[counts_L > 0], len(THIRDS))
    return third_L


def _macro(species: Labelled, inside_L: NDArray[np.bool_]) -> Statistic | None:
    """Macro top-1 of the labels inside; None where none of them occurs."""
    label_O = np.where(species.known_O & inside_L[species.label_O], species.label_O, -1)
    return macro_mean_of(hits(species.rank_O, 1), label_O) if (label_O >= 0).any() else None
