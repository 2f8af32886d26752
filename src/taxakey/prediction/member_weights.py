"""Weights of an ensemble's members, fitted on validation: by accuracy, by likelihood, greedily, by class.

Shapes: M members, O validation rows of known species, C classes.

Almost everything is fitted from the TRUE class' probabilities [M, O] alone, which a mixture's likelihood needs nothing besides:
26 members of 31,000 rows are 800,000 numbers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Floats = NDArray[np.floating]
Weights = NDArray[np.float64]
PRIOR = 10.0
"""So many rows for which every member is equally good are added to the fit: weights of a short validation part stay near 1/M."""
_ROUNDS = 500
_TOLERANCE = 1e-7


def by_accuracy(right_MO: NDArray[np.bool_]) -> Weights:
    """w_m ∝ the member's share of right answers (the weighting of the Pl@ntNet-300K examination, from validation)."""
    share_M = right_MO.mean(axis=1)
    return share_M / share_M.sum() if share_M.any() else np.full(len(right_MO), 1 / len(right_MO))


def by_likelihood(true_p_MO: Floats, *, prior: float = PRIOR) -> Weights:
    """Weights on the simplex under which the mixture's likelihood of the true classes is largest, by expectation-maximisation.

    The problem is convex; `prior` is a Dirichlet prior around equal weights.
    """
    members = len(true_p_MO)
    p_MO = np.maximum(np.asarray(true_p_MO, dtype=np.float64), 1e-12)
    weights_M = np.full(members, 1 / members)
    for _ in range(_ROUNDS):
        mixture_O = weights_M @ p_MO
        share_M = (weights_M * (p_MO @ (1 / mixture_O)) + prior / members) / (p_MO.shape[1] + prior)
        moved, weights_M = np.abs(share_M - weights_M).max(), share_M
        if moved < _TOLERANCE:
            break
    return weights_M


def greedily(true_p_MO: Floats, *, rounds: int = 50) -> Weights:
    """Begin with the best member, add the one that helps the mean most, again and again, the same one more than once too.

    Ends when no further one lowers the negative log-likelihood (Caruana et al., 2004, with the likelihood for accuracy).
    """
    p_MO = np.maximum(np.asarray(true_p_MO, dtype=np.float64), 1e-12)
    chosen_M, sum_O, best = np.zeros(len(p_MO)), np.zeros(p_MO.shape[1]), np.inf
    for taken in range(rounds):
        nll_M = -np.log((sum_O + p_MO) / (taken + 1)).mean(axis=1)
        member = int(nll_M.argmin())
        if nll_M[member] >= best - 1e-9:
            break
        best = nll_M[member]
        chosen_M[member] += 1
        sum_O = sum_O + p_MO[member]
    return chosen_M / chosen_M.sum()


def of_logits(log_p_MOC: Floats, true_O: NDArray[np.integer], *, prior: float = PRIOR) -> Weights:
    """Weights from 0 on of the logits' weighted sum; their sum is a temperature of its own. L-BFGS-B on the mean NLL.

    `prior`: strength of the pull towards equal weights that sum to 1, in rows.
    """
    members, rows, _ = log_p_MOC.shape
    log_p_MOC = np.asarray(log_p_MOC, dtype=np.float32)
    flat_MX = log_p_MOC.reshape(members, -1)
    true_MO = log_p_MOC[:, np.arange(rows), true_O].astype(np.float64)

    def loss(weights_M: Weights) -> tuple[float, Weights]:
        p_OC = (weights_M.astype(np.float32) @ flat_MX).reshape(rows, -1)
        true_z_O = p_OC[np.arange(rows), true_O]
        largest_O = p_OC.max(axis=1)
        np.exp(p_OC - largest_O[:, None], out=p_OC)
        sum_O = p_OC.sum(axis=1)
        nll = (np.log(sum_O) + largest_O - true_z_O).mean(dtype=np.float64)
        p_OC /= sum_O[:, None]
        expected_M = (flat_MX @ p_OC.reshape(-1)).astype(np.float64) / rows
        away_M = weights_M - 1 / members
        pull = prior / rows
        return nll + pull * (away_M**2).sum(), expected_M - true_MO.mean(axis=1) + 2 * pull * away_M

    start = np.full(members, 1 / members)
    return np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0, None)] * members).x)


def by_class(true_p_MO: Floats, true_O: NDArray[np.integer], classes: int, weights_M: Weights, *, prior: float = 20.0) -> Weights:
    """Weights [C, M]: how much of each class' truth each member explains, `prior` rows' worth of the common weights added.

    A class without validation rows keeps the common weights.
    """
    p_MO = weights_M[:, None] * np.maximum(np.asarray(true_p_MO, dtype=np.float64), 1e-12)
    share_MO = p_MO / p_MO.sum(axis=0)
    sums_CM = np.stack([np.bincount(true_O, share_O, classes) for share_O in share_MO], axis=1)
    rows_C = np.bincount(true_O, minlength=classes)
    return (sums_CM + prior * weights_M) / (rows_C[:, None] + prior)
