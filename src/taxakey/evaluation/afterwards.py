"""Everything that is asked of the figures after the fact, from two passes of resamples: figures, and differences."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from taxakey.evaluation import answer_sets, costs, groups, rarity, taxa
from taxakey.evaluation.analyses import Analyses
from taxakey.evaluation.figures import Settings
from taxakey.evaluation.labels import Labelled, label, train_counts
from taxakey.evaluation.sources import Sources
from taxakey.metrics.accuracy import hits
from taxakey.metrics.differences import paired_differences
from taxakey.metrics.intervals import Interval, Statistic, bootstrap, ratio_of
from taxakey.taxonomy import RANKS


def analyse(sources: Sources, settings: Settings, thresholds: answer_sets.Thresholds | None = None) -> Analyses:
    """All analyses that the predictions, the taxonomy and the dataset's table allow."""
    species = label(sources.observations, sources.taxonomy, "species")
    counts_L = train_counts(sources, species)
    above, grouped = taxa.parents(sources, species), groups.grouped_rows(sources)
    height_O = taxa.heights(species, above)
    statistics = _statistics(sources, species, counts_L, height_O, grouped, thresholds)
    figures = bootstrap(
        statistics, len(sources.observations), resamples=settings.resamples, level=settings.level, seed=settings.seed
    ) if statistics else {}  # fmt: skip
    differences = paired_differences(
        _pairs(sources, species, counts_L, grouped),
        len(sources.observations),
        resamples=settings.resamples,
        level=settings.level,
        seed=settings.seed,
    )
    return Analyses(
        differences={name.removeprefix("report "): each for name, each in differences.items() if name.startswith("report ")},
        rarity=None
        if counts_L is None
        else rarity.rarity(
            species,
            counts_L,
            _named("third ", figures),
            resamples=settings.resamples,
            level=settings.level,
            seed=settings.seed,
        ),
        variance=taxa.variances(species, above),
        families=taxa.best_and_worst(species, above["family"]) if "family" in above else None,
        confused_genera=taxa.confused_genera(sources),
        distance=taxa.error_distance(height_O, above, figures["distance"]) if above and "distance" in figures else None,
        groupings=tuple(groups.grouping(rows, figures, differences) for rows in grouped),
        costs=costs.cost_figures(sources, species, _named("cost ", figures)),
        answer_sets=answer_sets.answer_sets(thresholds, _named("set ", figures)) if thresholds else (),
    )


def _statistics(
    sources: Sources,
    species: Labelled,
    counts_L: NDArray[np.int64] | None,
    height_O: NDArray[np.int64],
    grouped: list[groups.GroupedRows],
    thresholds: answer_sets.Thresholds | None,
) -> dict[str, Statistic]:
    found: dict[str, Statistic] = {}
    if counts_L is not None:
        found |= {f"third {name}": each for name, each in rarity.third_statistics(species, counts_L).items()}
    if (distance := taxa.distance_statistic(height_O)) is not None:
        found["distance"] = distance
    for rows in grouped:
        found |= {rows.key(number): rows.shares.inside[number] for number in range(len(rows.names))}
    found |= {f"cost {name}": each for name, each in costs.cost_statistics(sources, species).items()}
    if thresholds:
        found |= {f"set {name}": each for name, each in answer_sets.set_statistics(sources, species, thresholds).items()}
    return found


def _pairs(
    sources: Sources, species: Labelled, counts_L: NDArray[np.int64] | None, grouped: list[groups.GroupedRows]
) -> dict[str, tuple[Statistic, Statistic]]:
    """First minus second; those whose name begins with "report " are shown by name, the others belong to groups."""
    top_1 = ratio_of(hits(species.rank_O, 1) * species.known_O, species.known_O)
    confidence_O = sources.observations.probability("species")[:, 0]
    pairs = _ranks(sources) | {
        "report confidence_minus_top_1": (ratio_of(confidence_O * species.known_O, species.known_O), top_1)
    }
    if (several := _several_photographs(sources, species)) is not None:
        pairs["report together_minus_single"] = several
    if counts_L is not None:
        thirds = rarity.third_statistics(species, counts_L)
        if "head" in thirds and "tail" in thirds:
            pairs["report head_minus_tail"] = thirds["head"], thirds["tail"]
        if (gap := rarity.gap_statistics(species, counts_L)) is not None:
            pairs["report gap_80_90_minus_5_10"] = gap
    for rows in grouped:
        pairs |= {
            rows.key(number): (rows.shares.inside[number], rows.shares.outside[number])
            for number in range(len(rows.names))
            if rows.rows_G[number] < rows.rows_known
        }
    return pairs


def _several_photographs(sources: Sources, species: Labelled) -> tuple[Statistic, Statistic] | None:
    """Top-1 from all photographs together and from one at a time, over observations with several; None without any."""
    observation_I = groups.observation_of_images(sources)
    image_rows = label(sources.images, sources.taxonomy, "species")
    inside_I = observation_I >= 0
    count_O = np.bincount(observation_I[inside_I], minlength=len(species.label_O))
    right_O = np.bincount(observation_I[inside_I], hits(image_rows.rank_O, 1)[inside_I], len(species.label_O))
    several_O = (count_O > 1) & species.known_O
    if not several_O.any():
        return None
    together_O, single_O = hits(species.rank_O, 1) * several_O, right_O / np.maximum(count_O, 1) * several_O
    return ratio_of(together_O, several_O), ratio_of(single_O, several_O)


def _ranks(sources: Sources) -> dict[str, tuple[Statistic, Statistic]]:
    """Top-1 at genus minus that at species, at family minus that at genus, where the names are known at both."""
    rows = {rank: label(sources.observations, sources.taxonomy, rank) for rank in RANKS if sources.taxonomy.taxa(rank)}
    pairs = {}
    for finer, coarser in pairwise(rows):
        both_O = rows[finer].known_O & rows[coarser].known_O
        if both_O.any():
            share = {rank: ratio_of(hits(rows[rank].rank_O, 1) * both_O, both_O) for rank in (finer, coarser)}
            pairs[f"report {coarser}_minus_{finer}"] = share[coarser], share[finer]
    return pairs


def _named(prefix: str, figures: Mapping[str, Interval]) -> dict[str, Interval]:
    return {name.removeprefix(prefix): each for name, each in figures.items() if name.startswith(prefix)}
