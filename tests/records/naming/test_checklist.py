"""Checklists: each format, links of every kind against a slow walk, and real lists with their faults."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxakey.errors import BadRecords
from taxakey.records.naming.checklist import (
    ACCEPTED,
    BROKEN,
    CIRCLE,
    SYNONYM,
    SYNONYM_OF_SYNONYM,
    UNPLACED,
    Checklist,
    make_checklist,
    read_checklist,
)
from taxakey.records.naming.checklist_files import Delivered
from taxakey.records.sample import SampleOptions, sample

Row = Mapping[str, str]


def write(path: Path, rows: Sequence[Row], delimiter: str = ",") -> Path:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def darwin_core(*rows: tuple[str, str, str, str]) -> list[Row]:
    fields = ("taxonID", "scientificName", "taxonomicStatus", "acceptedNameUsageID")
    return [dict(zip(fields, row, strict=True)) for row in rows]


def by_id(checklist: Checklist) -> dict[str, dict]:
    return {row["taxonID"]: row for row in checklist.table.to_pylist()}


def ends(checklist: Checklist) -> dict[str, str | None]:
    """Name -> its accepted name."""
    names = checklist.table["scientificName"].to_pylist()
    return {
        row["scientificName"]: names[row["accepted"]] if row["accepted"] >= 0 else None for row in checklist.table.to_pylist()
    }


# ---- formats ----


WCVP = (
    "plant_name_id|taxon_rank|taxon_status|family|genus_hybrid|genus|species_hybrid|species|infraspecific_rank|infraspecies|"
    "taxon_name|taxon_authors|accepted_plant_name_id|parent_plant_name_id\n"
    "1.0|Species|Accepted|Poaceae||Poa||annua|||Poa annua|L.|1.0|9.0\n"
    "2.0|Species|Synonym|Poaceae||Poa||crassa|||Poa crassa|Gaudin|1.0|\n"
    '3.0|Subspecies|Accepted|Poaceae||Poa||annua|subsp.|exilis|Poa annua subsp. exilis|(Tomm.) "Asch."|3.0|1.0\n'
    "4.0|Species|Accepted|Poaceae|×|Calammophila|×|baltica|||× Calammophila × baltica|(Flüggé) Brand|4.0|\n"
    "5.0|Species|Unplaced|Poaceae||Poa||dubia|||Poa dubia|Foo||\n"
    "9.0|Genus|Accepted|Poaceae||Poa|||||Poa|L.|9.0|\n"
)


@pytest.mark.parametrize("delimiter", ["|", ","])
def test_wcvp(tmp_path: Path, delimiter: str) -> None:
    text = WCVP if delimiter == "|" else WCVP.replace("|", ",").replace('"Asch."', "Asch.")
    (tmp_path / "wcvp_names.csv").write_text(text, encoding="utf-8")
    found = read_checklist(tmp_path / "wcvp_names.csv")
    rows = by_id(found)
    assert found.format == "WCVP"
    assert list(rows) == ["1", "2", "3", "4", "5"]
    assert rows["3"]["scientificNameAuthorship"] == ('(Tomm.) "Asch."' if delimiter == "|" else "(Tomm.) Asch.")
    assert ends(found)["Poa crassa"] == "Poa annua"
    assert rows["3"]["taxonRank"] == "subspecies"
    assert found.table["scientificName"][rows["3"]["species"]].as_py() == "Poa annua"
    assert rows["4"]["hybrid"] is True
    assert rows["4"]["words"] == "calammophila baltica"
    assert rows["5"]["link"] == UNPLACED
    assert {row["kingdom"] for row in rows.values()} == {"Plantae"}
    assert found.counts["above the rank of species"] == 1


def test_gbif_backbone_in_a_zip_beside_vernacular_names(tmp_path: Path) -> None:
    fields = (
        "taxonID", "acceptedNameUsageID", "parentNameUsageID", "scientificName", "scientificNameAuthorship", "canonicalName",
        "genericName", "specificEpithet", "infraspecificEpithet", "taxonRank", "taxonomicStatus", "kingdom", "family",
        "genus",
    )  # fmt: skip
    rows = [
        ("1", "", "", "Poa annua L.", "L.", "Poa annua", "Poa", "annua", "", "species", "accepted", "Plantae",
        "Poaceae", "Poa"),
        ("2", "1", "", "Ochlopoa annua (L.) H.Scholz", "(L.) H.Scholz", "Ochlopoa annua", "Ochlopoa", "annua", "", "species",
         "homotypic synonym", "Plantae", "Poaceae", "Poa"),
        ("3", "", "1", "Poa annua var. exilis Tomm.", "Tomm.", "Poa annua exilis", "Poa", "annua", "exilis", "variety",
        "doubtful",
         "Plantae", "Poaceae", "Poa"),
        ("4", "", "", "Salix ×fragilis L.", "L.", "Salix fragilis", "Salix", "fragilis", "", "species", "accepted",
        "Plantae", "", ""),
        ("5", "", "", "Poaceae", "", "Poaceae", "", "", "", "family", "accepted", "Plantae", "Poaceae", ""),
    ]  # fmt: skip
    taxon = "\n".join("\t".join(row) for row in (fields, *rows))
    common = 'taxonID\tvernacularName\tlanguage\n1\tannual "meadow" grass\ten\n1\tEinjähriges Rispengras\tde\n1\tpoa\ten\n'
    with zipfile.ZipFile(tmp_path / "backbone.zip", "w") as archive:
        archive.writestr("backbone/Taxon.tsv", taxon)
        archive.writestr("backbone/VernacularName.tsv", common)
    found = read_checklist(tmp_path / "backbone.zip")
    rows_by_id = by_id(found)
    assert [row["scientificName"] for row in rows_by_id.values()] == [
        "Poa annua", "Ochlopoa annua", "Poa annua var. exilis", "Salix × fragilis",
    ]  # fmt: skip
    assert rows_by_id["2"]["genus"] == "Ochlopoa"
    assert [row["accepted"] for row in rows_by_id.values()] == [0, 0, 2, 3]
    assert [row["species"] for row in rows_by_id.values()] == [0, 0, 0, 3]
    assert rows_by_id["4"]["hybrid"] is True


def test_plain_list_and_names_given_twice(tmp_path: Path) -> None:
    rows = [
        {"scientificName": name, "family": "Poaceae"} for name in ("Poa annua L.", "Poa annua L.", "Poa annua Foo", "nothing 5")
    ]
    found = read_checklist(write(tmp_path / "list.csv", rows))
    assert found.format == "plain list"
    assert found.table["scientificNameAuthorship"].to_pylist() == ["L.", "Foo"]
    assert set(found.table["link"].to_pylist()) == {ACCEPTED}
    assert found.counts == {"names": 2, ACCEPTED: 2, "given twice": 1, "not a name of a species": 1}


def test_names_in_pieces_only(tmp_path: Path) -> None:
    rows = [{"taxonID": "1", "scientificName": "", "genus": "Agelena", "specificEpithet": "labyrinthica", "taxonRank": ""}]
    assert ends(read_checklist(write(tmp_path / "taxa.csv", rows))) == {"Agelena labyrinthica": "Agelena labyrinthica"}


def test_the_simulated_herbarium(tmp_path: Path) -> None:
    sample(tmp_path / "herbarium", SampleOptions(sheets=40, species=8, size=64, seed=3))
    found = read_checklist(tmp_path / "herbarium" / "checklist.csv")
    with open(tmp_path / "herbarium" / "checklist.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    name_of = {row["taxonID"]: row["scientificName"] for row in rows}
    assert ends(found) == {row["scientificName"]: name_of[row["acceptedNameUsageID"]] for row in rows}
    assert found.format == "Darwin Core"


# ---- errors ----


def test_an_unknown_format_names_the_columns(tmp_path: Path) -> None:
    with pytest.raises(BadRecords, match=r"list\.csv: not a checklist .*list\.csv has name, rank"):
        read_checklist(write(tmp_path / "list.csv", [{"name": "Poa annua", "rank": "species"}]))


def test_a_missing_file_an_empty_one_and_a_broken_zip(tmp_path: Path) -> None:
    with pytest.raises(BadRecords, match="no such file"):
        read_checklist(tmp_path / "nothing.csv")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(BadRecords, match="not a checklist"):
        read_checklist(tmp_path / "empty.csv")
    (tmp_path / "header.csv").write_text("scientificName,taxonID\n")
    with pytest.raises(BadRecords, match="a header and no names"):
        read_checklist(tmp_path / "header.csv")
    (tmp_path / "broken.zip").write_bytes(b"PK\3\4 and no more")
    with pytest.raises(BadRecords, match="not a zip file"):
        read_checklist(tmp_path / "broken.zip")


def test_a_list_without_species(tmp_path: Path) -> None:
    with pytest.raises(BadRecords, match="no name of a species"):
        read_checklist(write(tmp_path / "genera.csv", [{"scientificName": "Poa"}]))


def test_two_lists_in_a_folder_are_not_chosen_from(tmp_path: Path) -> None:
    for name in ("one.csv", "two.csv"):
        write(tmp_path / name, [{"scientificName": "Poa annua"}])
    with pytest.raises(BadRecords, match="could both be the checklist"):
        read_checklist(tmp_path)
    write(tmp_path / "taxa.csv", [{"scientificName": "Poa crassa"}])
    assert list(ends(read_checklist(tmp_path))) == ["Poa crassa"]


# ---- links ----


def test_links_of_every_kind(tmp_path: Path) -> None:
    rows = darwin_core(
        ("1", "Aus bus", "accepted", ""), ("2", "Aus cus", "synonym", "1"), ("3", "Aus dus", "synonym", "2"),
        ("4", "Aus eus", "synonym", "99"), ("5", "Aus fus", "synonym", "6"), ("6", "Aus gus", "synonym", "5"),
        ("7", "Aus hus", "synonym", "7"), ("8", "Aus ius", "unplaced", ""), ("9", "Aus kus", "synonym", "8"),
        ("10", "Aus lus", "accepted", "1"), ("11", "Aus mus", "", "1"), ("12", "Aus nus", "", "12"),
        ("13", "Aus ous", "synonym", "5"),
        ("14", "Aus pus", "synonym", "4"),
    )  # fmt: skip
    found = read_checklist(write(tmp_path / "taxa.csv", rows))
    assert {row["taxonID"]: row["link"] for row in found.table.to_pylist()} == {
        "1": ACCEPTED, "2": SYNONYM, "3": SYNONYM_OF_SYNONYM, "4": BROKEN, "5": CIRCLE, "6": CIRCLE, "7": CIRCLE, "8": UNPLACED,
        "9": UNPLACED, "10": ACCEPTED, "11": SYNONYM, "12": ACCEPTED, "13": CIRCLE, "14": BROKEN,
    }  # fmt: skip
    assert {name for name, end in ends(found).items() if end == "Aus bus"} == {"Aus bus", "Aus cus", "Aus dus", "Aus mus"}
    assert found.counts["accepted with a link to another name"] == 1


links = st.integers(1, 25).flatmap(
    lambda rows: st.lists(
        st.tuples(st.sampled_from(["accepted", "synonym", ""]), st.none() | st.integers(0, rows + 1)),
        min_size=rows,
        max_size=rows,
    )
)


@given(links)
def test_links_equal_a_slow_walk(rows: list[tuple[str, int | None]]) -> None:
    found = make_checklist(
        Delivered(
            "Darwin Core",
            pa.table(
                {
                    "taxonID": [str(number) for number in range(len(rows))],
                    "scientificName": [f"Aus {'bcd'[number // 10]}{'aeioumnprs'[number % 10]}us" for number in range(len(rows))],
                    "taxonomicStatus": pa.array([status or None for status, _ in rows], pa.string()),
                    "acceptedNameUsageID": pa.array([None if link is None else str(link) for _, link in rows], pa.string()),
                }
            ),
            0,
        ),
        "made",
    )
    for number, row in enumerate(found.table.to_pylist()):
        end, link = walk(rows, number)
        assert (row["accepted"], row["link"]) == (end, link)
    assert sum(found.counts.get(link, 0) for link in (ACCEPTED, SYNONYM, SYNONYM_OF_SYNONYM, BROKEN, CIRCLE, UNPLACED)) == len(
        rows
    )


def walk(rows: list[tuple[str, int | None]], start: int) -> tuple[int, str]:
    at, seen = start, []
    while True:
        status, link = rows[at]
        if status == "accepted" or (not status and (link is None or link == at)):
            return at, (ACCEPTED, SYNONYM, SYNONYM_OF_SYNONYM)[min(len(seen), 2)]
        if at in seen:
            return -1, CIRCLE
        seen.append(at)
        if link is None:
            return -1, UNPLACED
        if link >= len(rows):
            return -1, BROKEN
        at = link


def test_a_name_below_species_belongs_to_its_parent_or_to_the_only_species_of_its_words(tmp_path: Path) -> None:
    fields = ("taxonID", "scientificName", "scientificNameAuthorship", "taxonRank", "parentNameUsageID", "kingdom")
    rows = [
        ("1", "Aus bus", "L.", "species", "", "Plantae"), ("2", "Aus bus", "Mill.", "species", "", "Plantae"),
        ("3", "Aus bus subsp. cus", "Foo", "subspecies", "2", "Plantae"),
        ("4", "Aus bus subsp. dus", "Foo", "subspecies", "", "Plantae"),
        ("5", "Eus fus", "L.", "species", "", "Animalia"), ("6", "Eus fus gus", "Foo", "subspecies", "", "Plantae"),
        ("7", "Hus ius", "L.", "species", "", ""), ("8", "Hus ius var. kus", "Foo", "variety", "5", ""),
        ("9", "Lus mus var. nus", "Foo", "variety", "", ""),
    ]  # fmt: skip
    found = read_checklist(write(tmp_path / "taxa.csv", [dict(zip(fields, row, strict=True)) for row in rows]))
    ids = found.table["taxonID"].to_pylist()
    species = {row["taxonID"]: ids[row["species"]] if row["species"] >= 0 else None for row in found.table.to_pylist()}
    assert species == {"1": "1", "2": "2", "3": "2", "4": None, "5": "5", "6": None, "7": "7", "8": "5", "9": None}
    assert found.counts["accepted below a species that isn't there"] == 3


# ---- real lists ----


def test_the_wcvp_extract(shared_data: Path) -> None:
    """As a person counts with a spreadsheet: 1,581 accepted of which 3 are genera, 710 links to names that aren't there."""
    found = read_checklist(shared_data / "checklists" / "rwcvp" / "wcvp_names_extract.csv")
    assert found.counts == {
        "above the rank of species": 3, "names": 5152, ACCEPTED: 1578, SYNONYM: 2804, BROKEN: 710, UNPLACED: 60,
    }  # fmt: skip
    accepted = found.table.filter(pc.equal(found.table["link"], ACCEPTED))
    assert accepted["taxonID"].to_pylist() == accepted["acceptedNameUsageID"].to_pylist()


def test_other_real_lists_are_read(shared_data: Path) -> None:
    belgium = read_checklist(shared_data / "checklists" / "alien_plants_belgium" / "taxon.csv")
    assert belgium.format == "Darwin Core"
    assert (
        belgium.counts["names"] + belgium.counts["not a name of a species"] + belgium.counts["above the rank of species"] == 2617
    )
    spiders = read_checklist(shared_data / "dwca" / "dwca-io" / "checklist_980.zip")
    assert "Agelena labyrinthica" in ends(spiders)
    whales = read_checklist(shared_data / "dwca" / "dwca-io" / "archive-tax.zip")
    assert whales.counts[CIRCLE] > 2000  # this list's synonyms and accepted names name each other as accepted


def test_a_list_of_pictures_of_another_kind_is_refused(shared_data: Path) -> None:
    with pytest.raises(BadRecords, match=r"wcvp_distributions_extract\.csv has plant_locality_id"):
        read_checklist(shared_data / "checklists" / "rwcvp" / "wcvp_distributions_extract.csv")
