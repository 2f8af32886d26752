"""What makes a row valid, what is repaired, and that a table survives being written."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from taxakey.artifacts import Plan
from taxakey.errors import BadRecords, MissingArtifact
from taxakey.records.table import REJECTED, SCHEMA, Observations

GOOD = {"occurrenceID": "o1", "image_id": "i1", "path": "/p1.jpg", "scientificName": "Bellis perennis"}


def observations(*changes: dict[str, Any]) -> Observations:
    """Rows that differ from GOOD by these changes, each with an id and a picture of its own."""
    rows = [
        {**GOOD, "occurrenceID": f"o{n}", "image_id": f"i{n}", "path": f"/p{n}.jpg", **change} for n, change in enumerate(changes)
    ]
    names = {name for row in rows for name in row}
    return Observations.from_table(pa.table({name: [row.get(name) for row in rows] for name in names}))


def reasons(found: Observations) -> list[str]:
    return found.rejected["reason"].to_pylist()


def test_a_table_has_every_column_in_its_type_and_missing_ones_are_null() -> None:
    found = observations({})
    assert found.table.schema == SCHEMA
    row = found.table.to_pylist()[0]
    assert {name for name, value in row.items() if value is not None} == {"occurrenceID", "image_id", "path", "scientificName"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"scientificName": None}, "no name"),
        ({"scientificName": "  "}, "no name"),
        ({"occurrenceID": ""}, "no occurrenceID"),
        ({"image_id": None}, "no image_id"),
        ({"path": None}, "no picture"),
        ({"taxonRank": "GENUS"}, "not identified to species"),
        ({"split": "trian"}, "unknown split"),
    ],
)
def test_a_bad_row_is_rejected_with_its_reason_and_the_others_stay(change: dict[str, Any], reason: str) -> None:
    found = observations({}, change)
    assert len(found) == 1
    assert reasons(found) == [reason]
    assert found.counts()[f"rejected: {reason}"] == 1


def test_fetched_files_go_before_a_records_own_path() -> None:
    found = observations({}, {}, {})
    paths = pa.table({"image_id": ["i2", "strange", "i1"], "path": ["/new.jpg", "/x.jpg", None]})
    assert found.with_paths(paths).table["path"].to_pylist() == ["/p0.jpg", "/p1.jpg", "/new.jpg"]
    assert found.with_paths(paths).table.drop_columns("path") == found.table.drop_columns("path")
    nothing = pa.table({"image_id": pa.array([], pa.string()), "path": pa.array([], pa.null())})
    assert found.with_paths(nothing).table == found.table


def test_an_address_is_a_picture() -> None:
    found = observations({"path": None, "identifier": "https://example.org/a.jpg"})
    assert found.table["identifier"].to_pylist() == ["https://example.org/a.jpg"]


@pytest.mark.parametrize("rank", ["SPECIES", "subspecies", "VARIETY", None])
def test_species_and_below_are_kept(rank: str | None) -> None:
    assert len(observations({"taxonRank": rank})) == 1


def test_an_observation_of_two_names_loses_all_its_rows() -> None:
    same = {"occurrenceID": "x"}
    found = observations(same, {}, {**same, "scientificName": "Bellis annua"}, same)
    assert found.table["occurrenceID"].to_pylist() == ["o1"]
    assert reasons(found) == ["observation of two names"] * 3


def test_an_observation_in_two_splits_loses_all_its_rows_and_one_half_given_does_not() -> None:
    found = observations(
        {"occurrenceID": "x", "split": "train"}, {"occurrenceID": "x", "split": "test"},
        {"occurrenceID": "y", "split": "val"}, {"occurrenceID": "y"},
    )  # fmt: skip
    assert reasons(found) == ["observation in two splits"] * 2
    assert found.table["split"].to_pylist() == ["validation", None]


def test_of_rows_with_one_image_id_the_first_stays() -> None:
    found = observations({"image_id": "i"}, {"image_id": "i"}, {"image_id": "j"})
    assert found.table["occurrenceID"].to_pylist() == ["o0", "o2"]
    assert found.rejected.to_pylist()[0] == {
        "occurrenceID": "o1", "image_id": "i", "scientificName": "Bellis perennis", "reason": "duplicate image_id", "detail":
        "/p1.jpg",
    }  # fmt: skip


def test_a_rejected_row_does_not_make_a_good_one_a_duplicate() -> None:
    found = observations({"image_id": "i", "scientificName": None}, {"image_id": "i"})
    assert found.table["occurrenceID"].to_pylist() == ["o1"]
    assert reasons(found) == ["no name"]


def test_one_picture_given_twice_for_one_observation() -> None:
    same = {"occurrenceID": "x", "path": "/p.jpg"}
    assert reasons(observations(same, same, {**same, "occurrenceID": "y"})) == ["picture given twice"]


@pytest.mark.parametrize(
    ("latitude", "longitude", "kept"),
    [("12.5", "-3", (12.5, -3.0)), ("90", "180", (90.0, 180.0)), ("90.1", "0", None), ("0", "-181", None), ("1", "", None),
     ("north", "1", None), ("1e1", ".5", (10.0, 0.5)), (52.0, 13.0, (52.0, 13.0))],
)  # fmt: skip
def test_impossible_coordinates_become_null_and_the_row_stays(latitude: Any, longitude: Any, kept: Any) -> None:
    row = observations({"decimalLatitude": latitude, "decimalLongitude": longitude}).table.to_pylist()[0]
    assert (row["decimalLatitude"], row["decimalLongitude"]) == (kept or (None, None))


def test_repairs_are_counted() -> None:
    found = observations(
        {"decimalLatitude": "91", "decimalLongitude": "0"},
        {"month": "13"},
        {"year": "MCMXC"},
        {"poisonous": "perhaps"},
        {"day": "7.0"},
    )
    assert found.repaired == {
        "coordinates out of range": 1, "month out of range": 1, "year isn't a whole number": 1,
        "poisonous is neither yes nor no": 1,
    }  # fmt: skip
    assert found.table["day"].to_pylist()[-1] == 7


@pytest.mark.parametrize(
    ("date", "parts"),
    [
        ("2020-06-24T20:58:14", (2020, 6, 24)),
        ("2016-01-25 15:23:09", (2016, 1, 25)),
        ("1899-7", (1899, 7, None)),
        ("1899", (1899, None, None)),
        ("2020-01-01/2020-02-01", (None, None, None)),
        ("24 June 2020", (None, None, None)),
    ],
)
def test_a_date_is_taken_apart_where_its_parts_are_not_given(date: str, parts: tuple[int | None, ...]) -> None:
    row = observations({"eventDate": date}).table.to_pylist()[0]
    assert (row["year"], row["month"], row["day"]) == parts
    assert row["eventDate"] == date


def test_parts_that_are_given_go_before_the_date() -> None:
    row = observations({"eventDate": "2020-06-24", "year": "1999"}).table.to_pylist()[0]
    assert (row["year"], row["month"], row["day"]) == (1999, None, None)


@pytest.mark.parametrize(
    ("given", "meant"), [("true", True), ("No", False), ("1", True), (True, True), (False, False), (None, None)]
)
def test_poisonous(given: Any, meant: bool | None) -> None:
    assert observations({"poisonous": given}).table["poisonous"].to_pylist() == [meant]


def test_what_was_written_is_read_again(tmp_path: Any) -> None:
    found = observations({}, {"scientificName": None}, {"month": "13"}).add_rejected("too many columns in the line", ["a,b"])
    manifest = found.write(tmp_path / "records", Plan("records"))
    again = Observations.read(tmp_path / "records")
    assert again.table.equals(found.table)
    assert again.rejected.equals(found.rejected)
    assert again.repaired == found.repaired == {"month out of range": 1}
    assert manifest.counts["images"] == manifest.counts["observations"] == 2
    assert manifest.counts["species"] == 1
    assert manifest.counts["rejected"] == 2
    assert again.rejected.schema == REJECTED


def test_reading_says_what_is_missing(tmp_path: Any) -> None:
    folder = tmp_path / "records"
    observations({}).write(folder, Plan("records"))
    pq.write_table(pa.table({"occurrenceID": ["a"]}), folder / "observations.parquet")
    with pytest.raises(BadRecords, match=r"observations\.parquet: lacks the columns image_id"):
        Observations.read(folder)
    (folder / "observations.parquet").unlink()
    with pytest.raises(MissingArtifact, match=r"observations\.parquet"):
        Observations.read(folder)
