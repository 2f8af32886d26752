"""Temperature and the "unsure" threshold: fitted on validation, saved as `calibration.json`, applied anywhere. No torch.

Shapes: I images, O observations, C classes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

from taxakey.artifacts import read_json, write_json
from taxakey.errors import BadInput

TARGET_PRECISION = 0.9
"""Answers that aren't called unsure are meant to be right nine times in ten."""

_FEWEST_ANSWERS = 20  # a share measured on fewer answers says too little to set a threshold by
_LOG_TEMPERATURES = (-3.0, 3.0)  # from 0.05 to 20; a fit that ends at an edge means the scores are no log-probabilities


@dataclass(frozen=True)
class Calibration:
    """How raw scores become probabilities, and below which of them an answer is called unsure.

    `measured` says what the threshold was measured to mean on validation: `target_precision`, `precision` (share right among
    answers at or above the threshold; null if no threshold reached the target), `precision_low` (its one-sided 95 % lower
    bound, Clopper and Pearson, which doesn't know that the threshold was chosen on the same observations), `coverage` (share of
    observations at or above it), `observations`, and the negative log-likelihood per observation before and after
    (`nll_before`, `nll_after`); `species_added_since` counts species that the model learned later (`taxakey add-species`).
    """

    temperature: float = 1.0
    unsure_below: float = 0.0
    measured: dict[str, Any] = field(default_factory=dict)

    def probabilities(self, scores_IC: NDArray[np.floating]) -> NDArray[np.float64]:
        """softmax(scores / temperature), [I, C] -> [I, C] (Guo et al., 2017)."""
        return softmax(np.asarray(scores_IC, dtype=np.float64) / self.temperature, axis=1)

    @property
    def meaning(self) -> str:
        """In a sentence for people, what it was measured to mean that an answer is, or isn't, called unsure."""
        found, added = self.measured, int(self.measured.get("species_added_since", 0))
        of = f"On validation ({found['observations']:,} observations{f', before {added:,} species were added' if added else ''})"
        if found["precision"] is None:
            target = _percent(found["target_precision"])
            return f"{of} no threshold made {target} of the answers right, so every answer of this model is called unsure."
        return (
            f"{of}, first answers of {_percent(self.unsure_below)} or more were right {_percent(found['precision'])} "
            f"of the time. {_percent(found['coverage'])} of all answers reach it."
        )

    def write(self, path: Path | str) -> None:
        """Write `calibration.json`, atomically."""
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path | str) -> Calibration:
        """Read `calibration.json`; raises BadInput where it isn't one."""
        content = read_json(path)
        try:
            calibration = cls(float(content["temperature"]), float(content["unsure_below"]), dict(content["measured"]))
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"{path}: not a calibration ({error!r}); train the model again or restore the file") from None
        if not calibration.temperature > 0:
            raise BadInput(f"{path}: the temperature is {calibration.temperature}, it must be above 0")
        return calibration


def _percent(share: float) -> str:
    return f"{100 * share:.0f}\u00a0%"


def fit_calibration(
    scores_IC: NDArray[np.floating],
    observation_I: NDArray[np.integer],
    true_O: NDArray[np.integer],
    *,
    target_precision: float = TARGET_PRECISION,
) -> Calibration:
    """Fit both on validation.

    scores_IC: raw scores of the images; observation_I: position of each image's observation in `true_O`;
    true_O: true class of each observation, -1 for a species the model doesn't hold. Such observations tell nothing about the
    temperature, but every answer to one of them is wrong, and the threshold counts it so.
    """
    from scipy.optimize import minimize_scalar  # a second to load, and whoever only applies a calibration needs none of it

    known_O = true_O >= 0
    if not known_O.any():
        raise BadInput("no validation observation belongs to a class of the model, so nothing can be calibrated")
    observation_I = np.asarray(observation_I)

    def nll(temperature: float) -> float:
        # Log of the mean over an observation's images of the true class' probability.
        log_p_I = log_softmax(np.asarray(scores_IC, dtype=np.float64) / temperature, axis=1)
        true_I = np.where(true_O >= 0, true_O, 0)[observation_I]
        true_p_O = np.bincount(observation_I, np.exp(log_p_I[np.arange(len(true_I)), true_I]), len(true_O))
        images_O = np.bincount(observation_I, minlength=len(true_O))
        return float(-np.log(np.maximum(true_p_O / images_O, 1e-300))[known_O].mean())

    best = minimize_scalar(lambda log_t: nll(np.exp(log_t)), bounds=_LOG_TEMPERATURES, method="bounded")
    temperature = float(np.exp(best.x))
    probabilities_OC = mean_by_observation(Calibration(temperature).probabilities(scores_IC), observation_I, len(true_O))
    threshold, measured = _unsure_threshold(probabilities_OC, true_O, target_precision)
    measured |= {"nll_before": nll(1.0), "nll_after": nll(temperature)}
    return Calibration(temperature, threshold, measured)


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
