"""An ensemble judged: every member and rule on the test part, with paired intervals, and how unlike the members are.

Shapes: M members, O rows, R resamples, F figures, V ways of answering (members and rules), L classes present.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taxakey.errors import BadInput
from taxakey.metrics.accuracy import Floats, hits
from taxakey.metrics.diversity import disagreement, double_fault, error_correlation, oracle
from taxakey.metrics.intervals import LEVEL, RESAMPLES, Interval, macro_means_of, middle, resamplings
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


Figures = dict[str, Interval]


def judged_figures(
    found: Mapping[str, Answered], label_O: NDArray[np.int64], others: Sequence[str], *, resamples: int, seed: int
) -> dict[str, tuple[Figures, ...]]:
    """Each one's figures, then its differences from each of `others`, all from the same resamples; from itself 0."""
    if (label_O < 0).all():
        raise BadInput("no observation's species is known, so nothing can be judged; take a part with labels")
    top_OV = np.stack([hits(answers.true_rank_O, 1) for answers in found.values()], axis=1)
    mrr_OV = np.stack([reciprocal_ranks(answers.true_rank_O) for answers in found.values()], axis=1)
    drawings = resamplings(len(label_O), resamples=resamples, level=LEVEL, seed=seed)
    figures = _figures(top_OV, mrr_OV, label_O)
    value_FV = figures(np.ones((1, len(label_O))))[0]
    drawn_RFV = np.concatenate([figures(weights_RO) for weights_RO in drawings])
    column = {name: number for number, name in enumerate(found)}

    def intervals(name: str, other: str | None) -> Figures:
        value_F, drawn_RF = value_FV[:, column[name]], drawn_RFV[:, :, column[name]]
        if other is not None:
            value_F, drawn_RF = value_F - value_FV[:, column[other]], drawn_RF - drawn_RFV[:, :, column[other]]
        return {
            metric: Interval(float(value), *middle(drawn_R, LEVEL, value), LEVEL, resamples)
            for metric, value, drawn_R in zip(FIGURES, value_F, drawn_RF.T, strict=True)
        }

    return {name: tuple(intervals(name, other) for other in (None, *others)) for name in found}


def _figures(
    top_OV: Floats, mrr_OV: Floats, label_O: NDArray[np.int64]
) -> Callable[[NDArray[np.floating]], NDArray[np.floating]]:
    """Weights [R, O] -> FIGURES [R, F, V] of all members and rules at once, V of them: matrix products, and no thousand sums."""
    known_O, members = label_O >= 0, top_OV.shape[1]
    right_OV = np.where(known_O[:, None], top_OV, 0).astype(np.float32)
    macro = macro_means_of(np.concatenate([top_OV, mrr_OV], axis=1), label_O)

    def figures(weights_RO: NDArray[np.floating]) -> NDArray[np.floating]:
        with np.errstate(invalid="ignore"):  # a resample without any known row has no micro figure: NaN
            micro_RV = (weights_RO @ right_OV) / (weights_RO @ known_O.astype(weights_RO.dtype))[:, None]
        macro_RX = macro(weights_RO)
        return np.stack([micro_RV, macro_RX[:, :members], macro_RX[:, members:]], axis=1)

    return figures


def _diversity(pool: Pool, found: Mapping[str, Answered], label_O: NDArray[np.int64]) -> Diversity:
    known_O = label_O >= 0
    first_MO = np.stack([found[name].first_O[known_O] for name in pool.names])
    right_MO = np.stack([found[name].true_rank_O[known_O] == 1 for name in pool.names])
    correlation = [[None if np.isnan(value) else float(value) for value in row] for row in error_correlation(right_MO)]
    return Diversity(pool.names, disagreement(first_MO).tolist(), correlation, double_fault(right_MO).tolist(), oracle(right_MO))
