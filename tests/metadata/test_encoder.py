"""Encoders against formulas written out one picture at a time, and against pygeohash."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxakey.errors import BadInput
from taxakey.metadata.categories import one_hot, vocabulary
from taxakey.metadata.dates import cyclic_dates, month_and_day
from taxakey.metadata.encoder import FILE, PAPER, MetadataEncoder, MetadataOptions
from taxakey.metadata.places import encoded_places, geohash

BASE_32 = "0123456789bcdefghjkmnpqrstuvwxyz"
WORDS = ["Dead wood", "peat", "peat ", None, "", "unknown", "sand", "PEAT", "sand", "shingle"]


def chunked(values: list) -> pa.ChunkedArray:
    half = len(values) // 2
    return pa.chunked_array([pa.array(values[:half], pa.string()), pa.array(values[half:], pa.string())])


def table(**columns: list) -> pa.Table:
    rows = max(map(len, columns.values()))
    numbers = {name: pa.array(columns.get(name, [None] * rows), pa.float64()) for name in NUMBERS}
    return pa.table(numbers | {name: pa.array(columns.get(name, [None] * rows), pa.string()) for name in TEXTS})


NUMBERS, TEXTS = ("month", "day", "decimalLatitude", "decimalLongitude"), ("habitat", "substrate", "metasubstrate")


# ---- dates ----


def test_dates_lie_on_two_circles() -> None:
    found = cyclic_dates(np.array([1.0, 4, 12, 7]), np.array([1.0, 31, 16, np.nan]))
    expected = [
        [0, 1, 0, 1],
        [1, 0, math.sin(60 * math.pi / 31), math.cos(60 * math.pi / 31)],
        [math.sin(22 * math.pi / 12), math.cos(22 * math.pi / 12), math.sin(30 * math.pi / 31), math.cos(30 * math.pi / 31)],
        [math.sin(math.pi), math.cos(math.pi), 0, 0],
    ]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    december, january, june = found[2, :2], found[0, :2], cyclic_dates(np.array([6.0]), np.array([1.0]))[0, :2]
    assert np.linalg.norm(december - january) < np.linalg.norm(december - june)


def test_a_day_without_its_month_says_nothing() -> None:
    assert not cyclic_dates(np.array([np.nan, np.nan]), np.array([3.0, np.nan])).any()


def test_dates_as_people_write_them() -> None:
    assert month_and_day("2024-05-31") == (5, 31)
    assert month_and_day(" 1899-1-2T10:30:00Z ") == (1, 2)
    assert month_and_day("2024-11") == (11, None)
    assert month_and_day("2024") == (None, None)
    for text, reason in {"31.5.2024": "can't be read", "2024-02-30": "calendar", "2024-13": "calendar", "May": "read"}.items():
        with pytest.raises(BadInput, match=reason):
            month_and_day(text)


# ---- places ----


@given(st.integers(-90_000_000, 90_000_000), st.integers(-180_000_000, 180_000_000), st.integers(1, 12))
def test_geohash_is_pygeohash(north: int, east: int, length: int) -> None:
    latitude, longitude = north / 1e6, east / 1e6  # as records write them: 1e-80 east of a seam is a matter of rounding
    pygeohash = pytest.importorskip("pygeohash", reason="the extra dev isn't installed")
    ours = "".join(BASE_32[number] for number in geohash(np.array([latitude]), np.array([longitude]), length)[0])
    assert ours == pygeohash.encode(latitude, longitude, length)


def test_geohash_of_known_places() -> None:
    codes = geohash(np.array([57.64911, 42.6, -90, 90]), np.array([10.40744, -5.6, -180, 180]), 5)
    assert ["".join(BASE_32[number] for number in code) for code in codes] == ["u4pru", "ezs42", "00000", "zzzzz"]


def test_places_by_their_characters() -> None:
    """Of the place u4pruyd: ours begins with its first character, theirs with its second."""
    ours = encoded_places(np.array([57.64911]), np.array([10.40744]), "geohash")[0]
    theirs = encoded_places(np.array([57.64911]), np.array([10.40744]), "geohash_tail")[0]
    number = [BASE_32.index(character) for character in "u4pruyd"]
    np.testing.assert_allclose(ours, [int("".join(_digit(n) for n in number[:3]), 32) / 32**3, *(n / 32 for n in number[:6])])
    np.testing.assert_allclose(theirs, [int("".join(_digit(n) for n in number[2:5]), 32) / 32**3, *(n / 32 for n in number[1:])])


def _digit(number: int) -> str:
    return "0123456789abcdefghijklmnopqrstuv"[number]


def test_continents_are_alike_only_to_theirs() -> None:
    """A place moved by the width of the geohash's first cells, 45 degrees both ways."""
    here, there = (np.array([10.0]), np.array([10.0])), (np.array([10.0]), np.array([55.0]))
    assert geohash(*here, 1) != geohash(*there, 1)
    np.testing.assert_array_equal(encoded_places(*here, "geohash_tail"), encoded_places(*there, "geohash_tail"))
    assert not np.array_equal(encoded_places(*here, "geohash"), encoded_places(*there, "geohash"))


@given(st.floats(-89, 89), st.floats(-180, 180), st.floats(0, 2 * math.pi))
def test_the_sphere_has_no_seam(latitude: float, longitude: float, way: float) -> None:
    """A step of a hundredth of a degree changes every input a little, at the date line too; a geohash jumps there."""
    step = 0.01
    north = latitude + step * math.sin(way)
    east = (longitude + step * math.cos(way) / math.cos(math.radians(latitude)) + 180) % 360 - 180
    both = encoded_places(np.array([latitude, north]), np.array([longitude, east]), "sphere")
    assert np.abs(both[0] - both[1]).max() < 2 * math.radians(step) * math.pi * 2**5
    jump = encoded_places(np.zeros(2), np.array([-180.0, 179.99]), "geohash")
    assert np.abs(jump[0] - jump[1]).max() > 0.3


def test_the_poles_are_one_place_each() -> None:
    poles = encoded_places(np.array([90.0, 90.0, -90.0]), np.array([0.0, 120.0, 0.0]), "sphere")
    np.testing.assert_allclose(poles[0], poles[1], atol=1e-12)
    np.testing.assert_allclose(poles[0, :3], [0, 0, 1], atol=1e-12)
    assert poles.shape[1] == 3 + 6 * 6
    np.testing.assert_allclose(np.linalg.norm(encoded_places(np.array([12.0]), np.array([34.0]), "sphere")[0, :3]), 1)


# ---- categories ----


def test_words_are_counted_without_case_and_the_most_frequent_are_kept() -> None:
    assert vocabulary(chunked(WORDS), 10) == ("dead wood", "peat", "sand", "shingle")
    assert vocabulary(chunked(WORDS), 3) == ("dead wood", "peat", "sand")  # once each, so the alphabet decides
    assert vocabulary(chunked(WORDS), 1) == ("peat",)
    assert vocabulary(chunked([None, None]), 3) == ()


def test_unknown_is_a_word_of_its_own() -> None:
    found = one_hot(chunked(["Peat", None, "moss", "sand ", "unknown", ""]), ("peat", "sand"))
    assert found.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 1], [0, 1, 0], [0, 0, 1], [0, 0, 1]]


# ---- all of it ----

TRAINING = table(
    month=[5, 6, None], day=[1, None, None], decimalLatitude=[50.9, 0, None], decimalLongitude=[11.6, 0, None],
    habitat=["Forest", "meadow", None], substrate=["peat", None, "peat"],
)  # fmt: skip


def test_missing_is_never_what_a_value_gives() -> None:
    """Latitude and longitude 0 are a place, January 1 is a date: only what is missing has the flag."""
    encoder = MetadataEncoder.fit(MetadataOptions(), TRAINING)
    assert encoder.widths == (5, 8, 3 + 2)
    found = encoder.encode(TRAINING)
    assert found.dtype == np.float32
    assert found.shape == (3, encoder.width)
    assert found[:, 4].tolist() == [0, 0, 1]
    assert found[:, 12].tolist() == [0, 0, 1]
    assert not found[2, :4].any()
    assert not found[2, 5:12].any()
    assert found[:, 13:].tolist() == [[1, 0, 0, 1, 0], [0, 1, 0, 0, 1], [0, 0, 1, 1, 0]]
    np.testing.assert_array_equal(encoder.nothing_known(2)[1], encoder.encode(table(habitat=[None]))[0])


def test_the_paper_has_84_inputs() -> None:
    """Substrate 31, metasubstrate 10, habitat 32, with "unknown" one of each."""
    columns = {"substrate": 30, "metasubstrate": 9, "habitat": 31}
    words = {name: [f"{name} {number}" if number < count else None for number in range(31)] for name, count in columns.items()}
    training = table(**words)
    encoder = MetadataEncoder.fit(PAPER, training)
    assert encoder.widths == (4, 7, 73)
    found = encoder.encode(training)
    assert found[:, 11:].sum(axis=1).tolist() == [3] * 31


def test_the_test_part_adds_no_word() -> None:
    encoder = MetadataEncoder.fit(MetadataOptions(), TRAINING)
    other = encoder.encode(table(habitat=["bog"], substrate=["peat"]))
    assert other.shape[1] == encoder.width
    np.testing.assert_array_equal(other, encoder.encode(table(habitat=[None], substrate=["peat"])))


@pytest.mark.parametrize(
    "options",
    [
        PAPER,
        MetadataOptions(date=False, place="sphere", categories=()),
        MetadataOptions(place=None, categories=("substrate",), most_words=1, flags=False),
    ],
)
def test_what_is_stored_encodes_the_same_when_read(options: MetadataOptions, tmp_path: Path) -> None:
    encoder = MetadataEncoder.fit(options, TRAINING)
    encoder.write(tmp_path)
    again = MetadataEncoder.read(tmp_path)
    assert again == encoder
    assert again is not None
    assert sum(again.widths) == again.encode(TRAINING).shape[1] == again.nothing_known(1).shape[1]
    np.testing.assert_array_equal(again.encode(TRAINING), encoder.encode(TRAINING))
    assert MetadataEncoder.read(tmp_path / "elsewhere") is None


def test_damaged_files_and_missing_columns_are_named(tmp_path: Path) -> None:
    encoder = MetadataEncoder.fit(MetadataOptions(), TRAINING)
    encoder.write(tmp_path)
    stored = json.loads((tmp_path / FILE).read_text())
    damages = [
        {**stored, "format": 2}, {**stored, "words": {}}, {**stored, "words": {"habitat": [1], "substrate": []}}, [],
        {**stored, "options": {**stored["options"], "place": "moon"}}, {**stored, "options": {"categories": 3}},
    ]  # fmt: skip
    for damage in damages:
        (tmp_path / FILE).write_text(json.dumps(damage))
        with pytest.raises(BadInput, match=r"metadata\.json"):
            MetadataEncoder.read(tmp_path)
    with pytest.raises(BadInput, match="'habitat'"):
        encoder.encode(TRAINING.drop_columns(["habitat"]))
    with pytest.raises(BadInput, match="'organ'"):
        MetadataEncoder.fit(MetadataOptions(categories=("organ",)), TRAINING)


def test_options_that_make_no_sense_are_refused() -> None:
    for wrong in (
        {"date": False, "place": None, "categories": ()},
        {"categories": ("a", "a")},
        {"most_words": 0},
        {"place": "x"},
        {"hide": 1},
    ):
        with pytest.raises(ValueError, match=r"metadata|twice|place|hide"):
            MetadataOptions(**wrong)
