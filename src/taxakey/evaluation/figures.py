"""The figures of a report: at each rank with intervals, the calibration, by number of training photographs, species by species.

Shapes: O observations, L labels (see `labels`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from taxakey.evaluation.content import CalibrationFigures, SpeciesRow, TrainImagesBin, Unsure
from taxakey.evaluation.labels import Labelled, label, train_counts
from taxakey.evaluation.sources import Sources
from taxakey.evaluation.species import species_rows
from taxakey.metrics.accuracy import class_mean, hits
from taxakey.metrics.calibration_error import (
    calibration_error_by_chance,
    expected_calibration_error,
    negative_log_likelihood,
    reliability,
)
from taxakey.metrics.intervals import Interval, Statistic, bootstrap, macro_f1_of, macro_mean_of, ratio_of
from taxakey.metrics.long_tail import macro_f1
from taxakey.metrics.ranking import reciprocal_ranks
from taxakey.taxonomy import RANKS

TRAIN_IMAGES_BINS = ((0, 0), (1, 4), (5, 9), (10, 19), (20, 49), (50, 99), (100, None))


@dataclass(frozen=True)
class Settings:
    """Of the bootstrap."""

    resamples: int
    level: float
    seed: int


@dataclass(frozen=True)
class Measured:
    """What `measure` found; the fields are those of Report."""

    counts: dict[str, int]
    figures: dict[str, dict[str, Interval]]
    single_photographs: dict[str, float] | None
    calibration: CalibrationFigures
    by_train_images: tuple[TrainImagesBin, ...]
    species: tuple[SpeciesRow, ...]


def measure(sources: Sources, settings: Settings) -> Measured:
    """All figures; those with an interval come from the same resamples."""
    species = label(sources.observations, sources.taxonomy, "species")
    counts_L = train_counts(sources, species)
    statistics = _at_ranks(sources) | _in_bins(species, counts_L) | _unsure_statistics(sources, species)
    intervals = bootstrap(
        statistics,
        len(sources.observations),
        resamples=settings.resamples,
        level=settings.level,
        seed=settings.seed,
        centred=[name for name in statistics if name.endswith(" macro_f1")],
    )
    figures: dict[str, dict[str, Interval]] = {}
    for name, interval in intervals.items():
        rank, metric = name.split(" ")
        if rank in RANKS:
            figures.setdefault(rank, {})[metric] = interval
    return Measured(
        counts=_counts(sources, species),
        figures=figures,
        single_photographs=_single_photographs(sources),
        calibration=_calibration(sources, species, intervals),
        by_train_images=_bins(species, counts_L, intervals),
        species=species_rows(sources, species, counts_L),
    )


# ---- the figures with intervals, as functions of weights; their keys are "<group> <name>" ----


def _at_ranks(sources: Sources) -> dict[str, Statistic]:
    statistics: dict[str, Statistic] = {}
    for rank in RANKS:
        rows = label(sources.observations, sources.taxonomy, rank)
        if not sources.taxonomy.taxa(rank) or not rows.known_O.any():
            continue
        statistics |= {f"{rank} {name}": statistic for name, statistic in statistics_of(rows).items()}
    return statistics


def statistics_of(rows: Labelled) -> dict[str, Statistic]:
    """The figures of one rank, by the names of `meanings.METRICS`."""
    top_1, top_5 = hits(rows.rank_O, 1), hits(rows.rank_O, 5)
    return {
        "top_1": ratio_of(top_1 * rows.known_O, rows.known_O),
        "top_5": ratio_of(top_5 * rows.known_O, rows.known_O),
        "macro_top_1": macro_mean_of(top_1, rows.label_O),
        "macro_top_5": macro_mean_of(top_5, rows.label_O),
        "macro_f1": macro_f1_of(rows.label_O, rows.predicted_O),
        "ma_mrr": macro_mean_of(reciprocal_ranks(rows.rank_O), rows.label_O),
    }


def _in_bins(species: Labelled, counts_L: NDArray[np.int64] | None) -> dict[str, Statistic]:
    if counts_L is None:
        return {}
    top_1, statistics = hits(species.rank_O, 1), {}
    for number, bounds in enumerate(TRAIN_IMAGES_BINS):
        label_O = np.where(_within(counts_L, bounds)[species.label_O], species.label_O, -1)
        if (label_O >= 0).any():
            statistics[f"bin {number}"] = macro_mean_of(top_1, label_O)
    return statistics


def _unsure_statistics(sources: Sources, species: Labelled) -> dict[str, Statistic]:
    if sources.calibration is None:
        return {}
    answered_O = _answered(sources, sources.calibration.unsure_below) & species.known_O
    return {
        "unsure answered": ratio_of(answered_O, species.known_O),
        "unsure precision": ratio_of(answered_O * hits(species.rank_O, 1), answered_O),
    }


def _answered(sources: Sources, threshold: float) -> NDArray[np.bool_]:
    # The table holds float32: rounded alike, an answer exactly at the threshold stays on its side.
    return sources.observations.probability("species")[:, 0] >= np.float32(threshold)


# ---- counts and groups ----


def _counts(sources: Sources, species: Labelled) -> dict[str, int]:
    present = np.unique(species.label_O[species.known_O])
    known = {rank: int(label(sources.observations, sources.taxonomy, rank).known_O.sum()) for rank in RANKS[1:]}
    return (
        {
            "observations": int(species.known_O.sum()),
            "unnamed_observations": int((~species.known_O).sum()),
            "images": len(sources.images),
            "species": len(present),
            "species_outside_model": int((present >= len(sources.taxonomy)).sum()),
            "observations_outside_model": int((species.label_O >= len(sources.taxonomy)).sum()),
            "classes": len(sources.taxonomy),
        }
        | {f"{rank}_taxa": len(sources.taxonomy.taxa(rank)) for rank in RANKS[1:]}
        | {f"{rank}_observations": number for rank, number in known.items()}
    )


def _single_photographs(sources: Sources) -> dict[str, float] | None:
    if len(sources.images) == len(sources.observations):
        return None
    rows = label(sources.images, sources.taxonomy, "species")
    known = rows.known_O
    return {
        "top_1": float(hits(rows.rank_O[known], 1).mean()),
        "top_5": float(hits(rows.rank_O[known], 5).mean()),
        "macro_top_1": class_mean(hits(rows.rank_O, 1), rows.label_O),
        "macro_f1": macro_f1(rows.label_O, rows.predicted_O),
    }


def _within(counts_L: NDArray[np.int64], bounds: tuple[int, int | None]) -> NDArray[np.bool_]:
    low, high = bounds
    return (counts_L >= low) & (counts_L <= (counts_L.max() if high is None else high))


def _bins(species: Labelled, counts_L: NDArray[np.int64] | None, intervals: dict[str, Interval]) -> tuple[TrainImagesBin, ...]:
    if counts_L is None:
        return ()
    present_L = np.bincount(species.label_O[species.known_O], minlength=len(species.names))
    found = []
    for number, (low, high) in enumerate(TRAIN_IMAGES_BINS):
        if interval := intervals.get(f"bin {number}"):
            inside_L = _within(counts_L, (low, high)) & (present_L > 0)
            found.append(TrainImagesBin(low, high, int(inside_L.sum()), int(present_L[inside_L].sum()), interval))
    return tuple(found)


# ---- calibration ----


def _calibration(sources: Sources, species: Labelled, intervals: dict[str, Interval]) -> CalibrationFigures:
    known = species.known_O
    confidence = sources.observations.probability("species")[known, 0]
    right = hits(species.rank_O[known], 1)
    likelihood = sources.observations.true_probability("species")[sources.observations.true_index("species") >= 0]
    points = tuple(reliability(confidence, right))
    return CalibrationFigures(
        expected_calibration_error=expected_calibration_error(confidence, right),
        error_by_chance=calibration_error_by_chance(points),
        negative_log_likelihood=negative_log_likelihood(likelihood) if len(likelihood) else None,
        mean_confidence=float(confidence.mean(dtype=np.float64)),
        top_1=float(right.mean()),
        points=points,
        unsure=_unsure(sources, species, intervals),
    )


def _unsure(sources: Sources, species: Labelled, intervals: dict[str, Interval]) -> Unsure | None:
    if sources.calibration is None:
        return None
    answered_O = _answered(sources, sources.calibration.unsure_below)
    outside_O = species.label_O >= len(sources.taxonomy)
    return Unsure(
        threshold=sources.calibration.unsure_below,
        target_precision=sources.calibration.measured.get("target_precision"),
        answered=intervals["unsure answered"],
        precision=intervals["unsure precision"] if (answered_O & species.known_O).any() else None,
        outside_model=int(outside_O.sum()),
        outside_model_unsure=int((outside_O & ~answered_O).sum()),
    )
