"""Files written from predictions and scored: the organisers' own figures, scikit-learn, loops, and metrics of the same table."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score
from typer.testing import CliRunner

from taxakey.artifacts import Plan, finish, start, write_parquet
from taxakey.cli.challenge import challenge
from taxakey.errors import BadInput
from taxakey.evaluation.challenges.formats import FORMATS
from taxakey.evaluation.challenges.scoring import score
from taxakey.evaluation.challenges.writing import WritingOptions, write
from taxakey.metrics import costs
from taxakey.metrics.ranking import ma_mrr
from taxakey.predictions import Predictions, Truth
from taxakey.taxonomy import Taxonomy

SPECIES = [f"Genus{number // 3:02} species{number:02}" for number in range(40)]
OUTSIDE = "Nowhere to-be-found"
OBSERVATIONS = 120


@pytest.fixture(scope="module")
def predictions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 observations of 40 species, ten of them of a species that the model doesn't hold; class 1000 + 7·index."""
    folder = tmp_path_factory.mktemp("predictions") / "predictions"
    rng = np.random.default_rng(3)
    taxonomy = Taxonomy.from_rows(
        {"scientificName": name, "taxonID": str(1000 + 7 * number), "poisonous": number % 5 == 0}
        for number, name in enumerate(SPECIES)
    )
    true_O = rng.integers(0, 40, OBSERVATIONS)
    scores_OC = rng.normal(size=(OBSERVATIONS, 40))
    scores_OC[np.arange(OBSERVATIONS), true_O] += 2
    p_OC = np.exp(scores_OC) / np.exp(scores_OC).sum(1, keepdims=True)
    names: list[str | None] = [OUTSIDE if row < 10 else SPECIES[species] for row, species in enumerate(true_O)]
    truth = Truth(names, [None] * OBSERVATIONS, [None] * OBSERVATIONS)
    plan = Plan("predictions", {}, {"part": "test"})
    start(folder, plan)
    ids = [str(500 + row) for row in range(OBSERVATIONS)]
    for level in ("observations", "images"):
        Predictions.from_probabilities(p_OC, taxonomy, observation_ids=ids, image_ids=ids, truth=truth).write(
            folder / f"{level}.parquet"
        )
    write_parquet(folder / "taxonomy.parquet", taxonomy.table)
    finish(folder, plan, counts={})
    return folder


def labels(folder: Path) -> tuple[list[str], list[int], Predictions]:
    """Ids, true class numbers (-1 outside) and the table."""
    table = Predictions.read(folder / "observations.parquet")
    true = [1000 + 7 * SPECIES.index(name) if name in SPECIES else -1 for name in table.strings("true_species")]
    return table.strings("observation_id"), true, table  # type: ignore[return-value]


def test_a_run_file_holds_thirty_falling_answers_and_scores_as_the_table(predictions: Path, tmp_path: Path) -> None:
    found = write(predictions, FORMATS["plantclef2022"], tmp_path / "run.txt")
    assert (found.rows, found.ids) == (30 * OBSERVATIONS, OBSERVATIONS)
    rows = [line.split(";") for line in (tmp_path / "run.txt").read_text().splitlines()]
    _, true, table = labels(predictions)
    assert [int(row[1]) for row in rows[:30]] == (1000 + 7 * table.index("species")[0, :30]).tolist()
    assert [float(row[2]) for row in rows[:30]] == pytest.approx(table.probability("species")[0, :30].tolist())
    assert [int(row[3]) for row in rows] == [*range(1, 31)] * OBSERVATIONS
    got = score(tmp_path / "run.txt", FORMATS["plantclef2022"], predictions)
    label_O = np.array(true) + 1  # ten observations of the same foreign species
    assert got["MA-MRR"] == pytest.approx(ma_mrr(table.true_rank("species"), label_O))
    by_species: dict[int, list[float]] = {}
    ranks = {(row[0], int(row[1])): int(row[3]) for row in rows}
    for id, number in zip(table.strings("observation_id"), true, strict=True):
        by_species.setdefault(number, []).append(1 / ranks.get((id or "", number), np.inf))
    assert got["MA-MRR"] == pytest.approx(np.mean([np.mean(values) for values in by_species.values()]))
    assert got["MRR"] == pytest.approx(np.mean([value for values in by_species.values() for value in values]))


def test_observations_left_out_of_a_run_file_are_not_found(predictions: Path, tmp_path: Path) -> None:
    write(predictions, FORMATS["plantclef2022"], tmp_path / "run.txt")
    lines = (tmp_path / "run.txt").read_text().splitlines(keepends=True)
    (tmp_path / "less.txt").write_text("".join(lines[: 30 * 60]))
    _, true, table = labels(predictions)
    rank_O = np.where(np.arange(OBSERVATIONS) < 60, table.true_rank("species"), 0)
    got = score(tmp_path / "less.txt", FORMATS["plantclef2022"], predictions)
    assert got["MA-MRR"] == pytest.approx(ma_mrr(rank_O, np.array(true) + 1))


def test_herbarium_with_other_numbers_for_classes_and_pictures(predictions: Path, tmp_path: Path) -> None:
    """As a dataset published in that layout wants it: categories by train_metadata.json, pictures by test_pictures.csv."""
    categories = [{"category_id": 3 * number, "scientificName": name} for number, name in enumerate(SPECIES)]
    (tmp_path / "train_metadata.json").write_text(json.dumps({"categories": categories, "images": []}))
    ids, _, table = labels(predictions)
    rows = [f"{90 - row},{id},{id},x" for row, id in enumerate(ids)]
    (tmp_path / "test_pictures.csv").write_text("\n".join(["Id,image_id,occurrenceID,scientificName", *rows]))
    true = [3 * SPECIES.index(name) if name in SPECIES else 9999 for name in table.strings("true_species")]
    halves = ["Public" if row % 2 else "Private" for row in range(OBSERVATIONS)]
    solution = [f"{90 - row},{number},{halves[row]}" for row, number in enumerate(true)]
    (tmp_path / "solution.csv").write_text("\n".join(["Id,Predicted,Usage", *solution]))
    options = WritingOptions(tmp_path / "train_metadata.json", tmp_path / "test_pictures.csv")
    write(predictions, FORMATS["herbarium2022"], tmp_path / "submission.csv", options)
    with open(tmp_path / "submission.csv", newline="") as file:
        answers = {int(row["Id"]): int(row["Predicted"]) for row in csv.DictReader(file)}
    assert list(answers) == [90 - row for row in range(OBSERVATIONS)]
    assert [*answers.values()] == (3 * table.index("species")[:, 0]).tolist()
    got = score(tmp_path / "submission.csv", FORMATS["herbarium2022"], tmp_path / "solution.csv")
    answer = [*answers.values()]
    assert got["Macro F1"] == pytest.approx(f1_score(true, answer, average="macro"))
    assert got["Accuracy"] == pytest.approx(accuracy_score(true, answer))
    assert got["Macro F1, public"] == pytest.approx(f1_score(true[1::2], answer[1::2], average="macro"))
    assert got["Macro F1, private"] == pytest.approx(f1_score(true[::2], answer[::2], average="macro"))


def test_fungi_with_a_threshold_for_unknown(predictions: Path, tmp_path: Path) -> None:
    threshold = float(np.sort(labels(predictions)[2].probability("species")[:, 0])[60])  # exactly one answer stands there
    write(predictions, FORMATS["fungiclef2024"], tmp_path / "fungi.csv", WritingOptions(unknown_below=threshold))
    with open(tmp_path / "fungi.csv", newline="") as file:
        answer = [int(row["class_id"]) for row in csv.DictReader(file)]
    _, true, table = labels(predictions)
    sure_O = table.probability("species")[:, 0] >= np.float32(threshold)
    assert answer == np.where(sure_O, 1000 + 7 * table.index("species")[:, 0], -1).tolist()
    assert answer.count(-1) == 60
    got = score(tmp_path / "fungi.csv", FORMATS["fungiclef2024"], predictions)
    assert got["Accuracy (%)"] == pytest.approx(100 * accuracy_score(true, answer))
    assert got["F1 Score"] == pytest.approx(100 * f1_score(true, answer, average="macro"))
    poisonous_L = np.isin(np.arange(2000), [1000 + 7 * number for number in range(0, 40, 5)])
    assert got["Track 2: Cost for Poisonousness Confusion"] == pytest.approx(costs.track2(true, answer, poisonous_L))
    assert got["Track 4: Classification Error with Special Cost for Unknown"] == pytest.approx(costs.track4(true, answer))


def test_the_organisers_scores_to_the_printed_digit(shared_data: Path) -> None:
    folder = shared_data / "metrics" / "fungiclef2023_reference"
    arguments = ["score", "fungiclef2023", str(folder / "pred.csv"), str(folder / "gt.csv")]
    done = CliRunner().invoke(challenge, [*arguments, "--poisonous", str(folder / "poisonous_class_ids.json")])
    printed = {title: float(value) for title, value in re.findall(r"^(.*?)  +([\d.]+)$", done.output, re.MULTILINE)}
    expected = json.loads((folder / "expected_scores.json").read_text())
    assert len(printed) == 5
    assert printed == {title: value for title, value in expected.items() if title != "note"}


def test_classes_learnt_as_unknown_are_answered_so(predictions: Path, tmp_path: Path) -> None:
    lines = [f"{name},{-1 if number < 20 else number}" for number, name in enumerate(SPECIES)]
    (tmp_path / "classes.csv").write_text("\n".join(["species,class_id", *lines]))
    write(predictions, FORMATS["fungiclef2023"], tmp_path / "fungi.csv", WritingOptions(tmp_path / "classes.csv"))
    first_O = labels(predictions)[2].index("species")[:, 0]
    answer = [int(line.split(",")[1]) for line in (tmp_path / "fungi.csv").read_text().splitlines()[1:]]
    assert answer == np.where(first_O < 20, -1, first_O).tolist()
    with pytest.raises(BadInput, match="has the number -1, which herbarium2022 doesn't take"):
        write(predictions, FORMATS["herbarium2022"], tmp_path / "h.csv", WritingOptions(tmp_path / "classes.csv"))


def test_what_cannot_be_written_leaves_nothing(predictions: Path, tmp_path: Path) -> None:
    few = tmp_path / "few.csv"
    few.write_text(f"scientificName,class_id\n{SPECIES[0]},1\n")
    with pytest.raises(
        BadInput, match=r"39 of 40 classes have no number in the challenge \(first: 'Genus00 species01'\); add them"
    ):
        write(predictions, FORMATS["fungiclef2023"], tmp_path / "out", WritingOptions(few))
    few.write_text("\n".join(["scientificName,class_id", *(f"{name},{number // 2}" for number, name in enumerate(SPECIES))]))
    with pytest.raises(BadInput, match=r"20 numbers stand for two classes or more \(first: 0\)"):
        write(predictions, FORMATS["fungiclef2023"], tmp_path / "out", WritingOptions(few))
    few.write_text(f"scientificName,class_id\n{SPECIES[0]},1\n{SPECIES[0]},2\n")
    with pytest.raises(BadInput, match="has two numbers, 1 and 2"):
        write(predictions, FORMATS["fungiclef2023"], tmp_path / "out", WritingOptions(few))
    with pytest.raises(BadInput, match="has no unknown species; leave the threshold out"):
        write(predictions, FORMATS["herbarium2022"], tmp_path / "out", WritingOptions(unknown_below=0.5))
    few.write_text("image_id,Id\n500,0\n")
    with pytest.raises(BadInput, match=r"119 of 120 images aren't in it \(first: '501'\)"):
        write(predictions, FORMATS["herbarium2022"], tmp_path / "out", WritingOptions(ids=few))
    few.write_text("\n".join(["image_id,Id", *(f"{500 + row},{row // 2}" for row in range(OBSERVATIONS))]))
    with pytest.raises(BadInput, match="would be rejected: lines 3, 5, 7 and 57 more: repeats an Id"):
        write(predictions, FORMATS["herbarium2022"], tmp_path / "out", WritingOptions(ids=few))
    assert not list(tmp_path.glob("*out*"))


def test_what_organisers_reject_is_not_scored(predictions: Path, tmp_path: Path) -> None:
    write(predictions, FORMATS["fungiclef2023"], tmp_path / "fungi.csv")
    lines = (tmp_path / "fungi.csv").read_text().splitlines(keepends=True)
    (tmp_path / "less.csv").write_text("".join(lines[:-2]))
    with pytest.raises(BadInput, match=r"less.csv: would be rejected: 2 of 120 expected observations are missing \(618, 619\)"):
        score(tmp_path / "less.csv", FORMATS["fungiclef2023"], predictions)
    truth = tmp_path / "truth.csv"
    truth.write_text("".join(lines))
    with pytest.raises(BadInput, match=r"doesn't say which classes are poisonous.*--poisonous"):
        score(tmp_path / "fungi.csv", FORMATS["fungiclef2023"], truth)
    truth.write_text("observationID,class_id\n500,1\n500,1\n500,2\n")
    with pytest.raises(BadInput, match="'500' has two classes, 1 and 2"):
        score(tmp_path / "fungi.csv", FORMATS["fungiclef2023"], truth)


def test_the_commands(predictions: Path, tmp_path: Path) -> None:
    def run(*arguments: object) -> tuple[int, str, str]:
        done = CliRunner().invoke(challenge, [*map(str, arguments)])
        return done.exit_code, done.output, str(done.exception)

    out = tmp_path / "run.txt"
    assert run("write", "plantclef2022", predictions, out)[1] == f"{out}: 3,600 rows, 120 observations\n"
    assert "wasn't looked at (--expected)" in run("check", "plantclef2022", out)[1]
    assert run("score", "plantclef2022", out, predictions)[1].startswith("MA-MRR ")
    with open(out, "a") as file:
        file.write("500;1000;nan;31\n")
    code, output, error = run("check", "plantclef2022", out)
    assert code == 1
    assert output.splitlines()[0] == "REJECTED  line 3,601: has no probability (empty or NaN)"
    assert error.endswith("plantclef2022 would reject it, see above")
