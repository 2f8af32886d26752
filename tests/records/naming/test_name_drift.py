"""Name drift: each kind of change on two small versions, weights from records' names, and the real list against itself."""

from __future__ import annotations

import csv
from pathlib import Path

import pyarrow as pa

from taxakey.artifacts import Plan
from taxakey.records.naming.checklist import Checklist, make_checklist, read_checklist
from taxakey.records.naming.checklist_files import Delivered
from taxakey.records.naming.matching import match_names
from taxakey.records.naming.name_drift import accepted_species, classes_of, find_drift, read_classes, weigh_splits
from taxakey.taxonomy import Taxonomy

# name, author, accepted name (itself: accepted)
OLD = [
    ("Aus kept", "L.", "Aus kept"), ("Aus moved", "L.", "Aus moved"), ("Aus one", "L.", "Aus one"), ("Aus two", "Foo", "Aus two"),
    ("Aus wide", "L.", "Aus wide"), ("Aus carved", "Foo", "Aus wide"), ("Aus lost", "L.", "Aus lost"),
    ("Aus swapped", "L.", "Aus swapped"), ("Aus raised", "Foo", "Aus swapped"), ("Aus vague", "Foo", "Aus kept"),
    ("Aus doubled", "Foo", "Aus doubled"), ("Aus synonymus", "Foo", "Aus kept"), ("Aus wandered", "Foo", "Aus one"),
]  # fmt: skip
NEW = [
    ("Aus kept", "L.", "Aus kept"), ("Aus synonymus", "Foo", "Aus kept"), ("Bus moved", "(L.) Bar", "Bus moved"),
    ("Aus moved", "L.", "Bus moved"), ("Aus one", "L.", "Aus one"), ("Aus two", "Foo", "Aus one"), ("Aus wide", "L.", "Aus wide"),
    ("Aus carved", "Foo", "Aus carved"), ("Aus doubled", "Smith", "Aus doubled"), ("Aus doubled", "Jones", "Aus kept"),
    ("Aus raised", "Foo", "Aus raised"), ("Aus swapped", "L.", "Aus raised"), ("Aus vague", "Smith", "Aus vague"),
    ("Aus fresh", "Foo", "Aus fresh"), ("Aus wandered", "Foo", "Aus kept"),
]  # fmt: skip


def checklist_of(rows: list[tuple[str, str, str]]) -> Checklist:
    ids = {name: str(number) for number, (name, _, accepted) in reversed([*enumerate(rows)]) if name == accepted}
    columns = {
        "taxonID": [str(number) for number in range(len(rows))],
        "scientificName": [row[0] for row in rows],
        "scientificNameAuthorship": [row[1] for row in rows],
        "acceptedNameUsageID": [ids[row[2]] for row in rows],
        "family": ["Aaceae"] * len(rows),
    }
    return make_checklist(Delivered("Darwin Core", pa.table(columns), 0), "made")


BEFORE, NOW = checklist_of(OLD), checklist_of(NEW)


def test_each_kind_of_change() -> None:
    found = find_drift(accepted_species(BEFORE), NOW, BEFORE)
    changes = {row["scientificName"]: (row["change"], row["heir"], row["parts"]) for row in found.classes.to_pylist()}
    assert changes == {
        "Aus kept": ("kept", "Aus kept", None),
        "Aus moved": ("renamed", "Bus moved", None),
        "Aus one": ("merged", "Aus one", None),
        "Aus two": ("merged", "Aus one", None),
        "Aus wide": ("split", "Aus wide", "Aus carved"),
        "Aus lost": ("dropped", None, None),
        "Aus swapped": ("renamed", "Aus raised", None),
        "Aus doubled": ("undecided", None, None),
    }
    assert found.counts() == {
        "kept": 1, "renamed": 2, "merged": 2, "split": 1, "undecided": 1, "dropped": 1, "new": 3,
    }  # fmt: skip
    assert set(found.new["scientificName"].to_pylist()) == {"Aus doubled", "Aus fresh", "Aus vague"}
    weights = {(row["old"], row["new"]): row["weight"] for row in found.mapping.to_pylist()}
    assert weights == {
        ("Aus kept", "Aus kept"): 1, ("Aus moved", "Bus moved"): 1, ("Aus one", "Aus one"): 1, ("Aus two", "Aus one"): 1,
        ("Aus swapped", "Aus raised"): 1, ("Aus wide", "Aus wide"): None, ("Aus wide", "Aus carved"): None,
    }  # fmt: skip


def test_a_synonym_that_moved_to_another_class_splits_nothing() -> None:
    """Its type lies elsewhere now, but the class's own type and records under its name do not."""
    found = find_drift(accepted_species(BEFORE), NOW, BEFORE)
    assert "Aus wandered" not in str(found.classes.to_pylist())


def test_without_the_older_list_no_split_is_seen() -> None:
    found = find_drift(accepted_species(BEFORE), NOW)
    assert found.counts()["split"] == 0
    assert found.counts()["kept"] == 2


def test_names_on_records_decide_a_split() -> None:
    names = ["Aus wide"] * 3 + ["Aus carved"] + ["Aus moved"]
    records = pa.table({"scientificName": names})
    found = find_drift(accepted_species(BEFORE), NOW, BEFORE)
    weighed = weigh_splits(found, match_names(records, BEFORE), match_names(records, NOW))
    weights = {(row["old"], row["new"]): row["weight"] for row in weighed.mapping.to_pylist()}
    assert weights["Aus wide", "Aus wide"] == 0.75
    assert weights["Aus wide", "Aus carved"] == 0.25
    assert weights["Aus moved", "Bus moved"] == 1
    nobody = weigh_splits(found, match_names(records.slice(4), BEFORE), match_names(records.slice(4), NOW))
    assert nobody.mapping.equals(found.mapping)


def test_the_files_and_a_model_s_classes(tmp_path: Path) -> None:
    found = find_drift(accepted_species(BEFORE), NOW, BEFORE)
    found.write(tmp_path / "drift", Plan("drift"))
    with open(tmp_path / "drift" / "mapping.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {"old": "Aus wide", "new": "Aus carved", "weight": "", "heir": "false"} in rows
    taxonomy = Taxonomy.from_rows([{"scientificName": "Aus moved"}, {"scientificName": "Aus lost"}])
    pa.parquet.write_table(taxonomy.table, tmp_path / "taxonomy.parquet")
    (tmp_path / "new.csv").write_text("scientificName\nAus moved\n")
    classes, new, old = read_classes(tmp_path / "taxonomy.parquet", tmp_path / "new.csv")
    assert old is None
    assert classes.equals(classes_of(taxonomy))
    assert find_drift(classes, new).counts()["dropped"] == 1


def test_the_wcvp_extract_against_itself_and_with_changes(shared_data: Path, tmp_path: Path) -> None:
    """A real list, in which one species is moved to another genus, one sunk into another, and one synonym raised."""
    source = shared_data / "checklists" / "rwcvp" / "wcvp_names_extract.csv"
    extract = read_checklist(source)
    same = find_drift(accepted_species(extract), extract, extract).counts()
    assert same == {"kept": 1490, "renamed": 0, "merged": 0, "split": 0, "undecided": 1, "dropped": 0, "new": 1}
    with open(source, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    by_name = {(row["taxon_name"], row["taxon_authors"]): row for row in rows}
    moved, sunk = by_name["Poa ligulata", "Boiss."], by_name["Poa infirma", "Kunth"]
    into = by_name["Poa annua", "L."]["plant_name_id"]
    synonyms = [row for row in rows if row["accepted_plant_name_id"] == into and row["taxon_status"] == "Synonym"]
    raised = next(row for row in synonyms if row["taxon_rank"] == "Species")
    names = {"genus": "Ochlopoa", "taxon_name": "Ochlopoa ligulata"}
    rows.append({**moved, **names, "plant_name_id": "1.0", "accepted_plant_name_id": "1.0"})
    moved |= {"taxon_status": "Synonym", "accepted_plant_name_id": "1.0"}
    sunk |= {"taxon_status": "Synonym", "accepted_plant_name_id": into}
    raised |= {"taxon_status": "Accepted", "accepted_plant_name_id": raised["plant_name_id"]}
    with open(tmp_path / "new.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    found = find_drift(accepted_species(extract), read_checklist(tmp_path / "new.csv"), extract)
    changed = {
        row["scientificName"]: (row["change"], row["heir"]) for row in found.classes.to_pylist() if row["change"] != "kept"
    }
    assert changed.pop("Poa ligulata") == ("renamed", "Ochlopoa ligulata")
    assert changed.pop("Poa infirma") == ("merged", "Poa annua")
    assert changed.pop("Poa annua") == ("split", "Poa annua")
    assert [change for change, _ in changed.values()] == ["undecided"]
