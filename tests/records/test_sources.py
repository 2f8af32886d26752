"""Archives, folders and tables: real ones, small ones made here, and broken ones."""

from __future__ import annotations

import zipfile
from collections import Counter
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pytest
from dwca.exceptions import InvalidArchive
from dwca.read import DwCAReader

from taxakey.errors import BadInput, BadRecords
from taxakey.records.reading.names import author_behind, canonical_name, genus_of
from taxakey.records.reading.pictures import ids_by_stem, locate
from taxakey.records.sources import read_archive, read_csv, read_folder, read_source, source_hash
from taxakey.records.table import Observations

DWC = "http://rs.tdwg.org/dwc/terms/"


def column(found: Observations, name: str) -> list[object]:
    return found.table[name].to_pylist()


def reasons(found: Observations) -> dict[str, int]:
    return dict(Counter(found.rejected["reason"].to_pylist()))


# ---- names ----


@pytest.mark.parametrize(
    ("delivered", "parts", "name"),
    [
        ("Amblyomma americanum (Linnaeus, 1758)", {"author": "(Linnaeus, 1758)"}, "Amblyomma americanum"),
        ("Poa annua L.", {"genus": "Poa", "epithet": "annua"}, "Poa annua"),
        ("Poa annua L.", {"author": "Huds.", "genus": "Poa", "epithet": "annua"}, "Poa annua"),
        ("Poa annua var. supina Link", {"genus": "Poa", "epithet": "annua", "below": "supina"}, "Poa annua supina"),
        ("Quercus_Infectoria_sub", {}, "Quercus_Infectoria_sub"),
        ("Phildelphus", {"genus": "Phildelphus"}, "Phildelphus"),
        ("Viola", {"author": "Viola"}, "Viola"),  # a name that is nothing but an author's isn't cut to nothing
        (None, {"genus": "Poa", "epithet": "annua"}, None),
    ],
)
def test_canonical_name(delivered: str | None, parts: dict[str, str], name: str | None) -> None:
    assert canonical_name(delivered, **parts) == name


def test_an_author_is_what_stands_behind_the_name_of_a_species() -> None:
    assert author_behind("Poa annua", "Poa annua L.", "SPECIES") == "L."
    assert author_behind("Poa annua", "Poa annua var. supina Link", "VARIETY") is None
    assert author_behind("Poa annua", "Poa annuaria L.", "SPECIES") is None


def test_genus_of() -> None:
    names = ("Poa annua", "Poa", "×Triticosecale rimpaui", "× Triticosecale rimpaui", None)
    assert [genus_of(name) for name in names] == ["Poa", None, "Triticosecale", "Triticosecale", None]


# ---- where a picture lies ----


@pytest.mark.parametrize(
    ("identifier", "path", "reason"),
    [
        ("sheets/a.jpg", "/base/sheets/a.jpg", None),
        ("./sheets/../a.jpg", "/base/a.jpg", None),
        ("../a.jpg", None, "path leaves the archive's folder"),
        ("sheets/../../base2/a.jpg", None, "path leaves the archive's folder"),
        ("/elsewhere/a.jpg", "/elsewhere/a.jpg", None),
        ("file:///elsewhere/a%20b.jpg", "/elsewhere/a b.jpg", None),
        ("file://localhost/a.jpg", "/a.jpg", None),
        ("file://server/a.jpg", None, "file on another machine"),
        ("https://example.org/../a.jpg", None, None),
        ("a\0.jpg", None, "broken path"),
        ("", None, None),
        (None, None, None),
    ],
)
def test_locate(identifier: str | None, path: str | None, reason: str | None) -> None:
    assert locate(identifier, [Path("/base")], confined=True) == (path, reason)


# ---- archives ----


def field(position: int, term: str) -> str:
    return f'<field index="{position}" term="{DWC}{term}"/>'


def archive_text(core_fields: str, attributes: str = "", extension: bool = True) -> str:
    media = """<extension fieldsTerminatedBy="\\t" fieldsEnclosedBy="" ignoreHeaderLines="1" rowType="http://rs.gbif.org/terms/1.0/Multimedia">
    <files><location>multimedia.txt</location></files><coreid index="0"/>
    <field index="1" term="http://purl.org/dc/terms/type"/><field index="2" term="http://purl.org/dc/terms/identifier"/>
    <field index="3" term="http://purl.org/dc/terms/license"/></extension>"""
    attributes = attributes or r'fieldsTerminatedBy="\t" fieldsEnclosedBy="" ignoreHeaderLines="1"'
    return f"""<archive xmlns="http://rs.tdwg.org/dwc/text/"><core {attributes} rowType="{DWC}Occurrence">
    <files><location>occurrence.txt</location></files><id index="0"/>{core_fields}</core>{media if extension else ""}</archive>"""


CORE = field(1, "occurrenceID") + field(2, "scientificName") + field(3, "dynamicProperties") + field(4, "license")
OCCURRENCES = """id\tocc\tname\tdynamic\tlicense
1\to1\tPoa annua\t{"poisonous": false}\tCC0
2\to2\tConium maculatum\t{"poisonous": true}\tCC0
3\to3\tBellis perennis\tnot JSON\tCC0
4\to4\tNo picture\t\tCC0
"""
MEDIA = """id\ttype\tidentifier\tlicense
1 \tStillImage\tsheets/a.jpg\tCC-BY
1\t\thttps://example.org/b.jpg\t
2\tStillImage\t/elsewhere/c.jpg\t
3\tMovingImage\td.mp4\t
3\tStillImage\t../outside.jpg\t
9\tStillImage\te.jpg\t
"""


def write_archive(folder: Path, occurrences: str = OCCURRENCES, media: str = MEDIA, meta: str | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "meta.xml").write_text(meta or archive_text(CORE))
    (folder / "occurrence.txt").write_text(occurrences)
    (folder / "multimedia.txt").write_text(media)
    return folder


def zipped(folder: Path, file: Path, inner: str = "") -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in folder.iterdir():
            archive.write(member, f"{inner}{member.name}")
    return file


def test_a_small_archive_by_hand(tmp_path: Path) -> None:
    found = read_source(write_archive(tmp_path / "archive"))
    assert found.table.select(["occurrenceID", "image_id", "path", "identifier", "poisonous", "license"]).to_pylist() == [
        {"occurrenceID": "o1", "image_id": "a", "path": str(tmp_path / "archive/sheets/a.jpg"), "identifier": "sheets/a.jpg",
         "poisonous": False, "license": "CC-BY"},
        {"occurrenceID": "o1", "image_id": "b", "path": None, "identifier": "https://example.org/b.jpg", "poisonous": False,
         "license": "CC0"},
        {"occurrenceID": "o2", "image_id": "c", "path": "/elsewhere/c.jpg", "identifier": "/elsewhere/c.jpg", "poisonous": True,
         "license": "CC0"},
    ]  # fmt: skip
    assert reasons(found) == {
        "not a still image": 1, "path leaves the archive's folder": 1, "picture of no occurrence": 1, "no picture": 1,
    }  # fmt: skip


@pytest.mark.parametrize("inner", ["", "wrapped/"])
def test_a_zip_says_the_same_with_paths_from_the_folder_that_holds_it(tmp_path: Path, inner: str) -> None:
    folder = write_archive(tmp_path / "archive")
    file = zipped(folder, tmp_path / "archive.zip", inner)
    unzipped, found = read_source(folder), read_source(file)
    assert found.table.drop_columns(["path"]).equals(unzipped.table.drop_columns(["path"]))
    assert column(found, "path")[0] == str(tmp_path / "sheets/a.jpg")


def test_commas_quotes_line_breaks_defaults_latin_1_and_no_header(tmp_path: Path) -> None:
    attributes = 'fieldsTerminatedBy="," fieldsEnclosedBy="&quot;" encoding="ISO-8859-1"'
    fields = (
        field(1, "scientificName") + field(2, "habitat") + f'<field index="3" term="{DWC}countryCode" default="SE"/>'
        f'<field term="{DWC}institutionCode" default="S"/>'
    )  # fmt: skip
    folder = write_archive(tmp_path / "archive", meta=archive_text(fields, attributes))
    rows = '1,Poa annua,"väg, ""nära""\nån",\n2,Conium maculatum,x,NO\n3,Bellis perennis,y,,too,many\n'
    (folder / "occurrence.txt").write_bytes(rows.encode("latin-1"))
    found = read_archive(folder)
    assert column(found, "habitat")[0] == 'väg, "nära"\nån'
    assert column(found, "countryCode") == ["SE", "SE", "NO"]
    assert column(found, "institutionCode") == ["S"] * 3
    assert column(found, "occurrenceID") == ["1", "1", "2"]  # no occurrenceID and no gbifID: the id
    assert reasons(found)["too many columns in the line"] == 1


def test_columns_left_out_at_the_end_of_a_row_are_empty(tmp_path: Path) -> None:
    found = read_archive(
        write_archive(tmp_path / "archive", occurrences="id\tocc\tname\td\tl\n1\to1\tPoa annua\n2\to2\tPoa bulbosa\t\tCC0\n")
    )
    assert sorted(set(column(found, "scientificName"))) == ["Poa annua", "Poa bulbosa"]


def test_an_occurrence_given_twice_and_quotation_marks_that_mean_nothing(tmp_path: Path) -> None:
    text = 'id\tocc\tname\td\tl\n1\to1\tPoa "annua\t\t\n2\to2\tPoa bulbosa\t\t\n1\to1\tPoa annua\t\t\n'
    found = read_archive(write_archive(tmp_path / "archive", occurrences=text))
    assert "Poa bulbosa" in column(found, "scientificName")
    assert reasons(found)["occurrence given twice"] == 1


def test_ids_of_pictures_with_the_same_file_name(tmp_path: Path) -> None:
    media = "id\ttype\tidentifier\tlicense\n" + "".join(
        f"{n}\t\thttps://x.org/{n}{m}/original.jpg\t\n" for n in (1, 2) for m in "ab"
    )
    occurrences = "id\tocc\tname\td\tl\n1\thttps://x.org/o/7\tPoa annua\t\t\n2\thttps://x.org/o/8\tPoa annua\t\t\n"
    found = read_archive(write_archive(tmp_path / "archive", occurrences, media))
    assert column(found, "image_id") == ["7_1", "7_2", "8_1", "8_2"]


def test_gbif_species_goes_before_scientific_name_and_its_absence_means_genus(tmp_path: Path) -> None:
    fields = field(1, "scientificName") + field(2, "species") + field(3, "taxonRank")
    rows = "id\tn\ts\tr\n1\tPoa annua L.\tPoa annua\tSPECIES\n2\tPoa L.\t\tGENUS\n"
    rows += "3\tPoa annua var. supina Link\tPoa annua\tVARIETY\n"
    media = "id\ttype\tidentifier\tlicense\n1\t\ta.jpg\t\n2\t\tb.jpg\t\n3\t\tc.jpg\t\n"
    found = read_archive(write_archive(tmp_path / "archive", rows, media, archive_text(fields)))
    assert column(found, "scientificName") == ["Poa annua"] * 2
    assert column(found, "scientificNameAuthorship") == ["L.", None]
    assert column(found, "verbatimScientificName") == ["Poa annua L.", "Poa annua var. supina Link"]
    assert column(found, "genus") == ["Poa"] * 2
    assert reasons(found) == {"not identified to species": 1}
    assert found.rejected["detail"].to_pylist() == ["Poa L."]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_document_type_is_refused(tmp_path: Path, encoding: str) -> None:
    folder = write_archive(tmp_path / "archive")
    start = f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>'
    (folder / "meta.xml").write_bytes(f"{start}<archive>&b;</archive>".encode(encoding))
    with pytest.raises(BadRecords, match="document type"):
        read_archive(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("occurrence.txt</location>", "../secret.txt</location>"), "lies outside the archive"),
        (("occurrence.txt</location>", "/etc/passwd</location>"), "lies outside the archive"),
        (("occurrence.txt</location>", "missing.txt</location>"), "missing.txt: no such file|holds no missing.txt"),
        (('<id index="0"/>', ""), "has no <id>"),
        (('<id index="0"/>', '<id index="zero"/>'), "not a number"),
        (("terms/Occurrence", "terms/Taxon"), "holds 'taxon', not occurrences"),
        (('index="4"', 'index="40"'), "has 5 columns, and 'license' should be number 41"),
        ((r'fieldsTerminatedBy="\t"', 'fieldsTerminatedBy="||"'), "fieldsTerminatedBy '||'"),
        (("<core ", '<core encoding="klingon" '), "the encoding 'klingon' is unknown"),
        (("</archive>", ""), "not well-formed XML"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_broken_archives_say_what_is_wrong(tmp_path: Path, change: tuple[str, str], message: str, packed: bool) -> None:
    path = write_archive(tmp_path / "archive", meta=archive_text(CORE).replace(*change, 1))
    if packed:
        path = zipped(path, tmp_path / "archive.zip")
    with pytest.raises(BadRecords, match=message.replace("||", r"\|\|")) as caught:
        read_source(path)
    assert str(path) in str(caught.value)


def test_no_zip_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_text("no zip")
    with pytest.raises(BadRecords, match=r"a\.zip: not a zip file"):
        read_source(tmp_path / "a.zip")
    folder = write_archive(tmp_path / "archive")
    (folder / "occurrence.txt").write_bytes(OCCURRENCES.encode() + b"5\to5\tPoa \xe4\t\t\n")
    with pytest.raises(BadRecords, match=r"occurrence\.txt: not UTF-8"):
        read_source(folder)


def test_a_gbif_download(shared_data: Path) -> None:
    found = read_source(shared_data / "dwca/gbif_amblyomma_2021")
    # 1,310 occurrences, 1,362 pictures; 1,310 - 236 have one. The ids of some pictures end in a space.
    assert (len(found), len(set(column(found, "occurrenceID"))), reasons(found)) == (1362, 1074, {"no picture": 236})
    assert set(column(found, "scientificName")) == {"Amblyomma americanum"}
    by_rank = set(zip(column(found, "taxonRank"), column(found, "scientificNameAuthorship"), strict=True))
    assert by_rank == {("SPECIES", "Linnaeus, 1758"), ("UNRANKED", None)}  # the unranked are barcode clusters of that species
    assert column(found, "image_id")[0] == "50839517_1"  # most files are named original.jpg, so they are named by observation
    assert column(found, "path") == [None] * 1362
    assert found.table["decimalLatitude"].null_count == found.table["decimalLongitude"].null_count > 0


def test_a_herbarium_without_media_has_nothing_but_rejected_rows(shared_data: Path) -> None:
    found = read_source(shared_data / "dwca/dwca-io/archive-occ.zip")
    assert (len(found), reasons(found)) == (0, {"no picture": 1534})


def test_row_counts_are_those_of_python_dwca_reader(shared_data: Path) -> None:
    compared = 0
    for path in sorted((shared_data / "dwca/python-dwca-reader").iterdir()):
        try:
            found = read_source(path)
        except BadRecords:
            continue  # cores of taxa, no meta.xml, other formats; anything else fails the test
        try:
            with DwCAReader(str(path)) as reader:
                rows = sum(1 for _ in reader)
        except InvalidArchive:
            continue
        assert found.rejected.num_rows + len(found) == rows, path.name
        compared += 1
    assert compared >= 12


# ---- folders ----


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_a_folder_per_species(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "Bellis_perennis/1.jpg",
        "Bellis_perennis/deeper/1.JPG",
        "Poa annua/1.png",
        "Poa annua/1.jpg",
        "Poa annua/notes.txt",
    )
    touch(tmp_path, "labels.csv", ".DS_Store", "Poa annua/.hidden.jpg", "Poa annua/Thumbs.db", "loose.jpg")
    found = read_source(tmp_path)
    assert column(found, "scientificName") == ["Bellis perennis"] * 2 + ["Poa annua"] * 2
    assert column(found, "genus") == ["Bellis"] * 2 + ["Poa"] * 2
    assert column(found, "image_id") == [  # two files differ in their suffix only, so all keep it
        "Bellis_perennis/1.jpg", "Bellis_perennis/deeper/1.JPG", "Poa annua/1.jpg", "Poa annua/1.png",
    ]  # fmt: skip
    assert column(found, "occurrenceID") == column(found, "image_id")
    assert column(found, "path")[0] == str(tmp_path / "Bellis_perennis/1.jpg")
    assert reasons(found) == {"not a picture file": 1, "not in a folder of a species": 1}


def test_folders_named_after_parts_give_the_split(tmp_path: Path) -> None:
    touch(tmp_path, "train/Poa_annua/1.jpg", "val/Poa_annua/2.jpg", "test/Poa_annua/3.jpg", "test/loose.jpg")
    found = read_folder(tmp_path)
    assert sorted(zip(column(found, "image_id"), column(found, "split"), strict=True)) == [
        ("test/Poa_annua/3", "test"), ("train/Poa_annua/1", "train"), ("val/Poa_annua/2", "validation"),
    ]  # fmt: skip
    assert reasons(found) == {"not in a folder of a species": 1}


def test_a_folder_without_pictures(tmp_path: Path) -> None:
    touch(tmp_path, "loose.jpg", "Poa_annua/notes.txt")
    with pytest.raises(BadRecords, match="no pictures in folders named by species"):
        read_source(tmp_path)


# ---- tables ----


def write(file: Path, text: str, encoding: str = "utf-8") -> Path:
    file.write_bytes(text.encode(encoding))
    return file


@pytest.mark.parametrize(("delimiter", "encoding"), [(",", "utf-8"), (";", "utf-8-sig"), ("\t", "utf-8")])
def test_delimiters_and_byte_order_marks(tmp_path: Path, delimiter: str, encoding: str) -> None:
    text = 'path,species,family,vernacularName\na.jpg,Bellis perennis,,"Gänse,blümchen;\t"\n'.replace(",", delimiter, 3)
    text = text.replace("a.jpg,Bellis perennis,,", delimiter.join(["a.jpg", "Bellis perennis", "", ""]))
    found = read_source(write(tmp_path / "a.csv", text, encoding))
    row = found.table.to_pylist()[0]
    assert (row["scientificName"], row["genus"], row["family"]) == ("Bellis perennis", "Bellis", None)
    assert row["vernacularName"] == "Gänse,blümchen;"
    assert (row["image_id"], row["occurrenceID"], row["path"]) == ("a", "a", str(tmp_path / "a.jpg"))


def test_columns_by_option(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", "bild,art,species,plot\na.jpg,Poa annua,,7\nb.jpg,Poa annua,,7\n")
    found = read_csv(file, {"path": "bild", "scientificName": "art", "occurrenceID": "plot"})
    assert column(found, "scientificName") == ["Poa annua"] * 2  # the empty column species is not asked
    assert column(found, "occurrenceID") == ["7", "7"]
    assert column(found, "image_id") == ["a", "b"]


def test_ids_that_are_not_unique_are_made_from_the_path(tmp_path: Path) -> None:
    found = read_csv(write(tmp_path / "a.csv", "path,species,image_id\nx/1.jpg,Poa annua,1\ny/1.jpg,Poa annua,1\n"))
    assert column(found, "image_id") == column(found, "occurrenceID") == ["x/1", "y/1"]


def test_a_path_given_twice_is_rejected(tmp_path: Path) -> None:
    found = read_csv(write(tmp_path / "a.csv", "path,species,image_id\nx/1.jpg,Poa annua,1\nx/1.jpg,Poa annua,1\n"))
    assert (len(found), found.rejected.num_rows) == (1, 1)


def test_a_path_is_tried_from_the_folder_of_the_table_and_then_from_its_parent(tmp_path: Path) -> None:
    touch(tmp_path, "images/own.jpg", "images/both.jpg", "both.jpg", "parent.jpg")
    text = "path,species\n" + "".join(f"{name}.jpg,Poa annua\n" for name in ("own", "both", "parent", "nowhere"))
    found = read_csv(write(tmp_path / "images/labels.csv", text))
    assert column(found, "path") == [
        str(tmp_path / name) for name in ("images/own.jpg", "images/both.jpg", "parent.jpg", "images/nowhere.jpg")
    ]


def test_an_address_is_kept_beside_a_path_and_is_enough(tmp_path: Path) -> None:
    found = read_csv(write(tmp_path / "a.csv", "path,url,species\na.jpg,https://x.org/1.jpg,Poa annua\n"))
    assert (column(found, "path"), column(found, "identifier")) == ([str(tmp_path / "a.jpg")], ["https://x.org/1.jpg"])
    found = read_csv(write(tmp_path / "b.csv", "url,species\nhttps://x.org/1.jpg,Poa annua\n"))
    assert (column(found, "path"), column(found, "identifier")) == ([None], ["https://x.org/1.jpg"])


@pytest.mark.parametrize(
    ("content", "columns", "message"),
    [
        (b"", {}, "empty"),
        (b"path,species\n", {}, "a header and no rows"),
        (
            b"path,label\na,b\n",
            {},
            "no column scientificName or species; its columns are path, label; say --column scientificName=",
        ),
        (b"species,label\na,b\n", {}, "no column path; its columns are species, label; say --column path="),
        (b"path,species,path\na,b,c\n", {}, "'path' stands twice"),
        (b"path,species\na,b\n", {"genus": "Gattung"}, "no column 'Gattung'"),
        (b"path,species\na,b\n", {"colour": "species"}, "'colour' is no column of ours"),
        ("path,species,habitat\na,Poa annua,på väg\n".encode("latin-1"), {}, "not UTF-8"),
        ("path,spécies\na,b\n".encode("latin-1"), {}, "not UTF-8"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(tmp_path: Path, content: bytes, columns: dict[str, str], message: str) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(BadInput, match=message):
        read_csv(tmp_path / "a.csv", columns)


def test_not_utf_8_far_from_the_start(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"path,species\n" + b"a.jpg,Poa annua\n" * 200_000 + b"b.jpg,Poa \xe4nnua\n")
    with pytest.raises(BadRecords, match=r"a\.csv: not UTF-8"):
        read_csv(tmp_path / "a.csv")


def test_no_such_source_and_one_that_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(BadRecords, match="no such file or folder"):
        read_source(tmp_path / "nothing")
    touch(tmp_path, "a.pdf", "Poa_annua/1.jpg")
    with pytest.raises(BadRecords, match=r"a\.pdf: not a zip"):
        read_source(tmp_path / "a.pdf")
    with pytest.raises(BadInput, match="--column is for a CSV"):
        read_source(tmp_path, {"path": "x"})


def test_the_hash_of_a_source_changes_with_it(tmp_path: Path) -> None:
    touch(tmp_path, "Poa_annua/1.jpg", "labels.csv")
    hashes = [source_hash(tmp_path)]
    (tmp_path / "labels.csv").write_bytes(b"y")
    hashes.append(source_hash(tmp_path))
    touch(tmp_path, "Poa_annua/2.jpg")
    hashes.append(source_hash(tmp_path))
    assert len({*hashes, source_hash(tmp_path / "labels.csv")}) == 4
    assert source_hash(tmp_path) == hashes[-1]


@pytest.mark.parametrize(
    ("name", "pictures", "species", "rejected"),
    [("flowers102", 4473, 90, {}), ("leaf99", 792, 99, {}), ("fungi_mo", 80, 20, {"not identified to species": 80})],
)
def test_real_tables_read_as_they_are(
    shared_data: Path, name: str, pictures: int, species: int, rejected: dict[str, int]
) -> None:
    found = read_source(shared_data / "images" / name / "labels.csv")
    assert (len(found), len(set(column(found, "scientificName"))), reasons(found)) == (pictures, species, rejected)
    assert all(Path(str(path)).is_file() for path in column(found, "path"))


def test_leaf99_keeps_its_dirty_names_and_unknown_families(shared_data: Path) -> None:
    found = read_source(shared_data / "images/leaf99/labels.csv").table
    assert {"Acer platanoids", "Phildelphus"} <= set(found["scientificName"].to_pylist())
    assert found["family"].null_count == 16


@pytest.mark.parametrize("address", ["https://x.org/p/7/leaf%201.jpeg?size=l#a", "sheets/a.b.jpg", "/plain", "file:///c/d.JPG"])
def test_a_file_is_called_by_its_name_without_suffix(address: str) -> None:
    expected = PurePosixPath(unquote(urlsplit(address).path)).stem
    assert ids_by_stem(pa.chunked_array([[address]]), pa.chunked_array([["o"]])).to_pylist() == [expected]
