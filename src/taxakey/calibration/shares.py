"""When species are more or less frequent where the model is used than they were in training: their shares, and what follows.

Shapes: O observations, C classes.

p'(c | image) ∝ p(c | image) · (new share of c) / (share of c in training), and where the new shares aren't known they are
estimated from the unlabelled observations themselves by expectation-maximisation (Saerens, Latinne and Decaestecker, 2002).
It holds where pictures of a species look the same in both places and probabilities are calibrated: after scaling, not before.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from taxakey.calibration.stored import Calibration
from taxakey.errors import BadInput
from taxakey.progress import working
from taxakey.taxonomy import Taxonomy

Floats = NDArray[np.float64]
_MOST_ROUNDS = 500


def corrected(probabilities_OC: NDArray[np.floating], train_share_C: Floats, new_share_C: Floats) -> Floats:
    """Probabilities [O, C] under other shares of the classes.

    >>> corrected(np.array([[0.5, 0.5]]), np.array([0.5, 0.5]), np.array([0.9, 0.1]))
    array([[0.9, 0.1]])
    """
    train_share_C, new_share_C = _shares(train_share_C), _shares(new_share_C, may_be_0=True)
    weighted_OC = np.asarray(probabilities_OC, dtype=np.float64) * (new_share_C / train_share_C)
    total_O = weighted_OC.sum(axis=1, keepdims=True)
    if (total_O == 0).any():
        raise BadInput(f"{int((total_O == 0).sum()):,} observations look only like classes whose new share is 0; give those some")
    return weighted_OC / total_O


def estimate_shares(
    probabilities_OC: NDArray[np.floating], train_share_C: Floats, *, prior_observations: float = 0.0, tolerance: float = 1e-6
) -> Floats:
    """Shares [C] of the classes among observations whose names aren't known, from their calibrated probabilities.

    `prior_observations`: so many further observations are taken to have the shares of training. With few observations of many
    species, 0 ends in shares of 0 for what wasn't sure; a tenth of the observations is a cautious choice. Ends when no share
    moves by more than `tolerance`.

    >>> estimate_shares(np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), np.array([0.5, 0.5]))
    array([0.75, 0.25])
    """
    train_share_C = _shares(train_share_C)
    probabilities_OC = np.asarray(probabilities_OC, dtype=np.float64)
    if not len(probabilities_OC) or prior_observations < 0:
        raise BadInput("shares are estimated from one observation or more, and no fewer than 0 prior ones")
    share_C = train_share_C
    with working("estimating shares"):
        for _ in range(_MOST_ROUNDS):
            weight_C = share_C / train_share_C
            # Σ over rows of p·w / Σ p·w, without a second table of O·C numbers.
            sums_C = weight_C * (probabilities_OC.T @ (1 / np.maximum(probabilities_OC @ weight_C, 1e-300)))
            new_C = (sums_C + prior_observations * train_share_C) / (sums_C.sum() + prior_observations)
            moved, share_C = np.abs(new_C - share_C).max(), new_C
            if moved <= tolerance:
                break
    return share_C


def with_shares(calibration: Calibration, taxonomy: Taxonomy, train_share_C: Floats, new_share_C: Floats) -> Calibration:
    """The calibration that corrects for the new shares from now on, whatever it corrected for before.

    A new share of 0 would shut a species out for ever, so it counts as a hundredth of the smallest other one. Raises BadInput
    where there isn't one share a class.
    """
    train_share_C, new_share_C = _shares(train_share_C), _shares(new_share_C, may_be_0=True)
    if not len(train_share_C) == len(new_share_C) == len(taxonomy):
        raise BadInput(f"shares of {len(train_share_C)} and {len(new_share_C)} classes, where the taxonomy has {len(taxonomy)}")
    new_share_C = np.maximum(new_share_C, new_share_C[new_share_C > 0].min() / 100)
    shift_C = np.log(new_share_C / train_share_C)
    return replace(calibration, share_shift=dict(zip(taxonomy.names, shift_C.tolist(), strict=True)))


def _shares(share_C: Floats, *, may_be_0: bool = False) -> Floats:
    share_C = np.asarray(share_C, dtype=np.float64)
    low = share_C < 0 if may_be_0 else share_C <= 0
    if not np.isfinite(share_C).all() or low.any() or share_C.sum() <= 0:
        raise BadInput(
            f"{int(low.sum()):,} of {len(share_C):,} shares of classes aren't numbers above 0; leave those classes out"
        )
    return share_C / share_C.sum()
