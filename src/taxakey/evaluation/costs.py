"""What the first answers cost where the taxonomy marks poisonous species: FungiCLEF's figures.

Shapes: O observations, L labels (see `labels`).
"""

from __future__ import annotations

import numpy as np

from taxakey.evaluation.analyses import CostFigures
from taxakey.evaluation.labels import Labelled
from taxakey.evaluation.sources import Sources
from taxakey.metrics import costs
from taxakey.metrics.intervals import Interval, Statistic, ratio_of


def cost_statistics(sources: Sources, species: Labelled) -> dict[str, Statistic]:
    """The figures that these observations define, by name; empty where nothing is marked poisonous or not.

    A species that the model doesn't hold is the organisers' "unknown": a truth of its own, not poisonous. The answer is the
    first one; it is never "unknown" here, so that Track 4 costs 10 for each observation of such a species.
    """
    poisonous_C = sources.taxonomy.poisonous()
    if poisonous_C is None:
        return {}
    known_O = species.known_O
    true_O = np.where(species.label_O < len(poisonous_C), species.label_O, -1)
    named_O = species.predicted_O
    true_poisonous_O, named_poisonous_O = (np.append(poisonous_C, False)[np.maximum(each, -1)] for each in (true_O, named_O))
    wrong_O, poison_O = costs.errors(true_O, named_O), costs.poison_costs(true_O, named_O, poisonous_C)
    poisonous_O, others_O = known_O & true_poisonous_O, known_O & ~true_poisonous_O
    shares = {
        "poison_accuracy": (known_O & (true_poisonous_O == named_poisonous_O), known_O),
        "poison_confusion": (poisonous_O & ~named_poisonous_O, poisonous_O),
        "edible_confusion": (others_O & named_poisonous_O, others_O),
        "track1": (wrong_O * known_O, known_O),
        "track2": (poison_O * known_O, known_O),
        "track3": ((wrong_O + poison_O) * known_O, known_O),
        "track4": (costs.unknown_costs(true_O, named_O) * known_O, known_O),
    }
    return {name: ratio_of(*columns) for name, columns in shares.items() if columns[1].any()}


def cost_figures(sources: Sources, species: Labelled, figures: dict[str, Interval]) -> CostFigures | None:
    """None where nothing is marked."""
    poisonous_C = sources.taxonomy.poisonous()
    if poisonous_C is None:
        return None
    held_O = (species.label_O >= 0) & (species.label_O < len(poisonous_C))
    observations = int(poisonous_C[species.label_O[held_O]].sum())
    return CostFigures(int(poisonous_C.sum()), observations, figures)
