"""Calibration that an estimate of class shares can rest on: one sharpness, a bias for each class, and wrong labels in mind.

Shapes: V labelled rows, C classes.

p(c | x) = softmax(sharpness · scores + bias)_c is bias-corrected temperature scaling (Alexandari, Kundaje and Shrikumar, 2020,
ICML); without the biases, expectation-maximisation takes from the classes of which a model is too unsure. Wrong labels make it
worse, if only one in twenty: they teach that nothing is sure, and lend rare classes the pictures of common ones. So the
likelihood is that of the label behind a channel which names another class than the true one with a probability that is fitted
too, each of the others alike ("forward" correction: Patrini et al., 2017, CVPR).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

from taxakey.errors import BadInput

Floats = NDArray[np.float64]

_PRIOR = 1.0  # standard deviation of the normal prior of a bias, in logits: a class without labels keeps 0
_MOST_WRONG = 0.4  # no more of the labels are taken to be wrong


@dataclass(frozen=True)
class BiasCorrected:
    """`bias`, `share`: of each class. `share`: where it was fitted, as the mean of its own probabilities and not as the labels
    have it (Alexandari et al., section 3); `wrong_labels`: their share as the fit has it, in which a weak model's sure errors
    count too; `observations`: on how many it was fitted."""

    sharpness: float
    bias: tuple[float, ...]
    share: tuple[float, ...]
    wrong_labels: float
    observations: int

    def __post_init__(self) -> None:
        if len(self.bias) != len(self.share) or not np.isfinite([self.sharpness, *self.bias, *self.share]).all():
            raise BadInput(f"{len(self.bias)} biases and {len(self.share)} shares of classes; each is a finite number")
        if self.sharpness <= 0 or min(self.share, default=0.0) <= 0:
            raise BadInput("the sharpness and the share of each class lie above 0")

    def probabilities(self, scores_VC: NDArray[np.floating]) -> Floats:
        """Of raw scores [V, C]; rows sum to 1."""
        return softmax(self.sharpness * np.asarray(scores_VC, dtype=np.float64) + np.array(self.bias), axis=1)

    def among(self, classes: Sequence[int] | NDArray[np.integer]) -> BiasCorrected:
        """The same for some of the classes, given that it is one of these."""
        whole = sum(self.share[index] for index in classes)
        share = tuple(self.share[index] / whole for index in classes)
        return replace(self, bias=tuple(self.bias[index] for index in classes), share=share)


def fit_bias_corrected(
    scores_VC: NDArray[np.floating], given_V: NDArray[np.integer], weights_V: NDArray[np.floating] | None = None
) -> BiasCorrected:
    """Fit to raw scores of labelled pictures that the model didn't learn from.

    `given_V`: the class on the label, 0 to C − 1; `weights_V`: how much each row counts, 1 by default, and less where several
    pictures show one observation. Raises BadInput where there is nothing to fit to.
    """
    from scipy.optimize import minimize  # a second to load, and whoever only applies a fit needs none of it

    scores_VC, given_V = np.asarray(scores_VC, dtype=np.float64), np.asarray(given_V)
    if not len(given_V) or given_V.min() < 0 or given_V.max() >= scores_VC.shape[1]:
        raise BadInput("biases are fitted to one labelled picture or more, each of a class of the model")
    weights_V = np.ones(len(given_V)) if weights_V is None else np.asarray(weights_V, dtype=np.float64)
    classes = scores_VC.shape[1]
    scores_VC = scores_VC - scores_VC.max(axis=1, keepdims=True)
    start = np.concatenate([np.zeros(classes + 1), [0.05]])
    bounds = [(-3.0, 3.0), *[(-10.0, 10.0)] * classes, (1e-6, _MOST_WRONG)]
    found = minimize(_loss, start, (scores_VC, given_V, weights_V), "L-BFGS-B", jac=True, bounds=bounds).x
    probabilities_VC = softmax(np.exp(found[0]) * scores_VC + found[1:-1], axis=1)
    share_C = np.maximum(weights_V @ probabilities_VC / weights_V.sum(), 1e-9)
    bias, share = tuple(found[1:-1].tolist()), tuple((share_C / share_C.sum()).tolist())
    return BiasCorrected(float(np.exp(found[0])), bias, share, float(found[-1]), round(float(weights_V.sum())))


def _loss(theta: Floats, scores_VC: Floats, given_V: NDArray[np.integer], weights_V: Floats) -> tuple[float, Floats]:
    """Minus the logarithm of the posterior of (log sharpness, biases, share of wrong labels), and its gradient."""
    bias_C, wrong, rows = theta[1:-1], theta[-1], np.arange(len(given_V))
    others = max(scores_VC.shape[1] - 1, 1)
    p_VC = np.exp(log_softmax(np.exp(theta[0]) * scores_VC + bias_C, axis=1))
    true_V = p_VC[rows, given_V]
    label_V = np.maximum((1 - wrong) * true_V + wrong * (1 - true_V) / others, 1e-300)
    pull_V = weights_V * true_V * (1 - wrong - wrong / others) / label_V
    gradient_VC = p_VC * pull_V[:, None]
    gradient_VC[rows, given_V] -= pull_V
    of_sharpness = np.exp(theta[0]) * (gradient_VC * scores_VC).sum()
    of_wrong = (weights_V * (true_V - (1 - true_V) / others) / label_V).sum()
    gradient = np.concatenate([[of_sharpness], gradient_VC.sum(axis=0) + bias_C / _PRIOR**2, [of_wrong]])
    return float(-(weights_V * np.log(label_V)).sum() + (bias_C**2).sum() / 2 / _PRIOR**2), gradient
