"""Whether one model is better than another: paired differences, many of them at once, and several seeds.

Shapes: O observations, R resamples, N comparisons, S seeds.

Two models that named the same observations fail on the same hard ones, so the difference of their figures is far surer than
either figure. A paired bootstrap draws observations once for both and takes the difference each time (Efron and Tibshirani,
1993); the interval is the percentile interval of `intervals`. Observations are one source of chance; another start of the
training is a second one, which no resampling of observations shows: see `over_seeds`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from taxakey.errors import BadInput
from taxakey.metrics.accuracy import Floats
from taxakey.metrics.intervals import LEVEL, RESAMPLES, Statistic, middle, resample


@dataclass(frozen=True)
class Difference:
    """Figure of the first model minus that of the second, with its interval."""

    value: float
    low: float
    high: float
    p_value: float
    """Two-sided: twice the share of resamples on the rarer side of 0, one being added so that it is never 0."""
    level: float
    resamples: int

    @property
    def supported(self) -> bool:
        """Whether the interval lies wholly on one side of 0; else no difference may be claimed."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def paired_differences(
    pairs: Mapping[str, tuple[Statistic, Statistic]],
    observations: int,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
    centred: Collection[str] = (),
) -> dict[str, Difference]:
    """First minus second for several figures of the same observations, all from the same resamples.

    Both statistics of a pair (see `intervals.Statistic`) must speak of the same O observations in the same order. `centred`
    names figures whose interval is moved onto the difference, as in `bootstrap`: macro F1, whose fault is the larger the worse
    a model is. Raises BadInput as `bootstrap` does.

    >>> from taxakey.metrics.intervals import mean_of
    >>> found = paired_differences({"top_1": (mean_of([1, 1, 1, 0]), mean_of([1, 0, 1, 0]))}, 4, resamples=200)["top_1"]
    >>> found.value, found.supported
    (0.25, False)
    """
    statistics = {name: _difference(*pair) for name, pair in pairs.items()}
    values, results = resample(statistics, observations, resamples=resamples, level=level, seed=seed)
    differences = {}
    for name, value in values.items():
        results_R = results[name][~np.isnan(results[name])]
        if name in centred and len(results_R):
            results_R = results_R + (value - results_R.mean())
        low, high = middle(results_R, level, value)
        differences[name] = Difference(value, low, high, _two_sided(results_R), level, resamples)
    return differences


def _difference(first: Statistic, second: Statistic) -> Statistic:
    return lambda weights_RO: first(weights_RO) - second(weights_RO)


def _two_sided(results_R: Floats) -> float:
    rarer = min((results_R <= 0).sum(), (results_R >= 0).sum())
    return float(min(1.0, 2 * (rarer + 1) / (len(results_R) + 1)))


# ---- many comparisons ----


def holm(p_values_N: ArrayLike) -> Floats:
    """p-values [N] corrected for being N of them (Holm, 1979): below 0.05 all together err in 5 % of cases at most.

    A bootstrap of R resamples has no p-value below 2 / (R + 1); among N comparisons none can pass unless R > 40 N.

    >>> holm([0.01, 0.04, 0.03])
    array([0.03, 0.06, 0.06])
    """
    p_N = np.asarray(p_values_N, dtype=np.float64)
    if np.isnan(p_N).any() or (p_N < 0).any() or (p_N > 1).any():
        raise BadInput("a p-value lies between 0 and 1")
    order = np.argsort(p_N, kind="stable")
    corrected_N = np.empty(len(p_N))
    corrected_N[order] = np.minimum(np.maximum.accumulate(p_N[order] * np.arange(len(p_N), 0, -1)), 1.0)
    return corrected_N


# ---- seeds ----


@dataclass(frozen=True)
class OverSeeds:
    """One figure of S runs that differ in their seed only."""

    mean: float
    standard_deviation: float
    """Of the runs (divisor S - 1), not of their mean."""
    low: float
    high: float
    level: float
    seeds: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.standard_deviation:.3f} ({self.seeds} seeds)"


def over_seeds(values_S: ArrayLike, *, level: float = LEVEL) -> OverSeeds:
    """Mean over seeds with Student's interval; for two recipes under the same seeds, give the differences of the pairs.

    >>> over_seeds([0.70, 0.72, 0.74]).mean.__round__(6)
    0.72
    """
    from scipy.stats import t  # half a second to load

    values_S = np.asarray(values_S, dtype=np.float64)
    if len(values_S) < 2 or not np.isfinite(values_S).all() or not 0 < level < 1:
        raise BadInput(f"{len(values_S)} runs at level {level}: a spread over seeds needs two runs or more with finite figures")
    mean, deviation = float(values_S.mean()), float(values_S.std(ddof=1))
    reach = float(t.ppf((1 + level) / 2, len(values_S) - 1)) * deviation / np.sqrt(len(values_S))
    return OverSeeds(mean, deviation, mean - float(reach), mean + float(reach), level, len(values_S))


def mean_over(statistics_S: Sequence[Statistic]) -> Statistic:
    """Mean of the figure over runs, so that its interval says what chance the observations leave once seeds are averaged.

    >>> from taxakey.metrics.intervals import mean_of
    >>> mean_over([mean_of([1, 0]), mean_of([1, 1])])(np.ones((1, 2)))
    array([0.75])
    """
    if not statistics_S:
        raise BadInput("no run to average")

    def statistic(weights_RO: NDArray[np.floating]) -> Floats:
        return np.mean([each(weights_RO) for each in statistics_S], axis=0)

    return statistic
