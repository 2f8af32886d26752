"""Folds: which training and validation pictures a member of an ensemble learns from, and which choose and calibrate it.

Observations are dealt as `records.splits` deals them, class by class in the order of an MD5, so that the pictures of one
observation stay together and each species is spread over the folds. The test part is no affair of folds. N pictures.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from taxakey.dataset.reader import Dataset, JoinedPart
from taxakey.errors import BadInput
from taxakey.records.splits import SplitOptions, assign
from taxakey.records.table import REJECTED, SCHEMA, Observations

Pool = Literal["all", "validation"]
_ALWAYS = -1
"""In the place of a fold: all members train with it."""


@dataclass(frozen=True)
class Fold:
    """Member `number` (from 1) of `members`.

    `pool` "all": training and validation observations together are dealt into as many folds as there are members; a member is
    validated on its own fold and trained on the others. A species of a single observation is trained by all members.
    "validation": only the validation part is dealt, into one fold more than there are members, and that one is held out from all
    of them; the members take turns with the others as validation and as additional training (DS@GT, FungiCLEF 2024, with two
    members; SPEC section 4).
    """

    number: int
    members: int
    pool: Pool = "all"

    def __post_init__(self) -> None:
        if self.members < 2 or not 1 <= self.number <= self.members:
            raise BadInput(f"fold {self}: 2 or more members are needed, counted from 1, such as 2/5")

    @classmethod
    def parse(cls, text: str, pool: Pool = "all") -> Fold:
        """From "2/5"; raises BadInput for anything else."""
        found = re.fullmatch(r"\s*(\d{1,4})\s*/\s*(\d{1,4})\s*", text)
        if found is None:
            raise BadInput(f"fold {text!r}: not of the form 2/5, the second of five members")
        return cls(int(found[1]), int(found[2]), pool)

    def __str__(self) -> str:
        return f"{self.number}/{self.members}" + (" of validation" if self.pool == "validation" else "")

    def of(self, dataset: Dataset, seed: int) -> Dataset:
        """The dataset with this member's training and validation part; equal seeds deal equally for all members."""
        parts = [dataset.part(name) for name in ("train", "validation")]
        class_N = np.concatenate([part.class_index for part in parts])
        if self.pool == "all":
            fold_N = _dealt(pa.concat_tables([part.table for part in parts]), class_N, self.members, seed)
        else:
            fold_N = np.full(len(class_N), _ALWAYS)
            fold_N[len(parts[0]) :] = _dealt(parts[1].table, class_N[len(parts[0]) :], self.members + 1, seed)
        validation_N = fold_N == self.number - 1
        train_N = ~validation_N & (fold_N != self.members) & (class_N >= 0)  # nobody can learn a species that is no class
        if not validation_N.any():
            raise BadInput(f"{dataset.folder}: fold {self} has no picture to validate on; ask for fewer members")
        return dataset.replaced({
            "train": JoinedPart(parts, np.flatnonzero(train_N)),
            "validation": JoinedPart(parts, np.flatnonzero(validation_N)),
        })  # fmt: skip


def _dealt(table: pa.Table, class_N: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """Fold of each picture [N], from 0; `_ALWAYS` where it is of the only observation of its class."""
    columns = [pa.nulls(len(table), pa.string()) if name == "split" else table[name] for name in SCHEMA.names]
    observations = Observations(pa.table(columns, schema=SCHEMA), REJECTED.empty_table())
    fold_N = assign(observations, SplitOptions(folds=folds, seed=seed)).table["fold"].to_numpy().astype(np.int64)
    return np.where(_single(table) & (class_N >= 0), _ALWAYS, fold_N)


def _single(table: pa.Table) -> NDArray[np.bool_]:
    """Pictures [N] of species with one observation."""
    counted = table.group_by("scientificName").aggregate([("occurrenceID", "count_distinct")])
    species = counted["scientificName"].filter(pc.equal(counted["occurrenceID_count_distinct"], 1))
    return pc.is_in(table["scientificName"], species.combine_chunks()).to_numpy()
