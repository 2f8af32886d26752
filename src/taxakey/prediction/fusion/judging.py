"""Whether something gains on validation, and how much. No torch. Shapes: O observations, C classes.

The rule: kept is what gains in the mean log-probability of the true species (nats an observation) or in top-1, such that the
whole interval of the one difference lies above 0, the gain itself is at least 0.001, and the interval of the other difference
doesn't lie wholly below 0. Intervals are paired bootstraps over validation observations, at 95 % for both figures of all n
candidates together (each at 1 - 0.05/2n, Bonferroni). What has weights of its own is measured on observations that they weren't
fitted on: five parts, each foretold by the other four.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taxakey.metrics.differences import Difference, paired_differences
from taxakey.metrics.intervals import macro_mean_of, mean_of

Floats = NDArray[np.float64]
FOLDS = 5
RESAMPLES = 2000
LEAST = 0.001
"""Nats, or a tenth of a point: a column that says nothing may well gain a millionth on every observation."""
_LEVEL = 0.95

Answering = Callable[[NDArray[np.bool_]], Floats]
"""Mask [O] of the observations that may be fitted on -> probabilities [O, C] of all of them."""


@dataclass(frozen=True)
class Judge:
    """The truth [O] of the validation observations, none of them -1, and of how many candidates each is one."""

    true_O: NDArray[np.integer]
    candidates: int = 1
    seed: int = 0

    def without_own(self, answering: Answering) -> Floats:
        """Answers [O, C] each of which was fitted without its own observation's part of the five."""
        fold_O = np.random.default_rng(self.seed).permutation(len(self.true_O)) % FOLDS
        answers: Floats | None = None
        for fold in range(FOLDS):
            held = fold_O == fold
            if held.any() and not held.all():
                found_OC = answering(~held)
                answers = np.zeros_like(found_OC) if answers is None else answers
                answers[held] = found_OC[held]
        return answering(np.ones(len(fold_O), dtype=bool)) if answers is None else answers

    def compare(self, name: str, new_OC: Floats, old_OC: Floats, detail: dict[str, Any] | None = None) -> Judged:
        """By how much the new answers are better than the old."""
        rows = np.arange(len(self.true_O))
        log_p = [np.log(np.maximum(p_OC[rows, self.true_O], 1e-300)) for p_OC in (new_OC, old_OC)]
        right = [(p_OC.argmax(axis=1) == self.true_O).astype(np.float64) for p_OC in (new_OC, old_OC)]
        found = paired_differences(
            {
                "log_likelihood": (mean_of(log_p[0]), mean_of(log_p[1])),
                "top_1": (mean_of(right[0]), mean_of(right[1])),
                "macro_top_1": (macro_mean_of(right[0], self.true_O), macro_mean_of(right[1], self.true_O)),
            },
            len(rows), resamples=RESAMPLES, level=1 - (1 - _LEVEL) / (2 * max(self.candidates, 1)), seed=self.seed,
        )  # fmt: skip
        both = found["log_likelihood"], found["top_1"]
        gains = any(gain.low > 0 and gain.value >= LEAST for gain in both)
        kept = gains and not any(gain.high < 0 for gain in both)
        return Judged(name, kept, found["log_likelihood"], found["top_1"], found["macro_top_1"], len(rows), detail or {})


@dataclass(frozen=True)
class Judged:
    """One candidate: the gains on validation over what was kept before it. `detail`: what was fitted."""

    name: str
    kept: bool
    log_likelihood: Difference
    top_1: Difference
    macro_top_1: Difference
    observations: int
    detail: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def line(judged: Mapping[str, Any]) -> str:
    """`Judged.to_json` for people: kept or not, gains on validation in nats an observation and in points."""
    likelihood = _interval(judged["log_likelihood"], 1, ".3f")
    points = [_interval(judged[name], 100, ".1f") for name in ("top_1", "macro_top_1")]
    verdict = "kept" if judged["kept"] else "left out"
    return f"{judged['name']:12} {verdict:8}  log-likelihood {likelihood}  top-1 {points[0]}  macro top-1 {points[1]}"


def _interval(difference: Mapping[str, float], scale: float, form: str) -> str:
    value, low, high = (f"{scale * difference[name]:+{form}}" for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"
