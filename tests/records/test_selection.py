"""Selection against a slow loop over rows, on DuckDB and on real local Spark."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from drawn_records import ROWS, checklist_says, inspected, records

from taxakey.errors import BadInput, BadRecords
from taxakey.records.engines import Engine, open_engine
from taxakey.records.hosts import HostOptions
from taxakey.records.licences import licence_code
from taxakey.records.naming.delivered_names import DELIVERED
from taxakey.records.selection import GIVEN, NEVER_LOOKED_UP, SEVERAL_TAXA, SelectionOptions, given_names, select
from taxakey.records.table import SCHEMA


def by_hand(
    table: pa.Table, options: SelectionOptions, names: pa.Table | None, inspection: pa.Table | None, hosts: list[str] | None
) -> dict[str, str]:
    """image_id -> reason for every dropped row, row by row, as the documentation has it."""
    known = {tuple(row[key] for key in GIVEN): row for row in names.to_pylist()} if names is not None else {}
    seen = {row["image_id"]: row for row in inspection.to_pylist()} if inspection is not None else {}
    ids_of = defaultdict(set)
    for row in known.values():
        ids_of[row["scientificName"]].add(row["taxonID"])
    reasons: dict[str, str] = {}
    accepted: dict[str, str] = {}
    rows = table.to_pylist()

    def draw(image: str) -> str:
        return hashlib.md5(f"{image}:{options.seed}".encode()).hexdigest()

    def judge(row: dict[str, Any]) -> str | None:
        image = row["image_id"]
        accepted[image] = row["scientificName"]
        if names is not None:
            said = known.get(tuple(row[part] or "" for part in DELIVERED))
            if said is None:
                return NEVER_LOOKED_UP
            if said["scientificName"] is None:
                return said["reason"]
            if len(ids_of[said["scientificName"]]) > 1:
                return SEVERAL_TAXA
            accepted[image] = said["scientificName"]
        if options.basis_of_record and (row["basisOfRecord"] or "").upper() not in options.basis_of_record:
            return "other basis of record"
        if options.licences and licence_code(row["license"]) not in options.licences:
            return "licence not allowed"
        if options.require_date and not (row["year"] and 1600 <= row["year"] <= 2100 and row["year"] <= this_year):
            return "no believable date"
        if options.require_coordinates and row["decimalLatitude"] == row["decimalLongitude"]:
            return "no believable place"
        if inspection is not None:
            look = seen.get(image)
            if look is None:
                return "picture was not inspected"
            if look["failure"]:
                return "picture can't be used"
            if look["sharpness"] < options.least.get("sharpness", 0):
                return f"sharpness below {options.least['sharpness']}"
        return None

    this_year = date.today().year
    for row in rows:
        if reason := judge(row):
            reasons[row["image_id"]] = reason
    groups: dict[int, list[str]] = defaultdict(list)
    for row in rows:
        group = seen.get(row["image_id"], {}).get("near_group")
        if row["image_id"] not in reasons and group is not None:
            groups[group].append(row["image_id"])
    for members in groups.values():
        several = len({accepted[image] for image in members}) > 1
        for image in members:
            if several:
                reasons[image] = "same picture under several names"
            elif image != min(members, key=draw):
                reasons[image] = "duplicate of another picture"
    if hosts is not None:
        for row in rows:
            if row["image_id"] not in reasons and row["identifier"].split("/")[2].lower() not in hosts:
                reasons[row["image_id"]] = "host not chosen"
    of_species = defaultdict(list)
    for row in rows:
        if row["image_id"] not in reasons:
            of_species[accepted[row["image_id"]]].append(row["image_id"])
    for images in of_species.values():
        if len(images) < options.min_images:
            reasons |= dict.fromkeys(images, f"species with fewer than {options.min_images} pictures")
        else:
            beyond = sorted(images, key=draw)[options.max_images :]
            reasons |= dict.fromkeys(beyond, f"beyond {options.max_images} pictures of the species")
    return reasons


EVERYTHING = SelectionOptions(
    min_images=5, max_images=20, seed=3, basis_of_record=("PRESERVED_SPECIMEN", "PRESERVEDSPECIMEN"),
    licences=("CC-BY", "CC0", "CC-BY-NC", "none"), require_date=True, require_coordinates=True,
    hosts=HostOptions(most=4, enough=5), least={"sharpness": 0.1},
)  # fmt: skip


@pytest.fixture(params=["duckdb", "spark"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    if request.param == "spark":
        request.getfixturevalue("local_spark")
    with open_engine(request.param) as engine:
        yield engine


def written(table: pa.Table, folder: Path) -> list[Path]:
    """In two files, as two sources would leave them."""
    half = table.num_rows // 2
    files = [folder / "one.parquet", folder / "two.parquet"]
    for file, part in zip(files, (table.slice(0, half), table.slice(half)), strict=True):
        pq.write_table(part, file)
    return files


def test_all_rules_at_once_agree_with_a_loop_over_rows(engine: Engine, tmp_path: Path) -> None:
    table = records()
    names, inspection = checklist_says(table), inspected(table)
    engine.read("observations", written(table, tmp_path))
    found = select(engine, EVERYTHING, names=names, inspection=inspection, dropped=tmp_path / "dropped.parquet")
    assert found.hosts is not None
    assert len(found.hosts.hosts) == 4
    expected = by_hand(table, EVERYTHING, names, inspection, found.hosts.hosts)
    listed = {row["image_id"]: row["reason"] for row in pq.read_table(tmp_path / "dropped.parquet").to_pylist()}
    assert listed == expected
    assert len(set(expected.values())) == 15  # every rule dropped something
    kept = [image for image in sorted(table["image_id"].to_pylist()) if image not in expected]
    assert found.table["image_id"].to_pylist() == kept
    assert found.table.schema == SCHEMA
    assert len(kept) > 50


def test_the_flow_accounts_for_every_row(tmp_path: Path) -> None:
    table = records()
    names, inspection = checklist_says(table), inspected(table)
    with open_engine("duckdb") as engine:
        engine.read("observations", written(table, tmp_path))
        found = select(engine, EVERYTHING, names=names, inspection=inspection)
    assert found.hosts is not None
    reasons = Counter(by_hand(table, EVERYTHING, names, inspection, found.hosts.hosts).values())
    told = Counter({reason: n for step in found.flow for reason, n in step.dropped.items()})
    assert told == reasons
    assert found.flow[0].kept == ROWS
    for before, after in zip(found.flow, found.flow[1:], strict=False):
        assert after.kept == before.kept - sum(after.dropped.values())
    assert found.flow[-1].kept == len(found.table)
    assert [step.step for step in found.flow] == [
        "records with a picture", "name in the checklist", "basis of record", "licence", "date", "place", "inspection",
        "readable picture", "sharpness", "duplicates", "hosts", "species with enough pictures", "cap",
    ]  # fmt: skip


def test_accepted_names_take_the_place_of_delivered_ones(tmp_path: Path) -> None:
    table = records()
    with open_engine("duckdb") as engine:
        engine.read("observations", written(table, tmp_path))
        options = SelectionOptions(min_images=1, max_images=10_000)
        found = select(engine, options, names=checklist_says(table)).table.to_pylist()
    given = {row["image_id"]: row for row in table.to_pylist()}
    assert any(row["scientificName"] == "Bus unus" for row in found)
    for row in found:
        was = given[row["image_id"]]
        number = int(was["scientificName"].removeprefix("Aus species"))
        assert row["scientificName"] == ("Bus unus" if number <= 4 else was["scientificName"])
        assert row["verbatimScientificName"] == was["scientificName"]
        assert (row["family"], row["scientificNameAuthorship"]) == ("Newaceae", None)  # the checklist gives no author: not L.
        assert row["kingdom"] == was["kingdom"]


def test_dates_and_places_that_cannot_be_are_cleared_and_counted(tmp_path: Path) -> None:
    table = records()
    with open_engine("duckdb") as engine:
        engine.read("observations", written(table, tmp_path))
        found = select(engine, SelectionOptions(min_images=1, max_images=ROWS))
    given = sorted(table.to_pylist(), key=lambda row: row["image_id"])
    assert len(found.table) == ROWS
    cleared = Counter[str]()
    for row, was in zip(found.table.to_pylist(), given, strict=True):
        bad_year = was["year"] is not None and not 1600 <= was["year"] <= 2026 + 10 * (was["year"] < 2020)
        bad_place = was["decimalLatitude"] == was["decimalLongitude"]
        assert row["decimalLongitude"] == (None if bad_place else was["decimalLongitude"])
        if was["year"] is None or was["year"] < 2026 or was["year"] > 2100:
            assert row["year"] == (None if bad_year else was["year"])
            assert row["eventDate"] == (None if bad_year else "x")
        cleared["latitude equals longitude"] += bad_place
    assert found.repaired["latitude equals longitude"] == cleared["latitude equals longitude"] > 20
    assert found.repaired["year before or after what can be"] > 200


@pytest.mark.usefixtures("local_spark")
def test_both_engines_give_identical_rows(tmp_path: Path) -> None:
    table = records(seed=5)
    names, files = checklist_says(table), written(table, tmp_path)
    results = []
    for name in ("duckdb", "spark"):
        with open_engine(name) as engine:  # type: ignore[arg-type]
            engine.read("observations", files)
            results.append(select(engine, EVERYTHING, names=names, inspection=inspected(table)))
            results[-1].counts.validate(full=True)
    assert results[0].table.equals(results[1].table)
    assert results[0].flow == results[1].flow
    assert results[0].hosts == results[1].hosts
    assert len(results[0].table) > 50


def test_large_species_are_drawn_by_a_ceiling_and_exactly(tmp_path: Path) -> None:
    table = records(rows=40_000)
    options = SelectionOptions(min_images=2, max_images=3)  # of 20,000 rows of the commonest, about 33 pass the ceiling
    with open_engine("duckdb") as engine:
        engine.read("observations", written(table, tmp_path))
        found = select(engine, options)
    expected = by_hand(table, options, None, None, None)
    assert set(found.table["image_id"].to_pylist()) == set(table["image_id"].to_pylist()) - set(expected)


def test_a_ceiling_that_was_too_low_is_lifted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taxakey.records.selection._ceilings", lambda images_S, most: ["00000001"] * len(images_S))
    table = records()
    options = SelectionOptions(min_images=5, max_images=20)
    with open_engine("duckdb") as engine:
        engine.read("observations", written(table, tmp_path))
        found = select(engine, options)
    assert len(found.table) == ROWS - len(by_hand(table, options, None, None, None))


def few(**columns: Any) -> pa.Table:
    """As many records of one species as the columns are long."""
    rows = len(next(iter(columns.values())))
    table = records(rows=rows)
    for name, values in (
        {"scientificName": ["Aus bus"] * rows, "image_id": [f"i{row}" for row in range(rows)]} | columns
    ).items():
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.schema.field(at), pa.array(values, table.schema.field(at).type))
    return table


def chosen(table: pa.Table, options: SelectionOptions, folder: Path, **more: pa.Table) -> pa.Table:
    with open_engine("duckdb") as engine:
        engine.read("observations", written(table, folder))
        return select(engine, options, **more).table


def test_the_first_and_the_last_year_can_be(tmp_path: Path) -> None:
    this_year = date.today().year
    years = [1599, 1600, this_year, this_year + 1, None]
    table = few(year=years, decimalLatitude=[1.0] * 5, decimalLongitude=[2.0] * 5)
    cleared = chosen(table, SelectionOptions(min_images=1), tmp_path)["year"].to_pylist()
    assert cleared == [None, 1600, this_year, None, None]
    dated = chosen(table, SelectionOptions(min_images=1, require_date=True), tmp_path)["year"].to_pylist()
    assert dated == [1600, this_year]


def test_a_file_without_an_address_is_of_a_host_too(tmp_path: Path) -> None:
    table = few(identifier=[None, None, "https://a.org/1.jpg", None], path=["/1.jpg", "/2.jpg", None, "/4.jpg"])
    options = SelectionOptions(min_images=1, hosts=HostOptions(enough=3))
    assert len(chosen(table, options, tmp_path)) == 3  # the files alone are enough
    both = SelectionOptions(min_images=1, hosts=HostOptions(enough=4))
    assert len(chosen(table, both, tmp_path)) == 4


def test_bounds_hold_on_both_sides_and_include_themselves(tmp_path: Path) -> None:
    table = few(year=[2000] * 5)
    columns = {
        "image_id": table["image_id"].to_pylist(),
        "failure": pa.nulls(5, pa.string()),
        "near_group": pa.nulls(5, pa.string()),
    }
    inspection = pa.table({**columns, "dark": [0.0, 0.25, 0.5, 0.75, None]})
    options = SelectionOptions(min_images=1, least={"dark": 0.25}, most={"dark": 0.5})
    # What was not measured breaks no bound.
    assert chosen(table, options, tmp_path, inspection=inspection)["image_id"].to_pylist() == ["i1", "i2", "i4"]


@pytest.mark.parametrize("kind", ["near", "exact", "keep"])
def test_the_duplicates_that_are_meant_are_dropped(kind: Literal["near", "exact", "keep"], tmp_path: Path) -> None:
    """Two groups of three: near ones of which two are the same."""
    table = few(year=[2000] * 6)
    columns: dict[str, Any] = {"image_id": table["image_id"].to_pylist(), "failure": pa.nulls(6, pa.string())}
    columns |= {"near_group": list("aaabbb"), "exact_group": ["a", "a", None, "b", "b", None]}
    found = chosen(table, SelectionOptions(min_images=1, duplicates=kind), tmp_path, inspection=pa.table(columns))
    assert len(found) == {"near": 2, "exact": 4, "keep": 6}[kind]


def test_given_names_are_distinct_and_counted(engine: Engine, tmp_path: Path) -> None:
    table = records()
    engine.read("observations", written(table, tmp_path))
    names = given_names(engine)
    assert sum(names["count"].to_pylist()) == ROWS
    keys = [tuple(row[key] for key in DELIVERED) for row in names.to_pylist()]
    rows = table.select(list(DELIVERED)).to_pylist()
    assert sorted(keys, key=str) == sorted({tuple(row.values()) for row in rows}, key=str)


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    table = records(rows=50)
    for options in ({"min_images": 0}, {"min_images": 30, "max_images": 20}, {"licences": ("CC-BX",)}):
        with pytest.raises(BadInput):
            SelectionOptions(**options)
    with pytest.raises(BadInput, match="neither duckdb nor spark"):
        open_engine("dask")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="'same': near, exact or keep"):
        SelectionOptions(duplicates="same")  # type: ignore[arg-type]
    with open_engine("duckdb") as engine:
        engine.read("observations", written(table, tmp_path))
        for bounds in ({"least": {"sharpness": 0.1}}, {"most": {"sharpness": 0.1}}):
            with pytest.raises(BadInput, match="sharpness has a bound and nobody has looked"):
                select(engine, SelectionOptions(**bounds))
        with pytest.raises(BadInput, match="no column 'exact_group'"):
            select(engine, SelectionOptions(duplicates="exact"), inspection=inspected(table))
        with pytest.raises(BadInput, match="no column 'blur'"):
            select(engine, SelectionOptions(least={"blur": 1}), inspection=inspected(table))
        bad = inspected(records(rows=60)).append_column('x" or 1=1', pa.array([0.0] * 10))
        with pytest.raises(BadInput, match="no name of a column"):
            select(engine, SelectionOptions(least={'x" or 1=1': 1}), inspection=bad)
        engine.read("observations", [*written(table, tmp_path), *written(table, tmp_path)])
        with pytest.raises(BadRecords, match="50 image_ids stand twice"):
            select(engine, SelectionOptions(min_images=1))
