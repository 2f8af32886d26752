"""The benchmark of challenge files, small: what it makes is a good file, and its figures are those it was made with."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from loaded import BENCHMARKS


def test_it_runs_and_writes_its_result(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    arguments = ["--observations", "600", "--classes", "8000", "--out", str(out)]
    subprocess.run([sys.executable, BENCHMARKS / "challenge_files.py", *arguments], check=True, capture_output=True)
    found = json.loads(out.read_text())
    assert found["rows"] == 18_000
    # The true class stands at a place from 1 to 60 with equal chance, and beyond 30 it isn't found.
    assert found["figures"]["MRR"] == pytest.approx(sum(1 / rank for rank in range(1, 31)) / 60, abs=0.02)
