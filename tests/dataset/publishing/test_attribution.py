"""The ledger and GBIF's table, recounted from the shards row by row."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from published_flora import LICENCES, make_flora
from small_pictures import MakeRecords

from taxakey.dataset.publishing.attribution import LEDGER, derived_dataset, ledger, licence_totals, write_attribution
from taxakey.dataset.reader import Dataset


@pytest.fixture
def dataset(tmp_path: Path, make_records: MakeRecords) -> Dataset:
    return make_flora(tmp_path, make_records)


def shard_rows(dataset: Dataset) -> list[dict]:
    return [
        {**row, "shard": f"data/{shard.name}"}
        for shard in sorted((dataset.folder / "data").glob("*.parquet"))
        for row in pq.read_table(shard).to_pylist()
    ]


def test_each_picture_has_its_row(dataset: Dataset) -> None:
    rows = {row["image_id"]: row for row in ledger(dataset).to_pylist()}
    assert len(rows) == 61
    for row in shard_rows(dataset):
        found = rows[row["image_id"]]
        assert list(found) == LEDGER.names
        assert found["file"] == row["shard"]
        assert found["license_delivered"] == row["license"]
        expected = {LICENCES[0]: "CC-BY-4.0", LICENCES[1]: "CC-BY-4.0", LICENCES[2]: LICENCES[2], None: None}
        assert found["license"] == expected[row["license"]]
        for name in ("rightsHolder", "creator", "institutionCode", "identifier", "gbifID", "datasetKey"):
            assert found[name] == row[name]


def test_under_new_names_the_test_part_leads_nowhere_and_shows_no_order(dataset: Dataset) -> None:
    test = dataset.part("test").image_ids
    ids = {image: str(number) for number, image in enumerate(sorted(test, key=lambda image: image[::-1]))}
    files = {image: f"test_images/{int(number):06}.jpg" for image, number in ids.items()}
    ids |= {image: f"new {image}" for image in dataset.part("train").image_ids}
    files |= {image: f"train_images/{image}.jpg" for image in dataset.part("train").image_ids}
    rows = ledger(dataset, files, ids).to_pylist()
    assert len(rows) == len(ids)  # validation was given no names and isn't there
    hidden = [row for row in rows if row["file"].startswith("test")]
    assert [row["image_id"] for row in hidden] == [str(number) for number in range(len(test))]
    assert all(row["identifier"] is row["gbifID"] is row["datasetKey"] is None for row in hidden)
    assert {row["creator"] for row in hidden} >= {"Photographer 0", "Photographer 1"}
    assert all(row["gbifID"] for row in rows if row["file"].startswith("train"))


def test_totals_add_up(dataset: Dataset) -> None:
    rows = licence_totals(dataset).to_pylist()
    assert [(row["license"], row["images"]) for row in rows] == [("CC-BY-4.0", 31), ("", 15), (LICENCES[2], 15)]
    assert rows[0]["url"] == "https://creativecommons.org/licenses/by/4.0/"
    observations = {row["occurrenceID"] for row in shard_rows(dataset) if row["license"] in LICENCES[:2]}
    assert rows[0]["observations"] == len(observations)


def test_gbif_gets_records_not_pictures_by_dataset_key(dataset: Dataset, tmp_path: Path) -> None:
    records, without = defaultdict(set), set()
    for row in shard_rows(dataset):
        (records[row["datasetKey"].lower()] if row["datasetKey"] else without).add(row["gbifID"])
    assert sum(map(len, records.values())) < 61
    table, number = derived_dataset(dataset)
    assert dict(zip(*table.to_pydict().values(), strict=True)) == {key: len(found) for key, found in records.items()}
    assert number == len(without) > 0
    assert write_attribution(dataset, tmp_path / "out", ledger(dataset)) == number
    lines = (tmp_path / "out" / "derived-dataset.csv").read_text().splitlines()
    assert lines == [f"{key},{len(records[key])}" for key in sorted(records)]
    with open(tmp_path / "out" / "attribution.csv", newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    written = pq.read_table(tmp_path / "out" / "attribution.parquet").to_pylist()
    assert read == [{name: value or "" for name, value in row.items()} for row in written]
