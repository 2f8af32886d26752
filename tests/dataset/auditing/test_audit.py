"""The audit: the leaks planted in the simulated herbarium are found, all of them and little else; the split manifest answers."""

from __future__ import annotations

import csv
import io
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import typer
from click.testing import Result
from PIL import Image
from small_pictures import noise
from typer.testing import CliRunner

from taxakey.artifacts import Plan, read_json, read_manifest
from taxakey.cli.audit import audit as command
from taxakey.dataset.auditing.audit import audit, summary
from taxakey.dataset.auditing.leaks import FINDINGS, LEAKS, AuditOptions, find
from taxakey.dataset.auditing.split_manifest import FILE, Answer, SplitManifest, digest_of, write_split_manifest
from taxakey.dataset.build import BuildOptions, build
from taxakey.dataset.duplicates import NEAR_DISTANCE
from taxakey.dataset.inspection import inspect, look
from taxakey.errors import ArtifactError, BadImage, BadInput
from taxakey.records.sample import SampleOptions, sample
from taxakey.records.sample.options import Dirt
from taxakey.records.sources import read_source
from taxakey.records.splits import SplitOptions, split
from taxakey.records.table import Observations

PLANTED = 8


@dataclass
class World:
    """A simulated herbarium with leaks and what was made of it."""

    folder: Path
    observations: Observations
    truth: list[dict[str, str]]

    def planted(self, leak: str) -> list[tuple[str, str]]:
        """occurrenceIDs of both records of each leak of a kind."""
        return [(row["occurrenceID"], row["duplicateOf"]) for row in self.truth if row["leak"] == leak]

    def pictures(self) -> dict[str, list[str]]:
        """image_id of the pictures of each occurrenceID."""
        found: dict[str, list[str]] = {}
        for row in self.observations.table.select(["occurrenceID", "image_id"]).to_pylist():
            found.setdefault(row["occurrenceID"], []).append(row["image_id"])
        return found

    def findings(self, folder: Path | None = None) -> pa.Table:
        return pq.read_table((folder or self.folder / "audit") / "findings.parquet")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("leaks")
    sample(folder / "herbarium", SampleOptions(sheets=400, species=10, size=128, seed=6, leaks=PLANTED, dirt=Dirt(misspelled=0)))
    observed = split(read_source(folder / "herbarium/archive.zip"))
    observed.write(folder / "records", Plan("records"))
    build(folder / "records", folder / "dataset", BuildOptions(longest_edge=128))
    inspect(folder / "records", folder / "inspection")
    audit(folder / "dataset", folder / "audit", inspection=folder / "inspection")
    with open(folder / "herbarium/truth.csv", encoding="utf-8", newline="") as file:
        return World(folder, observed, list(csv.DictReader(file)))


def test_the_leaks_were_planted(world: World) -> None:
    assert Counter(row["leak"] for row in world.truth if row["leak"]) == {
        "exact duplicate": PLANTED, "near duplicate": PLANTED, "same specimen": PLANTED, "same observation": PLANTED,
        "other label": PLANTED,
    }  # fmt: skip


def test_one_occurrence_with_two_splits_does_not_pass_the_door(world: World) -> None:
    planted = {copy for copy, _ in world.planted("same observation")}
    rejected = world.observations.rejected
    told = rejected.filter(pc.equal(rejected["reason"], "observation in two splits"))["occurrenceID"].to_pylist()
    assert set(told) == planted
    assert not planted & set(world.pictures())


@pytest.mark.parametrize(
    ("leak", "column"), [("exact duplicate", "exact_group"), ("near duplicate", "near_group"), ("other label", "exact_group")]
)
def test_inspection_finds_every_planted_duplicate_in_whatever_part(world: World, leak: str, column: str) -> None:
    rows = pq.read_table(world.folder / "inspection/duplicates.parquet").to_pylist()
    group = {row["image_id"]: row[column] for row in rows}
    for copy, source in world.planted(leak):
        first = sorted(world.pictures()[source])[0]
        assert group[world.pictures()[copy][0]] == group[first] is not None


def across(world: World, leak: str) -> set[frozenset[str]]:
    """The planted pairs that the split put into two parts."""
    side = dict(zip(*(world.observations.table[name].to_pylist() for name in ("occurrenceID", "split")), strict=True))
    return {frozenset(pair) for pair in world.planted(leak) if side[pair[0]] != side[pair[1]]}


def told(world: World, kind: str, folder: Path | None = None) -> set[frozenset[str]]:
    """Pairs of occurrenceIDs that the audit tells of."""
    owner = {image: name for name, images in world.pictures().items() for image in images}
    rows = [row for row in world.findings(folder).to_pylist() if row["kind"] == kind]
    return {frozenset((owner[row["image_id"]], owner[row["other_image_id"]])) for row in rows}


def test_the_audit_finds_all_planted_leaks_and_nothing_else(world: World) -> None:
    exact, near, specimen, label = (
        across(world, leak) for leak in ("exact duplicate", "near duplicate", "same specimen", "other label")
    )
    assert min(len(exact), len(near), len(specimen), len(label)) >= 2  # else this test could say little
    assert told(world, "exact duplicate") == exact | label
    assert told(world, "same specimen") == specimen
    assert told(world, "same observation") == set()
    # Two photographs of one sheet may be near duplicates as well, so other kinds can be told as near too: all of it was planted.
    assert near <= told(world, "near duplicate") <= near | specimen | exact | label
    assert told(world, "other label") == {frozenset(pair) for pair in world.planted("other label")}
    counts = Counter(world.findings()["kind"].to_pylist())
    assert counts["unreadable"] == counts["untrained"] == 0
    # A copy has its source's day and, but for lost coordinates, its place; nothing else does.
    assert told(world, "same place and date") <= exact | near | specimen | label


def test_the_figures_of_the_audit_agree_with_its_findings(world: World) -> None:
    result, findings = read_json(world.folder / "audit/audit.json"), world.findings()
    manifest = read_manifest(world.folder / "audit", "audit")
    assert findings.schema == FINDINGS
    assert result["findings"] == manifest.counts
    assert {kind: number for kind, number in manifest.counts.items() if number} == Counter(findings["kind"].to_pylist())
    leaks = [row for row in findings.to_pylist() if row["kind"] in LEAKS]
    for where, seen in result["seen"].items():
        part, earlier = where.split(" in ")
        assert seen["pictures"] == len({row["image_id"] for row in leaks if (row["part"], row["other_part"]) == (part, earlier)})
        assert seen["share"] == seen["pictures"] / result["pictures"][part]
    counted = Counter(world.observations.table["institutionCode"].to_pylist())
    assert {row["institutionCode"]: row["train"] + row["validation"] + row["test"] for row in result["institutions"]} == counted
    assert [sum(row[f"share_of_{part}"] for row in result["institutions"]) for part in result["pictures"]] == pytest.approx(
        [1] * 3
    )


def test_the_page_tells_counts_and_worst_cases(world: World) -> None:
    text = (world.folder / "audit/audit.md").read_text(encoding="utf-8")
    counts = read_manifest(world.folder / "audit", "audit").counts
    assert f"| exact duplicate | {counts['exact duplicate']} |" in text
    assert f"### same specimen: {counts['same specimen']}" in text
    assert read_json(world.folder / "audit/audit.json")["split_manifest"]["digest"] in text


def test_a_split_by_specimen_and_duplicates_leaves_no_leak(world: World, tmp_path: Path) -> None:
    groups = pq.read_table(world.folder / "inspection/duplicates.parquet").select(["image_id", "near_group"])
    plain = world.observations.table.set_column(
        world.observations.table.schema.get_field_index("split"), "split", pa.nulls(len(world.observations), pa.string())
    )
    unsplit = world.observations.replace(plain)
    better = split(unsplit, SplitOptions(by="specimen"), joined=groups.rename_columns(["image_id", "group"]))
    better.write(tmp_path / "records", Plan("records"))
    build(tmp_path / "records", tmp_path / "dataset", BuildOptions(longest_edge=128))
    counts = audit(tmp_path / "dataset", tmp_path / "audit").counts
    assert {kind: counts[kind] for kind in LEAKS} == dict.fromkeys(LEAKS, 0)
    labels = {frozenset(pair) for pair in world.planted("other label")}
    assert told(world, "other label", tmp_path / "audit") == labels  # a split can't make a label right
    assert read_manifest(tmp_path / "dataset", "dataset").counts["test"] > 50


# ---- findings by hand ----


def rows_by_hand(**changes: list[object]) -> pa.Table:
    """Four pictures that have nothing in common: two in train, one in validation, one in test."""
    rng = np.random.default_rng(0)
    columns: dict[str, list[object]] = {
        "image_id": ["a", "b", "c", "d"],
        "part": ["train", "train", "validation", "test"],
        "occurrenceID": ["1", "2", "3", "4"],
        "scientificName": ["Aus bus", "Aus cus", "Aus bus", "Aus bus"],
        "sha256": ["00", "01", "02", "03"],
        "perceptual_hash": [rng.bytes(32) for _ in range(4)],
        **{name: [None] * 4 for name in ("institutionCode", "catalogNumber", "recordNumber", "eventDate", "failure")},
        **{name: [None] * 4 for name in ("decimalLatitude", "decimalLongitude")},
        **changes,
    }
    types = {"perceptual_hash": pa.binary(32), "decimalLatitude": pa.float64(), "decimalLongitude": pa.float64()}
    return pa.table({name: pa.array(values, types.get(name, pa.string())) for name, values in columns.items()})


def told_by_hand(rows: pa.Table, options: AuditOptions | None = None) -> list[tuple[object, ...]]:
    return [tuple(value for value in row.values() if value is not None) for row in find(rows, options).to_pylist()]


def test_nothing_in_common_is_nothing_told() -> None:
    assert told_by_hand(rows_by_hand()) == []


def test_an_observation_in_three_parts_is_told_for_each_pair_of_parts() -> None:
    found = told_by_hand(rows_by_hand(occurrenceID=["1", "1", "1", "1"]))
    assert found == [
        ("same observation", "c", "validation", "Aus bus", "a", "train", "Aus bus", "1"),
        ("same observation", "d", "test", "Aus bus", "a", "train", "Aus bus", "1"),
        ("same observation", "d", "test", "Aus bus", "c", "validation", "Aus bus", "1"),
    ]


def test_where_all_is_of_one_institution_no_species_stands_out() -> None:
    assert told_by_hand(rows_by_hand(institutionCode=["X"] * 4)) == []
    assert [row[0] for row in told_by_hand(rows_by_hand(institutionCode=["X", "Y", "X", None]))] == ["one institution"] * 2


def test_of_several_in_an_earlier_part_the_least_image_id_is_told_in_whatever_order_they_stand() -> None:
    rows = rows_by_hand(occurrenceID=["1", "1", "3", "1"])
    expected = [("same observation", "d", "test", "Aus bus", "a", "train", "Aus bus", "1")]
    assert told_by_hand(rows) == told_by_hand(rows.take([3, 2, 1, 0])) == expected


def test_the_same_bytes_are_told_once_and_not_as_near_too() -> None:
    hashes = [bytes(32), bytes(32), bytes([255]) * 32, bytes(32)]
    found = told_by_hand(rows_by_hand(sha256=["00", "01", "02", "00"], perceptual_hash=hashes))
    assert found == [
        ("exact duplicate", "d", "test", "Aus bus", "a", "train", "Aus bus", "00"),
        ("other label", "a", "train", "Aus bus", "b", "train", "Aus cus", 0),
        ("other label", "b", "train", "Aus cus", "a", "train", "Aus bus", 0),
        ("other label", "d", "test", "Aus bus", "b", "train", "Aus cus", 0),
    ]


def test_the_nearest_copy_is_told_with_its_distance() -> None:
    ones = [bytes([0] * (32 - n) + [1] * n) for n in (5, 9, 0, 2)]  # bits from d: 3, 7, 2
    found = told_by_hand(rows_by_hand(perceptual_hash=ones, scientificName=["Aus bus"] * 4), AuditOptions(near_distance=5))
    assert found == [
        ("near duplicate", "c", "validation", "Aus bus", "a", "train", "Aus bus", 5),
        ("near duplicate", "d", "test", "Aus bus", "a", "train", "Aus bus", 3),
        ("near duplicate", "d", "test", "Aus bus", "c", "validation", "Aus bus", 2),
    ]


def test_a_near_copy_under_another_name_in_the_same_part() -> None:
    hashes = [bytes(32), bytes(31) + b"\1", bytes([255]) * 32, bytes([15]) * 32]
    assert told_by_hand(rows_by_hand(perceptual_hash=hashes)) == [
        ("other label", "a", "train", "Aus bus", "b", "train", "Aus cus", 1),
        ("other label", "b", "train", "Aus cus", "a", "train", "Aus bus", 1),
    ]


def test_specimens_places_institutions_species_and_broken_pictures() -> None:
    found = told_by_hand(
        rows_by_hand(
            institutionCode=["X", "Y", "X", "X"], catalogNumber=["1", "1", "2", "1"], recordNumber=[None, None, None, None],
            eventDate=["2001-05-06", None, None, "2001-05-06"], decimalLatitude=[1.0, None, None, 1.01],
            decimalLongitude=[2.0, None, None, 2.0], scientificName=["Aus bus", "Aus cus", "Aus bus", "Dus eus"],
            failure=[None, "cut off", None, None],
        )
    )  # fmt: skip
    assert found == [
        ("same specimen", "d", "test", "Dus eus", "a", "train", "Aus bus", "X|1|"),
        ("same place and date", "d", "test", "Dus eus", "a", "train", "Aus bus", "10|20|2001-05-06"),
        ("one institution", "Aus bus", "X"),
        ("one institution", "Aus cus", "Y"),
        ("one institution", "Dus eus", "X"),
        ("untrained", "Dus eus"),
        ("unreadable", "b", "train", "Aus cus", "cut off"),
    ]


def test_pictures_without_hash_or_key_have_nothing_in_common() -> None:
    nothing = rows_by_hand(sha256=[None] * 4, perceptual_hash=[None] * 4)
    assert told_by_hand(nothing) == []
    assert told_by_hand(nothing.slice(0, 0)) == []
    assert summary(nothing.slice(0, 0), find(nothing.slice(0, 0)))["pictures"] == {"train": 0, "validation": 0, "test": 0}


def test_a_hundred_thousand_pictures_of_one_hash_are_told_by_as_many_rows() -> None:
    number = 100_000
    parts = ["train", "test"] * (number // 2)
    rows = pa.table(
        {
            **{name: [f"{n:06}" for n in range(number)] for name in ("image_id", "occurrenceID", "sha256")},
            "part": parts,
            "scientificName": ["Aus bus"] * number,
            "perceptual_hash": pa.array([bytes(32)] * number, pa.binary(32)),
            **{
                name: pa.nulls(number, pa.string())
                for name in ("institutionCode", "catalogNumber", "recordNumber", "eventDate", "failure")
            },
            **{name: pa.nulls(number, pa.float64()) for name in ("decimalLatitude", "decimalLongitude")},
        }
    )
    found = find(rows)
    assert found["kind"].unique().to_pylist() == ["near duplicate"]
    assert len(found) == number // 2
    assert found["other_image_id"].unique().to_pylist() == ["000000"]


# ---- the artifact ----


def test_a_killed_audit_goes_on_and_tells_the_same(world: World, tmp_path: Path) -> None:
    build(world.folder / "records", tmp_path / "dataset", BuildOptions(longest_edge=128, rows_per_shard=12))
    folders = f"{str(tmp_path / 'dataset')!r}, {str(tmp_path / 'audit')!r}"
    code = f"from taxakey.dataset.auditing.audit import audit; audit({folders}, workers=1)"
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ)
    hashes = tmp_path / "audit/hashes"
    while len(list(hashes.glob("t*.parquet"))) < 2:
        assert process.poll() is None, "finished before it could be killed"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "audit/manifest.json").exists()
    kept = {file: file.stat().st_mtime_ns for file in hashes.glob("[tv]*.parquet")}
    audit(tmp_path / "dataset", tmp_path / "audit")
    assert len(kept) >= 2
    assert pq.read_table(tmp_path / "audit/findings.parquet").sort_by("image_id").to_pylist() != []
    own, other = SplitManifest.read(tmp_path / "audit"), SplitManifest.read(world.folder / "audit")
    assert own.rows.drop_columns(["source_sha256"]) == other.rows.drop_columns(["source_sha256"])
    assert not hashes.exists()


# ---- was it there? ----


def image_of(world: World, part: str) -> tuple[str, Path]:
    """A picture of a part that is in no finding."""
    findings = world.findings()
    met = set(findings["image_id"].to_pylist() + findings["other_image_id"].to_pylist())
    rows = world.observations.table.filter(pc.equal(world.observations.table["split"], part)).to_pylist()
    row = next(row for row in rows if row["image_id"] not in met)
    return row["image_id"], Path(row["path"])


@pytest.mark.parametrize("part", ["train", "test"])
def test_the_manifest_knows_a_file_and_a_copy_of_it(world: World, part: str) -> None:
    known = SplitManifest.read(world.folder / "audit")
    image_id, path = image_of(world, part)
    assert Answer("exact", part, image_id, 0) in known.was_it_there(path)
    buffer = io.BytesIO()
    with Image.open(path) as picture:
        picture.resize((picture.width * 3 // 4, picture.height * 3 // 4)).save(buffer, "JPEG", quality=70)
    answers = known.was_it_there(buffer.getvalue())
    near = {answer.part: answer for answer in answers}[part]
    assert near.how == "near"
    assert near.image_id == image_id
    own, copy = (int.from_bytes(look(source)["perceptual_hash"]) for source in (str(path), buffer.getvalue()))
    assert near.distance == (own ^ copy).bit_count() <= NEAR_DISTANCE
    png = io.BytesIO()
    noise(1, 300, 200).save(png, "PNG")
    assert known.was_it_there(png.getvalue()) == []


def test_a_picture_in_two_parts_is_told_for_both_train_first(world: World) -> None:
    known = SplitManifest.read(world.folder / "audit")
    side = dict(zip(*(world.observations.table[name].to_pylist() for name in ("image_id", "split")), strict=True))
    path = dict(zip(*(world.observations.table[name].to_pylist() for name in ("image_id", "path")), strict=True))
    row = next(row for row in world.findings().to_pylist() if row["kind"] == "exact duplicate" and row["other_part"] == "train")
    answers = known.was_it_there(path[row["image_id"]])
    assert [answer.part for answer in answers[:2]] == ["train", side[row["image_id"]]]
    assert {answer.how for answer in answers[:2]} == {"exact"}


def test_the_file_that_a_stored_picture_was_made_from_is_known_by_the_inspection(tmp_path: Path, world: World) -> None:
    rows = SplitManifest.read(world.folder / "audit").rows
    assert rows["source_sha256"].null_count == 0
    build(world.folder / "records", tmp_path / "small", BuildOptions(longest_edge=100))
    audit(tmp_path / "small", tmp_path / "audit", inspection=world.folder / "inspection")
    audit(tmp_path / "small", tmp_path / "blind")
    image_id, path = image_of(world, "train")
    assert Answer("exact", "train", image_id, 0) in SplitManifest.read(tmp_path / "audit").was_it_there(path)
    answers = SplitManifest.read(tmp_path / "blind").was_it_there(path)
    assert ("near", "train", image_id) in [answer[:3] for answer in answers]


def manifest_rows() -> pa.Table:
    return rows_by_hand().append_column("source_sha256", pa.nulls(4, pa.string()))


def test_a_changed_manifest_is_refused(tmp_path: Path) -> None:
    digest = write_split_manifest(tmp_path / FILE, manifest_rows())
    assert SplitManifest.read(tmp_path / FILE).digest == digest == digest_of(manifest_rows().take([2, 0, 3, 1]))
    table = pq.read_table(tmp_path / FILE)
    parts = pa.array(["train", "train", "validation", "train"], pa.string())
    pq.write_table(table.set_column(1, "part", parts), tmp_path / "changed.parquet")
    with pytest.raises(ArtifactError, match=f"it names {digest}; it was changed"):
        SplitManifest.read(tmp_path / "changed.parquet")
    pq.write_table(table.replace_schema_metadata(None), tmp_path / "unsigned.parquet")
    with pytest.raises(ArtifactError, match="it names none"):
        SplitManifest.read(tmp_path / "unsigned.parquet")


def test_a_manifest_signed_anew_does_not_fit_its_audit(world: World, tmp_path: Path) -> None:
    forged = tmp_path / "audit"
    forged.mkdir()
    for name in ("manifest.json", "audit.json"):
        (forged / name).write_bytes((world.folder / "audit" / name).read_bytes())
    rows = SplitManifest.read(world.folder / "audit").rows
    write_split_manifest(forged / FILE, rows.slice(1))
    with pytest.raises(ArtifactError, match=r"audit.json beside it names"):
        SplitManifest.read(forged)


def test_the_digest_is_that_of_the_rows_as_text(tmp_path: Path) -> None:
    import hashlib

    lines = [
        "\t".join((row["image_id"], row["part"], row["sha256"], "", row["perceptual_hash"].hex())) + "\n"
        for row in manifest_rows().to_pylist()
    ]
    assert digest_of(manifest_rows()) == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_what_is_no_manifest_or_no_picture(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(BadInput, match="not a Parquet file"):
        SplitManifest.read(tmp_path / "text.jpg")
    pq.write_table(pa.table({"image_id": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(BadInput, match="no split manifest, it lacks the columns part"):
        SplitManifest.read(tmp_path / "other.parquet")
    write_split_manifest(tmp_path / FILE, manifest_rows())
    with pytest.raises(BadImage, match=r"text\.jpg: not a picture"):
        SplitManifest.read(tmp_path / FILE).was_it_there(tmp_path / "text.jpg")


# ---- the command ----


def run(*arguments: object) -> Result:
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(each) for each in arguments])


def test_the_command_finds_leaks_and_its_status_tells(world: World, tmp_path: Path) -> None:
    dataset = tmp_path / "dataset"
    dataset.symlink_to(world.folder / "dataset")
    counts = read_manifest(world.folder / "audit", "audit").counts
    plain = run(dataset, "--out", tmp_path / "audit")
    assert plain.exit_code == 0, plain.output
    assert f"{counts['exact duplicate']}: exact duplicate" in plain.output
    assert run(dataset, "--out", tmp_path / "audit", "--fail-on", "leaks").exit_code == 3


def test_the_command_is_content_where_nothing_leaks(world: World, tmp_path: Path) -> None:
    alone = world.observations.table.filter(pc.equal(world.observations.table["split"], "train"))
    world.observations.replace(alone).write(tmp_path / "records", Plan("records"))
    build(tmp_path / "records", tmp_path / "dataset", BuildOptions(longest_edge=128))
    done = run(tmp_path / "dataset", "--fail-on", "leaks")
    assert done.exit_code == 0, done.output
    assert read_manifest(tmp_path / "dataset-audit", "audit").kind == "audit"  # beside the dataset by default


@pytest.mark.parametrize("place", ["audit", f"audit/{FILE}"])
def test_the_command_answers_whether_a_picture_was_there(world: World, tmp_path: Path, place: str) -> None:
    image_id, path = image_of(world, "train")
    noise(1, 300, 200).save(tmp_path / "other.png")
    done = run(world.folder / place, "--was-it-there", path, "--was-it-there", tmp_path / "other.png")
    assert done.exit_code == 0, done.output
    assert f"{path}: exact in train as {image_id} (0 bits apart)" in done.output
    assert f"{tmp_path / 'other.png'}: no\n" in done.output
    assert SplitManifest.read(world.folder / place).digest in done.output


def test_the_defaults_of_the_command_are_those_of_the_library() -> None:
    app = typer.Typer()
    app.command()(command)
    defaults = {each.name: each.default for each in typer.main.get_command(app).params}
    assert AuditOptions(defaults["near_distance"], defaults["cell_degrees"]) == AuditOptions()
