"""Species by species: how many training photographs it had, how often it was named rightly, and what it was taken for.

Shapes: O observations, L labels (see `labels`).
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from taxakey.evaluation.content import SpeciesRow
from taxakey.evaluation.labels import Labelled
from taxakey.evaluation.sources import Sources
from taxakey.metrics.accuracy import hits
from taxakey.taxonomy import RANKS


def species_rows(sources: Sources, species: Labelled, counts_L: NDArray[np.int64] | None) -> tuple[SpeciesRow, ...]:
    """One row for each species that occurs, by name. counts_L: training photographs [L], None where they aren't known."""
    labels, classes = species.label_O[species.known_O], len(species.names)
    total_L = np.bincount(labels, minlength=classes)
    top_1_L, top_5_L = (np.bincount(labels, hits(species.rank_O[species.known_O], k), classes) for k in (1, 5))
    taken_for, parents = _most_frequent_mistake(species), _parents(sources)
    rows = []
    for number in np.flatnonzero(total_L):
        name, in_model = species.names[number], number < len(sources.taxonomy)
        vernacular, genus, family = parents.get(name, ("", "", ""))
        rows.append(
            SpeciesRow(
                name,
                vernacular,
                genus,
                family,
                bool(in_model),
                train_images=None if counts_L is None else int(counts_L[number]),
                observations=int(total_L[number]),
                top_1=float(top_1_L[number] / total_L[number]),
                top_5=float(top_5_L[number] / total_L[number]),
                taken_for=taken_for.get(int(number)),
            )
        )
    return tuple(sorted(rows, key=lambda row: row.scientific_name))


def _most_frequent_mistake(species: Labelled) -> dict[int, str]:
    """Label -> the name most often given to it wrongly; ties by name."""
    wrong = species.known_O & (species.label_O != species.predicted_O)
    pairs = Counter(zip(species.label_O[wrong].tolist(), species.predicted_O[wrong].tolist(), strict=True))
    mistakes: dict[int, str] = {}
    for (true, predicted), _ in sorted(pairs.items(), key=lambda item: (-item[1], species.names[item[0][1]])):
        mistakes.setdefault(true, species.names[predicted])
    return mistakes


def _parents(sources: Sources) -> dict[str, tuple[str, str, str]]:
    """Name -> (vernacular name, genus, family): of the classes, and of other species as their records say."""
    names, genera, families = (sources.observations.strings(f"true_{rank}") for rank in RANKS)
    known = {name: ("", genus or "", family or "") for name, genus, family in zip(names, genera, families, strict=True) if name}
    columns = (sources.taxonomy.column(column) for column in ("scientificName", "vernacularName", "genus", "family"))
    return known | {name: (vernacular, genus, family) for name, vernacular, genus, family in zip(*columns, strict=True)}
