"""Which species a run names better than the first run, and which worse; paired, observation by observation.

Shapes: O observations, P labels that are present.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from taxakey.evaluation.labels import Labelled
from taxakey.metrics.accuracy import hits
from taxakey.metrics.differences import holm
from taxakey.metrics.paired_tests import fewest_changes, mcnemar

LEVEL = 0.05


@dataclass(frozen=True)
class SpeciesChange:
    """One taxon. `before`, `after`: observations that the first run and this one name rightly; `gained`: by this one alone.

    `p_value`: McNemar's exact test; `p_holm`: corrected for all taxa of the table. `train_images`: None without a dataset.
    """

    name: str
    train_images: int | None
    observations: int
    before: int
    after: int
    gained: int
    lost: int
    p_value: float
    p_holm: float

    @property
    def sure(self) -> bool:
        """Whether the change stands after the correction."""
        return self.p_holm < LEVEL


@dataclass(frozen=True)
class Changes:
    """This run against the first. `species`: from the most gained to the most lost, then by name.

    `p_value`: McNemar's exact test over all observations. `won`, `lost`: taxa with more and with fewer right than before;
    `sign_p_value`: were both runs equally good, as many would be won as lost. `needed`: changes one way, below which no single
    taxon can be sure among so many.
    """

    gained: int
    lost_observations: int
    p_value: float
    won: int
    lost: int
    sign_p_value: float
    needed: int
    species: tuple[SpeciesChange, ...]


def changes(first: Labelled, other: Labelled, counts_L: NDArray[np.int64] | None) -> Changes:
    """Compare two runs whose rows are the same observations in the same order."""
    known_O = first.known_O
    before_O, after_O = (hits(rows.rank_O[known_O], 1) > 0 for rows in (first, other))
    label_P, place_O = np.unique(first.label_O[known_O], return_inverse=True)

    def count(chosen_O: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.bincount(place_O[chosen_O], minlength=len(label_P))

    gained_P, lost_P = count(after_O & ~before_O), count(before_O & ~after_O)
    p_P = mcnemar(gained_P, lost_P)
    counted = np.bincount(place_O, minlength=len(label_P)), count(before_O), count(after_O), gained_P, lost_P, p_P, holm(p_P)
    columns = zip(label_P.tolist(), *(each.tolist() for each in counted), strict=True)
    rows = [
        SpeciesChange(first.names[label], None if counts_L is None else int(counts_L[label]), *figures)
        for label, *figures in columns
    ]
    won, lost = int((gained_P > lost_P).sum()), int((gained_P < lost_P).sum())
    return Changes(
        gained=int(gained_P.sum()),
        lost_observations=int(lost_P.sum()),
        p_value=float(mcnemar(gained_P.sum(), lost_P.sum())),
        won=won,
        lost=lost,
        sign_p_value=float(mcnemar(won, lost)),
        needed=fewest_changes(len(label_P)),
        species=tuple(sorted(rows, key=lambda row: (row.lost - row.gained, row.name))),
    )
