"""Names taken apart: cases from real lists, every name of the WCVP extract, and what is written out parses as it was."""

from __future__ import annotations

import csv
import doctest
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import taxakey.records.naming.scientific_name
import taxakey.records.naming.spelling
from taxakey.records.naming.scientific_name import (
    _NOT_EPITHETS,
    _RANK_OF,
    AGGREGATE,
    DOUBTFUL,
    FORMULA,
    MISAPPLIED,
    NO_NAME,
    NOT_TO_SPECIES,
    fold,
    parse_names,
    words_of,
    written_out,
)
from taxakey.records.naming.spelling import spelling_key


def strings(*values: str | None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, pa.string())])


def parsed(name: str | None, author: str | None = None, rank: str | None = None) -> dict[str, Any]:
    table = parse_names(strings(name), strings(author) if author else None, strings(rank) if rank else None)
    row = table.to_pylist()[0]
    return {key: value for key, value in row.items() if value is not None}


CASES = {
    "Poa annua L.": {"genus": "Poa", "epithet": "annua", "rank": "species", "author": "L."},
    "Acer_Capillipes": {"genus": "acer", "epithet": "capillipes", "rank": "species"},
    "QUERCUS ALBA": {"genus": "quercus", "epithet": "alba", "rank": "species"},
    "Quercus_Infectoria_sub": {"genus": "quercus", "epithet": "infectoria", "rank": "species"},
    "Prunus_X_Shmittii": {"genus": "prunus", "epithet": "shmittii", "rank": "species", "hybrid": "species"},
    "Rheum x rhabarbarum L.": {
        "genus": "Rheum", "epithet": "rhabarbarum", "rank": "species", "hybrid": "species", "author": "L.",
    },
    "×Triticosecale rimpaui Wittm.": {
        "genus": "Triticosecale", "epithet": "rimpaui", "rank": "species", "hybrid": "genus", "author": "Wittm.",
    },
    "xTriticosecale rimpaui": {"genus": "Triticosecale", "epithet": "rimpaui", "rank": "species", "hybrid": "genus"},
    "Salix × sepulcralis Simonk. nvar. chrysocoma (Dode) Meikle": {
        "genus": "Salix", "epithet": "sepulcralis", "infraspecific": "chrysocoma", "rank": "variety", "hybrid": "species",
        "author": "(Dode) Meikle", "species_author": "Simonk.",
    },
    "Poa annua nothosubsp. bubu Foo": {
        "genus": "Poa", "epithet": "annua", "infraspecific": "bubu", "rank": "subspecies", "hybrid": "infraspecific",
        "author": "Foo",
    },
    "Poa annua L. subsp. annua": {
        "genus": "Poa", "epithet": "annua", "infraspecific": "annua", "rank": "subspecies", "author": "L.",
        "species_author": "L.",
    },
    "Poa annua subsp. exilis var. foo Bar": {
        "genus": "Poa", "epithet": "annua", "infraspecific": "foo", "rank": "variety", "author": "Bar",
    },
    "Ipomoea lacunosa L. f. lacunosa": {
        "genus": "Ipomoea", "epithet": "lacunosa", "infraspecific": "lacunosa", "rank": "form", "author": "L.",
        "species_author": "L.",
    },
    "Heliophila pusilla L. f.": {"genus": "Heliophila", "epithet": "pusilla", "rank": "species", "author": "L. f."},
    "Poa annua Hook. f. ex Thomson": {"genus": "Poa", "epithet": "annua", "rank": "species",
    "author": "Hook. f. ex Thomson"},
    "Abies numidica de Lannoy ex Carrière": {
        "genus": "Abies", "epithet": "numidica", "rank": "species", "author": "de Lannoy ex Carrière",
    },
    "Amblyomma (Amblyomma) americanum (Linnaeus, 1758)": {
        "genus": "Amblyomma", "epithet": "americanum", "rank": "species", "author": "(Linnaeus, 1758)",
    },
    "Aus bus cus Smith, 1900": {"genus": "Aus", "epithet": "bus", "infraspecific": "cus", "author": "Smith, 1900"},
    "Acer palmatum 'Bloodgood'": {"genus": "Acer", "epithet": "palmatum", "infraspecific": "'Bloodgood", "rank": "cultivar"},
    "Brassica oleracea Capitata Group": {"genus": "Brassica", "epithet": "oleracea", "rank": "species"},
    "Cotoneaster coriaceus Franch. (incl. C. lacteus W.W. Smith)": {
        "genus": "Cotoneaster", "epithet": "coriaceus", "rank": "species", "author": "Franch.",
    },
    "x Festulolium braunii (K. Richt.) A. Camus (Festuca pratensis Huds. x Lolium perenne L.)": {
        "genus": "Festulolium", "epithet": "braunii", "rank": "species", "hybrid": "genus", "author": "(K. Richt.) A. Camus",
    },
    "Nesoluma st.-johnianum H.J.Lam &amp; B.Meeuse": {
        "genus": "Nesoluma", "epithet": "st-johnianum", "rank": "species", "author": "H.J.Lam & B.Meeuse",
    },
    "Poa annua L. s.l.": {"genus": "Poa", "epithet": "annua", "rank": "species", "author": "L."},
    "Poa annua L., nom. illeg.": {"genus": "Poa", "epithet": "annua", "rank": "species", "author": "L."},
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_parts_of_real_names(name: str) -> None:
    assert parsed(name) == CASES[name]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        (None, NO_NAME), ("  ", NO_NAME), ("Phildelphus", NOT_TO_SPECIES), ("Acer L.", NOT_TO_SPECIES),
        ("Poa sp.", NOT_TO_SPECIES),
        ("Searsia sp. nov. A", NOT_TO_SPECIES), ("Rosaceae", NOT_TO_SPECIES), ("Poa sect. Ochlopoa", NOT_TO_SPECIES),
        ("Acer de Lannoy", NOT_TO_SPECIES), ("Heliotropium aff. wagneri", DOUBTFUL), ("Poa cf annua", DOUBTFUL),
        ("Solanum nodiflorum Jacq. ?", DOUBTFUL), ("Philadelphus x virginalis aggr.", AGGREGATE),
        ("Rosa chinensis group", AGGREGATE),
        ("Poa annua auct. non L.", MISAPPLIED), ("Poa annua sensu Smith", MISAPPLIED),
        ("Quercus alba × Quercus rubra", FORMULA),
        ("Chenopodium album L. x missouriense", FORMULA), ("Poa annua x P. supina", FORMULA),
    ],
)  # fmt: skip
def test_what_cannot_be_matched_says_why(name: str | None, problem: str) -> None:
    assert parsed(name)["problem"] == problem


def test_columns_of_the_source_go_before_the_text() -> None:
    assert parsed("Poa annua Tomm.", author="L.")["author"] == "L."
    assert parsed("Poa annua exilis", rank="VARIETY")["rank"] == "variety"
    assert "rank" not in parsed("Poa annua exilis")
    assert parsed("Poa annua", rank="Genus")["problem"] == NOT_TO_SPECIES
    assert parsed("Poa annua var. exilis", rank="subspecies")["rank"] == "variety"  # what is written says more


def test_no_rows() -> None:
    assert parse_names(strings()).num_rows == 0
    assert written_out(parse_names(strings())).to_pylist() == []


def test_every_name_of_wcvp_is_taken_apart_as_wcvp_does(shared_data: Path) -> None:
    with open(shared_data / "checklists" / "rwcvp" / "wcvp_names_extract.csv", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["species"]]
    found = parse_names(strings(*(f"{row['taxon_name']} {row['taxon_authors']}" for row in rows))).to_pylist()
    for row, parts in zip(rows, found, strict=True):
        assert (parts["genus"], parts["epithet"], parts["infraspecific"]) == (
            row["genus"], row["species"], row["infraspecies"] or None,
        )  # fmt: skip
        assert parts["problem"] is None
        assert (parts["author"] or "") == row["taxon_authors"]
        assert (parts["hybrid"] == "species") == bool(row["species_hybrid"])
    assert len(rows) > 5000


WORD = st.text("abcdefghilmnoprstuv", min_size=4, max_size=9).filter(lambda word: word not in NO_WORDS)
NO_WORDS = {*_NOT_EPITHETS, *_RANK_OF, "group", "complex", "auctorum"}


@given(WORD, WORD, WORD, st.sampled_from(["", "subsp. ", "var. ", "f. "]), st.sampled_from(["", "genus", "species"]))
def test_what_is_written_out_parses_as_it_was(genus: str, epithet: str, below: str, mark: str, sign: str) -> None:
    name = f"{'× ' if sign == 'genus' else ''}{genus.capitalize()} {'× ' if sign == 'species' else ''}{epithet}"
    name += f" {mark}{below}" if mark else ""
    first = parse_names(strings(name))
    assert first["problem"][0].as_py() is None
    assert written_out(first)[0].as_py() == name
    assert words_of(first)[0].as_py() == " ".join([genus, epithet, below] if mark else [genus, epithet])


@given(st.lists(WORD | st.sampled_from(["Isoëtes", "ångströmii", "Ŋœß", "", "müelleri"]) | st.none(), max_size=5))
def test_folded_words_are_ascii_or_as_they_were_and_keep_their_places(words: list[str | None]) -> None:
    folded = fold(strings(*words)).to_pylist()
    assert [word is None for word in folded] == [word is None for word in words]
    assert all(word is None or word == word.lower() for word in folded)
    assert [fold(strings(word))[0].as_py() for word in words] == folded


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("sylvatica", "silvaticum"), ("rufo-fulva", "rufofulva"), ("clayi", "clayii"), ("niger", "nigra"),
        ("caespitosa", "cespitosum"),
        ("yueanum", "yueana"), ("macrocarpa", "macrocarpus"), ("viridis", "viride"), ("st-johnii", "stjohni"),
        ("acer", "acris"),
    ],
)  # fmt: skip
def test_spellings_of_one_name(one: str, other: str) -> None:
    assert len(set(spelling_key(strings(one, other)).to_pylist())) == 1


@pytest.mark.parametrize(
    ("one", "other"), [("smithii", "smithiae"), ("smithii", "smithiorum"), ("alba", "alta"), ("minor", "minima")]
)
def test_other_names_keep_other_keys(one: str, other: str) -> None:
    assert len(set(spelling_key(strings(one, other)).to_pylist())) == 2


def test_examples_in_the_docstrings() -> None:
    assert doctest.testmod(taxakey.records.naming.scientific_name).failed == 0
    assert doctest.testmod(taxakey.records.naming.spelling).failed == 0
