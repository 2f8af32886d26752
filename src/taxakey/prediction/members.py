"""The members of an ensemble: stored predictions of several models, brought to one class list and one order of rows.

Shapes: M members, O rows (observations or images), B of them at a time, C classes of all members together, K of one member.

A class that a member doesn't know: its probabilities are taken to be those GIVEN that the species is one of its own. It is
given the other members' mean probability for the missing classes, and its own are scaled down by what those take.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from taxakey.artifacts import Manifest, hash_of, kind_of, read_manifest
from taxakey.cpu_memory import keep_freed_memory
from taxakey.errors import BadInput
from taxakey.prediction.threads import in_threads
from taxakey.predictions import Level, Predictions, Truth, read_full
from taxakey.progress import track
from taxakey.taxonomy import Taxonomy, same_classes

Floats = NDArray[np.float32]
Result = TypeVar("Result")
FLOOR = 1e-8
"""No probability counts as less: one member's 0 would otherwise forbid a class in a geometric mean, and has no logarithm."""
_LEAST = np.log(FLOOR, dtype=np.float32)
_NUMBERS_AT_ONCE = (
    2**23
)  # of all members' probabilities: 32 MB; with fewer, threads wait for the interpreter more than they compute
_HALVES = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32)
with np.errstate(over="ignore", invalid="ignore"):  # numbers that no logarithm of a probability is
    _EXPONENTIALS, _FLOORED = np.exp(_HALVES), np.maximum(_HALVES, _LEAST)


@dataclass(frozen=True, eq=False)
class Member:
    """One predictions artifact of a level. `complete`: whether it holds the probability of every class."""

    name: str
    folder: Path
    manifest: Manifest
    taxonomy: Taxonomy
    level: Level

    @classmethod
    def open(cls, folder: Path | str, level: Level = "observation") -> Member:
        """Raises MissingArtifact where there are no finished predictions."""
        folder = Path(folder)
        manifest = read_manifest(folder, "predictions")
        return cls(_name(folder, manifest), folder, manifest, Taxonomy.read(folder / "taxonomy.parquet"), level)

    @property
    def complete(self) -> bool:
        if self._full is not None:
            return True
        return next(Predictions.portions(self._file, rows=1)).index("species").shape[1] == len(self.taxonomy)

    @property
    def _file(self) -> Path:
        return self.folder / f"{self.level}s.parquet"

    @cached_property
    def rows(self) -> Predictions:
        """Ids and truth, without the answers: of 26 members those would be gigabytes."""
        return Predictions.read(self._file, answers=0)

    @property
    def _full(self) -> Path | None:
        folder = self.folder / "full"
        return folder if self.level == "observation" and folder.is_dir() else None

    @property
    def weights(self) -> tuple[str, ...]:
        """Hashes of the model, or models, that answered."""
        return tuple(value for key, value in sorted(self.manifest.inputs.items()) if key.startswith("model"))

    @property
    def folds(self) -> list[str]:
        """Which folds its model, or models, were trained on; such have seen validation pictures."""
        return list(self.manifest.recipe.get("folds", []))

    @property
    def ids(self) -> list[str]:
        return [str(value) for value in self.rows.strings(f"{self.level}_id")]

    def log_probabilities(self, ids: Sequence[str]) -> NDArray[np.floating]:
        """[O, K] in the order of `ids`: from the full scores where they were kept (float16), else from the stored answers, what
        lies beyond them spread evenly over the other classes (float32; float16 where anything lies beyond)."""
        if self._full is None:
            return _in_order_of(ids, self.ids, _spread(Predictions.read(self._file), len(self.taxonomy)))
        names: list[str] = []
        log_p_OK = np.empty((len(self.rows), len(self.taxonomy)), dtype=np.float16)
        for part, log_p_BK in read_full(self._full):  # into one array, so that each file's memory serves the next one's
            log_p_OK[len(names) : len(names) + len(part)] = log_p_BK[: len(log_p_OK) - len(names)]
            names += part
        if len(names) != len(log_p_OK):
            raise BadInput(f"{self._full}: scores of {len(names):,} rows beside answers to {len(log_p_OK):,}; predict anew")
        return _in_order_of(ids, names, log_p_OK)


def _name(folder: Path, manifest: Manifest) -> str:
    """Of the run, bundle or folds behind the predictions, with the folder's own where that says more than the part."""
    own = folder.resolve()
    if members := manifest.recipe.get("members"):
        together = Path(members[0]).parent.parent
        return together.name if kind_of(together) == "folds" else own.name
    if manifest.recipe.get("model"):
        model = Path(manifest.recipe["model"])
        if kind_of(model) == "bundle":
            return model.name
        run = model.parent
        return run.parent.parent.name + "/" + run.parent.name if run.name == "run" else run.name
    return own.name


def _spread(table: Predictions, classes: int) -> NDArray[np.floating]:
    index_Ok, p_Ok = table.index("species").astype(np.int64), table.probability("species")
    others = max(classes - index_Ok.shape[1], 1)
    p_OK = np.repeat((table.values("tail") / others)[:, None], classes, axis=1).astype(np.float32)
    np.put_along_axis(p_OK, index_Ok, p_Ok, axis=1)
    # Half precision, as full scores have: 31,000 rows of 1,081 classes are 134 MB else, of each member.
    return np.log(np.maximum(p_OK, FLOOR), dtype=np.float32).astype(np.float32 if index_Ok.shape[1] == classes else np.float16)


@dataclass(frozen=True, eq=False)
class Pool:
    """What M members said of the same O rows. `log_p`: each one's [O, K]; `match_MC`: where a class stands there, -1: nowhere."""

    names: tuple[str, ...]
    taxonomy: Taxonomy
    ids: tuple[str, ...]
    true_O: NDArray[np.int64]
    """Class of each row; -1 where it isn't known or no member knows the species."""
    truth: Truth
    log_p: tuple[NDArray[np.floating], ...]
    match_MC: NDArray[np.int64]
    observation_ids: tuple[str, ...]
    images_O: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def missing(self) -> dict[str, int]:
        """Classes of the ensemble that a member doesn't know, for those that lack any."""
        lacking = (self.match_MC < 0).sum(axis=1)
        return {name: int(number) for name, number in zip(self.names, lacking, strict=True) if number}

    def each(self, work: Callable[[Portion], Result], rows: NDArray[np.int64] | None = None) -> list[Result]:
        """`work` on the rows (all by default) in portions of bounded memory, on all processors; results in the rows' order."""
        rows = np.arange(len(self)) if rows is None else rows
        size = max(1, _NUMBERS_AT_ONCE // (len(self.names) * len(self.taxonomy)))
        parts = [rows[begin : begin + size] for begin in range(0, len(rows), size)]
        return list(in_threads(lambda part: work(self.portion(part)), parts))

    def portion(self, rows: NDArray[np.int64]) -> Portion:
        """Probabilities [M, B, C] of some rows, each member's summing to 1."""
        p_MBC = np.empty((len(self.names), len(rows), len(self.taxonomy)), dtype=np.float32)
        stored = [
            log_p_OK[rows] if _in_order(match_C) else log_p_OK[rows][:, match_C]
            for log_p_OK, match_C in zip(self.log_p, self.match_MC, strict=True)
        ]
        for p_BC, log_p_BC, match_C in zip(p_MBC, stored, self.match_MC, strict=True):
            _of_each(log_p_BC, np.exp, _EXPONENTIALS, p_BC)
            p_BC[:, match_C < 0] = 0
        total_MB = p_MBC.sum(axis=2)
        p_MBC *= (1 / total_MB)[:, :, None]
        if not self.missing:
            return Portion(rows, self.true_O[rows], p_MBC, stored, total_MB)
        _fill(p_MBC, self.match_MC >= 0)
        return Portion(rows, self.true_O[rows], p_MBC)


@dataclass(frozen=True, eq=False)
class Portion:
    """Some rows of a pool: their numbers [B], true classes [B], and what each member says [M, B, C].

    `stored`: the members' logarithms [B, C] as they were read, where nothing had to be filled in; `total_MB`: the sums of those.
    """

    rows: NDArray[np.int64]
    true_B: NDArray[np.int64]
    p_MBC: Floats
    stored: Sequence[NDArray[np.floating]] = ()
    total_MB: Floats | None = None

    @cached_property
    def log_p_MBC(self) -> Floats:
        """Natural logarithms, with FLOOR below: of what was stored, rather than of its exponentials."""
        if self.total_MB is None:
            return logarithms(self.p_MBC)
        log_p_MBC = np.empty_like(self.p_MBC)
        for log_p_BC, stored_BC in zip(log_p_MBC, self.stored, strict=True):
            _of_each(stored_BC, _floored, _FLOORED, log_p_BC)
        log_p_MBC -= np.log(self.total_MB)[:, :, None]
        return log_p_MBC


def logarithms(p_MBC: Floats) -> Floats:
    """Natural logarithms, with FLOOR below."""
    return np.log(np.maximum(p_MBC, FLOOR))


def _floored(log_p_BC: NDArray[np.floating], out: Floats) -> None:
    np.maximum(log_p_BC, _LEAST, out=out)


def _of_each(values_BC: NDArray[np.floating], function: Callable[..., object], table: Floats, out: Floats) -> None:
    """`function` of each value. Of numbers in half precision there are 65,536: looking them up takes a quarter of the time."""
    if values_BC.dtype == np.float16:
        np.take(table, values_BC.view(np.uint16), out=out, mode="clip")
    else:
        function(values_BC, out=out)


def _in_order_of(ids: Sequence[str], own: Sequence[str], values_OK: NDArray[np.floating]) -> NDArray[np.floating]:
    if list(ids) == list(own):
        return values_OK  # as written by one command: no second copy of gigabytes
    position = {name: row for row, name in enumerate(own)}
    return values_OK[[position[name] for name in ids]]


def _in_order(match_C: NDArray[np.int64]) -> bool:
    return bool((match_C == np.arange(len(match_C))).all())


def _fill(p_MBC: Floats, known_MC: NDArray[np.bool_]) -> None:
    """Give each member the others' mean for the classes that it doesn't know, in place."""
    mean_BC = p_MBC.sum(axis=0) / known_MC.sum(axis=0)
    for p_BC, known_C in zip(p_MBC, known_MC, strict=True):
        taken_B = np.minimum(mean_BC[:, ~known_C].sum(axis=1), 1.0)
        p_BC *= 1 - taken_B[:, None]
        p_BC[:, ~known_C] = mean_BC[:, ~known_C]


def open_pool(members: Sequence[Member]) -> Pool:
    """Bring the members to one class list (of all of them) and the first one's rows.

    Raises BadInput where they don't answer the same rows, or differ in what a row truly is.
    """
    if len({member.name for member in members}) < len(members):
        members = [Member(_numbered(number, m), m.folder, m.manifest, m.taxonomy, m.level) for number, m in enumerate(members, 1)]
    taxonomy = _union([member.taxonomy for member in members])
    match_MC = np.stack([same_classes(taxonomy, member.taxonomy) for member in members])
    first = members[0]
    ids, truth = first.ids, _truth(first.rows)
    true_O = _true(first, match_MC[0])
    for member, match_C in zip(members, match_MC, strict=True):
        theirs = _true(member, match_C)[_order(first, member, ids)]
        if ((theirs != true_O) & (theirs >= 0) & (true_O >= 0)).any():
            raise BadInput(f"{first.folder} and {member.folder} say different true species of the same rows; predict both anew")
        true_O = np.maximum(true_O, theirs)
    keep_freed_memory()  # portion after portion takes the same: fetched anew from the kernel, that costs a third of the time
    reading = in_threads(lambda member: member.log_probabilities(ids), members)
    log_p = tuple(track(reading, "reading members", total=len(members)))
    return Pool(
        tuple(member.name for member in members), taxonomy, tuple(ids), true_O, truth, log_p, match_MC,
        tuple(str(value) for value in first.rows.strings("observation_id")), first.rows.values("images").astype(np.int64),
    )  # fmt: skip


def _numbered(number: int, member: Member) -> str:
    return f"{number} {member.name}"


def _order(first: Member, member: Member, ids: Sequence[str]) -> list[int]:
    own = member.ids
    if own == ids:
        return list(range(len(own)))
    position = {name: row for row, name in enumerate(own)}
    if len(position) != len(ids) or any(name not in position for name in ids):
        common = sum(name in position for name in ids)
        raise BadInput(
            f"{first.folder} answers {len(ids):,} rows, {member.folder} {len(position):,}, of which {common:,} are the same: "
            "predict the same part of one dataset with all members"
        )
    return [position[name] for name in ids]


def _union(taxonomies: Sequence[Taxonomy]) -> Taxonomy:
    """The first one's classes, then those that only later ones know."""
    union = taxonomies[0]
    for taxonomy in taxonomies[1:]:
        if taxonomy.fingerprint != union.fingerprint:
            new = np.flatnonzero(same_classes(taxonomy, union) < 0)
            if len(new):
                union = Taxonomy.from_rows([*union.table.to_pylist(), *taxonomy.table.take(new).to_pylist()])
    return union


def _true(member: Member, match_C: NDArray[np.int64]) -> NDArray[np.int64]:
    """Class [O] in the ensemble's list of each row of a member, -1 where it isn't known to it."""
    inverse_K = np.full(len(member.taxonomy) + 1, -1)
    known = np.flatnonzero(match_C >= 0)
    inverse_K[match_C[known]] = known
    return inverse_K[member.rows.true_index("species")]


def _truth(rows: Predictions) -> Truth:
    return Truth(*(rows.strings(f"true_{rank}") for rank in ("species", "genus", "family")))


def inputs_of(members: Sequence[Member]) -> dict[str, str]:
    """Hashes for a plan, by number: the folders' names are nobody else's affair."""
    return {f"member {number}": hash_of(member.folder) for number, member in enumerate(members, 1)}
