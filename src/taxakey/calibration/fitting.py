"""Fitting a calibration on validation: temperatures, and the "unsure" threshold.

Shapes: I images, O observations, C classes, M knots.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taxakey.calibration.scaling import Nest, binned_softmax, nested_softmax
from taxakey.calibration.stored import METHODS, Calibration, Method
from taxakey.errors import BadInput
from taxakey.taxonomy import Taxonomy

TARGET_PRECISION = 0.9
"""Answers that aren't called unsure are meant to be right nine times in ten."""

_FEWEST_ANSWERS = 20  # a share measured on fewer answers says too little to set a threshold by
_KNOTS = 5  # of temperature by confidence: the least, the greatest and the quartiles
_LOG_TEMPERATURES = (-3.0, 3.0)  # from 0.05 to 20; a fit that ends at an edge means the scores are no log-probabilities


def fit_calibration(
    scores_IC: NDArray[np.floating],
    observation_I: NDArray[np.integer],
    true_O: NDArray[np.integer],
    *,
    target_precision: float = TARGET_PRECISION,
    method: Method = "temperature",
    taxonomy: Taxonomy | None = None,
) -> Calibration:
    """Fit both on validation.

    scores_IC: raw scores of the images; observation_I: position of each image's observation in `true_O`;
    true_O: true class of each observation, -1 for a species the model doesn't hold. Such observations tell nothing about the
    temperature, but every answer to one of them is wrong, and the threshold counts it so. `method`: one temperature, one for
    each rank ("ranks": needs the taxonomy), or one by confidence ("bins"); the likelihood is that of the mean over an
    observation's images, as answers are given.
    """
    if not (true_O >= 0).any():
        raise BadInput("no validation observation belongs to a class of the model, so nothing can be calibrated")
    if method not in METHODS or (method == "ranks" and taxonomy is None):
        raise BadInput(f"the calibration {method!r}: one of {', '.join(METHODS)}; ranks need the taxonomy")
    observation_I, scores_IC = np.asarray(observation_I), np.asarray(scores_IC).astype(np.float64, copy=False)

    def nll(probabilities_IC: NDArray[np.float64]) -> float:
        return _nll(probabilities_IC, observation_I, true_O)

    fitted = _one_temperature(scores_IC, nll)
    if method == "ranks" and taxonomy is not None:
        fitted = _temperature_by_rank(scores_IC, nll, fitted, Nest.of(taxonomy))
    elif method == "bins":
        fitted = _temperature_by_confidence(scores_IC, nll, fitted)
    probabilities_IC = (fitted.bind(taxonomy) if taxonomy else fitted).probabilities(scores_IC)
    threshold, measured = _unsure_threshold(
        mean_by_observation(probabilities_IC, observation_I, len(true_O)), true_O, target_precision
    )
    measured |= {"nll_before": nll(Calibration().probabilities(scores_IC)), "nll_after": nll(probabilities_IC)}
    return replace(fitted, unsure_below=threshold, measured=measured)


def best_calibration(
    scores_IC: NDArray[np.floating],
    observation_I: NDArray[np.integer],
    true_O: NDArray[np.integer],
    taxonomy: Taxonomy,
    *,
    methods: Sequence[Method] = METHODS,
    folds: int = 5,
    seed: int = 0,
    target_precision: float = TARGET_PRECISION,
) -> Calibration:
    """The method with the least negative log-likelihood on observations it wasn't fitted on, fitted on all of them.

    Cross-validated in `folds` parts of the observations; `measured["nll_of_methods"]` says how each did. More temperatures always
    fit better where they were fitted, which is no reason to choose them. Ties go to the method named first.
    """
    known = np.flatnonzero(true_O >= 0)
    if len(known) < folds or folds < 2:
        raise BadInput(f"{len(known)} observations of known species in {folds} folds: each fold needs one, and two are the least")
    fold_O = np.full(len(true_O), -1)
    fold_O[np.random.default_rng(seed).permutation(known)] = np.arange(len(known)) % folds
    found = {}
    for method in methods:
        total = 0.0
        for fold in range(folds):
            fit, held = (_rows_of(fold_O, observation_I, kept) for kept in ((fold_O >= 0) & (fold_O != fold), fold_O == fold))
            fitted = fit_calibration(scores_IC[fit[0]], fit[1], true_O[fit[2]], method=method, taxonomy=taxonomy)
            probabilities_IC = fitted.bind(taxonomy).probabilities(scores_IC[held[0]])
            total += _nll(probabilities_IC, held[1], true_O[held[2]]) * len(held[2])
        found[method] = total / len(known)
    best = min(found, key=lambda method: found[method])
    fitted = fit_calibration(scores_IC, observation_I, true_O, method=best, taxonomy=taxonomy, target_precision=target_precision)
    return replace(fitted, measured={**fitted.measured, "nll_of_methods": found, "folds": folds})


def _rows_of(
    fold_O: NDArray[np.integer], observation_I: NDArray[np.integer], kept_O: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Images of the kept observations, the new position of each one's observation, and which observations those are."""
    images = np.flatnonzero(kept_O[observation_I])
    return images, (np.cumsum(kept_O) - 1)[observation_I[images]], np.flatnonzero(kept_O)


def _nll(probabilities_IC: NDArray[np.float64], observation_I: NDArray[np.integer], true_O: NDArray[np.integer]) -> float:
    """Mean over observations of -log of the mean over their images of the true class' probability."""
    true_I = np.where(true_O >= 0, true_O, 0)[observation_I]
    true_p_O = np.bincount(observation_I, probabilities_IC[np.arange(len(true_I)), true_I], len(true_O))
    images_O = np.bincount(observation_I, minlength=len(true_O))
    return float(-np.log(np.maximum(true_p_O / images_O, 1e-300))[true_O >= 0].mean())


# ---- the methods ----

Nll = Callable[[NDArray[np.float64]], float]


def _one_temperature(scores_IC: NDArray[np.floating], nll: Nll) -> Calibration:
    from scipy.optimize import minimize_scalar  # a second to load, and whoever only applies a calibration needs none of it

    found = minimize_scalar(
        lambda log_t: nll(Calibration(float(np.exp(log_t))).probabilities(scores_IC)), bounds=_LOG_TEMPERATURES, method="bounded"
    )
    return Calibration(float(np.exp(found.x)))


def _temperature_by_rank(scores_IC: NDArray[np.floating], nll: Nll, start: Calibration, nest: Nest) -> Calibration:
    def scaled(log_t: NDArray[np.float64]) -> NDArray[np.float64]:
        family, genus, species = np.exp(log_t)
        return nested_softmax(scores_IC, (family, genus, species), nest)

    found = np.exp(_descend(lambda log_t: nll(scaled(log_t)), np.full(3, np.log(start.temperature))))
    return replace(start, rank_temperatures=dict(zip(("family", "genus", "species"), found.tolist(), strict=True)))


def _temperature_by_confidence(scores_IC: NDArray[np.floating], nll: Nll, start: Calibration) -> Calibration:
    confidence_I = start.probabilities(scores_IC).max(axis=1)
    knots_M = np.unique(np.quantile(confidence_I, np.linspace(0, 1, _KNOTS)))
    found = np.exp(
        _descend(lambda log_f: nll(binned_softmax(scores_IC, start.temperature, knots_M, np.exp(log_f))), np.zeros(len(knots_M)))
    )
    return replace(start, bin_knots=tuple(knots_M.tolist()), bin_factors=tuple(found.tolist()))


def _descend(loss: Callable[[NDArray[np.float64]], float], start: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where the loss is least near the start; never worse than the start."""
    from scipy.optimize import minimize

    found = minimize(loss, start, method="L-BFGS-B", bounds=[_LOG_TEMPERATURES] * len(start))
    return np.asarray(found.x if found.fun <= loss(start) else start)


def mean_by_observation(
    values_IC: NDArray[np.floating], observation_I: NDArray[np.integer], observations: int
) -> NDArray[np.float64]:
    """Mean over the images of each observation, [I, C] -> [O, C]. Every observation must have an image."""
    order = np.argsort(observation_I, kind="stable")
    images_O = np.bincount(observation_I, minlength=observations)
    starts = np.concatenate([[0], np.cumsum(images_O)[:-1]])
    return np.add.reduceat(np.asarray(values_IC, dtype=np.float64)[order], starts, axis=0) / images_O[:, None]


def _unsure_threshold(
    probabilities_OC: NDArray[np.floating], true_O: NDArray[np.integer], target: float
) -> tuple[float, dict[str, Any]]:
    """The lowest top probability from which on the share of right answers reaches the target."""
    from scipy.stats import beta

    top_O = probabilities_OC.max(axis=1)
    right_O = probabilities_OC.argmax(axis=1) == true_O
    order = np.argsort(-top_O, kind="stable")
    answered = np.arange(1, len(order) + 1)
    right = np.cumsum(right_O[order])
    # Equal probabilities are answered together, so a cut is allowed only where the next one is lower.
    last_of_equal = np.append(np.diff(top_O[order]) < 0, True)
    enough = answered >= min(_FEWEST_ANSWERS, len(order))
    allowed = np.flatnonzero(last_of_equal & enough & (right / answered >= target))
    measured: dict[str, Any] = {"target_precision": target, "observations": len(order)}
    if not len(allowed):
        return 1.0, measured | {"precision": None, "precision_low": None, "coverage": 0.0}
    cut = int(allowed[-1])
    n, hits = int(answered[cut]), int(right[cut])
    low = float(beta.ppf(0.05, hits, n - hits + 1)) if hits else 0.0
    return float(top_O[order][cut]), measured | {"precision": hits / n, "precision_low": low, "coverage": n / len(order)}
