"""True names as integers.

Shapes: O observations, L labels (the model's classes, then species outside the model that occur).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from taxakey.evaluation.sources import Sources
from taxakey.predictions import Predictions
from taxakey.taxonomy import Taxonomy


@dataclass(frozen=True, eq=False)
class Labelled:
    """True names of one rank as integers, so that a species that the model doesn't hold is a class as well.

    `label_O`: position in `names`, -1 where the name isn't known; `names`: the model's taxa, then the others, sorted.
    """

    names: tuple[str, ...]
    label_O: NDArray[np.int64]
    rank_O: NDArray[np.int64]
    predicted_O: NDArray[np.int64]

    @property
    def known_O(self) -> NDArray[np.bool_]:
        return self.label_O >= 0


def label(predictions: Predictions, taxonomy: Taxonomy, rank: str) -> Labelled:
    """The true names of a rank as labels, beside the rank of the truth and the first answer."""
    taxa = taxonomy.taxa(rank)
    names = predictions.strings(f"true_{rank}")
    outside = sorted({name for name in names if name is not None} - set(taxa))
    position = {name: number for number, name in enumerate((*taxa, *outside))}
    label_O = np.array([-1 if name is None else position[name] for name in names], dtype=np.int64)
    first = predictions.index(rank)[:, 0] if taxa else np.full(len(names), -1)
    return Labelled((*taxa, *outside), label_O, predictions.true_rank(rank).astype(np.int64), first.astype(np.int64))


def train_counts(sources: Sources, species: Labelled) -> NDArray[np.int64] | None:
    """Training photographs of each label [L], 0 outside the model; None without a dataset."""
    if sources.dataset is None:
        return None
    counts_L = np.zeros(len(species.names), dtype=np.int64)
    counts_L[: len(sources.taxonomy)] = sources.dataset.train_counts()
    return counts_L
