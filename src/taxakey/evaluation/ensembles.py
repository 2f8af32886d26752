"""An ensemble judged: every member and rule on the test part, with paired intervals, and how unlike the members are.

Shapes: M members, O rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taxakey.metrics.accuracy import hits
from taxakey.metrics.diversity import disagreement, double_fault, error_correlation, oracle
from taxakey.metrics.intervals import LEVEL, RESAMPLES, Interval, Statistic, bootstrap, class_mean_of, difference_of, ratio_of
from taxakey.metrics.ranking import reciprocal_ranks
from taxakey.prediction.ensemble import MEAN, Answered, Fitted, answered, single
from taxakey.prediction.members import Pool

FIGURES = {"top_1": "top-1", "macro_top_1": "macro top-1", "ma_mrr": "MA-MRR@30"}
"""What a model, ensemble or router reaches, on observations: micro, and twice macro."""


@dataclass(frozen=True)
class Judged:
    """A member or rule. `validation_nll`: of rules cross-fitted. Differences: metric -> this one less the other, paired."""

    name: str
    is_member: bool
    validation_nll: float
    validation_top_1: float
    test_nll: float
    figures: Mapping[str, Interval]
    over_best_member: Mapping[str, Interval]
    over_mean: Mapping[str, Interval]


@dataclass(frozen=True)
class Diversity:
    """By pairs of members [M][M]; `oracle`: share of rows that at least one names rightly."""

    names: tuple[str, ...]
    disagreement: list[list[float]]
    error_correlation: list[list[float | None]]
    double_fault: list[list[float]]
    oracle: float


@dataclass(frozen=True)
class EnsembleReport:
    """`chosen`: the rule that was taken, by validation; `best_member`: by validation's top-1."""

    judged: tuple[Judged, ...]
    chosen: str
    best_member: str
    diversity: Diversity
    observations: int
    validation_observations: int
    notes: tuple[str, ...]
    settings: Mapping[str, float]

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def judge(fitted: Fitted, pool: Pool, *, resamples: int = RESAMPLES, seed: int = 0, notes: Sequence[str] = ()) -> EnsembleReport:
    """Judge members and rules on a pool that none of the weights came from. Species outside all members count as errors."""
    pool = replace(pool, names=fitted.members)  # the same members in the same order, whatever their folders are called
    rules = {**fitted.rules, **{name: single(number, len(pool.names)) for number, name in enumerate(pool.names)}}
    found = answered(pool, rules)
    label_O = labels(pool)
    figures = judged_figures(found, label_O, (fitted.best_member, MEAN), resamples=resamples, seed=seed)
    held_O = pool.true_O >= 0
    judged = tuple(
        Judged(
            name, name in pool.names, fitted.nll(name), fitted.validation[name].top_1(fitted.known_O), found[name].nll(held_O),
            *figures[name],
        )
        for name in (*pool.names, *fitted.rules)
    )  # fmt: skip
    return EnsembleReport(
        judged, fitted.chosen, fitted.best_member, _diversity(pool, found, label_O), int((label_O >= 0).sum()),
        int(fitted.known_O.sum()), tuple(notes), {"resamples": resamples, "level": LEVEL, "seed": seed},
    )  # fmt: skip


def labels(pool: Pool) -> NDArray[np.int64]:
    """True species [O] as numbers, those outside all members behind the classes; -1 where the name isn't known."""
    outside = sorted({name for name, true in zip(pool.truth.species, pool.true_O, strict=True) if name and true < 0})
    position = {name: len(pool.taxonomy) + number for number, name in enumerate(outside)}
    pairs = zip(pool.truth.species, pool.true_O, strict=True)
    return np.array([true if true >= 0 else position.get(name or "", -1) for name, true in pairs], dtype=np.int64)


def statistics(of: Answered, label_O: NDArray[np.int64]) -> dict[str, Statistic]:
    """The figures of one member, rule or router, for the bootstrap."""
    top_1, known_O = hits(of.true_rank_O, 1), label_O >= 0
    return {
        "top_1": ratio_of(top_1 * known_O, known_O),
        "macro_top_1": class_mean_of(top_1, label_O),
        "ma_mrr": class_mean_of(reciprocal_ranks(of.true_rank_O), label_O),
    }


Figures = dict[str, Interval]


def judged_figures(
    found: Mapping[str, Answered], label_O: NDArray[np.int64], others: Sequence[str], *, resamples: int, seed: int
) -> dict[str, tuple[Figures, ...]]:
    """Each one's figures, then its differences from each of `others`, all from the same resamples; from itself 0."""
    of = {name: statistics(answers, label_O) for name, answers in found.items()}
    asked: dict[str, Statistic] = {}
    for name, figures in of.items():
        for metric, statistic in figures.items():
            asked[f"{name}\t{metric}\t"] = statistic
            asked |= {f"{name}\t{metric}\t{other}": difference_of(statistic, of[other][metric]) for other in others}
    drawn = bootstrap(asked, len(label_O), resamples=resamples, seed=seed)
    return {
        name: tuple({metric: drawn[f"{name}\t{metric}\t{other}"] for metric in FIGURES} for other in ("", *others)) for name in of
    }


def _diversity(pool: Pool, found: Mapping[str, Answered], label_O: NDArray[np.int64]) -> Diversity:
    known_O = label_O >= 0
    first_MO = np.stack([found[name].first_O[known_O] for name in pool.names])
    right_MO = np.stack([found[name].true_rank_O[known_O] == 1 for name in pool.names])
    correlation = [[None if np.isnan(value) else float(value) for value in row] for row in error_correlation(right_MO)]
    return Diversity(pool.names, disagreement(first_MO).tolist(), correlation, double_fault(right_MO).tolist(), oracle(right_MO))
