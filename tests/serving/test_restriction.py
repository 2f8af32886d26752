"""Restriction to a list, a region, a taxon: which species are left, renormalised against plain arithmetic, and what is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from colour_model import COLOURS, expected_probabilities, make_taxonomy

from taxakey.errors import BadInput
from taxakey.serving.identifier import Identifier
from taxakey.serving.restriction import restrict, restrict_to_taxa

TAXONOMY = make_taxonomy()
FLORA = """country,scientificName
Costa Rica,Bellis perennis L.
Costa Rica,Tussilago farfara
costa rica,Miconia calvescens DC.
Belgium,"Caltha palustris subsp. palustris"
Belgium,Bellis perennis L.
Belgium,Poa sp.
"""


def names(wanted: str) -> list[str]:
    return list(restrict(TAXONOMY, wanted).taxonomy.names)


def test_a_name_a_line_with_and_without_authors(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("\ufeffBellis perennis L.\n\nCALTHA PALUSTRIS\nPoa annua\nPoa annua L.\nPoa\n", encoding="utf-8")
    found = restrict(TAXONOMY, str(file))
    assert found.taxonomy.names == ("Bellis perennis", "Caltha palustris")
    assert found.allowed_A.tolist() == [2, 4]
    assert (found.listed, found.unknown) == (3, ("Poa annua",))
    assert found.meaning == (
        "Only 2 of the model's 6 species were considered: mine.txt. 1 of the 3 species listed there are unknown to the model."
    )


def test_a_region_of_a_table(tmp_path: Path) -> None:
    file = tmp_path / "flora.csv"
    file.write_text(FLORA)
    assert names(f"{file}:Costa Rica") == ["Bellis perennis", "Tussilago farfara"]
    assert restrict(TAXONOMY, f"{file}:Costa Rica").unknown == ("Miconia calvescens DC.",)
    assert names(f"{file}:belgium") == ["Bellis perennis", "Caltha palustris"]
    assert names(str(file)) == ["Bellis perennis", "Caltha palustris", "Tussilago farfara"]
    assert "flora.csv, Belgium" in restrict(TAXONOMY, f"{file}:Belgium").meaning
    with pytest.raises(BadInput, match=r"no row for 'Peru'; there are Costa Rica"):
        restrict(TAXONOMY, f"{file}:Peru")


def test_a_checklist_knows_synonyms(tmp_path: Path) -> None:
    file = tmp_path / "taxon.csv"
    file.write_text(
        "taxonID,scientificName,taxonomicStatus,acceptedNameUsageID,taxonRank\n"
        "1,Cineraria farfara,accepted,1,species\n"
        "2,Tussilago farfara,synonym,1,species\n"
        "3,Poa annua,accepted,3,species\n"
    )
    found = restrict(TAXONOMY, str(file))
    assert found.taxonomy.names == ("Tussilago farfara",)
    assert (found.listed, found.unknown) == (2, ("Poa annua",))


def test_taxa_of_any_rank_in_any_case() -> None:
    assert names("aconitum") == ["Aconitum napellus", "Aconitum variegatum"]
    assert names("Asteraceae") == ["Bellis perennis", "Calendula officinalis", "Tussilago farfara"]
    assert names("Bellis, Caltha palustris") == ["Bellis perennis", "Caltha palustris"]
    assert len(names("Plantae")) == 6
    assert restrict(TAXONOMY, "Bellis,Caltha").meaning.endswith("the genus Bellis and the genus Caltha.")


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("Aconitun", r"neither a taxon of the model nor a file; Aconitum\?"),
        ("nowhere/flora.csv", "no such file"),
        ("flora.csv:Peru", r"^flora\.csv: no such file"),
        (",", "restricted to nothing"),
    ],
)
def test_what_is_neither_is_refused(wanted: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=said):
        restrict(TAXONOMY, wanted)


@pytest.mark.parametrize(
    ("content", "place", "said"),
    [
        ("Poa annua\nPoa trivialis\n", "", r"none of its 2 species is one of the model's 6 \(first: Poa annua\)"),
        ("a,b\n1,2\n", "", "no column of names"),
        ("species,abundance\nBellis perennis,1\n", ":Peru", "no column of countries"),
        ("", "", "no column of names"),
    ],
)
def test_a_list_that_leaves_nothing_is_an_error(content: str, place: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(content)
    with pytest.raises(BadInput, match=said):
        restrict(TAXONOMY, f"{tmp_path / 'list.csv'}{place}")


def test_probabilities_are_renormalised() -> None:
    p_SC = np.random.default_rng(0).dirichlet(np.ones(6), 5)
    allowed_SA, inside_S = restrict_to_taxa(TAXONOMY, "Aconitum").apply(p_SC)
    for row in range(5):
        assert inside_S[row] == pytest.approx(p_SC[row, 0] + p_SC[row, 1])
        assert allowed_SA[row].tolist() == pytest.approx([p_SC[row, 0] / inside_S[row], p_SC[row, 1] / inside_S[row]])
    nothing_SA, inside_S = restrict_to_taxa(TAXONOMY, "Aconitum").apply(np.array([[0, 0, 1.0, 0, 0, 0]]))
    assert (nothing_SA.tolist(), inside_S.tolist()) == ([[0.5, 0.5]], [0.0])


def test_a_restricted_model_names_only_these_and_says_so(identifier: Identifier, photograph: Callable[[str], Path]) -> None:
    only = identifier.only("Asteraceae")
    p = expected_probabilities(COLOURS["Caltha palustris"])[[2, 3, 5]]
    answer = only.identify([photograph("Caltha palustris")], top=100)[0]
    assert answer.species[0].scientific_name == "Tussilago farfara"
    assert len(answer.species) == 3
    assert sum(taxon.probability for taxon in answer.species) == pytest.approx(1)
    assert answer.species[0].probability == pytest.approx(p[2] / p.sum(), abs=0.02)  # JPEG's colours are off by a level
    assert [taxon.scientific_name for taxon in answer.families] == ["Asteraceae"]
    assert answer.inside == pytest.approx(p.sum(), abs=0.02)
    assert answer.restriction is not None
    assert "Only 3 of the model's 6 species" in answer.restriction.meaning
    assert identifier.identify([photograph("Caltha palustris")])[0].restriction is None, "the model itself stays as it was"


def test_narrowed_it_keeps_its_places() -> None:
    inner = restrict(TAXONOMY, "Ranunculaceae").narrowed("Caltha")
    assert inner.allowed_A.tolist() == [4]
    assert "the family Ranunculaceae, of these the genus Caltha" in inner.meaning
    with pytest.raises(BadInput, match="neither a taxon"):
        restrict(TAXONOMY, "Ranunculaceae").narrowed("Bellis")
