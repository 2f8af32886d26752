"""A training part thinned to a long tail, to try out what helps rare species on data that hasn't any.

Shapes: C classes, N pictures.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from taxakey.errors import BadInput
from taxakey.records.table import Observations

REASON = "left out of training to make a long tail"


@dataclass(frozen=True)
class LongTailOptions:
    """Zipf's law from `most` training pictures for the first species down to `least` for the last."""

    least: int = 2
    most: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise BadInput(
                f"a long tail from {self.most} pictures a species down to {self.least}: it must fall, and end at 1 or more"
            )


def zipf_counts(classes: int, options: LongTailOptions) -> NDArray[np.int64]:
    """Pictures of the species of rank 1 to C: most / rank^s, rounded, with s such that the last one has `least`.

    >>> zipf_counts(4, LongTailOptions(least=5, most=20)).tolist()
    [20, 10, 7, 5]
    """
    exponent = math.log(options.most / options.least) / math.log(classes) if classes > 1 else 0.0
    return np.rint(options.most / np.arange(1, classes + 1) ** exponent).astype(np.int64)


def long_tail(observations: Observations, options: LongTailOptions | None = None) -> Observations:
    """Reject training pictures until the species follow `zipf_counts`; validation and test stay as they are.

    From the first rank down, each is given to one of the species that have enough training pictures, drawn by the seed (to the
    one with most where none has enough). A species keeps its first observations in the order of the MD5 of
    "{occurrenceID}:{seed}", whole, until the next wouldn't fit; at least one.
    """
    options = options or LongTailOptions()
    table = observations.table
    training = np.flatnonzero(np.array(table["split"].to_pylist(), dtype=object) == "train")
    if not len(training):
        raise BadInput("no record is in the training part yet; split them first")
    species = np.array(table["scientificName"].to_pylist(), dtype=object)[training]
    names, class_N = np.unique(species.astype(str), return_inverse=True)
    wanted_C = _dealt(np.bincount(class_N), options)
    ids = table["occurrenceID"].to_pylist()
    kept = np.ones(len(table), dtype=bool)
    for number in range(len(names)):
        rows = training[class_N == number]
        kept[rows] = np.isin(rows, _first(rows, [ids[row] for row in rows], int(wanted_C[number]), options.seed))
    return observations.reject(pa.array(~kept), REASON, f"{options.most} down to {options.least} a species, seed {options.seed}")


def _dealt(counts_C: NDArray[np.int64], options: LongTailOptions) -> NDArray[np.int64]:
    """How many pictures each class is to keep."""
    generator = np.random.default_rng(options.seed)
    wanted_C = np.zeros_like(counts_C)
    left = np.ones(len(counts_C), dtype=bool)
    for target in zipf_counts(len(counts_C), options):
        enough = np.flatnonzero(left & (counts_C >= target))
        chosen = generator.choice(enough) if len(enough) else np.flatnonzero(left)[counts_C[left].argmax()]
        wanted_C[chosen], left[chosen] = target, False
    return wanted_C


def _first(rows: NDArray[np.int64], ids: list[str], wanted: int, seed: int) -> list[int]:
    """The rows of a species' first observations that make `wanted` pictures or fewer."""
    by_observation: dict[str, list[int]] = {}
    for row, observation in zip(rows.tolist(), ids, strict=True):
        by_observation.setdefault(observation, []).append(row)
    kept: list[int] = []
    for observation in sorted(by_observation, key=lambda name: hashlib.md5(f"{name}:{seed}".encode()).hexdigest()):
        if kept and len(kept) + len(by_observation[observation]) > wanted:
            break
        kept += by_observation[observation]
    return kept
