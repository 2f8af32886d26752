"""Features of archives: what meta.xml may say, archives without one, snapshots; and every real archive with its own count."""

from __future__ import annotations

import csv
import io
import tarfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dwca.read import DwCAReader

from taxakey.errors import BadRecords
from taxakey.records.reading.occurrences import UNBALANCED
from taxakey.records.sources import read_source
from taxakey.records.table import Observations

DWC = "http://rs.tdwg.org/dwc/terms/"
AC = "http://rs.tdwg.org/ac/terms/"


def rows(found: Observations, *columns: str) -> list[tuple[object, ...]]:
    return [tuple(row[name] for name in columns) for row in found.table.to_pylist()]


def meta(core: str, *extensions: str, attributes: str = 'fieldsTerminatedBy="," ignoreHeaderLines="0"') -> str:
    return (
        f'<archive xmlns="http://rs.tdwg.org/dwc/text/"><core {attributes} rowType="{DWC}Occurrence"><files>'
        f'<location>occurrence.txt</location></files><id index="0"/>{core}</core>{"".join(extensions)}</archive>'
    )


def extension(kind: str, file: str, fields: str) -> str:
    return (
        f'<extension fieldsTerminatedBy="," ignoreHeaderLines="0" rowType="{kind}"><files><location>{file}</location></files>'
        f'<coreid index="0"/>{fields}</extension>'
    )


NAME = f'<field index="1" term="{DWC}scientificName"/>'


def write(folder: Path, **files: str | bytes) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        path = folder / name.replace("__", ".")
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


# ---- what meta.xml may say ----


def test_audubon_core_with_an_identifier_that_is_no_address(tmp_path: Path) -> None:
    fields = (
        '<field index="1" term="http://purl.org/dc/terms/identifier"/><field index="2" term="http://rs.tdwg.org/ac/terms/accessURI"/>'
        '<field index="3" term="http://ns.adobe.com/xap/1.0/rights/WebStatement"/>'
        '<field index="4" term="http://ns.adobe.com/xap/1.0/rights/Owner"/><field index="5" term="http://purl.org/dc/elements/1.1/type"/>'
        '<field index="6" term="http://purl.org/dc/terms/type"/><field index="7" term="http://rs.tdwg.org/ac/terms/subjectPart"/>'
    )
    media = (
        "1,urn:uuid:7,https://x.org/a.jpg,https://cc.org/by,Museum,,StillImage,leaf\n1,urn:uuid:8,https://x.org/b.mp3,,,Sound,,\n"
    )
    text = meta(NAME, extension(f"{AC}Multimedia", "media.txt", fields))
    found = read_source(write(tmp_path / "a", meta__xml=text, occurrence__txt="1,Poa annua\n", media__txt=media))
    assert rows(found, "identifier", "license", "rightsHolder", "organ") == [
        ("https://x.org/a.jpg", "https://cc.org/by", "Museum", "leaf")
    ]
    assert found.rejections() == {"not a still image": 1}


def test_two_media_extensions_and_a_table_in_two_files(tmp_path: Path) -> None:
    image = extension(
        "http://rs.gbif.org/terms/1.0/Image", "image.txt", '<field index="1" term="http://purl.org/dc/terms/identifier"/>'
    )
    simple = extension(
        "http://rs.gbif.org/terms/1.0/Multimedia", "multimedia.txt",
        '<field index="1" term="http://purl.org/dc/terms/format"/><field index="2" term="http://purl.org/dc/terms/identifier"/>',
    )  # fmt: skip
    text = meta(NAME, image, simple).replace("occurrence.txt</location>", "o1.txt</location><location>o2.txt</location>", 1)
    folder = write(
        tmp_path / "a", meta__xml=text, o1__txt="1,Poa annua\n", o2__txt="2,Poa bulbosa\n", image__txt="2,https://x.org/a.jpg\n",
        multimedia__txt="1,image/jpeg,https://x.org/b.jpg\n1,audio/mpeg,https://x.org/c.mp3\n",
    )  # fmt: skip
    found = read_source(folder)
    assert sorted(rows(found, "scientificName", "image_id")) == [("Poa annua", "b"), ("Poa bulbosa", "a")]
    assert found.rejections() == {"not a still image": 1}


@pytest.mark.parametrize(
    ("attributes", "content"),
    [
        ('fieldsTerminatedBy=";" linesTerminatedBy="\\r\\n" ignoreHeaderLines="2"', b"a note\r\nid;name\r\n1;Poa annua\r\n"),
        ('fieldsTerminatedBy="|" linesTerminatedBy="\\r"', b"1|Poa annua\r"),
        ('fieldsTerminatedBy="\\t" encoding="UTF-16"', "1\tPoa annua\n".encode("utf-16")),
        ('fieldsTerminatedBy="," encoding="windows-1252"', b"1,Poa annua\n"),
        ('fieldsEnclosedBy="\'"', b"1,'Poa annua'\n"),
        ("", b"1\tPoa annua\n"),  # no separator is named and the file has tabs: the default comma can't be meant
        ('linesTerminatedBy="\n"', b"1,Poa annua\n"),  # XML makes the line break a space
        ('encoding="UTF-8"', b"\xef\xbb\xbf1,Poa annua\n"),
    ],
)
def test_separators_line_ends_headers_and_encodings(tmp_path: Path, attributes: str, content: bytes) -> None:
    media = extension(
        "http://rs.gbif.org/terms/1.0/Image", "i.txt", '<field index="1" term="http://purl.org/dc/terms/identifier"/>'
    )
    text = meta(NAME, media, attributes=attributes)
    found = read_source(write(tmp_path / "a", meta__xml=text, occurrence__txt=content, i__txt="1,https://x.org/a.jpg\n"))
    assert rows(found, "scientificName", "image_id") == [("Poa annua", "a")]


def test_terms_with_the_same_last_segment_fill_each_other(tmp_path: Path) -> None:
    core = (
        NAME
        + '<field index="2" term="http://purl.org/dc/terms/license"/><field index="3" term="http://purl.org/dc/elements/1.1/license"/>'
    )
    media = extension(
        "http://rs.gbif.org/terms/1.0/Image", "i.txt", '<field index="1" term="http://purl.org/dc/terms/identifier"/>'
    )
    text = "1,Poa annua,CC0,other\n2,Poa annua,,CC-BY\n"
    folder = write(
        tmp_path / "a", meta__xml=meta(core, media), occurrence__txt=text, i__txt="1,https://x.org/a.jpg\n2,https://x.org/b.jpg\n"
    )
    assert rows(read_source(folder), "license") == [("CC0",), ("CC-BY",)]


def test_associated_media_where_there_is_no_table_of_pictures(tmp_path: Path) -> None:
    core = NAME + f'<field index="2" term="{DWC}associatedMedia"/>'
    text = '1,Poa annua,https://x.org/a.jpg | https://x.org/b.jpg\n2,Poa annua,"http://x.org/c,1.jpg,http://x.org/d.jpg"\n'
    text += "3,Poa annua,see drawer 7\n"
    found = read_source(write(tmp_path / "a", meta__xml=meta(core), occurrence__txt=text))
    assert rows(found, "occurrenceID", "identifier") == [
        ("1", "https://x.org/a.jpg"), ("1", "https://x.org/b.jpg"), ("2", "http://x.org/c,1.jpg"), ("2", "http://x.org/d.jpg"),
    ]  # fmt: skip
    assert found.rejections() == {"no picture": 1}


@pytest.mark.parametrize("packing", ["tgz", "tar.gz"])
def test_a_tar_file_says_the_same_as_its_folder(tmp_path: Path, packing: str) -> None:
    core = NAME + f'<field index="2" term="{DWC}associatedMedia"/>'
    folder = write(tmp_path / "a", meta__xml=meta(core), occurrence__txt="1,Poa annua,https://x.org/a.jpg\n")
    with tarfile.open(tmp_path / f"a.{packing}", "w:gz") as file:
        file.add(folder, "inner")
    assert read_source(tmp_path / f"a.{packing}").table.equals(read_source(folder).table)
    (tmp_path / "b.tgz").write_bytes((tmp_path / f"a.{packing}").read_bytes()[:150])
    with pytest.raises(BadRecords, match=r"b\.tgz: damaged"):
        read_source(tmp_path / "b.tgz")


def test_a_table_that_expands_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taxakey.records.reading.containers._SMALL", 2**20)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("meta.xml", meta(NAME))
        file.writestr("occurrence.txt", b"1,Poa annua\n" + b" " * 8 * 2**20)
    with pytest.raises(BadRecords, match=r"occurrence\.txt would expand \d+-fold"):
        read_source(tmp_path / "a.zip")


def test_an_archive_of_taxa_or_of_events(tmp_path: Path) -> None:
    text = meta(NAME).replace("terms/Occurrence", "terms/Taxon")
    with pytest.raises(BadRecords, match="a checklist; read it with `taxakey names`"):
        read_source(write(tmp_path / "a", meta__xml=text, occurrence__txt="1,Poa annua\n"))
    text = meta(NAME).replace("terms/Occurrence", "terms/Event")
    with pytest.raises(BadRecords, match="'event', not occurrences; download its occurrences from GBIF"):
        read_source(write(tmp_path / "b", meta__xml=text, occurrence__txt="1,Poa annua\n"))


# ---- without meta.xml ----

SIMPLE = """gbifID\tspecies\tscientificName\ttaxonRank\tbasisOfRecord\tspeciesKey
1\tPoa annua\tPoa "annua L.\tSPECIES\tHUMAN_OBSERVATION\t27
"""


def test_gbif_simple_csv_alone_and_with_pictures_beside(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", download__csv=SIMPLE)
    for path in (folder, folder / "download.csv"):
        assert read_source(path).rejections() == {"no picture": 1}
    write(
        folder,
        multimedia__txt="gbifID\ttype\tidentifier\n1\tStillImage\thttps://x.org/a.jpg\n",
        notes__txt="hello\n",
        empty__csv="",
    )
    for path in (folder, folder / "download.csv"):
        found = read_source(path)
        assert rows(found, "scientificName", "verbatimScientificName", "taxonID", "gbifID", "image_id") == [
            ("Poa annua", 'Poa "annua L.', "27", "1", "a")
        ]


def test_idigbio_with_raw_tables_beside_and_small_letters(tmp_path: Path) -> None:
    occurrences = (
        'coreid,dwc:basisOfRecord,dwc:scientificName,dwc:family,dwc:genus,dwc:specificEpithet,idigbio:geoPoint,idigbio:isoCountryCode\n'
        'u1,preservedspecimen,poa annua,poaceae,poa,annua,"{""lat"": 41.5, ""lon"": -72.25}",usa\n'
    )  # fmt: skip
    media = "coreid,idigbio:uuid,ac:accessURI,dcterms:rights\nu1,m1,https://x.org/a.jpg,CC0\nu9,m2,https://x.org/b.jpg,CC0\n"
    folder = write(
        tmp_path / "a",
        occurrence__csv=occurrences,
        occurrence_raw__csv=occurrences,
        multimedia__csv=media,
        multimedia_raw__csv=media,
    )
    found = read_source(folder)
    assert rows(found, "scientificName", "genus", "family", "decimalLatitude", "decimalLongitude", "countryCode", "license") == [
        ("Poa annua", "Poa", "Poaceae", 41.5, -72.25, "usa", "CC0")
    ]
    assert found.rejections() == {"picture of no occurrence": 1}


def test_two_tables_that_could_be_the_one(tmp_path: Path) -> None:
    with pytest.raises(BadRecords, match=r"2 tables could be the one \(a\.csv, b\.csv\)"):
        read_source(write(tmp_path / "a", a__csv=SIMPLE, b__csv=SIMPLE))


def test_pictures_without_their_occurrences(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", multimedia__txt="gbifID\ttype\tidentifier\n1\tStillImage\thttps://x.org/a.jpg\n")
    with pytest.raises(BadRecords, match=r"multimedia\.txt lists pictures, put its table of occurrences beside it"):
        read_source(folder)


# ---- snapshots ----


def snapshot(file: Path, ids: list[int]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    kind = pa.list_(pa.struct([("array_element", pa.string())]))
    table = pa.table({
        "gbifid": pa.array(ids, pa.int64()), "species": ["Poa annua"] * len(ids),
        "basisofrecord": ["HUMAN_OBSERVATION"] * len(ids),
        "scientificname": ["Poa annua L."] * len(ids), "decimallatitude": [1.5] * len(ids), "decimallongitude": [2.5] * len(ids),
        "recordedby": pa.array([[{"array_element": "A"}, {"array_element": "B"}]] + [None] * (len(ids) - 1), kind),
        "eventdate": pa.array([0] * len(ids), pa.timestamp("ms")),
    })  # fmt: skip
    pq.write_table(table, file)


def test_a_snapshot_in_parts_with_pictures_beside(tmp_path: Path) -> None:
    folder = tmp_path / "snapshot"
    snapshot(folder / "occurrence.parquet" / "000000", [7, 8])
    snapshot(folder / "occurrence.parquet" / "000001", [9])
    assert read_source(folder).rejections() == {"no picture": 3}
    write(
        folder,
        multimedia__txt="gbifID\ttype\tidentifier\n9\tStillImage\thttps://x.org/a.jpg\n7\tStillImage\thttps://x.org/b.jpg\n",
    )
    found = read_source(folder)
    assert rows(found, "gbifID", "image_id", "decimalLatitude", "recordedBy", "year", "scientificNameAuthorship") == [
        ("9", "a", 1.5, "A | B", 1970, None), ("7", "b", 1.5, "A | B", 1970, None),
    ]  # fmt: skip
    assert found.rejections() == {"no picture": 1}
    pq.write_table(pa.table({"gbifid": [1]}), folder / "occurrence.parquet" / "000002")
    with pytest.raises(BadRecords, match="000002: has other columns than 000000"):
        read_source(folder)


def test_a_parquet_table_with_mapped_columns(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"bild": ["a.jpg", "b.jpg"], "art": ["Poa annua", None], "giftig": [True, False]}), tmp_path / "a.parquet"
    )
    found = read_source(tmp_path / "a.parquet", {"path": "bild", "scientificName": "art", "poisonous": "giftig"})
    assert rows(found, "image_id", "scientificName", "poisonous") == [("a", "Poa annua", True)]
    assert found.rejections() == {"no name": 1}
    (tmp_path / "b.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:200])
    with pytest.raises(BadRecords, match=r"b\.parquet: can't be read as Parquet"):
        read_source(tmp_path / "b.parquet")


# ---- every real archive ----

ARCHIVES = {
    "dwca-csv-quote-dir": 2, "dwca-default-metadata-filename.zip": 2, "dwca-invalid-lacks-metadata": 2,
    "dwca-invalid-simple-toomuch.zip": 3, "dwca-invalid-simple-two.zip": 3, "dwca-malformed-descriptor": 4,
    "dwca-meta-default-values": 2, "dwca-metadata-windows1252-encoding": 4, "dwca-noheaders-1.zip": 2, "dwca-noheaders-2.zip": 2,
    "dwca-nometadata.zip": 2, "dwca-partial-default.zip": 2, "dwca-simple-csv-dos.zip": 3, "dwca-simple-csv-eml.zip": 3,
    "dwca-simple-csv-notenclosed.zip": 3, "dwca-simple-csv.zip": 3, "dwca-simple-dir": 4, "dwca-simple-subdir.zip": 2,
    "dwca-simple-test-archive-enclosed.zip": 2, "dwca-simple-test-archive.tgz": 2, "dwca-simple-test-archive.zip": 2,
    "dwca-test-default.zip": 2, "dwca-utf8-eol-test.zip": 1, "gbif-results-lacks-s-metadata.zip": 158,
    "gbif-results-whitespace-in-xml.zip": 158, "gbif-results.zip": 158,
}  # fmt: skip
"""Rows, counted with `unzip -p … | wc -l` and by eye; python-dwca-reader can't open those of `NOT_THEIRS`."""
NOT_THEIRS = (
    "dwca-invalid-lacks-metadata", "dwca-invalid-simple-toomuch.zip", "dwca-invalid-simple-two.zip", "dwca-malformed-descriptor",
)  # fmt: skip
CHECKLISTS = (
    "dwca-2extensions.zip",
    "dwca-ids.zip",
    "dwca-missing-extension-details",
    "dwca-orphaned-rows.zip",
    "dwca-star-test-archive.zip",
)


@pytest.mark.parametrize("name", ARCHIVES)
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # python-dwca-reader leaves files open
def test_rows_of_the_test_archives(shared_data: Path, name: str) -> None:
    path = shared_data / "dwca/python-dwca-reader" / name
    found = read_source(path)
    assert len(found) + found.rejected.num_rows == ARCHIVES[name]
    if name not in NOT_THEIRS:
        with DwCAReader(str(path)) as reader:
            names = sorted(row.data.get(f"{DWC}scientificName") or row.data.get("scientificname") or "" for row in reader)
        ours = sorted(name or "" for name in found.rejected["scientificName"].to_pylist())
        assert len(names) == ARCHIVES[name]
        if all(len(text.split()) == 2 for text in names):  # without authors, so the names are the same but for capitals
            assert [text.lower() for text in ours] == [text.lower() for text in names]


def test_the_list_of_archives_is_complete(shared_data: Path) -> None:
    there = {path.name for path in (shared_data / "dwca/python-dwca-reader").iterdir()} - {"description.rst"}
    assert there == {*ARCHIVES, *CHECKLISTS}


@pytest.mark.parametrize("name", CHECKLISTS)
def test_checklists_say_where_they_are_read(shared_data: Path, name: str) -> None:
    with pytest.raises(BadRecords, match="`taxakey names`"):
        read_source(shared_data / "dwca/python-dwca-reader" / name)


def test_a_gbif_download_of_2015(shared_data: Path) -> None:
    found = read_source(shared_data / "dwca/finch/0000154-150116162929234.zip")
    with zipfile.ZipFile(shared_data / "dwca/finch/0000154-150116162929234.zip") as archive:
        text = io.TextIOWrapper(archive.open("occurrence.txt"), "utf-8", newline="")
        occurrences = list(csv.DictReader(text, delimiter="\t", quoting=csv.QUOTE_NONE))
        media = archive.read("multimedia.txt").decode().splitlines()
    assert (len(occurrences), len(media)) == (443, 2)
    unnamed = sum(not row["species"] for row in occurrences)
    assert (len(found), found.rejections()) == (1, {"no picture": 443 - 1 - unnamed, "not identified to species": unnamed})
    assert rows(found, "gbifID") == [(media[1].split("\t")[0],)]


def name_of(row: dict[str, str]) -> str:
    parts = [row[f"dwc:{part}"] for part in ("genus", "specificEpithet", "infraspecificEpithet")]
    return " ".join(filter(None, parts)) or row["dwc:scientificName"]


def test_an_idigbio_download_without_meta_xml_and_with_a_broken_header(shared_data: Path) -> None:
    folder = shared_data / "dwca/idigbio_harvard_2015"
    found = read_source(folder)
    with open(folder / "occurrence.txt", encoding="utf-8", newline="") as file:
        occurrences = {row["id"]: row for row in csv.DictReader(file)}
    with open(folder / "multimedia.txt", encoding="utf-8", newline="") as file:
        header = next(file).rstrip("\n").split(",")
        pictures = [dict(zip(header, cells, strict=True)) for cells in csv.reader(file)]
    assert (len(occurrences), len(pictures), header[49]) == (916, 74, '"http://purl.org/dc/terms/identifier')
    assert rows(found, "occurrenceID", "scientificName", "catalogNumber", "identifier", "license") == [
        (
            occurrences[row["coreid"]]["dwc:occurrenceID"],
            name_of(occurrences[row["coreid"]]),
            occurrences[row["coreid"]]["dwc:catalogNumber"],
            row["ac:accessURI"],
            row["xmpRights:WebStatement"],
        )
        for row in pictures
    ]  # fmt: skip
    unnamed = sum(not row["dwc:scientificName"] for row in occurrences.values())
    assert found.rejections() == {"no picture": 916 - 74 - unnamed, "no name": unnamed}
    impossible = sum(row["dwc:month"] not in ("", *map(str, range(1, 13))) for row in occurrences.values())
    assert found.repaired[UNBALANCED] == 1
    assert found.repaired["month out of range"] == impossible


def test_pictures_of_psilocybe_lack_their_occurrences(shared_data: Path) -> None:
    with pytest.raises(BadRecords, match="put its table of occurrences beside it"):
        read_source(shared_data / "dwca/gbif_psilocybe_semilanceata_multimedia")


def test_lists_of_occurrence_keys_have_no_pictures(shared_data: Path) -> None:
    with pytest.raises(BadRecords, match=r"no pictures in folders .* holds tables"):
        read_source(shared_data / "dwca/gbif_uk_trees")
