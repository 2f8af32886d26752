"""Whether shares of classes that were estimated from unlabelled pictures may be believed.

Shapes: O observations, C classes.

Shares always fit the pictures that they were estimated from better than training's do. So they are estimated from four fifths of
the observations and asked about the last fifth: how much likelier are its pictures under the new shares than under the old? The
logarithm of that is log Σ p(c | x) · new / old, and each observation is held out once. Where shares are what they were its mean
lies round 0, where they shift far above (see the log).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from taxakey.calibration.shares import Floats, estimate_shares

CAUTION = 1.0
"""So many further observations for each real one are taken to have the old shares when shares are estimated. A tenth gains no
more where shares shift, and costs five points where they don't (drawn herbarium; see the log)."""
LEAST_EVIDENCE = 0.05
"""The held-out gain in log-likelihood that its lower bound must pass: below 0.01 without a shift, above 0.3 with one (log)."""
_FOLDS = 5
_ERRORS = 2.0  # standard errors from the mean to the bound


@dataclass(frozen=True, eq=False)
class Estimated:
    """`share_C`: estimated; `evidence`, `low`: held-out gain in log-likelihood an observation and its lower bound."""

    share_C: Floats
    evidence: float
    low: float

    @property
    def supported(self) -> bool:
        return self.low > LEAST_EVIDENCE


def estimate_with_support(probabilities_OC: NDArray[np.floating], old_share_C: Floats, *, seed: int = 0) -> Estimated:
    """Shares of the classes among observations whose names aren't known, and whether these speak for them.

    With fewer than ten observations nothing can be held out, and nothing is supported. Raises BadInput as `estimate_shares`.
    """
    rows = len(probabilities_OC)
    share_C = estimate_shares(probabilities_OC, old_share_C, prior_observations=CAUTION * rows)
    if rows < 2 * _FOLDS:
        return Estimated(share_C, 0.0, -np.inf)
    fold_O, gain_O = np.random.default_rng(seed).permutation(rows) % _FOLDS, np.empty(rows)
    for fold in range(_FOLDS):
        kept, held = np.flatnonzero(fold_O != fold), np.flatnonzero(fold_O == fold)
        new_C = estimate_shares(probabilities_OC[kept], old_share_C, prior_observations=CAUTION * len(kept), tolerance=1e-4)
        gain_O[held] = np.log(probabilities_OC[held] @ (new_C / old_share_C))
    return Estimated(share_C, float(gain_O.mean()), float(gain_O.mean() - _ERRORS * gain_O.std(ddof=1) / np.sqrt(rows)))
