"""The benchmark of name matching: its verdicts, its made checklist, and the agreement that it reports."""

from __future__ import annotations

from pathlib import Path

import pytest
from loaded import load

benchmark = load("name_matching")


@pytest.mark.parametrize(
    ("ours", "ids", "verdict"),
    [
        ({"taxonID": "1", "matchType": "fuzzy"}, {"1", "2"}, "agree: the same name"),
        ({"taxonID": "3", "matchType": "fuzzy"}, {"1"}, "disagree: another name"),
        ({"taxonID": None, "matchType": "unmatched"}, {"1"}, "disagree: they match, ours unmatched"),
        ({"taxonID": None, "matchType": "unmatched"}, set(), "agree: not matched"),
        ({"taxonID": "1", "matchType": "fuzzy"}, set(), "disagree: they reject, ours fuzzy"),
    ],
)
def test_verdicts(ours: dict[str, str | None], ids: set[str], verdict: str) -> None:
    assert benchmark.verdict(ours, ids) == verdict


def test_agreement_with_rwcvp(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = benchmark.compare_with_rwcvp(shared_data / "checklists" / "rwcvp", 2)
    assert result["names"] == 763
    assert result.get("disagree: another name", 0) == 0
    assert result["agree: the same name"] + result["agree: not matched"] >= 741
    assert "they match, ours unmatched" in capsys.readouterr().out


def test_the_made_checklist_has_every_name_in_every_copy(shared_data: Path, tmp_path: Path) -> None:
    benchmark.million(shared_data / "checklists" / "rwcvp" / "wcvp_names_extract.csv", tmp_path / "wcvp_names.csv", 3)
    checklist = benchmark.read_checklist(tmp_path / "wcvp_names.csv")
    assert checklist.counts["names"] == 3 * 5152
    assert checklist.counts["accepted"] == 3 * 1578
    assert len(benchmark.dirty(checklist, 50)) == 50
