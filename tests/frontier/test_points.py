"""What no other point beats, by brute force, and the best within limits."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxakey.frontier.page import write_frontier
from taxakey.frontier.points import COSTS, FIGURES, Limits, Point, best, non_dominated
from taxakey.metrics.intervals import Interval


def point(name: str, value: float, **costs: float | None) -> Point:
    return Point(name, {figure: Interval(value, value, value, 0.95, 10) for figure in FIGURES}, {**dict.fromkeys(COSTS), **costs})


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=8),
    st.sampled_from(["bytes", "pictures_per_second"]),
)
def test_the_frontier_by_brute_force(pairs: list[tuple[int, int]], cost: str) -> None:
    points = [point(str(number), value, **{cost: float(price)}) for number, (value, price) in enumerate(pairs)]
    sign = -1 if COSTS[cost].more_is_better else 1
    expected = set()
    for number, (value, price) in enumerate(pairs):
        beaten = any(
            other != number and v >= value and sign * p <= sign * price and (v, p) != (value, price)
            for other, (v, p) in enumerate(pairs)
        )
        if not beaten:
            expected.add(str(number))
    found = non_dominated(points, "top_1", cost)
    assert {one.name for one in found} == expected
    prices = [sign * (one.costs[cost] or 0) for one in found]
    assert prices == sorted(prices)


def test_an_unknown_cost_is_on_no_frontier_and_within_no_limit() -> None:
    points = [point("known", 0.5, bytes=10.0), point("unknown", 0.9)]
    assert [one.name for one in non_dominated(points, "top_1", "bytes")] == ["known"]
    assert best(points, "top_1", Limits(bytes=10)) is points[0]
    assert best(points, "top_1", Limits()) is points[1]
    assert best(points, "top_1", Limits(bytes=9)) is None


def test_speed_is_a_limit_from_below() -> None:
    points = [point("slow", 0.9, pictures_per_second=5.0), point("fast", 0.7, pictures_per_second=50.0)]
    assert best(points, "top_1", Limits(pictures_per_second=20)) is points[1]


def test_the_page_answers_what_was_asked(tmp_path: Path) -> None:
    points = [point("small", 0.7, bytes=5e6), point("large", 0.9, bytes=5e7), point("worse", 0.6, bytes=6e6)]
    page = write_frontier(points, 40, tmp_path, "taxakey frontier", Limits(bytes=1e7), "top_1").read_text(encoding="utf-8")
    assert "**Best with bytes at most 10 M: small**, top-1 70.0" in page
    assert "| worse | 60.0 [60.0, 60.0] | 60.0 [60.0, 60.0] | 60.0 [60.0, 60.0] |  | 6 M |" in page
    assert "**5 M**" in page
    nothing = write_frontier(points, 40, tmp_path, "c", Limits(bytes=1e3), "top_1").read_text(encoding="utf-8")
    assert "No model here has bytes at most 1 k." in nothing
    assert (tmp_path / "frontier.png").read_bytes()[:4] == b"\x89PNG"
    assert pytest.approx(0.9) == float((tmp_path / "frontier.csv").read_text(encoding="utf-8").splitlines()[2].split(",")[1])
