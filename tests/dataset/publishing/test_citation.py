"""Citation files: read back as YAML, and refused where they would say nothing."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
import yaml

from taxakey.artifacts import Plan, finish, start
from taxakey.dataset.publishing.citation import CitationOptions, downloads_of, write_citation
from taxakey.errors import BadInput

OPTIONS = CitationOptions(
    title="Flora: of 'X'",
    authors=("Doe, Jané", "The Garden"),
    version="2.0",
    released=date(2026, 11, 21),
    doi="10.5281/zenodo.1",
    licence="CC-BY-4.0",
    downloads=("10.15468/dl.abc123", "10.15468/dl.zzz999"),
)


def test_the_file_for_machines_has_what_its_format_asks_for(tmp_path: Path) -> None:
    write_citation(tmp_path, OPTIONS)
    found = yaml.safe_load((tmp_path / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(found)
    assert (found["cff-version"], found["type"], found["title"]) == ("1.2.0", "dataset", "Flora: of 'X'")
    assert found["authors"] == [{"family-names": "Doe", "given-names": "Jané"}, {"name": "The Garden"}]
    assert (found["version"], found["date-released"], found["license"]) == ("2.0", "2026-11-21", "CC-BY-4.0")
    assert [reference["doi"] for reference in found["references"]] == list(OPTIONS.downloads)
    assert "url" not in found


def test_the_file_for_people(tmp_path: Path) -> None:
    write_citation(tmp_path, OPTIONS)
    lines = (tmp_path / "CITATION.txt").read_text(encoding="utf-8").splitlines()
    expected = "Doe, Jané & The Garden (2026). Flora: of 'X' (version 2.0) [Dataset]. https://doi.org/10.5281/zenodo.1"
    assert lines[0] == expected
    assert lines[-1] == "GBIF.org. GBIF Occurrence Download. https://doi.org/10.15468/dl.zzz999"


def test_downloads_are_found_wherever_the_manifest_names_them(tmp_path: Path) -> None:
    plan = Plan("records", {"10.15468/DL.aaa111": "hash"}, {"sources": [{"doi": "https://doi.org/10.15468/dl.bbb222"}]})
    start(tmp_path, plan)
    manifest = finish(tmp_path, plan, counts={}, notes=("downloaded as 10.15468/dl.bbb222.", "made from 10.15468/abc"))
    assert downloads_of(manifest) == ("10.15468/dl.aaa111", "10.15468/dl.bbb222")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"title": " "}, "title"),
        ({"authors": ()}, "author"),
        ({"authors": ("",)}, "author"),
        ({"doi": "https://doi.org/10.1/x"}, "is no DOI"),
        ({"downloads": ("abc",)}, "'abc' is no DOI"),
        ({"url": "javascript:x"}, "is no address"),
    ],
)
def test_what_says_nothing_is_refused(wrong: dict, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        CitationOptions(**{"title": "X", "authors": ("Y",), **wrong})
