"""Reading a dataset: parts, truth, and random access to pictures."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_pictures import MakeRecords, noise

from taxakey.artifacts import write_json
from taxakey.dataset.build import PARTS, BuildOptions, build, shards_of
from taxakey.dataset.folds import Fold
from taxakey.dataset.reader import Dataset
from taxakey.errors import ArtifactError, BadInput, MissingArtifact
from taxakey.taxonomy import Taxonomy


@pytest.fixture
def dataset(tmp_path: Path, small_records: Path) -> Dataset:
    build(small_records, tmp_path / "dataset", BuildOptions(rows_per_shard=10))
    return Dataset.open(tmp_path / "dataset")


def test_a_part_stands_in_the_order_of_its_shards(dataset: Dataset) -> None:
    part = dataset.part("train")
    rows = [row for shard in shards_of(dataset.folder, "train") for row in pq.read_table(shard).to_pylist()]
    assert len(part) == len(rows) == 24
    assert part.image_ids == [row["image_id"] for row in rows]
    assert part.observation_ids == [row["occurrenceID"] for row in rows]
    assert [part.image_bytes(index) for index in range(24)] == [row["image"]["bytes"] for row in rows]
    assert "image" not in part.table.column_names
    assert part.table["width"].to_pylist() == [80] * 24
    assert [dataset.taxonomy.names[index] for index in part.class_index] == [row["scientificName"] for row in rows]
    assert part.class_index.dtype == np.int64


def test_a_dataset_from_before_a_column_came_has_it_empty(dataset: Dataset) -> None:
    for part in PARTS:
        for shard in shards_of(dataset.folder, part):
            pq.write_table(pq.read_table(shard).drop_columns(["habitat", "metasubstrate"]), shard)
    old = Dataset.open(dataset.folder)
    assert old.part("train").table["metasubstrate"].to_pylist() == [None] * 24
    assert old.part("train").image_bytes(23) == dataset.part("train").image_bytes(23)
    assert len(Fold(1, 2).of(old, seed=0).part("train")) > 0


def test_a_species_without_training_pictures_has_no_class_and_is_counted_nowhere(dataset: Dataset) -> None:
    part = dataset.part("test")
    names = part.table["scientificName"].to_pylist()
    assert [name for name, index in zip(names, part.class_index, strict=True) if index == -1] == ["Zea mays"]
    trained = dataset.part("train").table["scientificName"].to_pylist()
    assert dataset.train_counts().tolist() == [trained.count(name) for name in dataset.taxonomy.names]
    assert dataset.train_counts().dtype == np.int64


def test_truth_has_the_parents_of_the_class_and_otherwise_those_of_the_record(tmp_path: Path, make_records: MakeRecords) -> None:
    file = tmp_path / "a.jpg"
    noise(0, 60, 80).save(file)
    rows = [(file, "Poa annua", "train")] * 3 + [
        (file, "Poa annua", "test"),
        (file, "Zea mays", "test"),
        (file, "Aus bus", "train"),
    ]
    families = ["Poaceae", "Poaceae", "Gramineae", "Gramineae", "Poaceae", None]
    genera = ["Poa", "Poa", "Poa", None, "Zea", None]
    build(make_records(rows, family=families, genus=genera), tmp_path / "dataset")
    part = Dataset.open(tmp_path / "dataset").part("test")
    truth = part.truth()
    found = dict(zip(truth.species, zip(truth.genus, truth.family, strict=True), strict=True))
    assert found == {"Poa annua": ("Poa", "Poaceae"), "Zea mays": ("Zea", "Poaceae")}
    train = Dataset.open(tmp_path / "dataset").part("train").truth()
    assert dict(zip(train.species, train.family, strict=True))["Aus bus"] is None


def test_among_some_species_only_their_pictures_are_there(dataset: Dataset) -> None:
    names = dataset.taxonomy.names[1:]
    some = dataset.among(Taxonomy.from_rows([{"scientificName": name} for name in names]))
    for part in ("train", "validation", "test"):
        whole = dataset.part(part)
        kept = [row for row, name in enumerate(whole.table["scientificName"].to_pylist()) if name in names]
        assert some.part(part).image_ids == [whole.image_ids[row] for row in kept]
        assert [some.part(part).image_bytes(at) for at in range(len(kept))] == [whole.image_bytes(row) for row in kept]
        assert (some.part(part).class_index == whole.class_index[kept] - 1).all()
    assert some.train_counts().tolist() == dataset.train_counts()[1:].tolist()
    with pytest.raises(BadInput, match=r"doesn't know 1 of 1 species \(first: Zea mays\)"):
        dataset.among(Taxonomy.from_rows([{"scientificName": "Zea mays"}]))


READ_THE_FIRST = """
import pickle, sys
part = pickle.load(open(sys.argv[1], "rb"))
sys.stdout.buffer.write(part.image_bytes(0))
"""


def test_a_part_can_be_sent_to_another_process(tmp_path: Path, dataset: Dataset) -> None:
    part = dataset.part("train")
    first = part.image_bytes(0)
    (tmp_path / "part.pickle").write_bytes(pickle.dumps(part))
    command = [sys.executable, "-c", READ_THE_FIRST, str(tmp_path / "part.pickle")]
    assert subprocess.run(command, stdout=subprocess.PIPE, timeout=60, check=True).stdout == first
    copy = pickle.loads(pickle.dumps(part))  # noqa: S301 our own
    assert copy.image_bytes(1) == part.image_bytes(1)
    assert copy.image_ids == part.image_ids


def test_the_arrow_copy_is_made_once_and_again_when_the_dataset_changes(dataset: Dataset) -> None:
    file = dataset.folder / "arrow/train.arrow"
    part = dataset.part("train")
    assert not file.exists()
    first = part.image_bytes(0)
    made = file.stat().st_mtime_ns
    assert Dataset.open(dataset.folder).part("train").image_bytes(0) == first
    assert file.stat().st_mtime_ns == made
    with pa.memory_map(str(file)) as source:
        assert pa.ipc.open_file(source).schema.names == ["bytes"]
    manifest = (dataset.folder / "manifest.json").read_text()
    (dataset.folder / "manifest.json").write_text(manifest + "\n")
    assert Dataset.open(dataset.folder).part("train").image_bytes(0) == first
    assert file.stat().st_mtime_ns > made


def test_a_picture_beyond_the_end_and_a_part_that_is_none(dataset: Dataset) -> None:
    for index in (24, -1):
        with pytest.raises(IndexError, match="which has 24"):
            dataset.part("train").image_bytes(index)
    with pytest.raises(BadInput, match="'val' is no part of a dataset; one of train, validation, test"):
        dataset.part("val")


def test_what_is_no_dataset_says_so(tmp_path: Path, dataset: Dataset) -> None:
    with pytest.raises(MissingArtifact):
        Dataset.open(tmp_path / "nowhere")
    with pytest.raises(ArtifactError, match="holds 'records'"):
        Dataset.open(tmp_path / "records")
    for shard in shards_of(dataset.folder, "train"):
        shard.unlink()
    with pytest.raises(MissingArtifact, match="no shards of the part 'train'"):
        dataset.part("train")
    write_json(tmp_path / "dataset/manifest.json", {"kind": "dataset", "format_version": 99, "taxakey": "9"})
    with pytest.raises(ArtifactError, match="install the newer version"):
        Dataset.open(tmp_path / "dataset")


def test_a_fraction_takes_observations_of_every_species_and_finds_their_pictures(sheets_dataset: Path) -> None:
    whole = Dataset.open(sheets_dataset)
    part = whole.part("train")
    names = part.table["scientificName"].to_pylist()
    observations = {name: {o for n, o in zip(names, part.observation_ids, strict=True) if n == name} for name in set(names)}
    before: set[str] = set()
    for share in (0.001, 0.3, 0.7):
        some = whole.fraction(share, seed=4).part("train")
        kept = some.table["scientificName"].to_pylist()
        for name, known in observations.items():
            own = {o for n, o in zip(kept, some.observation_ids, strict=True) if n == name}
            assert len(own) == max(1, round(share * len(known)))
            pictures = [i for n, o, i in zip(names, part.observation_ids, part.image_ids, strict=True) if n == name and o in own]
            assert [i for n, i in zip(kept, some.image_ids, strict=True) if n == name] == pictures
        assert before <= set(some.image_ids), "a larger share holds the smaller"
        before = set(some.image_ids)
        place = part.image_ids.index(some.image_ids[-1])
        assert some.image_bytes(len(some) - 1) == part.image_bytes(place)
        assert copy.deepcopy(some).image_bytes(0) == some.image_bytes(0)
        assert some.class_index.tolist() == whole.taxonomy.index_of(kept).tolist()
        with pytest.raises(IndexError):
            some.image_bytes(len(some))
    assert whole.fraction(0.3, seed=5).part("train").image_ids != whole.fraction(0.3, seed=4).part("train").image_ids
    assert whole.fraction(0.3, seed=4).part("test").image_ids == whole.part("test").image_ids
    assert len(whole.part("train")) == len(names), "the dataset itself stays whole"
