"""The challenge's files, read back by plain code and recounted from the shards; and nothing public names a test picture."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from published_flora import FAMILIES, SPECIES, make_flora
from small_pictures import MakeRecords

from taxakey.dataset.publishing.herbarium2022 import Herbarium2022, Herbarium2022Options, write_herbarium2022
from taxakey.dataset.reader import Dataset
from taxakey.errors import BadInput
from taxakey.records.phylogeny import parse_newick


@pytest.fixture
def dataset(tmp_path: Path, make_records: MakeRecords) -> Dataset:
    return make_flora(tmp_path, make_records)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "public" / "herbarium2022"


def options(tmp_path: Path, **more: object) -> Herbarium2022Options:
    return Herbarium2022Options(tmp_path / "answers", **more)


def train_json(out: Path) -> dict:
    return json.loads((out / "train_metadata.json").read_text(encoding="utf-8"))


def rows_of(dataset: Dataset, *parts: str) -> list[dict]:
    shards = sorted(shard for part in parts for shard in (dataset.folder / "data").glob(f"{part}-*.parquet"))
    return [row for shard in shards for row in pq.read_table(shard).to_pylist()]


def csv_rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_members_are_named_as_in_the_challenge(dataset: Dataset, out: Path, tmp_path: Path) -> None:
    write_herbarium2022(dataset, out, options(tmp_path))
    found = train_json(out)
    members = {
        "annotations": ["image_id", "category_id", "genus_id", "institution_id"],
        "categories": ["category_id", "scientificName", "family", "genus", "species", "authors"],
        "genera": ["genus_id", "genus"],
        "images": ["image_id", "file_name", "license"],
        "distances": ["genus_id_x", "genus_id_y", "distance"],
        "licenses": ["id", "name", "url"],
        "institutions": ["institution_id", "collectionCode"],
    }
    assert list(found) == list(members)
    for name, keys in members.items():
        assert found[name]
        assert all(list(element) == keys for element in found[name]), name
    assert [image["image_id"] for image in found["images"]] == [note["image_id"] for note in found["annotations"]]
    assert len({image["image_id"] for image in found["images"]}) == len(found["images"])


def test_every_picture_of_train_and_validation_is_there_with_its_facts(dataset: Dataset, out: Path, tmp_path: Path) -> None:
    made = write_herbarium2022(dataset, out, options(tmp_path))
    found = train_json(out)
    notes = {note["image_id"]: note for note in found["annotations"]}
    images = {image["image_id"]: image for image in found["images"]}
    categories = {category["category_id"]: category for category in found["categories"]}
    genera = {genus["genus_id"]: genus["genus"] for genus in found["genera"]}
    institutions = {each["institution_id"]: each["collectionCode"] for each in found["institutions"]}
    licences = {each["id"]: each for each in found["licenses"]}
    rows = rows_of(dataset, "train", "validation")
    assert len(rows) == len(notes) == 52
    for row in rows:
        image_id = made.id_of[row["image_id"]]
        note, image = notes[image_id], images[image_id]
        category = categories[note["category_id"]]
        assert category["scientificName"] == f"{row['scientificName']} {row['scientificNameAuthorship'] or ''}".strip()
        assert f"{category['genus']} {category['species']}" == row["scientificName"]
        assert (category["family"], genera[note["genus_id"]]) == (row["family"], row["genus"])
        assert institutions[note["institution_id"]] == (row["institutionCode"] or row["collectionCode"] or "")
        licence = licences[image["license"]]
        if row["license"] and "4.0" in row["license"]:
            assert (licence["name"], licence["url"]) == ("CC-BY-4.0", "https://creativecommons.org/licenses/by/4.0/")
        else:
            assert (licence["name"], licence["url"]) == (row["license"] or "", "")
        assert image["file_name"].startswith(f"{note['category_id']:05d}"[:3])
        assert (out / "train_images" / image["file_name"]).read_bytes() == row["image"]["bytes"]
    validation = {made.id_of[row["image_id"]] for row in rows_of(dataset, "validation")}
    assert {line["image_id"] for line in csv_rows(out / "validation_images.csv")} == validation
    per_category = Counter(note["category_id"] for note in found["annotations"])
    assert per_category == Counter(SPECIES.index(row["scientificName"]) for row in rows)


def test_the_test_part_is_there_without_a_name(dataset: Dataset, out: Path, tmp_path: Path) -> None:
    made = write_herbarium2022(dataset, out, options(tmp_path))
    images = json.loads((out / "test_metadata.json").read_text())
    assert [image["image_id"] for image in images] == list(range(8))
    assert all(list(image) == ["image_id", "file_name", "license"] for image in images)
    assert (out / "sample_submission.csv").read_text().splitlines()[:3] == ["Id,Predicted", "0,0", "1,0"]
    rows = {row["image_id"]: row for row in rows_of(dataset, "test")}
    answers = csv_rows(tmp_path / "answers" / "solution.csv")
    names = csv_rows(tmp_path / "answers" / "test_pictures.csv")
    assert [line["Id"] for line in answers] == [line["Id"] for line in names] == [str(number) for number in range(8)]
    for image, answer, name in zip(images, answers, names, strict=True):
        row = rows[name["image_id"]]
        assert made.id_of[name["image_id"]] == name["Id"]
        assert SPECIES[int(answer["Predicted"])] == row["scientificName"] == name["scientificName"]
        data = (out / "test_images" / image["file_name"]).read_bytes()
        with Image.open(io.BytesIO(data)) as public, Image.open(io.BytesIO(row["image"]["bytes"])) as ours:
            assert np.array_equal(np.asarray(public), np.asarray(ours))
            assert ours.getexif()
            assert not public.getexif()
    assert made.counts["herbarium2022 left out"] == 1  # Zea mays has no training picture
    assert "1 pictures of species without a training picture" in made.notes[0]
    files = sorted(out.rglob("*.jpg"))
    assert len(files) == 60
    assert len({file.stat().st_mtime for file in files}) == 1


def test_nothing_public_names_a_test_picture(dataset: Dataset, out: Path, tmp_path: Path) -> None:
    write_herbarium2022(dataset, out, options(tmp_path))
    text = "\n".join(file.read_text(encoding="utf-8") for file in out.iterdir() if file.is_file())
    text += "\n".join(str(file.relative_to(out)) for file in out.rglob("*"))
    key = (tmp_path / "answers" / "key.txt").read_text().strip()
    assert len(key) == 32
    assert key not in text
    for row in rows_of(dataset, "test"):
        assert f'"{row["image_id"]}"' not in text
        for name in ("occurrenceID", "gbifID", "identifier"):
            assert f'{row[name]}"' not in text


def test_the_key_decides_the_order_and_stays(dataset: Dataset, tmp_path: Path) -> None:
    first = write_herbarium2022(dataset, tmp_path / "one" / "files", options(tmp_path, pictures=False))
    again = write_herbarium2022(dataset, tmp_path / "two" / "files", options(tmp_path, pictures=False))
    assert first.id_of == again.id_of
    for name in ("train_metadata.json", "test_metadata.json"):
        assert (tmp_path / "one" / "files" / name).read_bytes() == (tmp_path / "two" / "files" / name).read_bytes()
    assert not list((tmp_path / "one").rglob("*.jpg"))
    orders = {tuple(first.id_of[image] for image in dataset.part("test").image_ids[:-1] if image in first.id_of)}
    for number in range(5):
        (tmp_path / f"key{number}").mkdir()
        (tmp_path / f"key{number}" / "key.txt").write_text(f"{number}" * 32)
        other = Herbarium2022Options(tmp_path / f"key{number}", pictures=False)
        made = write_herbarium2022(dataset, tmp_path / f"out{number}" / "files", other)
        orders.add(tuple(made.id_of[image] for image in dataset.part("test").image_ids[:-1] if image in made.id_of))
    assert len(orders) > 3


def test_numbers_come_from_a_list_with_gaps(dataset: Dataset, out: Path, tmp_path: Path) -> None:
    given = {"Bellis perennis": 12, "Acer rubrum": 700, "Poa annua": 3, "Acer campestre": 123_456, "Quercus robur": 5}
    made = write_herbarium2022(dataset, out, options(tmp_path, category_ids=given))
    found = train_json(out)
    assert [category["category_id"] for category in found["categories"]] == [3, 12, 700, 123_456]
    assert {note["category_id"] for note in found["annotations"]} == {3, 12, 700, 123_456}
    files = {image["file_name"] for image in found["images"]}
    assert {"000/03/00003__001.jpg", "007/00/00700__001.jpg", "1234/56/123456__001.jpg"} <= files
    assert {line["Predicted"] for line in csv_rows(tmp_path / "answers" / "solution.csv")} == {"3", "12", "700", "123456"}
    assert isinstance(made, Herbarium2022)
    with pytest.raises(BadInput, match="2 species of the dataset have no number \\(first: Acer rubrum"):
        write_herbarium2022(dataset, out, options(tmp_path, category_ids={"Acer campestre": 1, "Poa annua": 2}))


def test_distances_along_a_tree_each_pair_once(dataset: Dataset, out: Path, tmp_path: Path) -> None:
    tree = parse_newick("((Acer_rubrum:1,Bellis:3):2,Poa:4.5);")
    write_herbarium2022(dataset, out, options(tmp_path, tree=tree))
    found = train_json(out)
    genera = {genus["genus_id"]: genus["genus"] for genus in found["genera"]}
    distances = {(genera[row["genus_id_x"]], genera[row["genus_id_y"]]): row["distance"] for row in found["distances"]}
    assert distances == {("Acer", "Bellis"): 4, ("Acer", "Poa"): 7.5, ("Bellis", "Poa"): 9.5}
    assert all(row["genus_id_x"] < row["genus_id_y"] for row in found["distances"])


def test_a_genus_outside_the_tree_is_told(dataset: Dataset, out: Path, tmp_path: Path) -> None:
    made = write_herbarium2022(dataset, out, options(tmp_path, tree=parse_newick("(Acer:1,Poa:1);")))
    assert [list(row.values()) for row in train_json(out)["distances"]] == [[0, 2, 2]]
    assert made.counts["genera outside the tree"] == 1
    assert "1 of 3 genera aren't in the tree and have no distances: Bellis" in made.notes[-1]


def test_without_a_tree_ranks_give_the_distances(dataset: Dataset, out: Path, tmp_path: Path) -> None:
    write_herbarium2022(dataset, out, options(tmp_path))
    # Acer and Bellis share the class (3), both share only the kingdom with Poa (5); the phylum isn't known.
    assert [list(row.values()) for row in train_json(out)["distances"]] == [[0, 1, 3], [0, 2, 5], [1, 2, 5]]
    assert FAMILIES[0] != FAMILIES[2]


def test_halves_become_usage(dataset: Dataset, out: Path, tmp_path: Path) -> None:
    test = dataset.part("test").image_ids
    halves = {image: ("public", "private")[number % 2] for number, image in enumerate(test)}
    write_herbarium2022(dataset, out, options(tmp_path, halves=halves))
    names = {line["Id"]: line["image_id"] for line in csv_rows(tmp_path / "answers" / "test_pictures.csv")}
    for line in csv_rows(tmp_path / "answers" / "solution.csv"):
        assert line["Usage"] == halves[names[line["Id"]]].capitalize()
    known = next(image for image in test if names and image in names.values())
    with pytest.raises(BadInput, match="1 test pictures are in no half"):
        write_herbarium2022(dataset, tmp_path / "p" / "h", options(tmp_path, halves={**halves, known: "both"}))


@pytest.mark.parametrize("inside", [".", "answers", "herbarium2022/answers"])
def test_answers_may_not_lie_among_what_is_published(dataset: Dataset, out: Path, inside: str) -> None:
    with pytest.raises(BadInput, match="among what is published"):
        write_herbarium2022(dataset, out, Herbarium2022Options(out.parent / inside))
    assert not out.parent.exists()
