"""The simulated herbarium's records without its pictures, and answers that a network of middling skill might give to them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from taxakey.prediction.fusion.fitting import Training, Validation
from taxakey.prediction.fusion.pictures import Pictures
from taxakey.records.sample import Collection, SampleOptions

SPECIES = 40


def collected(sheets: int = 1500, seed: int = 0) -> tuple[Training, Validation, Validation]:
    """Training (60 %), validation and a test part of the same size: what was known of each specimen, its photographs' answers.

    Columns: month, day, coordinates, habitat and substrate as the herbarium plants them, and `box`, which says nothing.
    """
    collection, rng = Collection(SampleOptions(sheets=sheets, species=SPECIES, seed=seed)), np.random.default_rng(seed)
    specimens = [collection.specimen(number) for number in range(collection.main)]
    table = pa.table({
        "month": pa.array([s.collected.month if rng.random() > 0.1 else None for s in specimens], pa.int32()),
        "day": pa.array([s.collected.day for s in specimens], pa.int32()),
        "decimalLatitude": [s.latitude for s in specimens],
        "decimalLongitude": [s.longitude for s in specimens],
        "habitat": [s.habitat for s in specimens],
        "substrate": [s.substrate for s in specimens],
        "box": [f"box {number}" for number in rng.integers(0, 12, len(specimens))],
    })  # fmt: skip
    label_N = np.array([s.species for s in specimens])
    part_N = rng.choice(3, p=(0.6, 0.2, 0.2), size=len(specimens))
    training = Training(table.filter(pa.array(part_N == 0)), label_N[part_N == 0], SPECIES)
    parts = [_answered(rng, table, label_N, np.flatnonzero(part_N == part), specimens) for part in (1, 2)]
    return training, *parts


def _answered(rng: np.random.Generator, table: pa.Table, label_N: np.ndarray, rows: np.ndarray, specimens: list) -> Validation:
    photographs = np.array([specimens[row].photographs for row in rows])
    observation_I = np.repeat(np.arange(len(rows)), photographs)
    scores = rng.standard_normal((len(observation_I), SPECIES))
    scores[np.arange(len(observation_I)), label_N[rows][observation_I]] += 2.0
    scores *= 2.0  # unit noise and a shift by 2: with the factor 2 these are log-probabilities, up to the species' shares
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    answers = Pictures(weights / weights.sum(axis=1, keepdims=True), observation_I)
    return Validation(answers, label_N[rows], table.take(pa.array(rows)))
