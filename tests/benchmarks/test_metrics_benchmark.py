"""The benchmark of metrics, small: it measures what it says, and its figures are those of the plain table."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from loaded import BENCHMARKS, load

from taxakey.predictions import Predictions

benchmark = load("metrics")


def test_the_table_is_one_of_predictions(tmp_path: Path) -> None:
    file = tmp_path / "observations.parquet"
    benchmark.write_predictions(file, 500, 20, 3000)
    table = Predictions.read(file)
    share_Ok, index_Ok = table.probability("species"), table.index("species")
    assert (np.diff(share_Ok, axis=1) <= 0).all()
    assert np.allclose(share_Ok.sum(axis=1) + table.values("tail"), 1, atol=1e-5)
    assert all(len(set(row)) == 20 for row in index_Ok.tolist())
    held = (table.true_rank("species") > 0) & (table.true_rank("species") <= 20)
    assert (index_Ok[held, table.true_rank("species")[held] - 1] == table.true_index("species")[held]).all()


def test_it_runs_and_writes_its_result(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    arguments = ["--rows", "2000", "--answers", "60", "--classes", "8000", "--out", str(out)]
    subprocess.run([sys.executable, BENCHMARKS / "metrics.py", *arguments], check=True, capture_output=True)
    found = json.loads(out.read_text())
    assert found["figures"]["set_size_3"] == pytest.approx(3)
    assert found["figures"]["top_1"] == pytest.approx(0.725, abs=0.04)
    assert found["figures"]["top_1"] == pytest.approx(1 - found["figures"]["track1"])
    assert 0 < found["peak_MB"] < 2000
