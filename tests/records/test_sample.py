"""The simulated herbarium as files: the same bytes again, an archive that others can read, the faults that were asked for."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import subprocess
import sys
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import simplejpeg
from dwca.read import DwCAReader

from taxakey.artifacts import Manifest, read_manifest
from taxakey.errors import BadInput, PlanMismatch
from taxakey.records.sample import Dirt, SampleOptions, sample
from taxakey.records.sample.archive import Records
from taxakey.records.sample.collection import Collection

OPTIONS = SampleOptions(
    sheets=200,
    size=64,
    seed=3,
    unknown_species=3,
    shift=0.15,
    wrong_labels=0.1,
    duplicates=0.1,
    web=24,
    dirt=Dirt(misspelled=0.2),
)
SPECIES = 14  # the square root of 200
Rows = list[dict[str, str]]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    folder = tmp_path_factory.mktemp("herbarium") / "sample"
    return folder, sample(folder, OPTIONS, workers=1)


@pytest.fixture(scope="module")
def folder(drawn: tuple[Path, Manifest]) -> Path:
    return drawn[0]


def digests(folder: Path) -> dict[str, str]:
    """Hash of every file but the manifest, which holds the time of its writing."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def table(archive: Path, name: str) -> Rows:
    with zipfile.ZipFile(archive) as opened, opened.open(name) as raw:
        text = io.TextIOWrapper(raw, encoding="utf-8", newline="\n")
        return list(csv.DictReader(text, delimiter="\t", quoting=csv.QUOTE_NONE))


def rows_of(path: Path) -> Rows:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# ---- the same bytes again ----


def test_another_process_with_two_workers_and_other_hashes_writes_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    code = f"from taxakey.records.sample import *; sample({str(tmp_path / 'again')!r}, {OPTIONS!r}, workers=2)"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONHASHSEED": "77"})
    assert digests(tmp_path / "again") == digests(folder)


def test_another_seed_draws_other_sheets(tmp_path: Path) -> None:
    small = {"sheets": 20, "size": 64, "species": 3}
    for seed in (0, 1):
        sample(tmp_path / str(seed), SampleOptions(seed=seed, **small), workers=1)
    first, second = ({hash_ for name, hash_ in digests(tmp_path / seed).items() if name.endswith("jpg")} for seed in "01")
    assert not first & second


def test_goes_on_where_it_stopped_and_draws_nothing_twice(tmp_path: Path) -> None:
    options = SampleOptions(sheets=40, size=64, species=4, duplicates=0.2, web=5)
    sample(tmp_path / "x", options, workers=1)
    whole = digests(tmp_path / "x")
    images = sorted(path for path in (tmp_path / "x").rglob("*.jpg"))
    for lost in (*images[::3], tmp_path / "x" / "manifest.json", tmp_path / "x" / "archive.zip"):
        lost.unlink()
    kept = {path: path.stat().st_mtime_ns for path in images if path.exists()}
    sample(tmp_path / "x", options, workers=1)
    assert digests(tmp_path / "x") == whole
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_a_finished_folder_is_left_alone_and_other_options_are_refused(folder: Path) -> None:
    before = (folder / "manifest.json").read_bytes()
    assert sample(folder, OPTIONS) == read_manifest(folder, "sample")
    assert (folder / "manifest.json").read_bytes() == before
    with pytest.raises(PlanMismatch, match="'sheets' = 200, now it is 201"):
        sample(folder, replace(OPTIONS, sheets=201))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [({"sheets": 3}, "3 sheets"), ({"size": 10}, "10 pixels"), ({"species": 1000}, "1000 species"), ({"duplicates": 2.0}, "2.0")],
)
def test_options_out_of_range_are_refused(wrong: dict[str, int], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        SampleOptions(**wrong)  # type: ignore[arg-type]


# ---- what is there ----


def test_counts_agree_with_the_files(drawn: tuple[Path, Manifest]) -> None:
    folder, manifest = drawn
    counts, rows = manifest.counts, table(folder / "archive.zip", "occurrence.txt")
    truth = [row for row in rows_of(folder / "truth.csv") if "XPIX" not in row["occurrenceID"]]
    assert counts["images"] == len(list((folder / "images").rglob("*.jpg")))
    assert counts["web"] == len(list((folder / "web" / "images").rglob("*.jpg"))) == 24
    assert counts["occurrences"] == len(rows) == len(truth)
    assert counts["specimens"] == sum(row["duplicateOf"] == "" for row in truth)
    assert counts["species"] == len({row["trueName"] for row in truth}) == SPECIES + 3
    assert counts["genera"] == len({row["trueName"].split()[0] for row in truth})
    assert counts["families"] == len({row["family"] for row in rows})
    assert counts["institutions"] == len({row["institutionCode"] for row in rows}) == 6
    # 200 of the main part, 30 of the shift, three unknown species with a third of 200 / 14 each
    assert counts["sheets"] == 200 + 30 + 3 * 5


def test_python_dwca_reader_opens_the_archive(drawn: tuple[Path, Manifest]) -> None:
    folder, manifest = drawn
    with DwCAReader(str(folder / "archive.zip")) as archive:
        rows = list(archive)
        assert archive.descriptor.core.type == "http://rs.tdwg.org/dwc/terms/Occurrence"
        assert len(rows) == manifest.counts["occurrences"]
        paths = [extension.data["http://purl.org/dc/terms/identifier"] for row in rows for extension in row.extensions]
        assert rows[0].data["http://rs.tdwg.org/dwc/terms/basisOfRecord"] == "PRESERVED_SPECIMEN"
        assert {row.data["http://example.org/terms/split"] for row in rows} == {"", "validation", "test"}
        assert all(row.data["http://example.org/terms/substrate"] for row in rows)
    assert len(paths) == len(set(paths)) == manifest.counts["images"]
    assert all((folder / path).is_file() for path in paths)


def test_pictures_are_portrait_jpegs_of_the_size_asked_for(folder: Path) -> None:
    for path in list((folder / "images").rglob("*.jpg"))[:20]:
        assert simplejpeg.decode_jpeg(path.read_bytes()).shape == (64, 43, 3)
    for path in (folder / "web").rglob("*.jpg"):
        assert max(simplejpeg.decode_jpeg(path.read_bytes()).shape) == 64


# ---- what was asked for ----


def test_unknown_species_are_in_validation_and_test_only_and_in_no_checklist(folder: Path) -> None:
    names = {row["scientificName"] for row in rows_of(folder / "checklist.csv") if row["taxonomicStatus"] == "Accepted"}
    assert len(names) == SPECIES
    true = {row["occurrenceID"]: row["trueName"] for row in rows_of(folder / "truth.csv")}
    rows = table(folder / "archive.zip", "occurrence.txt")
    unknown = [row["split"] for row in rows if true[row["occurrenceID"]] not in names]
    assert Counter(unknown).keys() == {"validation", "test"}
    known = Counter(row["split"] for row in rows if true[row["occurrenceID"]] in names)
    assert known.keys() == {"", "test"}  # test: the shift


def test_duplicates_repeat_the_bytes_under_another_occurrence(folder: Path) -> None:
    rows = table(folder / "archive.zip", "occurrence.txt")
    picture = {}
    for row in table(folder / "archive.zip", "multimedia.txt"):
        picture.setdefault(row["gbifID"], folder / row["identifier"])
    by_occurrence = {row["occurrenceID"]: row for row in rows}
    copies = {row["occurrenceID"]: row["duplicateOf"] for row in rows_of(folder / "truth.csv") if row["duplicateOf"]}
    main = sum(row["split"] == "" for row in rows) - len(copies)
    assert len(copies) == round(0.1 * main)
    for copy, source in copies.items():
        one, other = by_occurrence[copy], by_occurrence[source]
        assert picture[one["gbifID"]].read_bytes() == picture[other["gbifID"]].read_bytes()
        assert one["institutionCode"] != other["institutionCode"]
    distinct = {hashlib.sha256(path.read_bytes()).hexdigest() for path in picture.values()}
    assert len(distinct) == len(picture) - len(copies)


def test_the_second_portal_delivers_the_same_specimens_and_pictures(tmp_path: Path) -> None:
    address = "http://127.0.0.{number}:8000/{institution}/{path}"
    sample(tmp_path / "s", SampleOptions(sheets=60, size=64, idigbio=0.5, address=address), workers=1)
    first = {row["gbifID"]: row for row in table(tmp_path / "s" / "archive.zip", "occurrence.txt")}
    pictures = {row["identifier"]: first[row["gbifID"]] for row in table(tmp_path / "s" / "archive.zip", "multimedia.txt")}
    with zipfile.ZipFile(tmp_path / "s" / "idigbio.zip") as zipped:
        assert sorted(zipped.namelist()) == ["multimedia.csv", "occurrence.csv"]
        occurrences, media = (
            list(csv.DictReader(io.TextIOWrapper(zipped.open(name), encoding="utf-8")))
            for name in ("occurrence.csv", "multimedia.csv")
        )
    second = {row["id"]: row for row in occurrences}
    assert 0.3 * len(first) < len(second) == len(occurrences) < 0.7 * len(first)
    assert {row["coreid"] for row in media} == set(second)
    for row in media:
        one, other = pictures[row["ac:accessURI"]], second[row["coreid"]]
        assert other["dwc:catalogNumber"] == one["catalogNumber"]
        assert other["dwc:occurrenceID"] in ("", one["occurrenceID"])
        assert row["ac:accessURI"].split("/")[3] == one["institutionCode"].lower()
    lacking = sum(not row["dwc:occurrenceID"] for row in occurrences)
    assert 0 < lacking < 0.7 * len(occurrences)


def test_addresses_that_name_no_picture_are_refused() -> None:
    for address in ("http://host/", "{path", "{path}{other}", "{}"):
        with pytest.raises(BadInput, match="it needs"):
            SampleOptions(address=address)


def test_wrong_labels_have_the_share_asked_for_and_sit_mostly_among_relatives(folder: Path) -> None:
    truth = [row for row in rows_of(folder / "truth.csv") if not row["duplicateOf"] and "XPIX" not in row["occurrenceID"]]
    split = {row["occurrenceID"]: row["split"] for row in table(folder / "archive.zip", "occurrence.txt")}
    main = [row for row in truth if not split[row["occurrenceID"]]]
    wrong = [row for row in truth if row["wrongLabel"] == "true"]
    assert all(row["trueName"] != row["givenName"] and not split[row["occurrenceID"]] for row in wrong)
    assert len(wrong) == sum(row["trueName"] != row["givenName"] for row in truth) == round(0.1 * len(main))


def test_web_set_has_foreign_species_and_wrong_names(folder: Path) -> None:
    many = Records(Collection(SampleOptions(sheets=300, size=64, web=800)), web=True)
    known = {many.collection.flora.species[index].name.canonical for index in range(many.collection.options.known_species)}
    truth = list(many.truth())
    foreign = sum(row["trueName"] not in known for row in truth) / len(truth)
    wrong = sum(row["wrongLabel"] == "true" for row in truth) / len(truth)
    assert 0.2 < foreign < 0.3
    assert 0.05 < wrong < 0.11
    rows = table(folder / "web.zip", "occurrence.txt")
    assert {row["basisOfRecord"] for row in rows} == {"HUMAN_OBSERVATION"}
    assert all((folder / row["identifier"]).is_file() for row in table(folder / "web.zip", "multimedia.txt"))


def test_the_shift_turns_the_long_tail_round() -> None:
    collection = Collection(SampleOptions(sheets=2000, species=20, shift=1.0))
    main = Counter(collection.species[: collection.main].tolist())
    shifted = Counter(collection.species[collection.main :].tolist())
    commonest, rarest = main.most_common()[0][0], main.most_common()[-1][0]
    assert shifted[rarest] > 8 * shifted[commonest]
    assert main[commonest] > 8 * main[rarest]
    assert {collection.specimen(number).split for number in list(collection.shifted)[:50]} == {"test"}


def test_main_sheets_stay_the_same_when_more_is_asked_for() -> None:
    plain = Collection(SampleOptions(sheets=100))
    more = Collection(SampleOptions(sheets=100, unknown_species=40, shift=0.5, web=10, duplicates=0.5))
    assert [plain.specimen(number) for number in range(plain.main)] == [more.specimen(number) for number in range(more.main)]


# ---- the faults of real records ----


@pytest.fixture(scope="module")
def records() -> Rows:
    return list(Records(Collection(SampleOptions(sheets=4000, seed=1))).occurrences())


def share(rows: Rows, holds: list[bool]) -> float:
    return sum(holds) / len(rows)


def test_faults_have_the_shares_of_the_options(records: Rows) -> None:
    dirt = Dirt()
    missing = {name: share(records, [row[name] == "" for row in records]) for name in ("decimalLatitude", "eventDate", "license")}
    assert missing["decimalLatitude"] == pytest.approx(dirt.no_coordinates, abs=0.02)
    assert missing["eventDate"] == pytest.approx(dirt.no_date, abs=0.015)
    assert missing["license"] == pytest.approx(dirt.no_licence, abs=0.015)
    years = [len(row["eventDate"]) == 4 and row["month"] == row["day"] == "" for row in records]
    assert share(records, years) == pytest.approx(dirt.year_only, abs=0.02)
    zero = [row["decimalLatitude"] == "0.0" and "ZERO_COORDINATE" in row["issue"] for row in records]
    assert share(records, zero) == pytest.approx(dirt.zero_coordinates, abs=0.006)


def test_misspelled_names_are_matched_or_come_back_as_a_genus(records: Rows) -> None:
    wrong = [row for row in records if " ".join(row["scientificName"].split()[:2]) != row["verbatimScientificName"]]
    assert share(records, [row in wrong for row in records]) == pytest.approx(Dirt().misspelled, abs=0.015)
    genus_only = [row for row in wrong if row.get("species", "") == ""]
    assert 0.1 < len(genus_only) / len(wrong) < 0.4
    assert {(row["taxonRank"], row["issue"].split(";")[0]) for row in genus_only} == {("GENUS", "TAXON_MATCH_HIGHERRANK")}
    assert all(row["genus"] == row["scientificName"].split()[0] and "specificEpithet" not in row for row in genus_only)
    assert all("TAXON_MATCH_FUZZY" in row["issue"] for row in wrong if row not in genus_only)


def test_synonyms_point_to_the_accepted_name_of_the_checklist(folder: Path) -> None:
    names = {row["taxonID"]: row for row in rows_of(folder / "checklist.csv")}
    synonyms = [
        row for row in table(folder / "archive.zip", "occurrence.txt") if row["taxonomicStatus"] == "SYNONYM" and not row["split"]
    ]
    assert synonyms
    for row in synonyms:
        listed, accepted = names[row["taxonKey"]], names[row["acceptedTaxonKey"]]
        assert (listed["taxonomicStatus"], accepted["taxonomicStatus"]) == ("Synonym", "Accepted")
        assert f"{listed['scientificName']} {listed['scientificNameAuthorship']}" == row["scientificName"]
        assert accepted["scientificName"] == row["species"] == row["acceptedScientificName"][: len(row["species"])]
        assert accepted["taxonID"] == accepted["acceptedNameUsageID"] == listed["acceptedNameUsageID"]


def test_poisonous_agrees_between_archive_and_checklist(folder: Path) -> None:
    marks = {row["scientificName"]: row["poisonous"] for row in rows_of(folder / "checklist.csv")}
    assert set(marks.values()) == {"true", "false"}
    for row in table(folder / "archive.zip", "occurrence.txt"):
        if row["species"] in marks:
            assert row["dynamicProperties"] == f'{{"poisonous": {marks[row["species"]]}}}'


def test_command_draws_and_says_what_it_drew(tmp_path: Path) -> None:
    typer_testing = pytest.importorskip("typer.testing")
    import typer

    from taxakey.cli.sample import sample as command

    app = typer.Typer()
    app.command()(command)
    result = typer_testing.CliRunner().invoke(app, [str(tmp_path / "h"), "--sheets", "20", "--size", "64", "--species", "3"])
    assert result.exit_code == 0, result.output
    assert "20 sheets" in result.output
    assert "3 species" in result.output
    assert len(list((tmp_path / "h" / "images").rglob("*.jpg"))) == 20
