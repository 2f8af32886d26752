"""What a study found: each variant's figures, mean over seeds, and its difference from the reference with a paired interval.

Shapes: O observations, R resamples, L labels, V variants, S seeds.

A difference is measured on the same observations with the same resamples: the figure's mean over the variant's seeds less that
over the reference's. The interval says how far other photographs could have moved it; the range over seeds says what the draw
of start, order and augmentation does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taxakey.artifacts import read_manifest
from taxakey.dataset.reader import Dataset
from taxakey.errors import BadInput
from taxakey.evaluation.labels import Labelled, label
from taxakey.metrics.accuracy import Floats, hits
from taxakey.metrics.costs import errors, poison_costs
from taxakey.metrics.intervals import Interval, Statistic, auroc_of, bootstrap, macro_f1_of, macro_mean_of, ratio_of
from taxakey.metrics.ranking import reciprocal_ranks
from taxakey.prediction.decide import least_track3
from taxakey.predictions import Predictions
from taxakey.taxonomy import Taxonomy
from taxakey.training.checkpoint import members_of

TITLES = {
    "top_1": "top-1",
    "macro_top_1": "macro top-1",
    "macro_f1": "macro F1",
    "ma_mrr": "MA-MRR@30",
    "rare": "rare third",
    "middle": "middle third",
    "common": "common third",
    "genus_top_1": "genus top-1",
    "unknown_auroc": "AUROC, unknown species",
}
"""The figures of a table, in per cent, and how it calls them. Thirds: macro top-1 of the species by their training images."""

COSTS = {"track_1": "Track 1", "track_2": "Track 2", "track_3": "Track 3", "track_3_decided": "Track 3, least cost"}
"""FungiCLEF's mean costs, where the taxonomy marks poisonous species; the last: of the answer expected to cost least."""


@dataclass(frozen=True)
class Row:
    """A variant: each seed's figures, their means, and the differences from the reference (none for the reference itself)."""

    name: str
    by_seed: Mapping[int, Mapping[str, float]]
    mean: Mapping[str, float]
    difference: Mapping[str, Interval]
    counts: Mapping[str, int]
    above_90: float
    """Species of the part that are named right in at least nine of ten cases; mean over seeds."""


def rows_of(predictions: Mapping[str, Mapping[int, Path]], dataset: Path, reference: str, *, resamples: int = 1000) -> list[Row]:
    """One row a variant. Raises BadInput where two predictions aren't of the same observations."""
    opened = Dataset.open(dataset)
    counts_C = opened.train_counts()
    statistics = {
        name: {seed: _statistics(folder, counts_C) for seed, folder in seeds.items()} for name, seeds in predictions.items()
    }
    observations = _same_observations(predictions)
    return [_row(name, predictions[name], statistics, reference, observations, resamples) for name in predictions]


def _row(
    name: str,
    folders: Mapping[int, Path],
    statistics: Mapping[str, Mapping[int, Mapping[str, Statistic]]],
    reference: str,
    observations: int,
    resamples: int,
) -> Row:
    own, theirs = statistics[name], statistics[reference]
    all_ones = np.ones((1, observations))
    by_seed = {seed: {key: float(statistic(all_ones)[0]) for key, statistic in own[seed].items()} for seed in own}
    keys = list(next(iter(by_seed.values())))
    differences = {}
    if name != reference:
        paired = {key: _difference([s[key] for s in own.values()], [s[key] for s in theirs.values()]) for key in keys}
        differences = bootstrap(paired, observations, resamples=resamples)
    return Row(
        name=name,
        by_seed=by_seed,
        mean={key: float(np.mean([figures[key] for figures in by_seed.values()])) for key in keys},
        difference=differences,
        counts=_counts(next(iter(folders.values())).parent / "run"),
        above_90=float(np.mean([_above(folder, 0.9) for folder in folders.values()])),
    )


def _counts(run: Path) -> dict[str, int]:
    """What a run's manifest counts; of an ensemble what its members do together."""
    members = [read_manifest(member, "run").counts for member in members_of(run)]
    return {key: sum(member[key] for member in members) if "parameters" in key else number for key, number in members[0].items()}


def _difference(own: Sequence[Statistic], theirs: Sequence[Statistic]) -> Statistic:
    def statistic(weights_RO: NDArray[np.floating]) -> Floats:
        return np.mean([one(weights_RO) for one in own], axis=0) - np.mean([one(weights_RO) for one in theirs], axis=0)

    return statistic


def _same_observations(predictions: Mapping[str, Mapping[int, Path]]) -> int:
    first: list[str | None] | None = None
    for seeds in predictions.values():
        for folder in seeds.values():
            ids = Predictions.read(folder / "observations.parquet").strings("observation_id")
            if first is not None and ids != first:
                raise BadInput(f"{folder}: other observations than the study's first predictions; they can't be compared")
            first = ids
    return len(first or [])


def _statistics(folder: Path, counts_C: NDArray[np.int64]) -> dict[str, Statistic]:
    species, genus = _labelled(folder, "species"), _labelled(folder, "genus")
    top_1 = hits(species.rank_O, 1)
    found = {
        "top_1": ratio_of(top_1 * species.known_O, species.known_O),
        "macro_top_1": macro_mean_of(top_1, species.label_O),
        "macro_f1": macro_f1_of(species.label_O, species.predicted_O),
        "ma_mrr": macro_mean_of(reciprocal_ranks(species.rank_O), species.label_O),
    }
    for third, chosen_L in _thirds(counts_C, len(species.names)).items():
        label_O = np.where(chosen_L[species.label_O], species.label_O, -1)
        if (label_O >= 0).any():
            found[third] = macro_mean_of(top_1, label_O)
    if genus.known_O.any():
        found["genus_top_1"] = ratio_of(hits(genus.rank_O, 1) * genus.known_O, genus.known_O)
    return found | _of_costs(folder, species)


def _of_costs(folder: Path, species: Labelled) -> dict[str, Statistic]:
    """What the tracks of FungiCLEF ask, as far as the part holds poisonous species and species outside the model."""
    taxonomy, predictions = _taxonomy(folder), Predictions.read(folder / "observations.parquet")
    known_O, found = species.known_O, dict[str, Statistic]()
    held_O = known_O & (species.label_O < len(taxonomy))
    if held_O.any() and (held_O != known_O).any():
        found["unknown_auroc"] = auroc_of(np.where(known_O, predictions.probability("species")[:, 0], np.nan), held_O)
    poisonous_C = taxonomy.poisonous()
    if poisonous_C is None:
        return found
    true_O = np.where(held_O, species.label_O, -1)

    def track_3(answer_O: NDArray[np.integer]) -> Floats:
        return errors(true_O, answer_O) + poison_costs(true_O, answer_O, poisonous_C)

    costs = {
        "track_1": errors(true_O, species.predicted_O),
        "track_2": poison_costs(true_O, species.predicted_O, poisonous_C),
        "track_3": track_3(species.predicted_O),
    }
    if predictions.index("species").shape[1] == len(taxonomy):  # else the stored answers are too few to tell the least cost
        costs["track_3_decided"] = track_3(_least_track3(predictions, poisonous_C))
    return found | {name: ratio_of(cost_O * known_O, known_O) for name, cost_O in costs.items()}


def _least_track3(predictions: Predictions, poisonous_C: NDArray[np.bool_]) -> NDArray[np.int64]:
    index_OC = predictions.index("species")
    probabilities_OC = np.empty(index_OC.shape)
    np.put_along_axis(probabilities_OC, index_OC, predictions.probability("species"), axis=1)
    return least_track3(probabilities_OC, poisonous_C)


def _labelled(folder: Path, rank: str) -> Labelled:
    return label(Predictions.read(folder / "observations.parquet"), _taxonomy(folder), rank)


def _taxonomy(folder: Path) -> Taxonomy:
    return Taxonomy.read(folder / "taxonomy.parquet")


def _thirds(counts_C: NDArray[np.int64], labels: int) -> dict[str, NDArray[np.bool_]]:
    """Which labels belong to the third of the model's species with fewest, middling, most training images; ties by index."""
    third_C = np.argsort(np.argsort(counts_C, kind="stable"), kind="stable") * 3 // max(len(counts_C), 1)
    third_L = np.full(labels, -1)
    third_L[: len(third_C)] = third_C
    return {name: third_L == number for number, name in enumerate(("rare", "middle", "common"))}


def _above(folder: Path, share: float) -> int:
    species = _labelled(folder, "species")
    known = species.known_O
    right_L = np.bincount(species.label_O[known], weights=hits(species.rank_O, 1)[known])
    seen_L = np.bincount(species.label_O[known])
    return int((right_L[seen_L > 0] / seen_L[seen_L > 0] >= share).sum())
