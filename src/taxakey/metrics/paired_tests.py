"""Exact tests of two models on the same observations: how many did only one of them name rightly.

Shapes: N comparisons (species, or one for all).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from taxakey.errors import BadInput
from taxakey.metrics.accuracy import Floats


def mcnemar(gained_N: ArrayLike, lost_N: ArrayLike) -> Floats:
    """Two-sided p-values [N] of McNemar's test in its exact form (the sign test on what changed).

    gained_N: observations that the second model alone names rightly; lost_N: the first alone. Were both equally good, each change
    would go either way with probability 1/2 (McNemar, 1947). 1 where nothing changed. For ten observations of a species even ten
    gains have p = 0.002: correct for many species (`differences.holm`), and few can be told apart one by one.

    >>> mcnemar([5, 0, 3], [0, 0, 3]).tolist()
    [0.0625, 1.0, 1.0]
    """
    from scipy.special import bdtr  # half a second to load

    gained_N, lost_N = np.asarray(gained_N, dtype=np.int64), np.asarray(lost_N, dtype=np.int64)
    if (gained_N < 0).any() or (lost_N < 0).any():
        raise BadInput("counts of observations can't be below 0")
    return np.minimum(2 * bdtr(np.minimum(gained_N, lost_N), gained_N + lost_N, 0.5), 1.0)


def fewest_changes(comparisons: int, *, level: float = 0.05) -> int:
    """How many changes, all one way, one of so many comparisons needs before Holm's correction can find it.

    >>> fewest_changes(1), fewest_changes(90)
    (6, 12)
    """
    if comparisons < 1 or not 0 < level < 1:
        raise BadInput(f"{comparisons} comparisons at level {level}: at least one, and a level between 0 and 1")
    return int(np.floor(np.log2(2 * comparisons / level))) + 1
