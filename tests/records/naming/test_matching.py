"""Matching: each type and each reason on a small list, rules that must hold for any names, and others' checked results."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taxakey.artifacts import Plan, read_manifest
from taxakey.errors import BadInput, BadRecords, MissingArtifact
from taxakey.records.naming.checklist import BROKEN, UNPLACED, Checklist, make_checklist, read_checklist
from taxakey.records.naming.checklist_files import Delivered
from taxakey.records.naming.delivered_names import read_names
from taxakey.records.naming.matches import MATCHED, UNMATCHED, Matches
from taxakey.records.naming.matching import (
    EQUALLY_NEAR,
    HOMONYMS,
    NO_GENUS,
    NO_PARENT,
    NO_SPECIES,
    OTHER_KINGDOM,
    PRO_PARTE,
    MatchOptions,
    match_names,
)
from taxakey.records.naming.nearest import allowed_distance
from taxakey.records.naming.scientific_name import DOUBTFUL, NO_NAME, NOT_TO_SPECIES

FIELDS = (
    "taxonID", "scientificName", "scientificNameAuthorship", "taxonRank", "taxonomicStatus", "acceptedNameUsageID", "kingdom",
    "family",
)  # fmt: skip
LIST = [
    ("1", "Poa annua", "L.", "species", "accepted", "", "Plantae", "Poaceae"),
    ("2", "Poa crassa", "Gaudin", "species", "synonym", "1", "Plantae", "Poaceae"),
    ("3", "Poa annua subsp. exilis", "(Tomm. ex Freyn) Asch.", "subspecies", "accepted", "", "Plantae", "Poaceae"),
    ("4", "Poa annua var. exilis", "Tomm. ex Freyn", "variety", "synonym", "5", "Plantae", "Poaceae"),
    ("5", "Poa infirma", "Kunth", "species", "accepted", "", "Plantae", "Poaceae"),
    ("6", "Poa elegans", "Roxb.", "species", "synonym", "1", "Plantae", "Poaceae"),
    ("7", "Poa elegans", "Poir.", "species", "synonym", "5", "Plantae", "Poaceae"),
    ("8", "Poa × sachalinensis", "(Koidz.) Honda", "species", "accepted", "", "Plantae", "Poaceae"),
    ("9", "Poa dubia", "Foo", "species", "unplaced", "", "Plantae", "Poaceae"),
    ("10", "Poa deserta", "Foo", "species", "synonym", "99", "Plantae", "Poaceae"),
    ("11", "Oenanthe oenanthe", "(Linnaeus, 1758)", "species", "accepted", "", "Animalia", "Muscicapidae"),
    ("12", "Oenanthe crocata", "L.", "species", "accepted", "", "Plantae", "Apiaceae"),
    ("13", "Hieronyma macrocarpa", "Müll.Arg.", "species", "accepted", "", "Plantae", "Phyllanthaceae"),
    ("14", "Sorbus avonensis", "T.C.G.Rich", "species", "accepted", "", "Plantae", "Rosaceae"),
    ("15", "Poa regeliana", "O.Berg", "species", "accepted", "", "Plantae", "Poaceae"),
    ("16", "Poa kegeliana", "O.Berg", "species", "accepted", "", "Plantae", "Poaceae"),
    ("17", "Aus bus", "Smith", "species", "accepted", "", "Plantae", "Poaceae"),
    ("18", "Aus bus", "Miller", "species", "synonym", "12", "Plantae", "Apiaceae"),
    ("19", "Poa halbiana", "Foo", "species", "pro parte synonym", "1", "Plantae", "Poaceae"),
    ("20", "Poa crassa", "auct. non Gaudin", "species", "misapplied", "5", "Plantae", "Poaceae"),
    ("21", "Cus dus subsp. eus", "Foo", "subspecies", "accepted", "", "Plantae", "Poaceae"),
    ("22", "Fus gus", "Foo", "species", "accepted", "", "", "Faceae"),
    ("23", "Fus gus", "Bar", "species", "accepted", "", "", "Gaceae"),
    ("24", "Poa sellowiana", "O.Berg", "species", "accepted", "", "Plantae", "Poaceae"),
    ("25", "Nus ous", "", "species", "accepted", "", "Plantae", "Poaceae"),
    ("26", "Nus ous", "Bar", "species", "synonym", "12", "Plantae", "Apiaceae"),
    ("27", "Poa nulla", "Foo", "species", "unplaced", "", "Plantae", "Poaceae"),
    ("28", "Poa nulla", "Bar", "species", "synonym", "99", "Plantae", "Poaceae"),
]  # fmt: skip


def checklist_of(rows: Sequence[Sequence[str]]) -> Checklist:
    columns = {field: pa.array([row[place] or None for row in rows], pa.string()) for place, field in enumerate(FIELDS)}
    return make_checklist(Delivered("Darwin Core", pa.table(columns), 0), "made")


CHECKLIST = checklist_of(LIST)


def match_one(name: str | None, author: str | None = None, options: MatchOptions | None = None, **more: str) -> dict[str, Any]:
    row = {"scientificName": name, "scientificNameAuthorship": author, **more}
    matches = match_names(pa.table({key: pa.array([value], pa.string()) for key, value in row.items()}), CHECKLIST, options)
    assert len(matches.matched) + len(matches.unmatched) == 1
    return (matches.matched.to_pylist() or matches.unmatched.to_pylist())[0]


@pytest.mark.parametrize(
    ("name", "author", "kind", "taxon", "accepted"),
    [
        ("Poa annua", "L.", "exact", "1", "1"),
        ("Poa annua L.", None, "exact", "1", "1"),
        ("Poa annua", "Linnaeus", "exact", "1", "1"),
        ("Poa annua", None, "without author", "1", "1"),
        ("Poa annua", "Schltdl.", "author differs", "1", "1"),
        ("Poa crassa", "Gaudin", "exact", "2", "1"),
        ("Poa annua ssp. exilis", "Asch.", "exact", "3", "1"),
        ("Poa annua var. exilis", None, "without author", "4", "5"),
        ("Poa annua f. exilis", "Tomm.", "rank differs", "4", "5"),
        ("Poa annua var. minor", "Foo", "rolled up", "1", "1"),
        ("Poa annua 'Silver'", None, "rolled up", "1", "1"),
        ("Poa x sachalinensis", "(Koidz.) Honda", "exact", "8", "8"),
        ("Poa sachalinensis", "(Koidz.) Honda", "hybrid sign ignored", "8", "8"),
        ("Poa anua", "L.", "spelling variant", "1", "1"),
        ("Poa annuum", "L.", "spelling variant", "1", "1"),
        ("Sorbus arvonensis", "T.C.G.Rich", "fuzzy", "14", "14"),
        ("Sorbus avonensus", None, "spelling variant", "14", "14"),
        ("Hyeronima macrocarpa", "Müll.Arg.", "fuzzy genus", "13", "13"),
        ("Hieronima macrocarpa", "Schltr.", "fuzzy genus", "13", "13"),
        ("Poa elegans", "Roxb.", "exact", "6", "1"),
        ("POA_ELEGANS", "Poiret", "exact", "7", "5"),
        ("Oenanthe crocata", None, "without author", "12", "12"),
    ],
)
def test_names_that_are_found(name: str, author: str | None, kind: str, taxon: str, accepted: str) -> None:
    found = match_one(name, author)
    assert (found["matchType"], found["taxonID"], found["acceptedNameUsageID"]) == (kind, taxon, accepted)


@pytest.mark.parametrize(
    ("name", "author", "reason"),
    [
        (None, None, NO_NAME), ("Poa", None, NOT_TO_SPECIES), ("Poa cf. annua", None, DOUBTFUL), ("Rosa canina", "L.", NO_GENUS),
        ("Poa mirabilissima", None, NO_SPECIES), ("Poa elegans", None, HOMONYMS), ("Poa elegans", "Willd.", HOMONYMS),
        ("Poa dubia", "Foo", UNPLACED), ("Poa deserta", None, BROKEN), ("Poa segeliana", "O.Berg", EQUALLY_NEAR),
        ("Poa halbiana", None, PRO_PARTE), ("Cus dus subsp. eus", "Foo", NO_PARENT), ("Aus bus", None, HOMONYMS),
        ("Poa velloziana", "O.Berg", NO_SPECIES), ("Nus ous", "Smith", HOMONYMS), ("Poa nulla", None, HOMONYMS),
        ("Aus kus", None, NO_SPECIES), ("Hieronyba macrocarpa", "Schltr.", NO_GENUS),
    ],
)  # fmt: skip
def test_names_that_are_not_matched_say_why(name: str | None, author: str | None, reason: str) -> None:
    found = match_one(name, author)
    assert found["reason"] == reason
    assert found["matchType"] == ("ambiguous" if reason in (HOMONYMS, EQUALLY_NEAR) else "unmatched")


def test_the_path_names_every_step() -> None:
    assert match_one("Poa crassa", "Gaud.")["path"] == "Poa crassa Gaud. → Poa crassa Gaudin → Poa annua L."
    path = match_one("Poa annua ssp. exilis", "Asch.")["path"]
    assert path == "Poa annua ssp. exilis Asch. → Poa annua subsp. exilis (Tomm. ex Freyn) Asch. → Poa annua L."
    assert match_one("Poa annua", "L.")["path"] == "Poa annua L."


def test_scores_fall_with_what_is_missing() -> None:
    names = [("Poa annua", "L."), ("Poa annua", "Linnaeus"), ("Poa annua", None), ("Poa anua", None), ("Poa annua", "Foo")]
    scores = [match_one(*name)["matchScore"] for name in names]
    assert scores == pytest.approx([1, 0.98, 0.95, 0.95 * (1 - 1 / 9), 0.8])
    assert match_one("Poa annua var. minor", None)["matchScore"] == pytest.approx(0.9 * 0.95)


def test_candidates_are_shown_the_nearest_first() -> None:
    assert match_one("Poa elegans")["candidates"] == "Poa elegans Roxb. (synonym, 6) | Poa elegans Poir. (synonym, 7)"
    assert match_one("Poa cf. annua")["candidates"] == "Poa annua L. (accepted, 1)"
    assert match_one("Poa infixia")["candidates"].startswith("Poa infirma Kunth (accepted, 5)")
    assert match_one("Ochlopoa infirma", "(Kunth) H.Scholz")["candidates"] == "Poa infirma Kunth (accepted, 5)"
    assert match_one("Poa deserta")["candidates"] == f"Poa deserta Foo ({BROKEN}, 10)"


def test_kingdoms_are_never_crossed() -> None:
    assert match_one("Oenanthe crocata", "L.", kingdom="Plantae")["matchType"] == "exact"
    assert match_one("Oenanthe crocata", "L.", kingdom="Viridiplantae")["matchType"] == "exact"
    assert match_one("Oenanthe crocata", "L.", kingdom="incertae sedis")["matchType"] == "exact"
    assert match_one("Oenanthe crocata", "L.", kingdom="Animalia")["reason"] == OTHER_KINGDOM
    assert match_one("Oenanthe crocatta", "L.", kingdom="Animalia")["matchType"] == "unmatched"
    assert match_one("Fus gus", "Foo", kingdom="Animalia")["matchType"] == "exact"  # the list doesn't say which


def test_a_family_decides_among_accepted_names_only() -> None:
    assert match_one("Fus gus", family="Gaceae")["taxonID"] == "23"
    assert match_one("Fus gus", family="Haceae")["reason"] == HOMONYMS
    assert match_one("Fus gus")["reason"] == HOMONYMS
    assert match_one("Aus bus", family="Apiaceae")["reason"] == HOMONYMS
    assert match_one("Hyeronima macrocarpa", "Müll.Arg.", family="Rosaceae")["matchType"] == "unmatched"


def test_a_misapplied_name_is_found_by_nobody() -> None:
    assert match_one("Poa crassa", None)["taxonID"] == "2"
    assert match_one("Poa crassa auct. non Gaudin")["matchType"] == "unmatched"


def test_options() -> None:
    assert match_one("Poa annua ssp. exilis", None, MatchOptions(roll_up=False))["acceptedNameUsageID"] == "3"
    assert match_one("Sorbus arvonensis", "T.C.G.Rich", MatchOptions(fuzzy=False))["reason"] == NO_SPECIES
    preferred = match_one("Aus bus", None, MatchOptions(prefer_accepted=True))
    assert (preferred["matchType"], preferred["taxonID"]) == ("accepted homonym", "17")
    assert match_one("Aus bus", "Willd.", MatchOptions(prefer_accepted=True))["reason"] == HOMONYMS  # it isn't without author
    assert match_one("Aus bus", "Miller", MatchOptions(prefer_accepted=True))["acceptedNameUsageID"] == "12"
    assert match_one("Poa elegans", None, MatchOptions(prefer_accepted=True))["reason"] == HOMONYMS  # none is accepted
    assert match_one("Fus gus", None, MatchOptions(prefer_accepted=True))["reason"] == HOMONYMS  # two are


@pytest.mark.parametrize(
    ("length", "agreement", "edits"),
    [(3, "equal", 0), (4, "equal", 1), (8, "compatible", 2), (13, "equal", 3), (6, "unknown", 0), (7, "unknown", 1),
     (12, "unknown", 2), (9, "differs", 0), (10, "differs", 1)],
)  # fmt: skip
def test_limits_of_misspellings(length: int, agreement: str, edits: int) -> None:
    assert allowed_distance(length, agreement) == edits


# ---- what must hold for any names ----

SOME = st.sampled_from(
    [row[1] for row in LIST] + ["Poa anua", "Poa elegens", "Rosa canina", "Poa sp.", "Oenante crocata", "Poa annua f. x"]
)
AUTHORS = st.none() | st.sampled_from([row[2] for row in LIST])
ROWS = st.lists(st.tuples(SOME | st.none(), AUTHORS), min_size=1, max_size=12)


def table_of(rows: Sequence[tuple[str | None, str | None]]) -> pa.Table:
    names, authors = zip(*rows, strict=True)
    return pa.table({"scientificName": pa.array(names, pa.string()), "scientificNameAuthorship": pa.array(authors, pa.string())})


@given(ROWS, st.randoms(use_true_random=False))
@settings(max_examples=20)  # a call takes 50 ms, whatever the number of names
def test_the_order_of_rows_and_their_company_do_not_matter(rows: list[tuple[str | None, str | None]], random: Any) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)
    together, again = match_names(table_of(rows), CHECKLIST), match_names(table_of(shuffled), CHECKLIST)
    assert together.matched.equals(again.matched)
    assert together.unmatched.equals(again.unmatched)
    by_name = {
        (row["verbatimScientificName"], row["verbatimAuthorship"]): row
        for row in together.matched.to_pylist() + together.unmatched.to_pylist()
    }
    assert set(by_name) == set(rows)
    assert sum(row["count"] for row in by_name.values()) == len(rows)
    name, author = rows[0]
    alone = match_one(name, author)
    assert {**by_name[name, author], "count": 1} == alone


@given(st.permutations(LIST), ROWS)
@settings(max_examples=15)
def test_the_order_of_the_checklist_does_not_matter(
    order: list[tuple[str, ...]], rows: list[tuple[str | None, str | None]]
) -> None:
    one, other = match_names(table_of(rows), CHECKLIST), match_names(table_of(rows), checklist_of(order))
    columns = ["verbatimScientificName", "verbatimAuthorship", "taxonID", "acceptedNameUsageID", "matchType", "matchScore"]
    assert one.matched.select(columns).equals(other.matched.select(columns))
    assert one.unmatched.drop_columns("candidates").equals(other.unmatched.drop_columns("candidates"))


@given(SOME, AUTHORS)
@settings(max_examples=30)
def test_an_author_changes_an_exact_match_only_among_homonyms(name: str, author: str | None) -> None:
    without, found = match_one(name), match_one(name, author)
    if without["matchType"] in ("without author", "hybrid sign ignored"):
        assert found["acceptedNameUsageID"] == without["acceptedNameUsageID"]
        assert found["taxonID"] == without["taxonID"]
    elif without.get("reason") == HOMONYMS:
        assert (
            found["taxonID"] is None
            or found["scientificName"] in without["candidates"] + "Poa annua Poa infirma Oenanthe crocata"
        )


# ---- tables and files ----


def test_schemas_and_counts() -> None:
    matches = match_names(table_of([("Poa annua", "L."), ("Poa annua", "L."), ("Poa", None)]), CHECKLIST)
    assert matches.matched.schema == MATCHED
    assert matches.unmatched.schema == UNMATCHED
    assert matches.counts() == {"exact": 1, "unmatched": 1}
    assert matches.matched["count"].to_pylist() == [2]
    assert matches.matched.select(["family", "genus", "kingdom", "taxonRank"]).to_pylist() == [
        {"family": "Poaceae", "genus": "Poa", "kingdom": "Plantae", "taxonRank": "species"}
    ]


def test_no_names_and_no_column(tmp_path: Path) -> None:
    empty = match_names(pa.table({"scientificName": pa.array([], pa.string())}), CHECKLIST)
    assert (len(empty.matched), len(empty.unmatched)) == (0, 0)
    with pytest.raises(BadInput, match="no column scientificName; the columns are name"):
        match_names(pa.table({"name": ["Poa annua"]}), CHECKLIST)


def test_the_artifact_is_read_as_it_was_written(tmp_path: Path) -> None:
    matches = match_names(table_of([("Poa annua", "L."), ("Poa elegans", None), ("Rosa, canina", 'the "dog"')]), CHECKLIST)
    manifest = matches.write(tmp_path / "names", Plan("names"), checklist=CHECKLIST.counts)
    again = Matches.read(tmp_path / "names")
    assert again.matched.equals(matches.matched)
    assert again.unmatched.equals(matches.unmatched)
    assert manifest.counts["checklist: names"] == len(CHECKLIST)
    assert manifest.counts[f"unmatched: {HOMONYMS}"] == 1
    with open(tmp_path / "names" / "unmatched.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["verbatimScientificName"] for row in rows] == ["Poa elegans", "Rosa, canina"]
    assert matches.write(tmp_path / "names", Plan("names")) == read_manifest(tmp_path / "names", "names")
    (tmp_path / "names" / "unmatched.parquet").unlink()
    with pytest.raises(MissingArtifact, match=r"unmatched\.parquet"):
        Matches.read(tmp_path / "names")


def test_names_from_files(tmp_path: Path) -> None:
    (tmp_path / "names.csv").write_text("species;Author;KINGDOM\nPoa annua;L.;Plantae\n", encoding="utf-8")
    read = read_names(tmp_path / "names.csv", {"scientificName": "species"})
    assert read.to_pylist() == [{"scientificName": "Poa annua", "scientificNameAuthorship": "L.", "kingdom": "Plantae"}]
    with pytest.raises(BadRecords, match="its columns are species, Author, KINGDOM; say --column"):
        read_names(tmp_path / "names.csv")
    with pytest.raises(BadInput, match="no column 'name'"):
        read_names(tmp_path / "names.csv", {"scientificName": "name"})
    with pytest.raises(BadInput, match="'path' is no part of a name"):
        read_names(tmp_path / "names.csv", {"path": "species"})
    pa.parquet.write_table(pa.table({"scientificName": ["Poa annua"], "year": [1900]}), tmp_path / "names.parquet")
    assert read_names(tmp_path / "names.parquet").to_pylist() == [{"scientificName": "Poa annua"}]
    (tmp_path / "long.csv").write_text("scientificName\nPoa annua\nPoa annua,L.\n")
    with pytest.raises(BadRecords, match="1 lines have more columns"):
        read_names(tmp_path / "long.csv")


# ---- real lists ----


@pytest.fixture(scope="module")
def extract(shared_data: Path) -> Checklist:
    return read_checklist(shared_data / "checklists" / "rwcvp" / "wcvp_names_extract.csv")


def test_every_name_of_wcvp_finds_itself(extract: Checklist) -> None:
    """With its author each name leads to its own accepted species; the three exceptions are the same name and author twice."""
    matches = match_names(extract.table.select(["scientificName", "scientificNameAuthorship"]), extract)
    own: dict[tuple[str, str | None], set[int]] = {}
    for row in extract.table.to_pylist():
        own.setdefault((row["scientificName"], row["scientificNameAuthorship"]), set()).add(row["species"])
    ids = extract.table["taxonID"].to_pylist()
    for row in matches.matched.to_pylist():
        assert own[row["verbatimScientificName"], row["verbatimAuthorship"]] == {ids.index(row["acceptedNameUsageID"])}
    assert matches.reasons() == {BROKEN: 710, UNPLACED: 60, HOMONYMS: 3}
    assert set(matches.counts()) == {"exact", "without author", "ambiguous", "unmatched"}


def test_names_of_wcvp_without_authors_are_never_wrong(extract: Checklist) -> None:
    accepted = extract.table.filter(pc.equal(extract.table["species"], pa.array(range(len(extract)), pa.int32())))
    matches = match_names(accepted.select(["scientificName"]), extract)
    ids = dict(zip(accepted["scientificName"].to_pylist(), accepted["taxonID"].to_pylist(), strict=True))
    for row in matches.matched.to_pylist():
        assert row["acceptedNameUsageID"] == ids[row["verbatimScientificName"]]
    assert matches.counts() == {"without author": 1429, "ambiguous": 62}
    preferred = match_names(accepted.select(["scientificName"]), extract, MatchOptions(prefer_accepted=True))
    assert preferred.counts()["accepted homonym"] == 62


def test_dirty_names_of_leaf99(shared_data: Path) -> None:
    labels = shared_data / "images" / "leaf99" / "labels.csv"
    with open(labels, encoding="utf-8", newline="") as file:
        names = {row["species"] for row in csv.DictReader(file)}
    # The list to match against has four names as they should be written.
    right = {"Acer_Platanoids": "Acer platanoides", "Salix_Intergra": "Salix integra", "Prunus_X_Shmittii": "Prunus × schmittii",
             "Quercus_Infectoria_sub": "Quercus infectoria"}  # fmt: skip
    names = {name for name in names if not any(part in name for part in ("platanoid", "intergra", "shmittii", "infectoria"))}
    rows = [(name, "", "", "", "", "", "") for name in sorted({*names, *right.values()}) if " " in name]
    made = checklist_of([(str(number), *row) for number, row in enumerate(rows)])
    matches = match_names(read_names(labels, {"scientificName": "species_verbatim"}), made)
    found = {row["verbatimScientificName"]: row["scientificName"] for row in matches.matched.to_pylist()}
    assert {name: found[name] for name in right} == right
    assert [row["verbatimScientificName"] for row in matches.unmatched.to_pylist()] == ["Phildelphus"]
    assert all(found[name].lower().split()[0] == name.lower().split("_")[0] for name in found)
