"""Train, validation and test by group: pictures that belong together never stand on two sides.

What a group is says `groups.py`; by default an observation. Within a class its groups are put in the order of the
hexadecimal MD5 of the UTF-8 text "{name of the group}:{seed}" (an observation's name is its occurrenceID); the first go to
test, the next to validation, the rest to train. So the side of a group depends on its own name, its class and the seed, not
on the order of rows, and a colleague can compute it with any language.

A group of several species (an institution, a place, duplicates under two names) can't follow the quotas of one class. Such
groups are dealt first, one by one in the order of their MD5, each to the side that is then filled least: the sum over its
species c of n_c · (assigned_c + n_c) / (share · N_c), in observations (D'Hondt's way of dealing seats). It stays in train
where half of its species or more would have no other group for train. What they take counts to the quotas of their classes.

Shapes: O observations, N pictures, G groups, C classes, n groups of a class, F groups of one class to be dealt.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from taxakey.errors import BadInput
from taxakey.records.groups import CELL_DEGREES, codes_of, groups_of
from taxakey.records.table import SPLITS, Observations

_TRAIN, _VALIDATION, _TEST = range(3)
HALVES = ("public", "private")
Integers = NDArray[np.int64]

ASSIGNMENT = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("group", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        ("half", pa.string()),
        ("fold", pa.int32()),
    ]
)
"""One row a picture. `half`: public or private, of pictures in test, null where halves weren't asked for; `fold`: 0 to k −
1, null where folds weren't asked for and for pictures whose split was given."""


@dataclass(frozen=True)
class SplitOptions:
    """Shares of the groups of each class, and the least number in test of a class that has `min_test_from` or more.

    `by`: observation, specimen, institution, place and date, or a column of the records; `cell_degrees`: edge of a place.
    `halves`: the groups in test are dealt to a public and a private half. `folds`: k, the groups without a given split are
    dealt to k folds; `fold`: the number, from 0, of the one that is test, the next one (from the last to the first) being
    validation and the others train. `held_out`: the institutionCode whose pictures are the test part, all of them and, but for
    given ones, no others.
    """

    train: float = 0.7
    validation: float = 0.1
    test: float = 0.2
    seed: int = 0
    min_test: int = 2
    min_test_from: int = 5
    by: str = "observation"
    cell_degrees: float = CELL_DEGREES
    halves: bool = False
    folds: int = 0
    fold: int | None = None
    held_out: str | None = None

    def __post_init__(self) -> None:
        shares = (self.train, self.validation, self.test)
        if min(shares) < 0 or not math.isclose(sum(shares), 1, abs_tol=1e-9):
            raise BadInput(f"the shares of train, validation and test are {shares}; none may be negative and their sum must be 1")
        if self.min_test < 0 or self.min_test_from < 0:
            raise BadInput(f"min_test {self.min_test} and min_test_from {self.min_test_from} must not be negative")
        if not self.cell_degrees > 0:
            raise BadInput(f"a cell of {self.cell_degrees} degrees is none; choose one above 0, such as {CELL_DEGREES}")
        if self.folds < 0 or self.folds == 1:
            raise BadInput(f"{self.folds} folds; choose 2 or more, or 0 for none")
        if self.fold is not None and not (self.folds >= 3 and 0 <= self.fold < self.folds):
            raise BadInput(f"fold {self.fold} of {self.folds} can't be used; 3 or more folds are needed, counted from 0")
        if self.fold is not None and self.held_out is not None:
            raise BadInput(f"fold {self.fold} and the institution {self.held_out!r} can't both be the test part; choose one")
        if self.held_out is not None and self.train == 0:
            raise BadInput("an institution is held out and the share of train is 0; nothing would be left to train on")

    @property
    def shares(self) -> tuple[float, float, float]:
        """Of train, validation and test among what is dealt; without test where an institution is the test part."""
        if self.held_out is None:
            return self.train, self.validation, self.test
        rest = self.train + self.validation
        return self.train / rest, self.validation / rest, 0.0


@dataclass(frozen=True, eq=False)
class Assignment:
    """`table` with the columns of `ASSIGNMENT`, in the order of the pictures; `counts`: what had to give way, and how
    often."""

    table: pa.Table
    counts: dict[str, int]


def split(observations: Observations, options: SplitOptions | None = None, *, joined: pa.Table | None = None) -> Observations:
    """Fill the column `split`, stratified by scientificName; see `assign`."""
    found = assign(observations, options, joined=joined)
    return with_split(observations, found.table["split"])


def assign(observations: Observations, options: SplitOptions | None = None, *, joined: pa.Table | None = None) -> Assignment:
    """The group, split, half and fold of each picture; a split that is given is kept and doesn't count to the quotas.

    A class of n groups without a given split sends round(n · test) to test, halves up, but at least `min_test` from
    `min_test_from` on, and round(n · validation) to validation; one always stays in train. Pictures without a split follow
    those of their group that have one; where these disagree, test counts before validation before train. `joined`: further
    groups (image_id, group), say of duplicates. Raises BadInput for an unknown column or institution, and for more folds than
    groups.
    """
    options = options or SplitOptions()
    table = observations.table
    group_N, names = groups_of(table, options.by, cell_degrees=options.cell_degrees, joined=joined)
    members = _members(table, group_N, len(names))
    given_N = pc.fill_null(pc.index_in(table["split"], pa.array(SPLITS)), -1).to_numpy().astype(np.int64)
    if options.held_out is not None:
        given_N[_held_out(table, group_N, options.held_out)[group_N]] = _TEST
    side_G = np.full(len(names), -1, dtype=np.int64)
    np.maximum.at(side_G, group_N, given_N)
    free = np.flatnonzero(side_G < 0)
    _deal(side_G, members, names, options)
    fold_G = _folds(free, members, names, options)
    if options.fold is not None:
        side_G[free] = _sides_of_folds(fold_G[free], options)
    side_N = np.where(given_N >= 0, given_N, side_G[group_N])
    columns = {
        "image_id": table["image_id"],
        "group": pa.array(names, pa.string()).take(pa.array(group_N)),
        "split": pa.array(SPLITS, pa.string()).take(pa.array(side_N)),
        "half": _halves(group_N, side_N, members, names, options),
        "fold": pa.array(fold_G[group_N], pa.int32(), mask=fold_G[group_N] < 0),
    }
    return Assignment(pa.table(columns, schema=ASSIGNMENT), _counts(group_N, given_N, side_G, members, options))


def with_split(observations: Observations, sides: pa.ChunkedArray) -> Observations:
    """The observations with `sides` [N] as their column split."""
    table = observations.table
    column = table.schema.get_field_index("split")
    return observations.replace(table.set_column(column, table.schema.field("split"), sides))


# ---- groups and their classes ----


class _Members(NamedTuple):
    """Which species the groups have: a row for each group and class, sorted; observations of it; start of each group, [G +
    1]."""

    group: Integers
    label: Integers
    observations: Integers
    starts: Integers

    @property
    def classes(self) -> int:
        return int(self.label.max(initial=-1)) + 1

    @property
    def first(self) -> Integers:
        """The first class of each group, in the order of names."""
        return self.label[self.starts[:-1]]


def _members(table: pa.Table, group_N: Integers, groups: int) -> _Members:
    code_N, species = codes_of(table["scientificName"])
    rank = np.argsort(np.argsort(np.array(species, dtype=object))) if species else np.zeros(0, dtype=np.int64)
    first_O = np.unique(codes_of(table["occurrenceID"])[0], return_index=True)[1]
    key_O = group_N[first_O] * max(len(species), 1) + rank[code_N[first_O]]
    key, observations = np.unique(key_O, return_counts=True)
    group, label = np.divmod(key, max(len(species), 1))
    return _Members(group, label, observations, np.searchsorted(group, np.arange(groups + 1)))


def _held_out(table: pa.Table, group_N: Integers, institution: str) -> NDArray[np.bool_]:
    """Groups [G] with a picture of the institution."""
    held_N = pc.fill_null(pc.equal(table["institutionCode"], institution), False).to_numpy()
    if not held_N.any():
        known = sorted(table["institutionCode"].unique().drop_null().to_pylist())
        raise BadInput(f"no record is of the institution {institution!r}; known are: {', '.join(known[:20]) or 'none'}")
    held_G = np.zeros(int(group_N.max()) + 1, dtype=bool)
    held_G[group_N[held_N]] = True
    return held_G


def _order(names: Sequence[str], rows: Integers, seed: int, purpose: str = "") -> NDArray[np.uint64]:
    """The 128 bits of each MD5 as two numbers, [n, 2], the more significant first."""
    digests = b"".join(hashlib.md5(f"{names[row]}:{seed}{purpose}".encode(), usedforsecurity=False).digest() for row in rows)
    return np.frombuffer(digests, dtype=">u8").reshape(-1, 2).astype(np.uint64)


# ---- dealing ----


def _deal(side_G: Integers, members: _Members, names: list[str], options: SplitOptions) -> None:
    """Fill the sides that are −1."""
    free = np.flatnonzero(side_G < 0)
    several = np.diff(members.starts)[free] > 1
    taken_3C = np.zeros((3, members.classes), dtype=np.int64)
    if several.any():
        rows = free[several]
        order = _order(names, rows, options.seed)
        taken_3C = _deal_several(side_G, rows[np.lexsort((order[:, 1], order[:, 0]))], members, options)
    single = free[~several]
    side_G[single] = _assign(members.first[single], _order(names, single, options.seed), options, taken_3C)


def _deal_several(side_G: Integers, rows: Integers, members: _Members, options: SplitOptions) -> Integers:
    """Deal groups of several species in the given order; returns how many groups of each class each side got, [3, C]."""
    free = side_G[members.group] < 0
    total_C = np.bincount(members.label[free], members.observations[free], members.classes)
    others_C = np.bincount(members.label[free], minlength=members.classes)  # groups that may still come to train, or are there
    sides = [side for side in range(3) if options.shares[side] > 0]
    assigned_3C, taken_3C = np.zeros((3, members.classes)), np.zeros((3, members.classes), dtype=np.int64)
    for row in rows:
        own = slice(members.starts[row], members.starts[row + 1])
        labels, count = members.label[own], members.observations[own]
        filled = [
            (count * (assigned_3C[side, labels] + count) / (options.shares[side] * total_C[labels])).sum() for side in sides
        ]
        side = sides[int(np.argmin(filled))]
        if 2 * (others_C[labels] < 2).sum() >= len(labels) and _TRAIN in sides:
            side = _TRAIN
        side_G[row] = side
        others_C[labels] -= side != _TRAIN
        assigned_3C[side, labels] += count
        taken_3C[side, labels] += 1
    return taken_3C


def _assign(class_F: Integers, order_F2: NDArray[np.uint64], options: SplitOptions, taken_3C: Integers) -> Integers:
    """Side of each group of one class: its place within its class against the class's quotas."""
    by_class = np.lexsort((order_F2[:, 1], order_F2[:, 0], class_F))
    sorted_class = class_F[by_class]
    starts = np.flatnonzero(np.diff(sorted_class, prepend=-1))
    sizes = np.diff(np.append(starts, len(class_F)))
    place = np.arange(len(class_F)) - np.repeat(starts, sizes)
    test, validation = (np.repeat(quota, sizes) for quota in _left(sizes, taken_3C[:, sorted_class[starts]], options))
    side = np.empty(len(class_F), dtype=np.int64)
    side[by_class] = np.where(place < test, _TEST, np.where(place < test + validation, _VALIDATION, _TRAIN))
    return side


def _left(sizes: Integers, taken: Integers, options: SplitOptions) -> tuple[Integers, Integers]:
    """Quotas of test and validation after what groups of several species took; one stays in train where they left none
    there."""
    test, validation = quotas(sizes + taken.sum(axis=0), options)
    most = sizes - (taken[_TRAIN] == 0)
    test = np.clip(test - taken[_TEST], 0, most)
    return test, np.clip(validation - taken[_VALIDATION], 0, most - test)


def quotas(sizes: Integers, options: SplitOptions) -> tuple[Integers, Integers]:
    """Groups for test and for validation of classes of the given sizes.

    >>> quotas(np.array([1, 3, 5, 10]), SplitOptions())
    (array([0, 1, 2, 2]), array([0, 0, 1, 1]))
    """
    _, share_of_validation, share_of_test = options.shares
    least = options.min_test if options.held_out is None else 0
    test = np.maximum(_round(share_of_test * sizes), np.where(sizes >= options.min_test_from, least, 0))
    test = np.minimum(test, np.maximum(sizes - 1, 0))
    validation = np.minimum(_round(share_of_validation * sizes), np.maximum(sizes - 1 - test, 0))
    return test, validation


def _round(numbers: NDArray[np.floating]) -> Integers:
    """Halves up; the little more is for shares that floating point can't hold, such as 0.15 of 10."""
    return np.floor(numbers + 0.5 + 1e-9).astype(np.int64)


# ---- halves and folds: the groups, by class and then by the MD5 of "{name}:{seed}:half" (or :fold), are dealt out in turn ----


def _in_turn(rows: Integers, members: _Members, names: list[str], seed: int, purpose: str, hands: int) -> Integers:
    """Hand [n] of each of the groups: those of a class differ by one at most between two hands, and so do all together."""
    order = _order(names, rows, seed, purpose)
    hand = np.empty(len(rows), dtype=np.int64)
    hand[np.lexsort((order[:, 1], order[:, 0], members.first[rows]))] = np.arange(len(rows)) % hands
    return hand


def _halves(group_N: Integers, side_N: Integers, members: _Members, names: list[str], options: SplitOptions) -> pa.Array:
    if not options.halves:
        return pa.nulls(len(group_N), pa.string())
    half_G = np.full(len(names), -1, dtype=np.int64)
    rows = np.unique(group_N[side_N == _TEST])
    half_G[rows] = _in_turn(rows, members, names, options.seed, ":half", len(HALVES))
    return pa.array(HALVES, pa.string()).take(pa.array(half_G[group_N], mask=side_N != _TEST))


def _folds(free: Integers, members: _Members, names: list[str], options: SplitOptions) -> Integers:
    """Fold of each group [G], −1 of those that aren't `free`, and of all where none are asked for."""
    fold_G = np.full(len(names), -1, dtype=np.int64)
    if options.folds > len(free):
        raise BadInput(f"{options.folds} folds of {len(free)} groups without a given part; ask for fewer")
    if options.folds:
        fold_G[free] = _in_turn(free, members, names, options.seed, ":fold", options.folds)
    return fold_G


def _sides_of_folds(fold_F: Integers, options: SplitOptions) -> Integers:
    assert options.fold is not None
    following = (options.fold + 1) % options.folds
    return np.where(fold_F == options.fold, _TEST, np.where(fold_F == following, _VALIDATION, _TRAIN))


def _counts(group_N: Integers, given_N: Integers, side_G: Integers, members: _Members, options: SplitOptions) -> dict[str, int]:
    known = given_N >= 0
    pairs = np.unique(group_N[known] * 3 + given_N[known]) // 3
    side_M = side_G[members.group]
    groups_3C = np.stack([np.bincount(members.label[side_M == side], minlength=members.classes) for side in range(3)])
    few = (groups_3C[_TEST] < options.min_test) & (groups_3C.sum(axis=0) >= options.min_test_from)
    return {
        "groups": len(side_G),
        "groups_of_several_species": int((np.diff(members.starts) > 1).sum()),
        "groups_given_to_several_parts": int((np.diff(pairs) == 0).sum()),
        "species_without_train": int((groups_3C[_TRAIN] == 0).sum()),
        "species_short_of_test": int(few.sum()),
    }
