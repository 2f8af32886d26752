"""Fusion of a real run: nothing of the test part is looked at, and predictions are what fusion.json makes of the answers."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import typer
from typer.testing import CliRunner

from taxakey.artifacts import read_manifest
from taxakey.cli.fuse import fuse as fuse_command
from taxakey.dataset.reader import Dataset
from taxakey.errors import BadInput, PlanMismatch
from taxakey.evaluation import evaluate
from taxakey.evaluation.comparing import compare
from taxakey.metadata.encoder import MetadataEncoder, MetadataOptions
from taxakey.prediction import fuse as module
from taxakey.prediction.fuse import FuseOptions, fit_fusion, fuse, install, known_images, training_of
from taxakey.prediction.fusion import FILE, Fusion, Pictures
from taxakey.prediction.namer import Namer
from taxakey.prediction.predict import predict
from taxakey.predictions import Predictions
from taxakey.serving.identifier import load
from taxakey.training.loop import train
from taxakey.training.recipe import read_recipe

SMOKE = read_recipe(Path(__file__).parent.parent.parent / "recipes" / "smoke.yaml")
ASKED = ("mean", "log-mean", "quality", "month", "habitat", "substrate", "place")


@pytest.fixture(scope="module")
def run(sheets_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("fuse") / "run"
    train(sheets_dataset, replace(SMOKE, loop=replace(SMOKE.loop, epochs=1)), out, device="cpu")
    return out


@pytest.fixture(scope="module")
def fused(run: Path, sheets_dataset: Path) -> tuple[Path, Fusion]:
    out = run.parent / "fused"
    return out, fuse(run, sheets_dataset, out, FuseOptions(ASKED))[1]


def test_something_planted_is_kept(fused: tuple[Path, Fusion]) -> None:
    """The network of one epoch knows next to nothing, and the herbarium's species have their islands, seasons and habitats."""
    assert {evidence.name for evidence in fused[1].evidence} & {"place", "habitat", "substrate", "month"}
    kept = next(found for found in fused[1].judged if found["kept"])
    assert kept["log_likelihood"]["low"] > 0 or kept["top_1"]["low"] > 0
    assert {found["name"] for found in fused[1].judged} == {*ASKED} - {"mean"}


def test_predictions_are_the_stored_fusion_of_the_pictures_answers(
    run: Path, sheets_dataset: Path, fused: tuple[Path, Fusion]
) -> None:
    dataset, fusion = Dataset.open(sheets_dataset), Fusion.read(fused[0] / FILE)
    part = dataset.part("test")
    p_IC, _ = Namer.open(run, dataset).at(part).probabilities(np.arange(len(part)))
    table = Predictions.read(fused[0] / "observations.parquet")
    for row, observation in enumerate(table.strings("observation_id")):
        rows = [i for i, name in enumerate(part.observation_ids) if name == observation]
        answer = fusion.of_pictures(Pictures(p_IC[rows], np.zeros(len(rows), dtype=int)))
        expected_C = fusion.with_known(answer, part.table.take(pa.array(rows[:1])))[0]
        np.testing.assert_allclose(table.probability("species")[row], expected_C[table.index("species")[row]], rtol=1e-4)
    images = Predictions.read(fused[0] / "images.parquet")
    row = part.image_ids.index(images.strings("image_id")[0])
    expected_C = fusion.with_known(p_IC[[row]], part.table.take(pa.array([row])))[0]
    np.testing.assert_allclose(images.probability("species")[0], expected_C[images.index("species")[0]], rtol=1e-4)


def test_nothing_of_the_test_part_is_needed_to_fit(
    run: Path, sheets_dataset: Path, fused: tuple[Path, Fusion], tmp_path: Path
) -> None:
    shutil.copytree(sheets_dataset, tmp_path / "dataset")
    for file in (tmp_path / "dataset").rglob("test*"):
        file.unlink()
    dataset = Dataset.open(tmp_path / "dataset")
    fit_fusion(Namer.open(run, dataset), dataset, FuseOptions(ASKED)).write(tmp_path / FILE)
    assert (tmp_path / FILE).read_text() == (fused[0] / FILE).read_text()


def test_run_again_it_is_finished_and_interrupted_it_goes_on(
    run: Path, sheets_dataset: Path, fused: tuple[Path, Fusion], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(fused[0], tmp_path / "out")
    (tmp_path / "out" / "manifest.json").unlink()
    (tmp_path / "out" / "observations.parquet").unlink()

    def refuse(*_: object) -> None:
        raise AssertionError("fitted again")

    monkeypatch.setattr(module, "fit_fusion", refuse)
    fuse(run, sheets_dataset, tmp_path / "out", FuseOptions(ASKED))
    again = Predictions.read(tmp_path / "out" / "observations.parquet")
    assert again.table.equals(Predictions.read(fused[0] / "observations.parquet").table)
    fuse(run, sheets_dataset, tmp_path / "out", FuseOptions(ASKED))
    with pytest.raises(PlanMismatch, match="fusion"):
        fuse(run, sheets_dataset, tmp_path / "out", FuseOptions(("log-mean",)))


def test_evaluate_and_compare_take_the_predictions(
    run: Path, sheets_dataset: Path, fused: tuple[Path, Fusion], tmp_path: Path
) -> None:
    assert evaluate(fused[0], resamples=50).figures["species"]
    predict(run, sheets_dataset, tmp_path / "plain")
    shutil.copytree(tmp_path / "plain", run / "predictions")
    found = compare([run, fused[0]], resamples=50)
    assert [one.name for one in found.runs] == ["run", "fused"]
    assert "top_1" in found.runs[1].differences
    shutil.rmtree(run / "predictions")


def test_beside_the_model_identify_answers_as_the_predictions_do(
    run: Path, sheets_dataset: Path, fused: tuple[Path, Fusion], tmp_path: Path
) -> None:
    shutil.copytree(run, tmp_path / "run")
    install(fused[1], tmp_path / "run")
    identifier = load(tmp_path / "run")
    part = Dataset.open(sheets_dataset).part("test")
    table = Predictions.read(fused[0] / "observations.parquet")
    for row, observation in list(enumerate(table.strings("observation_id")))[:5]:
        rows = [i for i, name in enumerate(part.observation_ids) if name == observation]
        first = part.table.slice(rows[0], 1).to_pylist()[0]
        known = {name: first[name] for name in ("decimalLatitude", "decimalLongitude", "habitat", "substrate")}
        if first["month"]:
            known["eventDate"] = f"{first['year']}-{first['month']:02}" + (f"-{first['day']:02}" if first["day"] else "")
        known = {name: value for name, value in known.items() if name in identifier.takes and value is not None}
        answer = identifier.identify([[part.image_bytes(i) for i in rows]], known=known, top=3)[0]
        found = [taxon.probability for taxon in answer.species]
        np.testing.assert_allclose(found, table.probability("species")[row][:3], rtol=1e-3)


def test_the_command(run: Path, sheets_dataset: Path, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(fuse_command)
    shutil.copytree(run, tmp_path / "run")
    given = [str(tmp_path / "run"), str(sheets_dataset), str(tmp_path / "out"), "--device", "cpu"]
    done = CliRunner().invoke(app, [*given, "--with", "log-mean, habitat", "--beside-model"])
    assert done.exit_code == 0, done.output
    assert "log-mean" in done.output
    assert (tmp_path / "run" / "model" / FILE).read_text() == (tmp_path / "out" / FILE).read_text()
    assert read_manifest(tmp_path / "out", "predictions").recipe["fusion"]["with"] == ["log-mean", "habitat"]
    refused = CliRunner().invoke(app, [*given, "--with", "five-crops", "--beside-model"])
    assert isinstance(refused.exception, BadInput)


def test_crops_are_judged_by_the_same_command(run: Path, sheets_dataset: Path, tmp_path: Path) -> None:
    _, fusion = fuse(run, sheets_dataset, tmp_path / "out", FuseOptions(("five-crops", "2-crops")))
    assert [found["name"] for found in fusion.judged] == ["five-crops", "2-crops"]
    content = json.loads((tmp_path / "out" / FILE).read_text())
    assert bool(content["crops"]) == any(found["kept"] for found in fusion.judged)
    # Whatever was found: where crops are kept, the part is named with them.
    always = replace(fusion, crops=FuseOptions(("2-crops",)).crops()["2-crops"])
    always.write(tmp_path / "out" / FILE)
    (tmp_path / "out" / "manifest.json").unlink()
    fuse(run, sheets_dataset, tmp_path / "out", FuseOptions(("five-crops", "2-crops")))
    predict(run, sheets_dataset, tmp_path / "cropped", crops=always.crops)
    tables = [Predictions.read(tmp_path / name / "observations.parquet") for name in ("out", "cropped")]
    np.testing.assert_allclose(tables[0].probability("species"), tables[1].probability("species"), rtol=1e-5)
    with pytest.raises(BadInput, match="fuse without crops"):
        install(always, run)


def test_what_this_dataset_cannot_give_is_refused_where_it_is_named_and_passed_over_where_not(
    run: Path, sheets_dataset: Path, tmp_path: Path
) -> None:
    refused = {"organ": "which organ", "metasubstrate": "no metasubstrate", "soil": "no column 'soil'", "genus": "answer itself"}
    for name, fact in refused.items():
        with pytest.raises(BadInput, match=fact):
            fuse(run, sheets_dataset, tmp_path / name, FuseOptions((name,)))
    dataset = Dataset.open(sheets_dataset)
    judged = fit_fusion(Namer.open(run, dataset), dataset, FuseOptions()).judged
    assert {found["name"] for found in judged} == {*ASKED} - {"mean"}
    for names in ((), ("month", "month")):
        with pytest.raises(BadInput, match="each once"):
            FuseOptions(names)
    with pytest.raises(BadInput, match="flatter"):
        FuseOptions(part="validation")


def test_an_observation_counts_once_however_often_it_was_photographed(sheets_dataset: Path) -> None:
    dataset = Dataset.open(sheets_dataset)
    part, training = dataset.part("train"), training_of(dataset)
    assert training.table.num_rows == len(set(part.observation_ids)) < len(part)
    species = [dataset.taxonomy.names[label] for label in training.class_N]
    assert training.table["scientificName"].to_pylist() == species


def test_of_many_classes_as_many_whole_observations_are_taken_as_can_be_held(
    sheets_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = Dataset.open(sheets_dataset).part("train")
    monkeypatch.setattr(module, "_SCORES_HELD", 1000)
    images = known_images(part, 100, seed=0)
    drawn = {part.observation_ids[image] for image in images}
    assert len(drawn) == 10
    assert len(images) == sum(name in drawn for name in part.observation_ids)
    assert [part.observation_ids[image] for image in images] == sorted(part.observation_ids[image] for image in images)


def test_what_a_model_was_trained_with_is_not_told_it_twice() -> None:
    encoder = MetadataEncoder(MetadataOptions(place=None, categories=("habitat",)), {"habitat": ("bog",)})
    namer = SimpleNamespace(models=[SimpleNamespace(metadata=encoder)])
    assert module._columns(namer, FuseOptions()) == ["substrate", "metasubstrate"]  # type: ignore[arg-type]
    for name in ("habitat", "month", "place"):
        with pytest.raises(BadInput, match=f"was trained with {name}"):
            module._columns(namer, FuseOptions(("log-mean", name)))  # type: ignore[arg-type]
