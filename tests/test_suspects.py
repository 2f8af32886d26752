"""The list of suspected labels: who may judge, what is listed, and the files, on predictions that are written out here."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner

from taxakey import artifacts
from taxakey.cli.suspects import suspects as command
from taxakey.dataset.reader import Dataset
from taxakey.errors import BadInput
from taxakey.evaluation.suspects import COLUMNS, _records, find_suspects
from taxakey.predictions import Predictions, Truth

app = typer.Typer()
app.command()(command)


@pytest.fixture
def dataset(sheets_dataset: Path) -> Dataset:
    return Dataset.open(sheets_dataset)


def write(out: Path, dataset: Dataset, *, part: str = "test", wrong: int = 3, surest: float = 0.95, **recipe: str) -> list[str]:
    """Predictions of a part that are right with 0.9 each, but for the first `wrong` observations, which are taken for the
    next class with 0.95, 0.94 … (`surest` on); returns these."""
    rows = dataset.part(part)
    ids, first = np.unique(rows.observation_ids, return_index=True)
    given = rows.class_index[first]
    classes = len(dataset.taxonomy)
    probabilities = np.full((len(ids), classes), 0.1 / (classes - 1))
    probabilities[np.arange(len(ids)), given] = 0.9
    for place in range(wrong):
        sure = surest - 0.01 * place
        probabilities[place] = (1 - sure) / (classes - 1)
        probabilities[place, (given[place] + 1) % classes] = sure
    truth = Truth(*([names[row] for row in first] for names in (rows.truth().species, rows.truth().genus, rows.truth().family)))
    found = Predictions.from_probabilities(probabilities, dataset.taxonomy, observation_ids=ids.tolist(), truth=truth)
    plan = artifacts.Plan("predictions", {"dataset": artifacts.hash_of(dataset.folder)}, {"part": part, **recipe})
    artifacts.start(out, plan)
    found.write(out / "observations.parquet")
    artifacts.finish(out, plan, counts={}, taxonomy=dataset.taxonomy.fingerprint)
    return ids[:wrong].tolist()


def a_run(folder: Path, dataset_hash: str, **recipe: str) -> Path:
    """A finished run's manifest, and its model's folder."""
    plan = artifacts.Plan("run", {"dataset": dataset_hash}, recipe)
    artifacts.start(folder, plan)
    artifacts.finish(folder, plan, counts={})
    return folder / "model"


def test_doubtful_observations_are_listed_the_surest_first(dataset: Dataset, tmp_path: Path) -> None:
    wrong = write(tmp_path / "said", dataset)
    found = find_suspects(tmp_path / "said", dataset.folder)
    assert found.table.schema.equals(COLUMNS)
    rows = found.table.to_pylist()
    assert [row["observation_id"] for row in rows] == wrong
    assert [row["place"] for row in rows] == [1, 2, 3]
    assert rows[0]["suspected_probability"] == pytest.approx(0.95)
    assert rows[0]["margin"] == pytest.approx(0.95 - rows[0]["probability"])
    part = dataset.part("test")
    for row in rows:
        at = part.image_ids.index(row["image_id"])
        record = part.table.slice(at, 1).to_pylist()[0]
        assert record["occurrenceID"] == row["observation_id"]
        assert (record["scientificName"], record["institutionCode"]) == (row["scientificName"], row["institutionCode"])
        given, likelier = (dataset.taxonomy.names.index(row[name]) for name in ("scientificName", "suspected"))
        assert likelier == (given + 1) % len(dataset.taxonomy)
        genus, family = ([dataset.taxonomy.column(rank)[each] for each in (given, likelier)] for rank in ("genus", "family"))
        same = "same genus" if len(set(genus)) == 1 else "same family" if len(set(family)) == 1 else "other family"
        assert row["kinship"] == same
    assert found.judged == len(set(part.observation_ids))
    assert sum(suspects for _, suspects in found.by_institution.values()) == 3
    assert found.share.low <= 3 / found.judged <= found.share.high


def test_reference_pictures_bear_the_name_and_are_no_suspects(dataset: Dataset, tmp_path: Path) -> None:
    write(tmp_path / "said", dataset)
    found = find_suspects(tmp_path / "said", dataset.folder)
    names = {}
    for part in ("train", "validation", "test"):
        names |= dict(zip(dataset.part(part).image_ids, dataset.part(part).table["scientificName"].to_pylist(), strict=True))
    wanted = {name for row in found.table.to_pylist() for name in (row["scientificName"], row["suspected"])}
    assert found.references.keys() == wanted
    for name, images in found.references.items():
        assert len(images) == len(set(images)) == 2
        assert {names[image] for image in images} == {name}
        assert not set(images) & set(found.table["image_id"].to_pylist())


def test_a_model_may_not_judge_what_it_learnt_from(dataset: Dataset, tmp_path: Path) -> None:
    write(tmp_path / "train", dataset, part="train")
    with pytest.raises(BadInput, match="taxakey folds"):
        find_suspects(tmp_path / "train", dataset.folder)
    here = artifacts.hash_of(dataset.folder)
    own = a_run(tmp_path / "run", here)
    write(tmp_path / "good", dataset, wrong=1, model=str(own))
    assert find_suspects(tmp_path / "good", dataset.folder).notes == ()
    other = a_run(tmp_path / "other", "0" * 64)
    write(tmp_path / "elsewhere", dataset, model=str(other))
    with pytest.raises(BadInput, match="learned from another dataset"):
        find_suspects(tmp_path / "elsewhere", dataset.folder)
    fold = a_run(tmp_path / "fold", here, fold="1/3")
    write(tmp_path / "validation", dataset, part="validation", wrong=1, model=str(fold))
    with pytest.raises(BadInput, match="all its folds"):
        find_suspects(tmp_path / "validation", dataset.folder)
    write(tmp_path / "gone", dataset, model=str(tmp_path / "nowhere" / "model"))
    assert "isn't at hand" in find_suspects(tmp_path / "gone", dataset.folder).notes[0]


def test_predictions_of_another_dataset_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    write(tmp_path / "said", dataset)
    plan = artifacts.read_json(tmp_path / "said" / "manifest.json")
    artifacts.write_json(tmp_path / "said" / "manifest.json", {**plan, "inputs": {"dataset": "0" * 64}})
    with pytest.raises(BadInput, match="predict again"):
        find_suspects(tmp_path / "said", dataset.folder)


def test_the_command_writes_four_files_that_agree(dataset: Dataset, tmp_path: Path) -> None:
    wrong = write(tmp_path / "said", dataset)
    done = CliRunner().invoke(app, [str(tmp_path / "said"), str(dataset.folder), str(tmp_path / "out"), "--resamples", "50"])
    assert done.exit_code == 0, done.output
    assert "3 look more like another species" in done.output
    assert pq.read_table(tmp_path / "out" / "suspects.parquet")["observation_id"].to_pylist() == wrong
    with open(tmp_path / "out" / "suspects.csv", encoding="utf-8") as file:
        assert [row["observation_id"] for row in csv.DictReader(file)] == wrong
    found = json.loads((tmp_path / "out" / "suspects.json").read_text(encoding="utf-8"))
    assert [row["observation_id"] for row in found["suspects"]] == wrong
    assert found["share_of_wrong_labels"]["resamples"] == found["share_contested"]["resamples"] == 50
    # Its three errors are its surest answers: all stand among the surest third, and confident learning contests no others.
    assert found["share_of_wrong_labels"]["value"] == pytest.approx(3 / round(found["judged"] / 3))
    assert found["share_contested"]["value"] >= 3 / found["judged"] - 1e-9
    page = (tmp_path / "out" / "suspects.html").read_text(encoding="utf-8")
    assert page.count("<article") == 3
    assert page.count("data:image/jpeg;base64,") == 3 * 5  # the picture in question and two of each species
    assert "http" not in page.split("<body>")[1]


def test_the_command_refuses_the_training_part_before_it_computes(dataset: Dataset, tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", artifacts.hash_of(dataset.folder)).parent
    done = CliRunner().invoke(app, [str(run), str(dataset.folder), str(tmp_path / "out"), "--part", "train", "--device", "cpu"])
    assert isinstance(done.exception, BadInput)
    assert "repeat them" in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_names_from_records_are_text_in_the_page(dataset: Dataset, tmp_path: Path) -> None:
    from dataclasses import replace

    import pyarrow as pa

    from taxakey.report.suspects_page import to_html

    write(tmp_path / "said", dataset, wrong=1)
    found = find_suspects(tmp_path / "said", dataset.folder)
    place = found.table.schema.get_field_index("recordedBy")
    hostile = replace(found, table=found.table.set_column(place, "recordedBy", pa.array(["<script>alert(1)</script>"])))
    assert "<script>" not in to_html(hostile, dataset)


def test_a_weak_model_is_called_one(dataset: Dataset, tmp_path: Path) -> None:
    observations = len(set(dataset.part("test").observation_ids))
    write(tmp_path / "good", dataset, wrong=observations // 12)
    assert not any("own errors" in note for note in find_suspects(tmp_path / "good", dataset.folder).notes)
    write(tmp_path / "weak", dataset, wrong=observations // 3)
    said = find_suspects(tmp_path / "weak", dataset.folder).notes
    (note,) = [note for note in said if "gives another name than the label" in note]
    assert "Unless so many labels are wrong, some of that are its own errors" in note


def test_the_note_of_a_weak_model_holds_where_its_surest_answers_contradict_nothing(dataset: Dataset, tmp_path: Path) -> None:
    observations = len(set(dataset.part("test").observation_ids))
    write(tmp_path / "said", dataset, wrong=observations // 5, surest=0.8)
    found = find_suspects(tmp_path / "said", dataset.folder)
    assert found.share_among_surest.value == 0 < found.share.value
    assert "too high" not in found.notes[0], "a share of 0 isn't"
    assert "what they add to a share of wrong names is too much" in found.notes[0]


def test_a_dataset_of_before_recordedby_is_judged_too(dataset: Dataset) -> None:
    class Part:
        table = dataset.part("test").table.drop_columns(["recordedBy"])

    class Older:
        @staticmethod
        def part(name: str) -> Part:
            return Part()

    records = _records(Older(), ["test"])  # type: ignore[arg-type]
    assert records
    assert all(record["recordedBy"] is None and record["part"] == "test" for record in records.values())
