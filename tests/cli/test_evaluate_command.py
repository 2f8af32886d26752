"""`taxakey evaluate`, run as a person would."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from evaluated_world import RUN_NOTE, make_world


def taxakey(*arguments: object) -> subprocess.CompletedProcess[str]:
    code = "from taxakey.cli.main import main; main()"
    return subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)


def test_a_report_is_written_and_summed_up(tmp_path: Path) -> None:
    world = make_world(tmp_path / "world")
    done = taxakey("evaluate", world.predictions, tmp_path / "report", "--resamples", 20)
    assert done.returncode == 0, done.stderr
    assert "species Top-1 0.474 [" in done.stdout
    assert f"note: {RUN_NOTE}" in done.stdout
    assert str(tmp_path / "report" / "report.html") in done.stdout
    assert {file.name for file in (tmp_path / "report").iterdir()} == {
        "plan.json", "manifest.json", "report.html", "report.md", "report.json",
    }  # fmt: skip
    again = taxakey("evaluate", world.predictions, tmp_path / "report", "--resamples", 30)
    assert again.returncode == 2
    assert again.stderr.splitlines()[-1].startswith("taxakey: ")
    assert len([line for line in again.stderr.splitlines() if line.startswith("taxakey: ")]) == 1
    assert "Traceback" not in again.stderr
    assert "now it is 30" in again.stderr


def test_help_shows_an_example() -> None:
    assert "taxakey evaluate predictions/ report/" in taxakey("evaluate", "--help").stdout
