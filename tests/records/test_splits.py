"""The split, against a slow one written from its description."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxakey.errors import BadInput
from taxakey.records.splits import SplitOptions, quotas, split
from taxakey.records.table import Observations

Row = tuple[str, str, str | None]  # observation, species, given split


def observations(rows: list[Row]) -> Observations:
    return Observations.from_table(
        pa.table(
            {
                "occurrenceID": [row[0] for row in rows],
                "image_id": [f"i{number}" for number in range(len(rows))],
                "path": [f"/{number}.jpg" for number in range(len(rows))],
                "scientificName": [row[1] for row in rows],
                "split": pa.array([row[2] for row in rows], pa.string()),
            }
        )
    )


def sides(found: Observations) -> dict[str, str]:
    return dict(zip(found.table["occurrenceID"].to_pylist(), found.table["split"].to_pylist(), strict=True))


def slowly(rows: list[Row], options: SplitOptions) -> dict[str, str]:
    """Class by class with sorted() on the hexadecimal digits."""
    side = {observation: given for observation, _, given in rows if given}
    classes = defaultdict(set)
    for observation, species, _ in rows:
        if observation not in side:
            classes[species].add(observation)
    for members in classes.values():
        ordered = sorted(members, key=lambda name: hashlib.md5(f"{name}:{options.seed}".encode()).hexdigest())
        n = len(ordered)
        test = max(math.floor(options.test * n + 0.5 + 1e-9), options.min_test if n >= options.min_test_from else 0)
        test = min(test, n - 1)
        validation = min(math.floor(options.validation * n + 0.5 + 1e-9), n - 1 - test)
        for place, name in enumerate(ordered):
            side[name] = "test" if place < test else "validation" if place < test + validation else "train"
    return side


@st.composite
def records(draw: st.DrawFn) -> list[Row]:
    """Up to 40 observations of one to three pictures, some with a given split, all rows shuffled."""
    rows: list[Row] = []
    for number in range(draw(st.integers(1, 40))):
        species = draw(st.sampled_from(["Aus bus", "Aus cus", "Dus eus"]))
        chosen = draw(st.sampled_from([None, None, None, "train", "validation", "test"]))
        rows += [(f"o{number}", species, chosen)] * draw(st.integers(1, 3))
    return draw(st.permutations(rows))


OPTIONS = st.sampled_from([SplitOptions(), SplitOptions(seed=7), SplitOptions(0.5, 0.25, 0.25, min_test=1, min_test_from=3)])


@given(records(), OPTIONS)
def test_equals_the_slow_one(rows: list[Row], options: SplitOptions) -> None:
    found = split(observations(rows), options)
    assert sides(found) == slowly(rows, options)
    assert found.table["split"].null_count == 0


@given(records(), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(rows: list[Row], random: object) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert sides(split(observations(rows))) == sides(split(observations(shuffled)))


@given(records())
def test_given_splits_stay_and_pictures_of_an_observation_stay_together(rows: list[Row]) -> None:
    found = split(observations(rows)).table
    seen = defaultdict(set)
    for observation, side in zip(found["occurrenceID"].to_pylist(), found["split"].to_pylist(), strict=True):
        seen[observation].add(side)
    assert all(len(values) == 1 for values in seen.values())
    assert all(seen[observation] == {chosen} for observation, _, chosen in rows if chosen)


def test_quotas_worked_out_by_hand() -> None:
    sizes = np.array([1, 2, 3, 4, 5, 7, 8, 10, 13, 15, 25, 100])
    test, validation = quotas(sizes, SplitOptions())
    # 0.2 n rounded, at least 2 from 5 on; 0.1 n rounded, halves up
    assert test.tolist() == [0, 0, 1, 1, 2, 2, 2, 2, 3, 3, 5, 20]
    assert validation.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 3, 10]


def test_one_always_stays_in_train() -> None:
    sizes = np.arange(1, 50)
    test, validation = quotas(sizes, SplitOptions(0, 0.5, 0.5, min_test=40, min_test_from=1))
    assert (sizes - test - validation >= 1).all()
    assert (validation >= 0).all()


def test_a_half_that_floating_point_cannot_hold_is_rounded_up() -> None:
    assert 0.29 * 50 < 14.5
    assert quotas(np.array([50]), SplitOptions(0.42, 0.29, 0.29))[0].tolist() == [15]


def test_given_splits_do_not_count_to_the_quotas() -> None:
    rows: list[Row] = [(f"o{number}", "Aus bus", None) for number in range(10)]
    alone = sides(split(observations(rows)))
    more: list[Row] = [(f"g{number}", "Aus bus", "test") for number in range(30)]
    assert {name: side for name, side in sides(split(observations(rows + more))).items() if name[0] == "o"} == alone


def test_another_seed_gives_another_split() -> None:
    rows: list[Row] = [(f"o{number}", "Aus bus", None) for number in range(100)]
    assert sides(split(observations(rows), SplitOptions(seed=1))) != sides(split(observations(rows), SplitOptions(seed=2)))


def test_no_rows_at_all() -> None:
    empty = observations([("o", "Aus bus", None)])
    assert len(split(empty.replace(empty.table.slice(0, 0)))) == 0


def test_shares_must_sum_to_one() -> None:
    with pytest.raises(BadInput, match="sum must be 1"):
        SplitOptions(train=0.8)
