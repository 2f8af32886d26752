"""Densities in season and place: against sums written out, at the seams of the year and the globe, and far away."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from scipy.integrate import quad
from scipy.special import i0

from taxakey.errors import BadInput
from taxakey.prediction.fusion.season_place import FLOOR, PlaceEvidence, _Kernel


def table(rows: list[tuple[int | None, int | None, float | None, float | None]]) -> pa.Table:
    names = ("month", "day", "decimalLatitude", "decimalLongitude")
    kinds = (pa.int32(), pa.int32(), pa.float64(), pa.float64())
    columns = zip(*rows, strict=True)
    return pa.table({name: pa.array(values, kind) for name, kind, values in zip(names, kinds, columns, strict=True)})


RECORDS = [
    *((5, 10, 50.0, 10.0), (5, 20, 50.5, 10.5), (6, 1, 50.0, 11.0)),
    *((9, 1, 40.0, -5.0), (9, 9, 40.2, -5.5), (9, 9, 40.2, -5.5)),
]
CLASSES = np.array([0, 0, 0, 1, 1, 1])


def fitted(classes: int = 3) -> PlaceEvidence:
    return PlaceEvidence.fit(table(RECORDS), CLASSES, classes)


def test_ratios_are_those_of_densities_written_out() -> None:
    evidence = fitted()
    lat, lon, day = np.radians(50.2), np.radians(10.3), 31 + 28 + 31 + 30 + 15 - 0.5
    asked = table([(5, 15, 50.2, 10.3)])
    width_day, width_place = (365.25 / (2 * np.pi * evidence.days)) ** 2, (6371 / evidence.kilometres) ** 2
    near = np.zeros(3)
    before = {5: 120, 6: 151, 9: 243}
    for (month, of_month, north, east), label in zip(RECORDS, CLASSES, strict=True):
        angle = 2 * np.pi * (before[month] + of_month - 0.5 - day) / 365.25
        season = np.exp(width_day * np.cos(angle)) / i0(width_day)
        n, e = np.radians(north), np.radians(east)
        cosine = np.sin(lat) * np.sin(n) + np.cos(lat) * np.cos(n) * np.cos(lon - e)
        # The density κ / (4π sinh κ) · exp(κ cos) over the even one, 1 / 4π; sinh κ is exp(κ) / 2 where κ is large.
        near[label] += season * 2 * width_place * np.exp(width_place * (cosine - 1))
    sums = (1 - FLOOR) * near + FLOOR * np.array([3, 3, 0])
    density = sums.sum() / 6
    expected = (sums + evidence.strength * density) / (np.array([3, 3, 0]) + evidence.strength) / density
    np.testing.assert_allclose(np.exp(evidence.log_ratio(asked)[0]), expected, rtol=1e-6)
    assert expected[0] > 1 > expected[1] > 0
    assert expected[2] == pytest.approx(1), "a species without a record is taken to be like all others"


def test_kernels_are_densities() -> None:
    kernel = _Kernel(np.array([100.0]), np.array([30.0]), np.array([40.0]))
    year = quad(lambda day: kernel.season(np.array([day]), 14.0)[0, 0], 0, 365.25, points=[100.0])[0]
    assert year / 365.25 == pytest.approx(1, rel=1e-6)
    # Around the globe by distance t from the centre: half the sine of t is the share of the globe at that distance.
    pole = _Kernel(np.array([0.0]), np.array([90.0]), np.array([0.0]))

    def ring(t: float) -> float:
        return float(pole.place(np.array([90 - np.degrees(t)]), np.array([0.0]), 400.0)[0, 0] * np.sin(t) / 2)

    assert quad(ring, 0, np.pi, points=[0.1])[0] == pytest.approx(1, rel=1e-5)


def test_the_year_has_no_end_and_the_globe_no_seam() -> None:
    kernel = _Kernel(np.array([0.5]), np.array([10.0]), np.array([179.9]))
    last, second = kernel.season(np.array([364.75, 1.5]), 7.0)[:, 0]
    assert last == pytest.approx(second, rel=1e-6)
    west, east = kernel.place(np.array([10.0, 10.0]), np.array([-179.9, 179.7]), 100.0)[:, 0]
    assert west == pytest.approx(east, rel=1e-6)


def test_nothing_known_and_nowhere_near_are_neutral_and_half_is_taken_alone() -> None:
    evidence = fitted()
    asked = [(None, None, None, None), (None, 3, 50.0, None), (1, 1, -40.0, 170.0), (5, None, None, None)]
    log_ratio_OC = evidence.log_ratio(table(asked))
    assert not log_ratio_OC[:2].any()
    np.testing.assert_allclose(log_ratio_OC[2], 0, atol=1e-6)
    assert log_ratio_OC[3, 0] > 0 > log_ratio_OC[3, 1]
    place_only = evidence.log_ratio(table([(None, None, 50.0, 10.0)]))[0]
    assert place_only[0] > 0 > place_only[1]
    assert not evidence.log_ratio(pa.table({"habitat": ["bog"]})).any()
    assert np.isfinite(evidence.log_ratio(table([(5, 10, 50.0, 10.0)]))).all()


def test_no_ratio_is_below_its_floor() -> None:
    evidence = fitted()
    rng = np.random.default_rng(0)
    drawn = zip(rng.integers(1, 13, 200), rng.uniform(-90, 90, 200), rng.uniform(-180, 180, 200), strict=True)
    rows = [(int(month), 5, float(north), float(east)) for month, north, east in drawn]
    assert evidence.log_ratio(table(rows)).min() >= np.log(evidence.strength / (3 + evidence.strength)) - 1e-12


def test_widths_follow_what_is_planted() -> None:
    rng = np.random.default_rng(0)

    def drawn(kilometres: float) -> PlaceEvidence:
        home = rng.uniform(-20, 20, (30, 2))
        label = np.repeat(np.arange(30), 12)
        at = home[label] + rng.standard_normal((360, 2)) * kilometres / 111
        return PlaceEvidence.fit(table([(6, 1, float(n), float(e)) for n, e in at]), label, 30)

    assert drawn(30).kilometres < drawn(600).kilometres
    assert drawn(30).kilometres <= 100


def test_records_without_a_month_or_a_place_are_left_out_and_none_at_all_is_refused() -> None:
    more = [*RECORDS, (5, 1, None, None), (None, None, 50.0, 10.0), (5, 1, 50.0, 10.0)]
    evidence = PlaceEvidence.fit(table(more), np.append(CLASSES, [2, 2, -1]), 3)
    assert evidence.count_X.sum() == 6
    with pytest.raises(BadInput, match="both a month and coordinates"):
        PlaceEvidence.fit(table([(5, 1, None, None)]), np.array([0]), 1)
