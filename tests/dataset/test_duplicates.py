"""Near duplicates against brute force, in bounded memory; groups and what lies across observations, species and parts."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from taxakey.dataset import duplicates
from taxakey.dataset.duplicates import describe, distinct_hashes, duplicates_of, hamming, near_groups, near_pairs

Hashes = NDArray[np.uint64]


def turned(hash_4: Hashes, bits: list[int]) -> Hashes:
    """The hash with some bits turned."""
    result = hash_4.copy()
    for bit in bits:
        result[bit // 64] ^= np.uint64(1) << np.uint64(bit % 64)
    return result


def random_hashes(seed: int, number: int, copies: int, most: int) -> Hashes:
    """Random hashes, and copies of some of them with up to `most` bits turned; copies of copies too."""
    rng = np.random.default_rng(seed)
    hashes = list(rng.integers(0, 2**64, (number, 4), dtype=np.uint64))
    for _ in range(copies):
        source = hashes[rng.integers(len(hashes))]
        hashes.append(turned(source, rng.permutation(256)[: rng.integers(most + 1)].tolist()))
    return np.stack(hashes)


def brute_force(hashes: Hashes, distance: int) -> dict[tuple[int, int], int]:
    apart = {(i, j): int(hamming(hashes[i], hashes[j])) for j in range(len(hashes)) for i in range(j)}
    return {pair: bits for pair, bits in apart.items() if bits <= distance}


def found_pairs(hashes: Hashes, distance: int) -> list[tuple[tuple[int, int], int]]:
    rows = [row for block in near_pairs(hashes, distance) for row in zip(*(column.tolist() for column in block), strict=True)]
    return [((min(left, right), max(left, right)), bits) for left, right, bits in rows]


@pytest.mark.parametrize("distance", [0, 1, 7, 16, 24, 32, 41, 64])
@pytest.mark.parametrize("piece", [3, 1 << 20])
def test_equals_brute_force_and_tells_each_pair_once(distance: int, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_PIECE", piece)
    hashes = random_hashes(distance, 60, 90, distance + 6)
    found = found_pairs(hashes, distance)
    assert len(found) == len(dict(found))
    assert dict(found) == brute_force(hashes, distance)


@pytest.mark.parametrize("number", [300, 100_000, 30_000_000])
@pytest.mark.parametrize("distance", [5, 24, 40])
def test_the_chunks_chosen_for_many_hashes_miss_nothing_either(
    number: int, distance: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = duplicates._thresholds(number, distance)
    assert sum(threshold + 1 for threshold in chosen) == distance + 1  # the pigeonhole
    monkeypatch.setattr(duplicates, "_thresholds", lambda _, __: chosen)
    hashes = random_hashes(number, 30, 60, distance + 3)
    assert dict(found_pairs(hashes, distance)) == brute_force(hashes, distance)


@given(st.integers(0, 2**32), st.sampled_from([0, 3, 24]))
def test_groups_are_the_connected_ones(seed: int, distance: int) -> None:
    hashes = random_hashes(seed, 12, 20, 2 * distance)
    group = list(range(len(hashes)))
    for left, right in brute_force(hashes, distance):
        old, new = group[right], group[left]
        group = [new if each == old else each for each in group]
    found = near_groups(hashes, distance).tolist()
    assert len(set(zip(group, found, strict=True))) == len(set(group)) == len(set(found))


def test_a_chain_of_neighbours_is_one_group() -> None:
    links = [turned(np.zeros(4, np.uint64), list(range(10 * number))) for number in range(20)]
    assert len(set(near_groups(np.stack(links), 10).tolist())) == 1
    assert len(set(near_groups(np.stack(links), 9).tolist())) == 20


def inspection(hashes: list[bytes | None], sha256: list[str | None]) -> pa.Table:
    names = [f"i{number:06}" for number in range(len(hashes))]
    return pa.table(
        {"image_id": names, "sha256": pa.array(sha256, pa.string()), "perceptual_hash": pa.array(hashes, pa.binary(32))}
    )


def bytes_of(hash_4: Hashes) -> bytes:
    return hash_4.astype(">u8").tobytes()


def test_a_hundred_thousand_pictures_of_one_hash_take_little_memory() -> None:
    number = 100_000
    hash_ = bytes_of(random_hashes(1, 1, 0, 0)[0])
    table = inspection([hash_] * number, [f"{row // 2}" for row in range(number)])
    tracemalloc.start()
    found = duplicates_of(table)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200 * number + 2**25  # all pairs would be five thousand million
    assert found["near_group"].unique().to_pylist() == ["i000000"]
    assert len(found["exact_group"].unique()) == number // 2


def test_pairs_are_never_all_in_memory() -> None:
    # Two thousand different hashes within 4 bits of each other: two million pairs.
    rng = np.random.default_rng(0)
    centre = random_hashes(2, 1, 0, 0)[0]
    hashes = np.unique(np.stack([turned(centre, rng.permutation(256)[:2].tolist()) for _ in range(2000)]), axis=0)
    tracemalloc.start()
    groups = near_groups(hashes, 4)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(set(groups.tolist())) == 1
    assert peak < 3 * 2**27


def test_groups_by_hand_and_what_they_lie_across() -> None:
    one, other = (bytes_of(hash_) for hash_ in random_hashes(3, 2, 0, 0))
    near = bytes_of(turned(np.frombuffer(one, ">u8").astype(np.uint64), list(range(24))))
    far = bytes_of(turned(np.frombuffer(other, ">u8").astype(np.uint64), list(range(25))))
    table = inspection([near, one, one, other, far, None, None], ["b", "a", "a", "c", "d", "e", "e"])
    found = duplicates_of(table.take([3, 1, 5, 0, 6, 2, 4]))  # the order of rows doesn't matter
    assert found.to_pylist() == [
        {"image_id": "i000000", "exact_group": None, "near_group": "i000000"},
        {"image_id": "i000001", "exact_group": "i000001", "near_group": "i000000"},
        {"image_id": "i000002", "exact_group": "i000001", "near_group": "i000000"},
        {"image_id": "i000005", "exact_group": "i000005", "near_group": None},
        {"image_id": "i000006", "exact_group": "i000005", "near_group": None},
    ]
    records = pa.table(
        {
            "image_id": table["image_id"],
            "occurrenceID": ["x", "y", "y", "z", "z", "u", "v"],
            "scientificName": ["A", "A", "A", "A", "A", "B", "C"],
            "split": ["test", "train", "train", "train", "train", "train", "train"],
        }
    )
    assert describe(found, records).to_pylist() == [
        {"kind": "exact", "group": "i000001", "pictures": 2, "observations": 1, "species": 1, "parts": 1},
        {"kind": "exact", "group": "i000005", "pictures": 2, "observations": 2, "species": 2, "parts": 1},
        {"kind": "near", "group": "i000000", "pictures": 3, "observations": 2, "species": 1, "parts": 2},
    ]


def test_no_pictures_and_no_hashes() -> None:
    assert len(duplicates_of(inspection([], []))) == 0
    assert len(duplicates_of(inspection([None, None], [None, None]))) == 0
    assert distinct_hashes(pa.chunked_array([], pa.binary(32)))[0].shape == (0, 4)
    assert list(near_pairs(np.zeros((0, 4), np.uint64))) == []


def test_distinct_hashes_are_found_in_any_chunks() -> None:
    one, other = (bytes_of(hash_) for hash_ in random_hashes(4, 2, 0, 0))
    column = pa.chunked_array([pa.array([one, None], pa.binary(32)), pa.array([other, one], pa.binary(32))])
    hashes, code = distinct_hashes(column)
    assert [bytes_of(hashes[each]) if each >= 0 else None for each in code] == [one, None, other, one]
