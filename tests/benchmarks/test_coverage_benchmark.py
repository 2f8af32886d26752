"""The benchmark of intervals, small: it tells intervals that keep their promise from those that don't."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from loaded import load

benchmark = load("coverage")


def test_it_tells_intervals_apart() -> None:
    rare = benchmark.coverage(benchmark.Case(600, 300, 1, (4, 1), rare_worse=True), 60, 100)
    assert 0.3 < rare["single"] < 0.7
    assert rare["strata"] > rare["plain"]
    assert rare["width strata"] > rare["width plain"]
    even = benchmark.coverage(benchmark.Case(400, 10, 0, (7, 3)), 60, 100)
    assert even["single"] == 0
    assert even["width strata"] == pytest.approx(even["width plain"], rel=0.05)


def test_it_writes_its_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["coverage.py", "--parts", "2", "--resamples", "10", "--out", str(tmp_path / "found.json")])
    benchmark.main()
    assert json.loads((tmp_path / "found.json").read_text())["cases"].keys() == benchmark.CASES.keys()
