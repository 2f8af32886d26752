"""Average-k accuracy: one threshold for all, fitted on validation predictions, makes answer sets of k species on average.

Both tables are read in portions: a million rows of a hundred answers never stand in memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from taxakey.artifacts import read_manifest
from taxakey.errors import BadInput
from taxakey.evaluation.analyses import AnswerSets
from taxakey.evaluation.labels import Labelled
from taxakey.evaluation.sources import Sources
from taxakey.metrics.average_k import AverageK, average_k_hits, set_sizes
from taxakey.metrics.intervals import Interval, Statistic, macro_mean_of, ratio_of
from taxakey.predictions import Predictions
from taxakey.taxonomy import Taxonomy

KS = (1, 3, 5, 10)
"""Of Pl@ntNet-300K; those below the number of classes."""


@dataclass(frozen=True)
class Thresholds:
    """k -> threshold, and mean size of the sets on the part that is measured; `notes`: which k can't be had, and why."""

    of: Mapping[int, float]
    set_size: Mapping[int, float]
    notes: tuple[str, ...] = ()


def fit_thresholds(validation_folder: Path | str, sources: Sources) -> Thresholds:
    """Thresholds from the predictions for the validation part, made by the same model."""
    folder = Path(validation_folder)
    manifest = read_manifest(folder, "predictions")
    sources.taxonomy.require_same(Taxonomy.read(folder / "taxonomy.parquet").fingerprint, mine=sources.folder, theirs=folder)
    _require_other_part(folder, manifest.recipe, sources)
    file, classes = folder / "observations.parquet", len(sources.taxonomy)
    ks = [k for k in KS if k < classes]
    fitted = AverageK(pq.read_metadata(file).num_rows, ks, classes=classes)
    for portion in Predictions.portions(file):
        fitted.add(portion.probability("species"))
    found, notes = {}, []
    for k in ks:
        try:
            found[k] = fitted.threshold(k)
        except BadInput as error:
            notes.append(f"No answer sets of {k} species on average: {error}.")
    return Thresholds(found, _sizes(sources, found), tuple(notes))


def _require_other_part(folder: Path, recipe: Mapping, sources: Sources) -> None:
    """The threshold of a part must not come from that part."""
    if recipe.get("part") == sources.manifest.recipe.get("part"):
        raise BadInput(f"{folder}: predictions for the same part ({recipe.get('part')!r}); name those for validation")
    if recipe.get("model") != sources.manifest.recipe.get("model"):
        raise BadInput(f"{folder}: predictions of another model; predict the validation part with the one that is measured")


def _sizes(sources: Sources, thresholds: Mapping[int, float]) -> dict[int, float]:
    totals, rows = dict.fromkeys(thresholds, 0), 0
    for portion in Predictions.portions(sources.folder / "observations.parquet"):
        rows += len(portion)
        for k, threshold in thresholds.items():
            totals[k] += int(set_sizes(portion.probability("species"), threshold, classes=len(sources.taxonomy)).sum())
    return {k: total / rows for k, total in totals.items()}


def set_statistics(sources: Sources, species: Labelled, thresholds: Thresholds) -> dict[str, Statistic]:
    """Micro and macro accuracy of each k, by name."""
    statistics: dict[str, Statistic] = {}
    for k, threshold in thresholds.of.items():
        hit_O = average_k_hits(sources.observations.true_probability("species"), species.rank_O, threshold)
        statistics[f"average_{k}"] = ratio_of(hit_O * species.known_O, species.known_O)
        statistics[f"macro_average_{k}"] = macro_mean_of(hit_O, np.where(species.known_O, species.label_O, -1))
    return statistics


def answer_sets(thresholds: Thresholds, figures: Mapping[str, Interval]) -> tuple[AnswerSets, ...]:
    """One row a k."""
    return tuple(
        AnswerSets(k, threshold, figures[f"average_{k}"], figures[f"macro_average_{k}"], thresholds.set_size[k])
        for k, threshold in thresholds.of.items()
    )
