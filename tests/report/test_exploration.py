"""The numbers of an exploration, counted by hand or another way."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from explored_world import EVIL, observations, rows
from hypothesis import given
from hypothesis import strategies as st

from taxakey.artifacts import Plan, read_manifest
from taxakey.errors import ArtifactError, BadInput, BadRecords, PlanMismatch
from taxakey.report.exploration import Exploration, Group, cumulative_tenths, explore
from taxakey.report.exploration_charts import charts, odd_years, to_png
from taxakey.report.exploration_page import write_exploration
from taxakey.report.exploration_sources import open_explored
from taxakey.report.thumbnails import SampleOptions, draw_samples


@pytest.fixture(scope="module")
def found() -> Exploration:
    return explore(observations().table, {"no name": 2})


def test_classes_with_their_parts_the_most_pictured_first(found: Exploration) -> None:
    assert found.classes == {
        "scientificName": ["Bellis perennis", EVIL, "Acer campestre", "Acer rubrum"],
        "family": ["Asteraceae", f"Evilaceae {EVIL}", "Sapindaceae", "Sapindaceae"],
        "images": [6, 3, 2, 1],
        "observations": [2, 3, 2, 1],
        "train": [4, 3, 1, 0],
        "validation": [0, 0, 1, 0],
        "test": [2, 0, 0, 1],
    }
    assert (found.counts["images"], found.counts["observations"], found.counts["species"]) == (12, 8, 4)
    assert (found.counts["train"], found.counts["validation"], found.counts["test"]) == (8, 1, 3)


def test_groups_count_pictures_and_species_and_own_up_to_what_isnt_given(found: Exploration) -> None:
    assert found.institutions == (Group("KEW", 7, 2), Group(EVIL, 3, 1), Group(None, 1, 1), Group("B", 1, 1))
    assert found.families[1:] == (Group(f"Evilaceae {EVIL}", 3, 1), Group("Sapindaceae", 2, 2), Group(None, 1, 1))
    assert found.licences[0] == Group("CC-BY-4.0", 7, 2)  # two spellings of the same licence


def test_time_and_place(found: Exploration) -> None:
    assert found.years == {23: 1, 1999: 3}
    assert odd_years(found) == 1
    assert "23" not in charts(found)["years"].said
    assert found.months == (0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0)
    assert found.places is not None
    # 150.8 degrees from west to east: cells of one degree leave 151 of them.
    assert (found.places.degrees, found.places.located) == (1.0, 3)
    cells = set(zip(found.places.west, found.places.south, found.places.images, strict=True))
    assert cells == {(0.0, 51.0, 2), (151.0, -34.0, 1)}


def test_missing_counts_pictures(found: Exploration) -> None:
    assert found.missing["institutionCode"] == 1
    assert found.missing["decimalLatitude"] == 9
    assert found.missing["habitat"] == 12
    assert "path" not in found.missing


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40))
def test_tenths_by_adding_up_one_class_after_another(images: list[int]) -> None:
    expected = []
    for percent in range(10, 101, 10):
        total = classes = 0
        for number in sorted(images, reverse=True):
            if 100 * total >= percent * sum(images):
                break
            total, classes = total + number, classes + 1
        expected.append(classes)
    assert [tenth.classes for tenth in cumulative_tenths(np.array(images))] == expected


def test_the_last_tenth_takes_every_class_even_of_a_billion_pictures() -> None:
    images = np.array([10**9, *([1] * 1080)])
    assert [tenth.classes for tenth in cumulative_tenths(images)] == [1] * 9 + [1081]


def test_without_a_split_or_an_institution_nothing_is_made_up() -> None:
    plain = [{**row, "split": None, "institutionCode": None} for row in rows()]
    found = explore(observations(plain).table)
    assert set(found.classes) == {"scientificName", "family", "images", "observations"}
    assert "institutions" not in charts(found)
    with pytest.raises(BadRecords, match="not one picture"):
        explore(observations().table.slice(0, 0))


def test_the_line_of_very_many_classes_keeps_its_ends() -> None:
    images = np.arange(5000, 0, -1)
    names = [f"Genus species{number}" for number in range(5000)]
    table = observations().table.slice(0, 1).take(pa.array(np.zeros(5000, dtype=np.int64)))
    table = table.set_column(4, "scientificName", pa.array(names))
    found = explore(table)
    many = charts(Exploration(**{**found.__dict__, "classes": {**found.classes, "images": images.tolist()}}))["counts"]
    assert (many.x[0], many.x[-1], many.y[0], many.y[-1]) == (1, 5000, 5000, 1)
    assert 300 < len(many.x) <= 800
    assert all(y == 5001 - x for x, y in zip(many.x, many.y, strict=True))


def test_every_chart_can_be_drawn_whatever_the_names_are(found: Exploration) -> None:
    drawn = charts(found)
    assert {"counts", "tenths", "families", "institutions", "years", "months", "map", "countries", "licences", "missing"} == {
        *drawn
    }
    for chart in drawn.values():
        assert to_png(chart).startswith(b"\x89PNG")
    formula = dataclasses.replace(drawn["countries"], y=[r"$\frac$"])
    assert to_png(formula).startswith(b"\x89PNG")


# ---- what can be explored ----


def test_records_become_an_artifact(tmp_path: Path) -> None:
    observations().write(tmp_path / "records", Plan("records"))
    page = write_exploration(tmp_path / "records", tmp_path / "out")
    values = json.loads((tmp_path / "out" / "exploration.json").read_text())
    assert values["classes"]["images"] == [6, 3, 2, 1]
    assert values["source"]["kind"] == "records"
    assert read_manifest(tmp_path / "out", "exploration").counts["images"] == 12
    assert (tmp_path / "out" / "map.png").is_file()
    first = page.read_bytes()
    assert write_exploration(tmp_path / "records", tmp_path / "out").read_bytes() == first
    observations(rows()[:6]).write(tmp_path / "other", Plan("records", recipe={"other": 1}))
    with pytest.raises(PlanMismatch):
        write_exploration(tmp_path / "other", tmp_path / "out")


def test_a_dataset_has_sizes_and_samples(sheets_dataset: Path) -> None:
    explored = open_explored(sheets_dataset)
    found = explore(explored.table, explored.refused)
    counts = Counter(explored.table["scientificName"].to_pylist())
    assert dict(zip(found.classes["scientificName"], found.classes["images"], strict=True)) == counts
    assert found.longest_edge is not None
    assert found.longest_edge.labels == ("96",)
    samples = draw_samples(explored.table, explored.load, SampleOptions(families=2, pictures=3, edge=48))
    assert [len(pictures) for pictures in samples.families.values()] == [3, 3]
    assert list(samples.families) == [group.name for group in found.families[:2]]
    for family, pictures in samples.families.items():
        of_family = {
            name for name, of in zip(*(explored.table[key].to_pylist() for key in ("scientificName", "family")), strict=True)
            if of == family
        }  # fmt: skip
        shown = [picture.scientific_name for picture in pictures]
        assert len(set(shown)) == min(3, len(of_family))  # as many species as there are, before any comes twice
        assert set(shown) <= of_family
        assert all(picture.jpeg[:2] == b"\xff\xd8" and len(picture.jpeg) < 5000 for picture in pictures)
    assert draw_samples(explored.table, explored.load, SampleOptions(families=2, pictures=3, edge=48)) == samples


def test_a_row_of_a_dataset_is_its_own_picture(sheets_dataset: Path) -> None:
    from taxakey.dataset.reader import Dataset

    explored, dataset = open_explored(sheets_dataset), Dataset.open(sheets_dataset)
    train = len(dataset.part("train"))
    for row in (0, train - 1, train, explored.table.num_rows - 1):
        part, index = (name_index for name_index in _place(dataset, row))
        assert explored.load(row) == dataset.part(part).image_bytes(index)
        assert explored.table["image_id"][row].as_py() == dataset.part(part).image_ids[index]


def _place(dataset, row: int) -> tuple[str, int]:
    for part in ("train", "validation", "test"):
        if row < len(dataset.part(part)):
            return part, row
        row -= len(dataset.part(part))
    raise AssertionError


def test_pictures_that_cant_be_read_are_counted(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    made = [{**row, "path": str(tmp_path / name)} for row, name in zip(rows(), ("broken.jpg", "absent.jpg"), strict=False)]
    observations(made).write(tmp_path / "records", Plan("records"))
    page = write_exploration(tmp_path / "records", tmp_path / "out").read_text()
    assert "Not one picture could be read" in page
    explored = open_explored(tmp_path / "records")
    assert draw_samples(explored.table, explored.load).unreadable == 2


def test_naflora_mini_is_read_where_it_lies(shared_data: Path) -> None:
    file = shared_data / "checklists" / "naflora_mini" / "h22_miniv1_val.tsv"
    columns = {"scientificName": "scientificName", "path": "image_id", "institutionCode": "institution_id"}
    found = explore(open_explored(file, columns).table)
    assert (found.counts["images"], found.counts["species"], found.counts["institutions"]) == (9315, 1863, 46)
    assert set(found.classes["images"]) == {5}
    assert [tenth.classes for tenth in found.tenths] == [187, 373, 559, 746, 932, 1118, 1305, 1491, 1677, 1863]


def test_flowers_are_read_where_they_lie_with_samples(shared_data: Path, tmp_path: Path) -> None:
    page = write_exploration(shared_data / "images" / "flowers102" / "labels.csv", tmp_path, samples=SampleOptions(3, 4, 64))
    text = page.read_text()
    assert text.count("data:image/jpeg;base64,") == 12
    assert "no split into train, validation and test yet" in text
    assert json.loads((tmp_path / "exploration.json").read_text())["counts"]["images"] == 4473


def test_other_folders_are_refused_by_name(sheets_dataset: Path, tmp_path: Path) -> None:
    observations().write(tmp_path / "records", Plan("records"))
    write_exploration(tmp_path / "records", tmp_path / "out")
    with pytest.raises(ArtifactError, match="holds 'exploration'"):
        open_explored(tmp_path / "out")
    with pytest.raises(BadInput, match="finished dataset"):
        open_explored(sheets_dataset, {"path": "x"})
    with pytest.raises(BadInput, match="0 to 300"):
        SampleOptions(families=301)
