"""Where among the taxa the errors lie: families and genera, confused genera, how far off a wrong answer is.

Shapes: O observations, L labels (see `labels`), P species that occur.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from taxakey.errors import BadInput
from taxakey.evaluation.analyses import BestAndWorst, ConfusedGenera, DistanceStep, ErrorDistance, TaxonFigure
from taxakey.evaluation.labels import Labelled, label
from taxakey.evaluation.sources import Sources
from taxakey.metrics.accuracy import hits
from taxakey.metrics.bins import BinFigure, by_bin, per_class
from taxakey.metrics.confusion import confusions
from taxakey.metrics.intervals import Interval, Statistic, ratio_of
from taxakey.metrics.taxonomic import ancestor_height
from taxakey.metrics.variance import VarianceAnalysis, one_way
from taxakey.taxonomy import HIGHER_RANKS

LEAST_SPECIES = 3
"""Of a family that is ranked: a mean of fewer has hardly a standard error."""
MOST_FAMILIES = 10
MOST_GENERA = 12
RANKS_ABOVE = tuple(reversed(HIGHER_RANKS))
"""genus, family, order …"""


@dataclass(frozen=True, eq=False)
class Parents:
    """`code_L`: the taxon of each label at a rank, a position in `names`; -1 where it isn't known."""

    names: tuple[str, ...]
    code_L: NDArray[np.int64]


def parents(sources: Sources, species: Labelled) -> dict[str, Parents]:
    """Each rank above the species at which any taxon is known. A species outside the model has the parents of its record."""
    outside = _outside(sources, species)
    families = sources.taxonomy.column("family")
    found = {}
    for rank in RANKS_ABOVE:
        names = list(sources.taxonomy.column(rank))
        if rank in ("genus", "family"):
            names += [outside[name][("genus", "family").index(rank)] for name in species.names[len(sources.taxonomy) :]]
        else:  # records of predictions say no more than the family; what lies above it follows from the model's species
            above = dict(zip(families, names, strict=True))
            names += [above.get(outside[name][1], "") for name in species.names[len(sources.taxonomy) :]]
        taxa = tuple(sorted({name for name in names if name}))
        position = {name: number for number, name in enumerate(taxa)}
        if taxa:
            found[rank] = Parents(taxa, np.array([position.get(name, -1) for name in names], dtype=np.int64))
    return found


def _outside(sources: Sources, species: Labelled) -> dict[str, tuple[str, str]]:
    """Genus and family of the species that the model doesn't hold."""
    rows = np.flatnonzero(species.label_O >= len(sources.taxonomy))
    _, first = np.unique(species.label_O[rows], return_index=True)
    table = sources.observations.table.select(["true_species", "true_genus", "true_family"]).take(rows[first])
    return {row["true_species"]: (row["true_genus"] or "", row["true_family"] or "") for row in table.to_pylist()}


# ---- families and genera ----


def variances(species: Labelled, above: dict[str, Parents]) -> dict[str, VarianceAnalysis]:
    """One-way analyses of the species' top-1 over families and over genera, where there is anything to analyse."""
    table = per_class(species.label_O, species.predicted_O)
    found: dict[str, VarianceAnalysis] = {}
    for rank in ("family", "genus"):
        if rank in above:
            try:
                found[rank] = one_way(table.recall, above[rank].code_L[table.label])
            except BadInput:
                continue  # one group, only groups of one, or no spread: the page says that there was nothing to compare
    return found


def best_and_worst(species: Labelled, families: Parents) -> BestAndWorst | None:
    """The ten best and the ten worst families, a third of all where there are fewer than thirty; None with fewer than three."""
    figures = by_bin(hits(species.rank_O, 1), species.label_O, families.code_L)
    ranked = [figure for figure in figures if figure.classes >= LEAST_SPECIES]
    if len(ranked) < 3:
        return None
    ranked.sort(key=lambda figure: (-figure.mean, -figure.classes, figure.bin))
    most = min(MOST_FAMILIES, len(ranked) // 3)
    rows = [_family(figure, families.names) for figure in ranked]
    return BestAndWorst(tuple(rows[:most]), tuple(rows[: -most - 1 : -1]), LEAST_SPECIES, len(ranked), len(figures))


def _family(figure: BinFigure, names: Sequence[str]) -> TaxonFigure:
    assert figure.standard_error is not None, "a ranked family has several species"
    return TaxonFigure(names[figure.bin], figure.classes, figure.observations, figure.mean, figure.standard_error)


def confused_genera(sources: Sources, *, most: int = MOST_GENERA) -> tuple[ConfusedGenera, ...]:
    """Genera that were taken for others, by the answers at genus (sums over species)."""
    genus = label(sources.observations, sources.taxonomy, "genus")
    if not sources.taxonomy.taxa("genus") or not genus.known_O.any():
        return ()
    found = confusions(genus.label_O, genus.predicted_O)
    family = _families_of_genera(sources)
    rows = []
    for true, predicted, count, observations in zip(
        *(column[:most].tolist() for column in (found.true, found.predicted, found.count, found.observations)), strict=True
    ):
        mine, theirs = family.get(genus.names[true], ""), family.get(genus.names[predicted], "")
        same = mine == theirs if mine and theirs else None
        rows.append(ConfusedGenera(genus.names[true], genus.names[predicted], count, observations, count / observations, same))
    return tuple(rows)


def _families_of_genera(sources: Sources) -> dict[str, str]:
    """Of the model's genera, and of others as their records say."""
    seen = sources.observations.table.group_by(["true_genus", "true_family"]).aggregate([]).to_pylist()
    known = {row["true_genus"]: row["true_family"] for row in seen if row["true_genus"] and row["true_family"]}
    return known | dict(zip(*(sources.taxonomy.column(rank) for rank in ("genus", "family")), strict=True))


# ---- how far off ----


def heights(species: Labelled, above: dict[str, Parents]) -> NDArray[np.int64]:
    """Ranks up to the last common ancestor of truth and answer [O]; 0 where right, -1 where the truth isn't known."""
    codes = [each.code_L for each in above.values()]
    return np.where(species.known_O, ancestor_height(species.label_O, species.predicted_O, codes), -1)


def distance_statistic(height_O: NDArray[np.int64]) -> Statistic | None:
    """Mean taxonomic distance of the errors; None without an error."""
    wrong_O = height_O > 0
    return ratio_of(height_O * wrong_O, wrong_O) if wrong_O.any() else None


def error_distance(height_O: NDArray[np.int64], above: dict[str, Parents], mean: Interval) -> ErrorDistance:
    """The histogram of `heights`; every step stands there, also an empty one."""
    count = np.bincount(height_O[height_O > 0], minlength=len(above) + 2)[1:]
    errors = int(count.sum())
    steps = tuple(
        DistanceStep(height, rank, int(number), float(number / errors))
        for height, (rank, number) in enumerate(zip((*above, ""), count, strict=True), 1)
    )
    return ErrorDistance(mean, steps, errors)
