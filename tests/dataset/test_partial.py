"""Pictures known to genus or family: from the records that refuse them to the labels that a marginal loss wants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from small_pictures import noise

from taxakey.artifacts import Plan, read_manifest
from taxakey.dataset.build import BuildOptions, build
from taxakey.dataset.folds import Fold
from taxakey.dataset.reader import Dataset
from taxakey.dataset.vectors import Vectors
from taxakey.embeddings import embed
from taxakey.models.backbones import BackboneOptions
from taxakey.records.reading.merging import merge, with_source
from taxakey.records.splits import split
from taxakey.records.table import NOT_TO_SPECIES, Observations

SPECIES = (("Poa annua", "Poa", "Poaceae"), ("Poa bulbosa", "Poa", "Poaceae"), ("Bellis perennis", "Bellis", "Asteraceae"))


def row(
    number: int, name: str, genus: str | None, family: str | None, rank: str | None, folder: Path, **more: Any
) -> dict[str, Any]:
    file = folder / f"{number}.jpg"
    noise(number, 40, 40).save(file)
    ids = {"occurrenceID": f"o{number}", "image_id": f"i{number}", "path": str(file), "identifier": None, "split": None}
    return {**ids, "scientificName": name, "genus": genus, "family": family, "taxonRank": rank, **more}


@pytest.fixture
def rows(tmp_path: Path) -> list[dict[str, Any]]:
    """Twelve of each of three species, then what is known to less."""
    named = [row(number, *SPECIES[number % 3], "species", tmp_path) for number in range(36)]
    return [
        *named,
        row(50, "Poa", "Poa", "Poaceae", "GENUS", tmp_path),
        row(51, "Poa", None, None, "genus", tmp_path),  # the name itself says it
        row(52, "Asteraceae", None, None, "family", tmp_path),
        row(53, "Festuca", "Festuca", "Poaceae", "genus", tmp_path),  # a genus that no class has, in a family that two have
        row(54, "Zea", "Zea", None, "genus", tmp_path),  # nothing of it is known
        row(55, "Poales", None, None, "order", tmp_path),  # above family
        row(56, "Poa", "Poa", "Poaceae", "genus", tmp_path, split="test"),  # kept for a test by its source
        row(57, "Poeae", "Poa", "Poaceae", "tribe", tmp_path),  # a genus column on a tribe says nothing of the genus
        {**row(58, "Poa", "Poa", "Poaceae", "genus", tmp_path), "path": None, "identifier": None},  # no picture
        {**row(59, "Bellis", "Bellis", "Asteraceae", "genus", tmp_path), "occurrenceID": "o2"},  # of a named observation
        {**row(60, "Bellis", "Bellis", "Asteraceae", "genus", tmp_path), "path": None, "identifier": "https://example.org/60"},
    ]


def checked(rows: list[dict[str, Any]]) -> Observations:
    return Observations.from_table(pa.Table.from_pylist(rows, schema=None))


def test_records_keep_them_apart_and_refuse_them_as_before(rows: list[dict[str, Any]]) -> None:
    found = checked(rows)
    assert len(found) == 35, "all named ones but the one of an observation of two names"
    partial = {row["image_id"]: (row["scientificName"], row["taxonRank"]) for row in found.partial.to_pylist()}
    assert partial == {
        "i50": ("Poa", "genus"), "i51": ("Poa", "genus"), "i52": ("Asteraceae", "family"), "i53": ("Festuca", "genus"),
        "i54": ("Zea", "genus"), "i57": ("Poaceae", "family"), "i59": ("Bellis", "genus"), "i60": ("Bellis", "genus"),
    }  # fmt: skip
    assert found.rejections()[NOT_TO_SPECIES] == 11
    counts = found.counts()
    assert (counts["known above species: to genus"], counts["known above species: to family"]) == (6, 2)


def test_they_survive_files_splits_merges_and_rejections(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    found = split(checked(rows))
    found.write(tmp_path / "records", Plan("records"))
    assert Observations.read(tmp_path / "records").partial.equals(found.partial)
    other = checked([{**one, "occurrenceID": f"b{one['occurrenceID']}", "image_id": f"b{one['image_id']}"} for one in rows])
    assert merge([with_source(found, "one"), with_source(other, "two")]).partial.num_rows == 2 * found.partial.num_rows
    assert found.reject(pa.array([True] * len(found)), "why", "so").partial.num_rows == found.partial.num_rows
    checked(rows[:36]).write(tmp_path / "named", Plan("records"))
    assert not (tmp_path / "named" / "partial.parquet").exists()
    assert Observations.read(tmp_path / "named").partial.num_rows == 0


@pytest.fixture
def dataset(rows: list[dict[str, Any]], tmp_path: Path) -> Dataset:
    split(checked(rows)).write(tmp_path / "records", Plan("records"))
    build(tmp_path / "records", tmp_path / "dataset", BuildOptions(longest_edge=40, partial=True))
    return Dataset.open(tmp_path / "dataset")


def test_the_dataset_has_them_in_a_part_of_its_own(dataset: Dataset, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    partial = dataset.partial()
    assert partial is not None
    # i59 stays: its observation's named picture was refused, so no other row has it. i60 has no file.
    assert sorted(partial.image_ids) == ["i50", "i51", "i52", "i53", "i54", "i57", "i59"]
    counts = dataset.manifest.counts
    assert (counts["partial"], counts["partial_of_no_class"], counts["partial_left_out"]) == (7, 1, 1)
    assert not {*partial.image_ids} & {
        image for name in ("train", "validation", "test") for image in dataset.part(name).image_ids
    }
    assert partial.image_bytes(0).startswith(b"\xff\xd8")
    plain = build(tmp_path / "records", tmp_path / "plain", BuildOptions(longest_edge=40))
    assert "partial" not in plain.counts
    assert Dataset.open(tmp_path / "plain").partial() is None
    assert Dataset.open(tmp_path / "plain").taxonomy.fingerprint == dataset.taxonomy.fingerprint


def test_labels_name_genus_before_family(dataset: Dataset) -> None:
    taxonomy, partial = dataset.taxonomy, dataset.partial()
    assert partial is not None
    assert taxonomy.taxa("genus") == ("Bellis", "Poa")
    assert taxonomy.taxa("family") == ("Asteraceae", "Poaceae")
    label = dict(zip(partial.image_ids, partial.labels.tolist(), strict=True))
    assert label == {"i50": 4, "i51": 4, "i52": 5, "i53": 6, "i54": -1, "i57": 6, "i59": 3}
    for name in ("train", "validation", "test"):
        part = dataset.part(name)
        np.testing.assert_array_equal(part.labels, part.class_index)


def test_training_has_them_only_when_asked(dataset: Dataset) -> None:
    train, partial = dataset.part("train"), dataset.partial()
    assert partial is not None
    assert dataset.training(partial=False) is train
    both = dataset.training(partial=True)
    assert len(both) == len(train) + 7
    np.testing.assert_array_equal(both.class_index, np.concatenate([train.class_index, partial.labels]))
    assert both.image_bytes(len(train) + 3) == partial.image_bytes(3)
    assert dataset.train_counts().sum() == len(train), "counts of classes know classes only"


def test_all_members_of_folds_learn_from_them(dataset: Dataset) -> None:
    for number in (1, 2, 3):
        member = Fold(number, 3).of(dataset, 0)
        assert {"i50", "i52"} <= {*member.training(partial=True).image_ids}
        assert not {"i50", "i52"} & {*member.part("validation").image_ids, *member.part("train").image_ids}


def test_their_vectors_are_stored_too(dataset: Dataset, tmp_path: Path) -> None:
    embed(dataset.folder, BackboneOptions(name="resnet10t", weights="none", image_size=32), tmp_path / "vectors")
    both = dataset.training(partial=True)
    vectors_ND = Vectors(tmp_path / "vectors").part(both.name, both.image_ids)
    assert len(vectors_ND) == len(both)
    assert read_manifest(tmp_path / "vectors", "embeddings").counts["partial"] == 7
