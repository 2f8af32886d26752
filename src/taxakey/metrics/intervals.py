"""Intervals: how far a figure could have come out otherwise, had other observations been photographed.

Shapes: O observations, R resamples, L classes present.

Bootstrap over observations: draw O of the O observations with replacement, compute the figure, repeat; the interval holds the
middle `level` of the results (percentile interval, Efron 1979), moved onto the figure where that is asked for. A resample is
a vector of weights (how often each observation was drawn), so that a thousand resamples of a mean over classes are a few sums
over a matrix and no loop over observations. Weights [R, O] lie in memory as [O, R]: a sum over the observations of a class then
adds whole rows of resamples, which is ten times as fast as adding single numbers from all over a large table.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from taxakey.errors import BadInput
from taxakey.metrics.accuracy import Floats, Integers
from taxakey.progress import track

LEVEL = 0.95
RESAMPLES = 1000
_NUMBERS_AT_ONCE = 2**21  # weights held at a time: 8 MB, about what stays in a processor's cache
_LEAST_AT_ONCE = 16  # resamples: their weights of one observation fill a line of the cache

Statistic = Callable[[NDArray[np.floating]], Floats]
"""A figure computed for many resamples at once: weights [R, O] -> values [R]; NaN where a resample leaves it undefined."""


@dataclass(frozen=True)
class Interval:
    """A figure with the interval that holds the middle `level` of its bootstrap distribution."""

    value: float
    low: float
    high: float
    level: float
    resamples: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap(
    statistics: Mapping[str, Statistic],
    observations: int,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
    centred: Collection[str] = (),
) -> dict[str, Interval]:
    """Percentile intervals of several figures of the same observations, all from the same resamples.

    `value` is the figure itself (all weights one), not the mean of the resamples. Resamples in which a figure is undefined
    (NaN) are left out of its interval. The same seed gives the same intervals.

    `centred` names figures whose interval is moved by (value - mean of the resamples) and cut to the range 0 to 1. Macro F1
    needs it: in a resample the F1 of small classes comes out lower than in the whole, so that its percentile interval lies too
    low and may miss the value itself. Measured on simulated test parts, 300 each, nominal 95 %: 900 observations of 90 classes
    88 % plain and 96 % centred, 3,000 of 1,000 Zipf classes 64 % and 87 %. Means over classes have a remedy of their own,
    `macro_mean_of`.

    Raises BadInput where there is nothing to resample or fewer than two resamples are asked for.

    >>> right = np.array([1.0, 1.0, 0.0, 1.0])
    >>> bootstrap({"top_1": mean_of(right)}, 4, resamples=200)["top_1"]
    Interval(value=0.75, low=0.25, high=1.0, level=0.95, resamples=200)
    """
    values, results = resample(statistics, observations, resamples=resamples, level=level, seed=seed)
    intervals = {}
    for name, value in values.items():
        low, high = middle(results[name], level, value)
        if name in centred:
            low, high = np.clip(np.array([low, high]) + (value - np.nanmean(results[name])), 0, 1).tolist()
        intervals[name] = Interval(value, low, high, level, resamples)
    return intervals


def resample(
    statistics: Mapping[str, Statistic], observations: int, *, resamples: int, level: float, seed: int
) -> tuple[dict[str, float], dict[str, Floats]]:
    """Every figure of all observations, and its values in the resamples [R], the same resamples for all figures."""
    drawings = resamplings(observations, resamples=resamples, level=level, seed=seed)
    values = {name: float(statistic(np.ones((1, observations)))[0]) for name, statistic in statistics.items()}
    drawn: dict[str, list[Floats]] = {name: [] for name in statistics}
    for weights_RO in drawings:
        for name, statistic in statistics.items():
            drawn[name].append(statistic(weights_RO))
    return values, {name: np.concatenate(parts) for name, parts in drawn.items()}


def resamplings(observations: int, *, resamples: int, level: float, seed: int) -> Iterator[NDArray[np.floating]]:
    """Weights [R, O] of the resamples, so many at a time that they stay in a processor's cache, but a line of it at least."""
    if observations < 1 or resamples < 2 or not 0 < level < 1:
        raise BadInput(
            f"a bootstrap of {observations} observations, {resamples} resamples at level {level}: "
            "it needs an observation, two resamples and a level between 0 and 1"
        )
    chunk = max(_LEAST_AT_ONCE, _NUMBERS_AT_ONCE // observations)
    generator = np.random.default_rng(seed)
    starts = range(0, resamples, chunk)
    return (
        _resampled_weights(generator, min(chunk, resamples - start), observations)
        for start in track(starts, "intervals", total=len(starts))
    )


def middle(results_R: Floats, level: float, value: float) -> tuple[float, float]:
    """The ends of the middle `level` of the defined results; `value` twice where none is defined."""
    defined_R = results_R[~np.isnan(results_R)]
    if not len(defined_R):
        return value, value
    low, high = np.quantile(defined_R, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _resampled_weights(generator: np.random.Generator, resamples: int, observations: int) -> NDArray[np.floating]:
    """How often each observation is drawn, [R, O]; each row sums to O."""
    weights_RO = np.empty((resamples, observations), dtype=np.float32)
    for weights_O in weights_RO:
        # The same numbers as with int64, at a fifth of the time.
        drawn_O = generator.integers(0, observations, observations, dtype=np.uint32)
        weights_O[:] = np.bincount(drawn_O, minlength=observations)
    return np.asfortranarray(weights_RO)


# ---- the figures as functions of weights ----


def mean_of(values_O: ArrayLike) -> Statistic:
    """Mean over observations, e.g. of `accuracy.hits`.

    >>> float(mean_of([1, 0])(np.array([[3, 1]]))[0])
    0.75
    """
    return ratio_of(values_O, np.ones(len(np.asarray(values_O))))


def ratio_of(numerator_O: ArrayLike, denominator_O: ArrayLike) -> Statistic:
    """Sum of one column over the sum of another, e.g. right answers among the answered; NaN where the latter is 0."""
    columns = tuple(np.asarray(column, dtype=np.float64) for column in (numerator_O, denominator_O))

    def statistic(weights_RO: NDArray[np.floating]) -> Floats:
        # In the type of the weights: to convert a million of them takes thirty times as long as to add them up.
        upper_R, lower_R = ((weights_RO @ column.astype(weights_RO.dtype)).astype(np.float64) for column in columns)
        return np.where(lower_R > 0, upper_R / np.where(lower_R > 0, lower_R, 1), np.nan)

    return statistic


def class_mean_of(values_O: ArrayLike, labels_O: Integers) -> Statistic:
    """`accuracy.class_mean` of the resample: over the classes IN it; rows with a negative label are left out.

    >>> float(class_mean_of([1, 0, 1], np.array([7, 7, 4]))(np.array([[1, 1, 1]]))[0])
    0.75
    """
    sums = SumsByClass(labels_O)
    values_O = np.asarray(values_O, dtype=np.float64)

    def statistic(weights_RO: NDArray[np.floating]) -> Floats:
        count_RL = sums(weights_RO)
        total_RL = sums(weights_RO, values_O)
        return _mean_where(total_RL / np.maximum(count_RL, 1), count_RL > 0)

    return statistic


def macro_mean_of(values_O: ArrayLike, labels_O: Integers) -> Statistic:
    """The same mean over classes, for an interval that holds it where classes have few observations; never NaN.

    In a resample of `class_mean_of` a class may be missing and a single observation can only repeat itself, so that intervals of
    a long tail come out too narrow and beside the figure. Here every class stays: a resample moves the figure by the drawn
    deviations from the means of the classes, each enlarged by √(n / (n − 1)) as Rao and Wu (1988) do for strata of n. Classes
    of one observation are one stratum together, whose spread holds that between its classes as well (collapsed strata; Hansen,
    Hurwitz and Madow, 1953): rather too wide than too narrow. `benchmarks/coverage.py` measures both.

    >>> statistic = macro_mean_of([1, 0, 1], np.array([7, 7, 4]))
    >>> statistic(np.array([[1.0, 1.0, 1.0], [0.0, 2.0, 1.0]])).round(3).tolist()
    [0.75, 0.396]
    """
    of_columns = macro_means_of(np.asarray(values_O, dtype=np.float64)[:, None], labels_O)
    return lambda weights_RO: of_columns(weights_RO)[:, 0]


def macro_means_of(values_OV: Floats, labels_O: Integers) -> Callable[[NDArray[np.floating]], Floats]:
    """`macro_mean_of` of V columns at once, weights [R, O] -> [R, V]: one matrix product."""
    labels_O, values_OV = np.asarray(labels_O), np.asarray(values_OV, dtype=np.float64)
    known = np.flatnonzero(labels_O >= 0)
    if not len(known):
        return lambda weights_RO: np.full((len(weights_RO), values_OV.shape[1]), np.nan)
    values_KV = values_OV[known]
    _, class_K, count_P = np.unique(labels_O[known], return_inverse=True, return_counts=True)
    mean_PV = np.stack([np.bincount(class_K, values_K) for values_K in values_KV.T], axis=1) / count_P[:, None]
    alone_P = count_P == 1
    mean_of_alone_V = mean_PV[alone_P].mean(axis=0) if alone_P.any() else 0.0
    mean_KV = np.where(alone_P[:, None], mean_of_alone_V, mean_PV)[class_K]
    strata_K = np.where(alone_P, alone_P.sum(), count_P)[class_K]
    scale_K = np.sqrt(strata_K / np.maximum(strata_K - 1, 1)) / count_P[class_K] / len(count_P)
    moves_OV = np.zeros(values_OV.shape)
    moves_OV[known] = (values_KV - mean_KV) * scale_K[:, None]
    mean_V, low_V, high_V = mean_PV.mean(axis=0), values_KV.min(axis=0), values_KV.max(axis=0)

    def statistic(weights_RO: NDArray[np.floating]) -> Floats:
        moved_RV: Floats = mean_V + (weights_RO @ moves_OV.astype(weights_RO.dtype)).astype(np.float64)
        return np.clip(moved_RV, low_V, high_V)

    return statistic


def macro_f1_of(true_O: Integers, predicted_O: Integers) -> Statistic:
    """`long_tail.macro_f1`: over the classes true or predicted IN the resample; rows with a negative label are left out.

    >>> round(float(macro_f1_of(np.array([0, 0, 1]), np.array([0, 2, 1]))(np.array([[1, 1, 1]]))[0]), 6)
    0.555556
    """
    true_O, predicted_O = np.asarray(true_O), np.asarray(predicted_O)
    predicted_O = np.where(true_O >= 0, predicted_O, -1)
    labels_L = np.union1d(true_O[true_O >= 0], predicted_O[predicted_O >= 0])
    by_true, by_predicted = SumsByClass(true_O, labels_L), SumsByClass(predicted_O, labels_L)
    right_O = (true_O == predicted_O).astype(np.float64)

    def statistic(weights_RO: NDArray[np.floating]) -> Floats:
        either_RL = by_true(weights_RO) + by_predicted(weights_RO)
        right_RL = by_true(weights_RO, right_O)
        return _mean_where(2 * right_RL / np.maximum(either_RL, 1), either_RL > 0)

    return statistic


def auroc_of(sureness_O: ArrayLike, known_O: ArrayLike) -> Statistic:
    """`detection.auroc`; rows whose sureness isn't a number are left out.

    >>> float(auroc_of([0.9, 0.4, 0.4, 0.1, np.nan], [True, True, False, False, True])(np.ones((1, 5)))[0])
    0.875
    """
    sureness_O, known_O = np.asarray(sureness_O, dtype=np.float64), np.asarray(known_O, dtype=bool)
    order = np.argsort(sureness_O, kind="stable")[: int((~np.isnan(sureness_O)).sum())]
    starts_T = np.flatnonzero(np.append(True, np.diff(sureness_O[order]) > 0))  # T values, rising
    known_sorted_O = known_O[order]

    def statistic(weights_RO: NDArray[np.floating]) -> Floats:
        weights_RO = np.asarray(weights_RO, dtype=np.float64)[:, order]
        known_RT, unknown_RT = (
            np.add.reduceat(weights_RO * mask, starts_T, axis=1) for mask in (known_sorted_O, ~known_sorted_O)
        )
        below_RT = np.cumsum(unknown_RT, axis=1) - unknown_RT / 2
        pairs_R = known_RT.sum(axis=1) * unknown_RT.sum(axis=1)
        won_R = (known_RT * below_RT).sum(axis=1)
        return np.where(pairs_R > 0, won_R / np.maximum(pairs_R, 1e-300), np.nan)

    return statistic


def difference_of(second: Statistic, first: Statistic) -> Statistic:
    """By how much the second is larger, in the same resamples of the same observations: a paired difference.

    >>> float(difference_of(mean_of([1, 1]), mean_of([1, 0]))(np.array([[1, 3]]))[0])
    0.75
    """
    return lambda weights_RO: second(weights_RO) - first(weights_RO)


class SumsByClass:
    """Sums weights [R, O] over the observations of each class, [R, L], in the order of `labels_L`."""

    def __init__(self, labels_O: Integers, labels_L: Integers | None = None) -> None:
        labels_O = np.asarray(labels_O)
        labels_L = np.unique(labels_O[labels_O >= 0]) if labels_L is None else labels_L
        known = np.flatnonzero(labels_O >= 0)
        self.order = known[np.argsort(labels_O[known], kind="stable")]
        self.ends = np.append(np.searchsorted(labels_O[self.order], labels_L), len(self.order))

    def __call__(self, weights_RO: NDArray[np.floating], values_O: NDArray[np.floating] | None = None) -> NDArray[np.floating]:
        from scipy.sparse import csr_array  # a fifth of a second to load

        values_K = np.ones(len(self.order)) if values_O is None else values_O[self.order]
        shape = len(self.ends) - 1, weights_RO.shape[1]
        sums_RL: NDArray[np.floating] = (
            csr_array((values_K.astype(weights_RO.dtype), self.order, self.ends), shape) @ weights_RO.T
        ).T
        return sums_RL


def _mean_where(values_RL: NDArray[np.floating], counted_RL: NDArray[np.bool_]) -> Floats:
    """Mean over the counted columns of each row, NaN where there are none."""
    counted_R = counted_RL.sum(axis=1)
    total_R = np.where(counted_RL, values_RL, 0).sum(axis=1, dtype=np.float64)
    return np.where(counted_R > 0, total_R / np.maximum(counted_R, 1), np.nan)
