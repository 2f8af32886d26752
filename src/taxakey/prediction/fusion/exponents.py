"""Late fusion: an image's probabilities times what is known besides, each with an exponent. No torch.

Shapes: O observations, C classes, J kinds of evidence.

p(k | image, m_1 … m_J) ∝ p(k | image) · Π_j (p(k | m_j) / p(k))^exponent_j. All exponents 1 is naive Bayes, right where the m_j
are independent given the class; smaller ones say that they overlap, 0 that one says nothing. The image's term stands there once:
multiplying finished answers p(k | image, m_j) for several j, or averaging them, would count the image J times.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
GREATEST = 2.0
"""Of an exponent: never below 0, where a habitat would speak against its own species, nor so large that it decides alone."""


def fused(probabilities_OC: Floats, log_ratio_JOC: Sequence[Floats], exponent_J: Sequence[float]) -> Floats:
    """Probabilities [O, C]; each row sums to what it summed to before, and rows whose ratios are all 1 stay as they are.

    >>> fused(np.array([[0.5, 0.5]]), [np.log([[3.0, 1.0]])], [1.0])
    array([[0.75, 0.25]])
    """
    log_weight_OC = np.zeros(probabilities_OC.shape)
    for exponent, log_ratio_OC in zip(exponent_J, log_ratio_JOC, strict=True):
        log_weight_OC += exponent * log_ratio_OC
    # The greatest weight of a row becomes 1, so that none overflows; that of a row of zeros already is.
    log_weight_OC -= log_weight_OC.max(axis=1, keepdims=True)
    weighted_OC = probabilities_OC * np.exp(log_weight_OC)
    total_O1 = weighted_OC.sum(axis=1, keepdims=True)
    scale_O1 = probabilities_OC.sum(axis=1, keepdims=True) / np.where(total_O1 > 0, total_O1, 1)
    return np.where(total_O1 > 0, weighted_OC * scale_O1, probabilities_OC)


def fit_exponents(probabilities_OC: Floats, log_ratio_JOC: Sequence[Floats], true_O: NDArray[np.integer]) -> list[float]:
    """The exponents between 0 and 2 with the greatest likelihood of the true classes [O] (no -1 among them).

    A convex problem: a logistic regression with J weights, whose offset is the logarithm of the image's probabilities.
    """
    if not log_ratio_JOC:
        return []
    from scipy.optimize import minimize

    rows = np.arange(len(true_O))

    def loss(exponent_J: Floats) -> tuple[float, Floats]:
        p_OC = fused(probabilities_OC, log_ratio_JOC, exponent_J.tolist())
        expected_J = [np.einsum("oc,oc->", p_OC, log_ratio_OC) for log_ratio_OC in log_ratio_JOC]
        seen_J = [log_ratio_OC[rows, true_O].sum() for log_ratio_OC in log_ratio_JOC]
        true_p_O = np.maximum(p_OC[rows, true_O], 1e-300)
        return float(-np.log(true_p_O).sum()), np.array(expected_J) - np.array(seen_J)

    bounds = [(0.0, GREATEST)] * len(log_ratio_JOC)
    found = minimize(loss, np.ones(len(bounds)), jac=True, method="L-BFGS-B", bounds=bounds)
    return [float(exponent) for exponent in found.x]
