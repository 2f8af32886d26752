"""The split, against a slow one written from its description."""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxakey.errors import BadInput
from taxakey.records.splits import SplitOptions, _left, assign, quotas, split
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


# ---- groups ----


def grouped(rows: list[dict[str, object]]) -> Observations:
    """Pictures with whatever columns are given; image_id i0, i1, …"""
    names = {name for row in rows for name in row}
    table = {name: [row.get(name) for row in rows] for name in names} | {
        "image_id": [f"i{number}" for number in range(len(rows))]
    }
    found = Observations.from_table(pa.table({"path": [f"/{number}.jpg" for number in range(len(rows))]} | table))
    assert not found.rejected.num_rows
    return found


def species(number: int, name: str = "Aus bus", **more: object) -> list[dict[str, object]]:
    return [{"occurrenceID": f"{name}{each}", "scientificName": name, **more} for each in range(number)]


def parts_of(found: Observations, column: str) -> dict[str, set[str]]:
    """The parts in which each value of a column stands."""
    parts = defaultdict(set)
    for value, side in zip(found.table[column].to_pylist(), found.table["split"].to_pylist(), strict=True):
        parts[value].add(side)
    return parts


def test_a_specimen_of_two_records_stays_together_and_is_named_by_its_key() -> None:
    rows = [
        {
            "occurrenceID": f"o{number}",
            "scientificName": "Aus bus",
            "institutionCode": "X",
            "catalogNumber": str(number // 2),
            "recordNumber": "7",
        }
        for number in range(200)
    ]
    found = split(grouped(rows), SplitOptions(by="specimen"))
    assert all(len(parts) == 1 for parts in parts_of(found, "catalogNumber").values())
    assert any(len(parts) > 1 for parts in parts_of(split(grouped(rows)), "catalogNumber").values())
    ordered = sorted({f"X|{number}|7" for number in range(100)}, key=lambda name: hashlib.md5(f"{name}:0".encode()).hexdigest())
    expected = {name: "test" if place < 20 else "validation" if place < 30 else "train" for place, name in enumerate(ordered)}
    table = assign(grouped(rows), SplitOptions(by="specimen")).table
    assert dict(zip(table["group"].to_pylist(), table["split"].to_pylist(), strict=True)) == expected


def test_a_specimen_without_number_goes_by_its_observation() -> None:
    rows = species(4, institutionCode="X") + species(2, "Dus eus", institutionCode="X", catalogNumber="1")
    table = assign(grouped(rows), SplitOptions(by="specimen")).table
    assert table["group"].to_pylist() == ["Aus bus0", "Aus bus1", "Aus bus2", "Aus bus3", "X|1|", "X|1|"]


def test_place_and_date() -> None:
    places = [
        (10.04, 20.0, "2001-05-06"),
        (9.96, 20.04, "2001-05-06T11:00"),
        (10.06, 20, "2001-05-06"),
        (10.04, 20, "2001-05-07"),
        (None, None, "2001-05-06"),
    ]
    rows = [
        {
            "occurrenceID": f"o{number}",
            "scientificName": "Aus bus",
            "decimalLatitude": north,
            "decimalLongitude": east,
            "eventDate": when,
        }
        for number, (north, east, when) in enumerate(places)
    ]
    groups = assign(grouped(rows), SplitOptions(by="place and date")).table["group"].to_pylist()
    assert groups == ["100|200|2001-05-06"] * 2 + ["101|200|2001-05-06", "100|200|2001-05-07", "o4"]
    wide = assign(grouped(rows), SplitOptions(by="place and date", cell_degrees=1.0)).table["group"].to_pylist()
    assert len(set(wide)) == 3


def test_any_column_can_group_and_an_observation_joins_two_of_its_values() -> None:
    rows = [
        {"occurrenceID": occurrence, "scientificName": "Aus bus", "creator": creator}
        for occurrence, creator in (("o1", "Ann"), ("o2", "Ann"), ("o2", "Bob"), ("o3", "Bob"), ("o4", None))
    ]
    assert assign(grouped(rows), SplitOptions(by="creator")).table["group"].to_pylist() == ["Ann"] * 4 + ["o4"]
    with pytest.raises(BadInput, match="can't be grouped by 'colour'"):
        split(grouped(rows), SplitOptions(by="colour"))


def test_duplicates_are_joined() -> None:
    rows = species(100)
    joined = pa.table({"image_id": ["i3", "i50", "i7", "i90"], "group": ["a", "a", None, None]})
    for seed in range(20):
        options = SplitOptions(0.4, 0.3, 0.3, seed=seed)
        side = sides(split(grouped(rows), options, joined=joined))
        assert side["Aus bus3"] == side["Aus bus50"]
    table = assign(grouped(rows), joined=joined).table
    assert table["group"][50].as_py() == "Aus bus3"
    assert table["group"][7].as_py() == "Aus bus7"
    alone = {name: side for name, side in sides(split(grouped(rows))).items() if name not in ("Aus bus3", "Aus bus50")}
    joined_sides = sides(split(grouped(rows), joined=joined))
    moved = [name for name, side in alone.items() if joined_sides[name] != side]
    assert len(moved) <= 2  # all others keep the order of their hashes, so that a border may shift by one


def by_institution(seed: int, institutions: int = 12, names: int = 6) -> Observations:
    rng = np.random.default_rng(seed)
    return grouped(
        [
            {
                "occurrenceID": f"o{number}",
                "scientificName": f"Aus s{rng.integers(names)}",
                "institutionCode": f"X{rng.integers(institutions)}",
            }
            for number in range(1200)
        ]
    )


@pytest.mark.parametrize("seed", range(4))
def test_institutions_of_many_species_are_dealt_by_their_shares(seed: int) -> None:
    observed = by_institution(seed)
    assignment = assign(observed, SplitOptions(by="institution", seed=seed))
    found = split(observed, SplitOptions(by="institution", seed=seed))
    assert all(len(parts) == 1 for parts in parts_of(found, "institutionCode").values())
    shares = {side: found.counts()[side] / 1200 for side in ("train", "validation", "test")}
    assert shares["train"] == pytest.approx(0.7, abs=0.1)
    assert shares["test"] == pytest.approx(0.2, abs=0.1)
    assert shares["validation"] == pytest.approx(0.1, abs=0.1)
    assert assignment.counts["groups_of_several_species"] == assignment.counts["groups"] == 12
    assert assignment.counts["species_without_train"] == 0


def test_groups_of_several_species_do_not_depend_on_the_order_of_rows() -> None:
    observed = by_institution(1)
    shuffled = observed.replace(observed.table.take(np.random.default_rng(0).permutation(1200)))
    for by in ("institution", "observation"):
        options = SplitOptions(by=by, halves=True, folds=3)
        one, other = ({row["image_id"]: row for row in assign(each, options).table.to_pylist()} for each in (observed, shuffled))
        assert one == other


def test_two_records_that_share_a_picture_but_not_a_name_go_together_and_stay_where_one_is_the_last() -> None:
    rows = species(10) + species(1, "Dus eus")
    joined = pa.table({"image_id": ["i0", "i10"], "group": ["a", "a"]})
    for seed in range(10):
        assignment = assign(grouped(rows), SplitOptions(seed=seed), joined=joined)
        side = assignment.table["split"].to_pylist()
        assert side[0] == side[10] == "train"  # else Dus eus had no training picture
        assert assignment.counts["groups_of_several_species"] == 1
        assert side.count("test") == 2


def test_what_groups_of_several_species_take_counts_to_the_quotas() -> None:
    # Ten pairs of pictures under two names and forty more of each species: 50 groups of each, so 10 of each go to test.
    rows = species(50) + species(50, "Dus eus")
    joined = pa.table(
        {"image_id": [f"i{n}" for n in range(10)] + [f"i{n + 50}" for n in range(10)], "group": [str(n) for n in range(10)] * 2}
    )
    found = split(grouped(rows), joined=joined).table
    for name in ("Aus bus", "Dus eus"):
        side = found.filter(pc.equal(found["scientificName"], name))["split"].to_pylist()
        assert (side.count("test"), side.count("validation")) == (10, 5)
    mixed = assign(grouped(rows), joined=joined).table.slice(0, 10)["split"].to_pylist()
    assert 1 <= mixed.count("test") <= 3


def test_one_stays_in_train_where_groups_of_several_species_took_more_than_the_quotas() -> None:
    taken = np.array([[0, 1, 0], [0, 0, 3], [5, 5, 0]])  # by train, validation, test, of three classes
    test, validation = _left(np.array([1, 1, 2]), taken, SplitOptions())
    # of 6, 7 and 5 groups 2, 2 and 2 are due to test, 1 each to validation; two classes have none in train yet
    assert test.tolist() == [0, 0, 1]
    assert validation.tolist() == [0, 1, 0]


@pytest.mark.parametrize("each", [1, 2])
def test_a_group_stays_in_train_where_half_its_species_would_have_no_other(each: int) -> None:
    # Twenty groups of twenty common plants and a rare one; every rare species is in `each` of the groups.
    rows = species(400) + [row for number in range(20 // each) for row in species(each, f"Dus s{number:02}")]
    names = [str(number // 20) for number in range(400)] + [str(number) for number in range(20)]
    joined = pa.table({"image_id": [f"i{number}" for number in range(420)], "group": names})
    observed = grouped(rows)
    for seed in range(40):
        assignment = assign(observed, SplitOptions(seed=seed), joined=joined)
        assert assignment.counts["species_without_train"] == 0
        assert set(assignment.table["split"].to_pylist()) == ({"train"} if each == 1 else {"train", "validation", "test"})


def test_an_institution_held_out() -> None:
    observed = by_institution(2)
    found = split(observed, SplitOptions(held_out="X3")).table
    where = parts_of(observed.replace(found), "institutionCode")
    assert where.pop("X3") == {"test"}
    assert all(parts == {"train", "validation"} for parts in where.values())
    rest = found.filter(pc.not_equal(found["institutionCode"], "X3"))["split"].to_pylist()
    assert rest.count("validation") / len(rest) == pytest.approx(1 / 8, abs=0.02)
    with pytest.raises(BadInput, match="no record is of the institution 'X99'; known are: X0, X1, X10"):
        split(observed, SplitOptions(held_out="X99"))


def test_the_held_out_institution_is_test_whatever_was_given_and_so_are_its_duplicates_elsewhere() -> None:
    rows = species(20, institutionCode="X") + species(20, "Dus eus", institutionCode="Y", split="train")
    joined = pa.table({"image_id": ["i0", "i20"], "group": ["a", "a"]})
    side = split(grouped(rows), SplitOptions(held_out="Y"), joined=joined).table["split"].to_pylist()
    assert side[20:] == ["test"] * 20
    assert side[0] == "test"
    assert "test" not in side[1:20]


# ---- halves and folds ----


def test_the_halves_of_test_are_even_for_each_class_and_in_all() -> None:
    rows = [row for number in range(9) for row in species(5 + 7 * number, f"Aus s{number}")]
    table = assign(grouped(rows), SplitOptions(halves=True)).table
    named = dict(zip((row["occurrenceID"] for row in rows), (row["scientificName"] for row in rows), strict=True))
    halves = defaultdict(lambda: {"public": 0, "private": 0})
    for row in table.to_pylist():
        assert (row["half"] is None) == (row["split"] != "test")
        if row["half"]:
            halves[named[row["group"]]][row["half"]] += 1
    assert all(abs(each["public"] - each["private"]) <= 1 for each in halves.values())
    both = [sum(each[half] for each in halves.values()) for half in ("public", "private")]
    assert abs(both[0] - both[1]) <= 1
    assert assign(grouped(rows)).table["half"].null_count == len(rows)


def test_halves_and_folds_follow_their_own_hashes() -> None:
    rows = species(30)
    table = assign(grouped(rows), SplitOptions(seed=3, halves=True, folds=5)).table.to_pylist()
    for purpose, column, hands in (("half", "half", ["public", "private"]), ("fold", "fold", [*range(5)])):
        names = [row["group"] for row in table if row[column] is not None]
        ordered = sorted(names, key=lambda name: hashlib.md5(f"{name}:3:{purpose}".encode()).hexdigest())
        expected = {name: hands[place % len(hands)] for place, name in enumerate(ordered)}
        assert {row["group"]: row[column] for row in table if row[column] is not None} == expected


def test_folds_are_even_hold_groups_together_and_make_three_parts() -> None:
    rows = [row for number in range(6) for row in species(4 + 5 * number, f"Aus s{number}")]
    rows += species(3, "Dus eus", split="test")
    observed = grouped(rows + rows[:10])  # the first ten observations have two pictures
    table = assign(observed, SplitOptions(folds=4)).table
    folds = defaultdict(set)
    for row in table.to_pylist():
        folds[row["group"]].add(row["fold"])
    assert all(len(each) == 1 for each in folds.values())
    assert {next(iter(folds[f"Dus eus{number}"])) for number in range(3)} == {None}
    for name in {row["scientificName"] for row in rows} - {"Dus eus"}:
        sizes = Counter(next(iter(each)) for group, each in folds.items() if group.startswith(name))
        assert max(sizes.values()) - min(sizes.get(fold, 0) for fold in range(4)) <= 1
    used = assign(observed, SplitOptions(folds=4, fold=3, halves=True)).table
    expected = {3: "test", 0: "validation", 1: "train", 2: "train", None: "test"}
    assert used["split"].to_pylist() == [expected[fold] for fold in table["fold"].to_pylist()]
    assert used["fold"] == table["fold"]
    assert [half is None for half in used["half"].to_pylist()] == [split != "test" for split in used["split"].to_pylist()]
    with pytest.raises(BadInput, match="5 folds of 4 groups"):
        assign(grouped(species(4)), SplitOptions(folds=5))


def test_given_splits_that_disagree_within_a_specimen_are_kept_and_counted() -> None:
    rows = [
        {"occurrenceID": f"o{number}", "scientificName": "Aus bus", "institutionCode": "X", "catalogNumber": "1", "split": side}
        for number, side in enumerate(("train", "test", None))
    ]
    assignment = assign(grouped(rows), SplitOptions(by="specimen"))
    assert assignment.table["split"].to_pylist() == ["train", "test", "test"]
    assert assignment.counts["groups_given_to_several_parts"] == 1


def test_classes_that_miss_something_are_counted() -> None:
    rows = species(6) + species(2, "Dus eus", split="test")
    counts = assign(grouped(rows), SplitOptions(0.9, 0.1, 0.0, min_test=0)).counts
    assert counts["species_without_train"] == 1
    short = assign(grouped(species(6, split="train") + species(2, "Dus eus"))).counts
    assert short["species_short_of_test"] == 1


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"folds": 1}, "1 folds"),
        ({"folds": 4, "fold": 4}, "fold 4 of 4"),
        ({"folds": 4, "fold": -1}, "fold -1 of 4"),
        ({"folds": 2, "fold": 0}, "3 or more folds"),
        ({"fold": 0}, "fold 0 of 0"),
        ({"folds": 4, "fold": 1, "held_out": "X"}, "choose one"),
        ({"cell_degrees": 0.0}, "0.0 degrees"),
        ({"train": 0.0, "test": 0.9, "held_out": "X"}, "train is 0"),
    ],
)
def test_options_that_make_no_sense(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        SplitOptions(**wrong)  # type: ignore[arg-type]
