"""Telling the unknown from the known: how well one number (sureness) parts species of the model from all else.

Shapes: O observations, N known ones, U unknown ones. A sureness is high for what the model knows: the maximum probability, minus
the entropy, or the log-sum-exp of the raw scores (minus the energy; Liu et al., 2020).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from taxakey.errors import BadInput
from taxakey.metrics.accuracy import Floats


def auroc(sureness_O: ArrayLike, known_O: ArrayLike) -> float:
    """Probability that a known observation is surer than an unknown one, ties counting one half (area under the ROC curve).

    >>> auroc([0.9, 0.4, 0.4, 0.1], [True, True, False, False])
    0.875
    """
    known_N, unknown_U = _both(sureness_O, known_O)
    rank = rankdata(np.concatenate([known_N, unknown_U]))[: len(known_N)].sum()
    return float((rank - len(known_N) * (len(known_N) + 1) / 2) / (len(known_N) * len(unknown_U)))


def fpr_at_tpr(sureness_O: ArrayLike, known_O: ArrayLike, tpr: float = 0.95) -> float:
    """Share of the unknown that passes the highest threshold which at least the share `tpr` of the known passes (≥).

    >>> fpr_at_tpr([0.9, 0.8, 0.7, 0.75, 0.1], [True, True, True, False, False], tpr=0.95)
    0.5
    """
    if not 0 < tpr <= 1:
        raise BadInput(f"a true positive rate of {tpr}: it lies above 0 and goes up to 1")
    known_N, unknown_U = _both(sureness_O, known_O)
    # 0.95 · 20 must be 19, though as floating-point numbers it is a little more.
    needed = int(np.ceil(tpr * len(known_N) - 1e-9))
    threshold = np.sort(known_N)[::-1][needed - 1]
    return float((unknown_U >= threshold).mean())


def _both(sureness_O: ArrayLike, known_O: ArrayLike) -> tuple[Floats, Floats]:
    sureness_O, known_O = np.asarray(sureness_O, dtype=np.float64), np.asarray(known_O, dtype=bool)
    if known_O.all() or not known_O.any():
        raise BadInput(
            f"no row to measure: {int(known_O.sum()):,} of {len(known_O):,} observations are known species, and some of each "
            "kind are needed"
        )
    if np.isnan(sureness_O).any():
        raise BadInput(f"{int(np.isnan(sureness_O).sum()):,} observations have no sureness; predict again with this version")
    return sureness_O[known_O], sureness_O[~known_O]
