"""Vernacular names by language, from a checklist's extension or a plain table."""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path

import pytest

from taxakey.cli.records import records
from taxakey.errors import BadRecords
from taxakey.records.reading.vernacular import language_code, read_vernacular
from taxakey.records.table import Observations


def table(folder: Path) -> Path:
    file = folder / "names.csv"
    rows = ("L.,lawn daisy,en,", "L.,daisy,eng,true", "L.,Gänseblümchen,German,")
    text = "".join(f"Bellis perennis {row}\n" for row in rows) + "Poa annua L.,meadow grass,English,false\n"
    file.write_text(f"scientificName,vernacularName,language,isPreferredName\n{text}")
    return file


@pytest.mark.parametrize("language", ["en", "eng", "English", "en-GB"])
def test_the_preferred_name_goes_first(tmp_path: Path, language: str) -> None:
    assert sorted(map(tuple, (row.values() for row in read_vernacular(table(tmp_path), language).to_pylist()))) == [
        ("Bellis perennis", "daisy"),
        ("Poa annua", "meadow grass"),
    ]


def test_a_language_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadRecords, match="no vernacular names in 'fr'; its languages are de, en"):
        read_vernacular(table(tmp_path), "fr")
    (tmp_path / "a.csv").write_text("scientificName,name\nPoa,x\n")
    with pytest.raises(BadRecords, match="no column vernacularName"):
        read_vernacular(tmp_path / "a.csv", "en")


def test_unknown_codes_stay_and_nothing_is_nothing() -> None:
    assert [language_code(text) for text in ("gsw", "", None, "pt_BR", "fre")] == ["gsw", None, None, "pt", "fr"]


def test_a_real_checklist(shared_data: Path) -> None:
    path = shared_data / "dwca/dwca-io/archive-tax.zip"
    with zipfile.ZipFile(path) as archive:
        taxa = io.TextIOWrapper(archive.open("archive-tax/DarwinCore.txt"), "utf-8")
        names = {row[0]: row[2] for row in csv.reader(taxa, delimiter="\t", quoting=csv.QUOTE_NONE)}
        said = io.TextIOWrapper(archive.open("archive-tax/VernacularName.txt"), "utf-8")
        english = [row for row in csv.reader(said, delimiter="\t", quoting=csv.QUOTE_NONE) if row[2] == "English"]
    assert len(english) == 266
    first: dict[str, str] = {}
    for taxon, name, _ in english:
        first.setdefault(names[taxon], name)
    found = {row["scientificName"]: row["vernacularName"] for row in read_vernacular(path, "en").to_pylist()}
    assert found["Inia geoffrensis"] == first["Inia geoffrensis Blainville"] == "Amazon River Dolphin"
    # Names of other taxa that come to the same canonical name (subspecies by their author) leave one of theirs.
    assert set(found.values()) <= {name.strip() for name in first.values()}
    assert len(found) == 80


def test_archives_without_such_names(shared_data: Path) -> None:
    for name, message in (
        ("dwca-star-test-archive.zip", "its taxa have no scientificName"),
        ("dwca-simple-test-archive.zip", "without taxa as its core"),
        ("dwca-simple-csv.zip", "no meta.xml in it"),
    ):
        with pytest.raises(BadRecords, match=message):
            read_vernacular(shared_data / "dwca/python-dwca-reader" / name, "en")


def test_the_command_puts_them_beside_the_species(tmp_path: Path) -> None:
    for name in ("Bellis_perennis", "Poa_alpina"):
        (tmp_path / "photographs" / name).mkdir(parents=True)
        (tmp_path / "photographs" / name / "1.jpg").write_bytes(b"x")
    records(tmp_path / "photographs", tmp_path / "out", vernacular=table(tmp_path), language="de")
    found = Observations.read(tmp_path / "out").table
    assert found.select(["scientificName", "vernacularName"]).to_pylist() == [
        {"scientificName": "Bellis perennis", "vernacularName": "Gänseblümchen"},
        {"scientificName": "Poa alpina", "vernacularName": None},
    ]
