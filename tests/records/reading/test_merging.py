"""Several sources into one: which specimens are the same, what is kept of each, and that every row is accounted for."""

from __future__ import annotations

from pathlib import Path

import pytest

from taxakey.errors import BadInput
from taxakey.records.reading.merging import AGAIN, MERGED, RENAMED
from taxakey.records.sources import read_source, read_sources
from taxakey.records.table import Observations

GBIF = "gbifID\toccurrenceID\tscientificName\tbasisOfRecord\tinstitutionCode\tcollectionCode\tcatalogNumber\thabitat\tyear"
IDIGBIO = ",dwc:".join(
    ("coreid", "occurrenceID", "scientificName", "basisOfRecord", "institutionCode", "collectionCode", "catalogNumber", "habitat")
)


def gbif(folder: Path, *rows: str, pictures: tuple[str, ...] = ()) -> Path:
    folder.mkdir()
    (folder / "occurrence.txt").write_text("\n".join([GBIF, *(row.replace(",", "\t") for row in rows)]) + "\n")
    text = ["gbifID\ttype\tidentifier\tlicense", *(picture.replace(",", "\t") for picture in pictures)]
    (folder / "multimedia.txt").write_text("\n".join(text) + "\n")
    return folder


def idigbio(folder: Path, *rows: str, pictures: tuple[str, ...] = ()) -> Path:
    folder.mkdir()
    (folder / "occurrence.csv").write_text("\n".join([IDIGBIO, *rows]) + "\n")
    (folder / "multimedia.csv").write_text("\n".join(["coreid,ac:accessURI,dcterms:rights", *pictures]) + "\n")
    return folder


def rows(found: Observations, *columns: str) -> list[tuple[object, ...]]:
    return [tuple(row[name] for name in columns) for row in found.table.to_pylist()]


def test_one_specimen_of_two_sources_is_one_observation_with_the_pictures_of_both(tmp_path: Path) -> None:
    first = gbif(
        tmp_path / "gbif",
        "11,urn:uuid:AB-1,Poa annua,PRESERVED_SPECIMEN,NY,H,7,,1901",
        "12,o2,Poa bulbosa,PRESERVED_SPECIMEN,NY,H,8,meadow,1902",
        pictures=("11,StillImage,http://x.org/a.jpg,CC0", "12,StillImage,http://x.org/b.jpg,CC0"),
    )
    second = idigbio(
        tmp_path / "idigbio",
        "u1,ab-1,poa annua,PreservedSpecimen,ny,h,7,roadside",
        "u2,another,poa bulbosa,PreservedSpecimen,Ny,H , 8,wood",
        "u3,o9,poa alpina,PreservedSpecimen,NY,H,9,rock",
        pictures=("u1,https://x.org/a.jpg,CC-BY", "u1,https://x.org/a2.jpg,CC-BY", "u2,https://x.org/b2.jpg,CC-BY", "u3,https://x.org/c.jpg,CC-BY"),
    )  # fmt: skip
    found = read_sources([first, second])
    assert rows(found, "occurrenceID", "identifier", "source", "license", "habitat", "year", "gbifID") == [
        ("urn:uuid:AB-1", "http://x.org/a.jpg", "gbif | idigbio", "CC0", "roadside", 1901, "11"),
        ("o2", "http://x.org/b.jpg", "gbif", "CC0", "meadow", 1902, "12"),
        ("urn:uuid:AB-1", "https://x.org/a2.jpg", "idigbio", "CC-BY", "roadside", 1901, "11"),
        ("o2", "https://x.org/b2.jpg", "idigbio", "CC-BY", "meadow", 1902, "12"),
        ("o9", "https://x.org/c.jpg", "idigbio", "CC-BY", "rock", None, None),
    ]
    assert found.repaired == {MERGED: 2}
    assert found.rejections() == {AGAIN: 1}
    assert found.rejected["detail"].to_pylist() == ["https://x.org/a.jpg"]
    delivered = [read_source(path) for path in (first, second)]
    assert len(found) + found.rejected.num_rows == sum(len(source) + source.rejected.num_rows for source in delivered)


def test_a_name_that_differs_is_that_of_the_first_source(tmp_path: Path) -> None:
    first = gbif(tmp_path / "a", "1,o1,Poa annua,X,,,,,", pictures=("1,StillImage,http://x.org/a.jpg,",))
    second = gbif(tmp_path / "b", "2,o1,Poa supina,X,,,,,", pictures=("2,StillImage,http://x.org/b.jpg,",))
    found = read_sources([first, second])
    assert rows(found, "scientificName", "image_id") == [("Poa annua", "a"), ("Poa annua", "b")]
    assert found.repaired == {MERGED: 1, RENAMED: 1}


def test_a_catalogue_number_that_several_specimens_have_merges_nothing(tmp_path: Path) -> None:
    first = gbif(
        tmp_path / "a", "1,o1,Poa annua,X,NY,H,7,,", "2,o2,Poa annua,X,NY,H,7,,",
        pictures=("1,StillImage,http://x.org/a.jpg,", "2,StillImage,http://x.org/b.jpg,"),
    )  # fmt: skip
    second = gbif(tmp_path / "b", "3,o3,Poa annua,X,NY,H,7,,", pictures=("3,StillImage,http://x.org/c.jpg,",))
    found = read_sources([first, second])
    assert rows(found, "occurrenceID") == [("o1",), ("o2",), ("o3",)]
    assert found.repaired == {}


def test_each_known_specimen_is_matched_once_and_an_incomplete_number_says_nothing(tmp_path: Path) -> None:
    first = gbif(tmp_path / "a", "1,o1,Poa annua,X,NY,H,7,,", pictures=("1,StillImage,http://x.org/a.jpg,",))
    second = gbif(
        tmp_path / "b",
        "3,o3,Poa annua,X,NY,H,7,,",  # the number of o1, but o1 itself is delivered too
        "4,o1,Poa annua,X,,,,,",
        "5,o5,Poa annua,X,NY,,7,,",
        pictures=tuple(f"{n},StillImage,http://x.org/{n}.jpg," for n in (3, 4, 5)),
    )
    found = read_sources([first, second])
    assert rows(found, "occurrenceID", "image_id") == [("o1", "a"), ("o3", "3"), ("o1", "4"), ("o5", "5")]
    assert found.repaired == {MERGED: 1}


def test_ids_that_only_look_the_same_get_the_name_of_their_source(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "labels.csv").write_text("path,species\n1.jpg,Poa annua\n")
    found = read_sources([tmp_path / "a" / "labels.csv", tmp_path / "b" / "labels.csv"])
    assert rows(found, "occurrenceID", "image_id", "source") == [
        ("1", "1", "a/labels.csv"),
        ("b/labels.csv:1", "b/labels.csv:1", "b/labels.csv"),
    ]
    assert found.repaired == {}


def test_three_sources_in_any_grouping_and_one_alone(tmp_path: Path) -> None:
    paths = [
        gbif(tmp_path / name, "1,o1,Poa annua,X,,,,,", pictures=(f"1,StillImage,http://x.org/{name}.jpg,",)) for name in "abc"
    ]
    found = read_sources(paths)
    assert rows(found, "occurrenceID", "source") == [("o1", "a"), ("o1", "b"), ("o1", "c")]
    assert found.repaired == {MERGED: 2}
    assert rows(read_sources(paths[:1]), "source") == [("a",)]


def test_a_source_without_pictures_leaves_the_other_as_it_is(tmp_path: Path) -> None:
    full = gbif(tmp_path / "a", "1,o1,Poa annua,X,,,,,", pictures=("1,StillImage,http://x.org/a.jpg,",))
    empty = gbif(tmp_path / "b", "1,o1,Poa annua,X,,,,,")
    for order in ([full, empty], [empty, full]):
        found = read_sources(order)
        assert (rows(found, "image_id", "source"), found.rejections()) == ([("a", "a")], {"no picture": 1})


def test_a_source_given_twice(tmp_path: Path) -> None:
    folder = gbif(tmp_path / "a", "1,o1,Poa annua,X,,,,,")
    with pytest.raises(BadInput, match="given twice"):
        read_sources([folder, tmp_path / "." / "a"])
