"""Exact duplicates (the same bytes) and near duplicates (perceptual hashes that differ in few bits) among millions of
pictures.

Search by the pigeonhole principle in its general form (Norouzi, Punjani and Fleet, "Fast exact search in Hamming space with
multi-index hashing", 2014; Qin et al., "GPH: similarity search in Hamming space", ICDE 2018): the 256 bits are dealt to m
chunks with thresholds t_1 … t_m whose sum is distance − m + 1. Two hashes that differ in more than t_i bits of every chunk i
differ in more than `distance` bits; so each pair within the distance has a chunk whose key is among the few within t_i bits
of the other's, and only pairs that meet there are compared. The result is exact. Memory grows with the number of pictures,
never with that of pairs.

Shapes: N pictures, U distinct hashes, P pairs; hashes are four uint64 words each, [U, 4].
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import combinations
from math import comb
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

NEAR_DISTANCE = 24
"""Bits of 256. Copies that were re-encoded, halved or brightened lie nearer but for one in two hundred at most, of those
cropped by 2 % an edge about one in ten; no two pictures of different species did, among 12 million pairs of photographs,
silhouettes and sheets. Above 32 sheets of one institution with little on them begin to look alike (docs/LOG.md)."""

SCHEMA = pa.schema([pa.field("image_id", pa.string(), nullable=False), ("exact_group", pa.string()), ("near_group", pa.string())])
"""One row for each picture that has a duplicate. A group is named by the least image_id in it; pictures of one exact group
are in one near group too. Null: no duplicate of that kind."""

_BITS = 256
_PIECE = 1 << 20
"""Pairs compared at a time."""
_MOST_KEY_BITS = 22

Integers = NDArray[np.int64]


class Pairs(NamedTuple):
    """Rows of two hashes, [P] each, and the bits in which they differ, [P]; each pair is told once, in no particular
    order."""

    left: Integers
    right: Integers
    distance: Integers


# ---- tables ----


def duplicates_of(inspection: pa.Table, distance: int = NEAR_DISTANCE) -> pa.Table:
    """Groups of duplicates, with the columns of `SCHEMA`, in the order of the image_id.

    `inspection`: image_id, sha256 and perceptual_hash (null: not known). Near duplicates of near duplicates are of the same
    group, so its farthest members may differ in more than `distance` bits.
    """
    rows = inspection.select(["image_id", "sha256", "perceptual_hash"]).combine_chunks()
    hashes, code_N = distinct_hashes(rows["perceptual_hash"])
    near_U = near_groups(hashes, distance)
    near = pa.array(np.where(code_N < 0, -1, near_U[code_N] if len(near_U) else -1), mask=code_N < 0)
    named = {"exact_group": _named(rows["image_id"], rows["sha256"]), "near_group": _named(rows["image_id"], near)}
    table = pa.table({"image_id": rows["image_id"], **named}, schema=SCHEMA)
    return table.filter(pc.is_valid(pc.coalesce(*(table[name] for name in named)))).sort_by("image_id")


def _named(image_id: pa.ChunkedArray, key: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray:
    """Least image_id of those with the same key; null where there is no other one, or no key."""
    groups = pa.table({"key": key, "image_id": image_id}).group_by("key").aggregate([("image_id", "min"), ("image_id", "count")])
    groups = groups.filter(pc.and_(pc.greater(groups["image_id_count"], 1), pc.is_valid(groups["key"])))
    return groups["image_id_min"].take(pc.index_in(key, groups["key"].combine_chunks()))


def describe(duplicates: pa.Table, records: pa.Table) -> pa.Table:
    """One row a group: kind (exact, near), group, and the numbers of its pictures, observations, species and parts.

    So `observations > 1` are duplicates across observations, `species > 1` pictures under two names, `parts > 1` leaks.
    """
    facts = ["occurrenceID", "scientificName", "split"]
    known = records.select(["image_id", *facts])
    tables = []
    for kind in ("exact", "near"):
        members = duplicates.select(["image_id", f"{kind}_group"]).rename_columns(["image_id", "group"])
        rows = members.filter(pc.is_valid(members["group"])).join(known, "image_id").group_by("group")
        counted = rows.aggregate([("image_id", "count"), *((fact, "count_distinct") for fact in facts)]).sort_by("group")
        columns = [
            counted["group"],
            *(counted[name] for name in ("image_id_count", *(f"{fact}_count_distinct" for fact in facts))),
        ]
        table = pa.table(columns, names=["group", "pictures", "observations", "species", "parts"])
        tables.append(table.add_column(0, "kind", pa.array([kind] * len(table), pa.string())))
    return pa.concat_tables(tables)


def distinct_hashes(column: pa.ChunkedArray) -> tuple[NDArray[np.uint64], Integers]:
    """The different hashes [U, 4] of a column of 32 bytes each, and which of them each row has, [N]; −1 for null."""
    encoded = pc.dictionary_encode(column).combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.chunk(0) if encoded.num_chunks else pa.array([], column.type).dictionary_encode()
    code_N = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    data = b"".join(encoded.dictionary.to_pylist())
    return np.frombuffer(data, dtype=">u8").reshape(-1, _BITS // 64).astype(np.uint64), code_N


# ---- the search ----


def near_groups(hashes_U4: NDArray[np.uint64], distance: int = NEAR_DISTANCE) -> Integers:
    """Number [U] of the group of each hash: those that a chain of neighbours within `distance` bits connects."""
    group_U = np.arange(len(hashes_U4), dtype=np.int64)
    waiting: list[Pairs] = []
    for pairs in near_pairs(hashes_U4, distance):
        apart = group_U[pairs.left] != group_U[pairs.right]
        waiting.append(Pairs(*(column[apart] for column in pairs)))
        if sum(len(each.left) for each in waiting) >= _PIECE:
            group_U, waiting = _joined(group_U, waiting), []
    return _joined(group_U, waiting) if waiting else group_U


def _joined(group_U: Integers, found: list[Pairs]) -> Integers:
    left, right = (group_U[np.concatenate([pairs[side] for pairs in found])] for side in (0, 1))
    graph = coo_array((np.ones(len(left), dtype=np.int8), (left, right)), shape=(len(group_U),) * 2)
    return connected_components(graph, directed=False)[1].astype(np.int64)[group_U]


def near_pairs(hashes_U4: NDArray[np.uint64], distance: int = NEAR_DISTANCE) -> Iterator[Pairs]:
    """All pairs of rows within `distance` bits of each other, block by block, each pair once."""
    thresholds = _thresholds(len(hashes_U4), distance)
    keys = [_keys(hashes_U4, chunk, len(thresholds)) for chunk in range(len(thresholds))]
    for chunk, (key_U, threshold) in enumerate(zip(keys, thresholds, strict=True)):
        if threshold < 0:
            continue
        for left, right in _meetings(key_U, _key_bits(chunk, len(thresholds)), threshold, hashes_U4, distance):
            first = np.ones(len(left), dtype=bool)
            for earlier in range(chunk):  # where they have met before, they were told before
                first &= np.bitwise_count(keys[earlier][left] ^ keys[earlier][right]) > thresholds[earlier]
            left, right = left[first], right[first]
            if len(left):
                yield Pairs(left, right, hamming(hashes_U4[left], hashes_U4[right]))


def hamming(left_P4: NDArray[np.uint64], right_P4: NDArray[np.uint64]) -> Integers:
    """Bits in which hashes differ, [P]; one may be a single hash [4].

    >>> hamming(np.array([[0, 7, 0, 1]], np.uint64), np.array([0, 1, 0, 1], np.uint64))
    array([2])
    """
    return np.bitwise_count(left_P4 ^ right_P4).sum(axis=-1, dtype=np.int64)


@cache
def _thresholds(number: int, distance: int) -> tuple[int, ...]:
    """Bits by which the keys of each chunk may differ, for the number of chunks that costs least; −1: never looked at.

    Cost, as measured on a million hashes: looking up one key takes as long as comparing two or three pairs.
    """
    best: tuple[int, ...] = ()
    cheapest = float("inf")
    fewest = -(-_BITS // _MOST_KEY_BITS)
    for chunks in range(fewest, max(distance + 1, fewest) + 1):
        low, more = divmod(distance - chunks + 1, chunks)
        thresholds = tuple(low + (chunk < more) for chunk in range(chunks))
        cost = 0.0
        for chunk, threshold in enumerate(thresholds):
            bits = _key_bits(chunk, chunks)
            probes = sum(comb(bits, flips) for flips in range(threshold + 1))
            cost += probes * (number * (1 + number / 2**bits / 2.5) + 2000)  # 2000: a call, however few the hashes
        if cost < cheapest:
            best, cheapest = thresholds, cost
    return best


def _key_bits(chunk: int, chunks: int) -> int:
    return len(range(chunk, _BITS, chunks))


def _keys(hashes_U4: NDArray[np.uint64], chunk: int, chunks: int) -> NDArray[np.uint32]:
    """Every `chunks`-th bit from `chunk` on, as one number: neighbouring frequencies are alike, so they are dealt apart."""
    key_U = np.zeros(len(hashes_U4), dtype=np.uint32)
    for place, bit in enumerate(range(chunk, _BITS, chunks)):
        key_U |= (((hashes_U4[:, bit // 64] >> np.uint64(bit % 64)) & np.uint64(1)) << np.uint64(place)).astype(np.uint32)
    return key_U


def _meetings(
    key_U: NDArray[np.uint32], bits: int, threshold: int, hashes_U4: NDArray[np.uint64], distance: int
) -> Iterator[tuple[Integers, Integers]]:
    """Pairs within `distance` whose keys differ in `threshold` bits at most."""
    order = np.argsort(key_U, kind="stable")
    key_S, words = key_U[order], [np.ascontiguousarray(hashes_U4[order, word]) for word in (0, 1)]
    starts = np.zeros((1 << bits) + 1, dtype=np.int32)
    np.cumsum(np.bincount(key_U, minlength=1 << bits), out=starts[1:])
    for flips in range(threshold + 1):
        for places in combinations(range(bits), flips):
            mask = np.uint32(sum(1 << place for place in places))
            for left, right in _candidates(key_S, starts, mask):
                bits_P = np.bitwise_count(words[0][left] ^ words[0][right]) + np.bitwise_count(words[1][left] ^ words[1][right])
                left, right = order[left[bits_P <= distance]], order[right[bits_P <= distance]]  # few are left
                near = hamming(hashes_U4[left], hashes_U4[right]) <= distance
                yield left[near], right[near]


def _candidates(key_S: NDArray[np.uint32], starts: NDArray[np.int32], mask: np.uint32) -> Iterator[tuple[Integers, Integers]]:
    """Places of pairs in the sorted keys whose keys differ exactly by `mask`, in pieces, each pair once."""
    here = np.arange(len(key_S), dtype=np.int64)
    if mask:
        here = np.flatnonzero(key_S < (key_S ^ mask))
    other = key_S[here] ^ mask
    begin = starts[other].astype(np.int64) if mask else here + 1
    count = starts[other + np.uint32(1)] - begin
    here, begin, count = (column[count > 0] for column in (here, begin, count))
    ends = np.cumsum(count)
    total = int(ends[-1]) if len(ends) else 0
    for low in range(0, total, _PIECE):
        high = min(low + _PIECE, total)
        first, last = np.searchsorted(ends, low, side="right"), np.searchsorted(ends, high, side="left")
        piece = slice(first, last + 1)
        inside = np.minimum(ends[piece], high) - np.maximum(ends[piece] - count[piece], low)
        rows = np.repeat(np.arange(first, last + 1), inside)
        yield here[rows], begin[rows] + np.arange(low, high) - (ends[rows] - count[rows])
