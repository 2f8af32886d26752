"""Ranking: how far down the list of answers the true taxon stands. Letters and conventions as in `accuracy`."""

from __future__ import annotations

import numpy as np

from taxakey.errors import BadInput
from taxakey.metrics.accuracy import Floats, Integers, class_mean

CUTOFF = 30
"""Answers that PlantCLEF takes per observation; what stands lower counts as not found."""


def ma_mrr(true_rank_O: Integers, true_index_O: Integers, *, cutoff: int = CUTOFF) -> float:
    """Macro-averaged mean reciprocal rank: 1/rank per observation, mean per class, mean over the classes present.

    0 beyond `cutoff` and for taxa that the model doesn't hold (rank 0). Classes without rows aren't counted. PlantCLEF 2022,
    whose papers read the abbreviation wrongly as a moving average.

    >>> ma_mrr([1, 2, 4], [0, 0, 1])
    0.5
    """
    return class_mean(reciprocal_ranks(true_rank_O, cutoff=cutoff), true_index_O)


def reciprocal_ranks(true_rank_O: Integers, *, cutoff: int = CUTOFF) -> Floats:
    """1/rank for each row [O]; 0 beyond `cutoff` and where the rank is 0.

    >>> reciprocal_ranks([1, 4, 31, 0])
    array([1.  , 0.25, 0.  , 0.  ])
    """
    if cutoff < 1:
        raise BadInput(f"cutoff {cutoff}: at least one answer must be looked at")
    true_rank_O = np.asarray(true_rank_O)
    counted = (true_rank_O >= 1) & (true_rank_O <= cutoff)
    return np.where(counted, 1.0 / np.maximum(true_rank_O, 1), 0.0)
