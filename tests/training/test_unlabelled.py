"""Students that learn from pictures without a name, and ones that draw their features to a teacher's: real runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import taxakey.torchvision_guard  # noqa: F401  before Lightning

import numpy as np
import pyarrow as pa
import pytest
import torch
import typer
from lightning.pytorch.callbacks import Callback
from PIL import Image
from safetensors.torch import load_file
from test_loop import SMOKE, weights_file
from test_teacher import PullsThePlug, written
from typer.testing import CliRunner

from taxakey import artifacts
from taxakey.cli.predict import predict as predict_command
from taxakey.cli.train import train as train_command
from taxakey.dataset.build import BuildOptions, build
from taxakey.dataset.folds import Fold
from taxakey.dataset.reader import Dataset
from taxakey.dataset.vectors import Vectors, shard_file, write_shard
from taxakey.embeddings import embed
from taxakey.errors import BadInput, BadRecipe, TaxonomyMismatch
from taxakey.losses.distillation import DistilOptions
from taxakey.losses.feature_matching import FeatureOptions
from taxakey.metadata.encoder import MetadataOptions
from taxakey.models.heads import LinearOptions
from taxakey.models.mlp import MlpOptions
from taxakey.prediction.predict import predict
from taxakey.predictions import Predictions
from taxakey.records.splits import split
from taxakey.records.table import Observations
from taxakey.training.loop import train
from taxakey.training.recipe import Recipe
from taxakey.training.unlabelled import Unlabelled, vectors_of


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another dataset: 60 pictures of what nobody has named, under a stand-in."""
    folder, rows, drawn = tmp_path_factory.mktemp("web"), [], np.random.default_rng(2)
    for number in range(60):
        Image.fromarray(drawn.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(folder / f"{number}.jpg")
        ids = {"occurrenceID": f"web{number}", "image_id": f"web{number}", "path": str(folder / f"{number}.jpg")}
        rows.append({**ids, "scientificName": "Species ignota", "split": "train"})
    split(Observations.from_table(pa.Table.from_pylist(rows))).write(folder / "records", artifacts.Plan("records"))
    build(folder / "records", folder / "dataset", BuildOptions(longest_edge=40))
    return folder / "dataset"


@pytest.fixture(scope="module")
def stores(sheets_dataset: Path, web: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Vectors of both datasets, drawn by lot: in 512 dimensions a plane goes between any two parts of these few pictures."""
    folder, drawn = tmp_path_factory.mktemp("vectors"), np.random.default_rng(0)
    backbone, made = replace(SMOKE.backbone, weights=weights_file(folder)), []
    for dataset, name in ((sheets_dataset, "sheets"), (web, "web")):
        embed(dataset, backbone, folder / name)
        for part in ("train", "validation", "test"):
            ids = Dataset.open(dataset).part(part).image_ids
            vectors_ND = drawn.normal(size=(len(ids), 512)).astype(np.float32)
            write_shard(shard_file(folder / name, part, 0), ids, vectors_ND)
        made.append(folder / name)
    return made


@pytest.fixture
def recipe(stores: list[Path]) -> Recipe:
    backbone = replace(SMOKE.backbone, weights=weights_file(stores[0].parent))
    loop = replace(SMOKE.loop, epochs=15, batch_size=16, accumulate=1, checkpoint_steps=3)
    optimizer = replace(SMOKE.optimizer, rate=0.01)
    return replace(SMOKE, train="head", backbone=backbone, head=LinearOptions(), loop=loop, optimizer=optimizer)


def said(folder: Path, classes_N: Sequence[int], images: Sequence[str], dataset: Path, sure: float = 0.98) -> Path:
    """A teacher's answers: these classes."""
    taxonomy = Dataset.open(dataset).taxonomy
    p_NC = np.full((len(images), len(taxonomy)), (1 - sure) / (len(taxonomy) - 1))
    p_NC[np.arange(len(images)), classes_N] = sure
    return written(folder, p_NC, taxonomy, list(images), k=3)


class Keeps(Callback):
    """What the run's module is at its end; of the epochs the run keeps the one that validation likes best."""

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self.started = {name: value.clone() for name, value in module.loss.state_dict().items()}

    def on_train_end(self, trainer: Any, module: Any) -> None:
        self.module = module

    def classes(self, vectors_ND: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return self.module.head(torch.from_numpy(vectors_ND)).argmax(1).numpy()


def test_a_student_learns_of_unnamed_pictures_what_its_teacher_says(
    sheets_dataset: Path, web: Path, stores: list[Path], recipe: Recipe, tmp_path: Path
) -> None:
    """The web pictures' class is drawn by lot, so that it can be known from the teacher only; the sheets keep their labels'."""
    sheets, pictures = Dataset.open(sheets_dataset).part("train"), Dataset.open(web).part("train")
    classes_N = np.random.default_rng(5).integers(len(Dataset.open(sheets_dataset).taxonomy), size=len(pictures))
    answers = [
        said(tmp_path / "sheets", sheets.class_index, sheets.image_ids, sheets_dataset),
        said(tmp_path / "web", classes_N[::-1], pictures.image_ids[::-1], sheets_dataset),
    ]
    ends: dict[str, Keeps] = {}
    for name, more in {"with": {"unlabelled": str(web)}, "without": {}}.items():
        ends[name] = Keeps()
        how: dict[str, Any] = {"embeddings_folder": stores, "teacher": answers, "device": "cpu", **more}
        train(sheets_dataset, recipe, tmp_path / name, callbacks=[ends[name]], **how)
    vectors_ND = Vectors(stores[1]).part("train", pictures.image_ids)
    assert (ends["with"].classes(vectors_ND) == classes_N).mean() > 0.9
    assert (ends["without"].classes(vectors_ND) == classes_N).mean() < 0.4
    named_ND = Vectors(stores[0]).part("train", sheets.image_ids)
    assert (ends["with"].classes(named_ND) == sheets.class_index).mean() > 0.9
    manifest = artifacts.read_manifest(tmp_path / "with", "run")
    assert (manifest.counts["unlabelled"], manifest.counts["train"]) == (60, len(sheets))
    assert manifest.inputs["unlabelled"] == f"{artifacts.hash_of(web)}:train"
    assert f"60 of the pictures are unlabelled ones of dataset:train beside {len(sheets):,}" in manifest.notes[0]
    assert "unlabelled" not in artifacts.read_manifest(tmp_path / "without", "run").counts


def test_what_is_missing_is_said(sheets_dataset: Path, web: Path, stores: list[Path], recipe: Recipe, tmp_path: Path) -> None:
    sheets = Dataset.open(sheets_dataset).part("train")
    answers = said(tmp_path / "said", sheets.class_index, sheets.image_ids, sheets_dataset)
    how: dict[str, Any] = {"embeddings_folder": stores, "device": "cpu"}
    with pytest.raises(BadInput, match=r"no answer to 60 of the 60 pictures .* --part train --unlabelled"):
        train(sheets_dataset, recipe, tmp_path / "run", teacher=answers, unlabelled=str(web), **how)
    with pytest.raises(BadInput, match="go with a teacher"):
        train(sheets_dataset, recipe, tmp_path / "run", unlabelled=str(web), **how)
    both = [answers, said(tmp_path / "web", [0] * 60, Dataset.open(web).part("train").image_ids, sheets_dataset)]
    with pytest.raises(BadInput, match=r"no vectors of the unlabelled pictures in .*embed"):
        train(sheets_dataset, recipe, tmp_path / "run", teacher=both, unlabelled=str(web), embeddings_folder=stores[0])
    with pytest.raises(BadInput, match=r"every one of its \d+ pictures"):
        train(sheets_dataset, recipe, tmp_path / "run", teacher=answers, unlabelled=f"{sheets_dataset}:test", **how)
    wanting = replace(recipe, head=MlpOptions(hidden=16), distil=DistilOptions(features=FeatureOptions()))
    with pytest.raises(BadRecipe, match="--teacher-vectors FOLDER"):
        train(sheets_dataset, wanting, tmp_path / "run", teacher=answers, **how)
    with pytest.raises(BadRecipe, match="train: head leaves the backbone's as they are; take train: all"):
        train(sheets_dataset, recipe, tmp_path / "run", teacher=answers, teacher_vectors=stores[0], **how)
    stranger = written(tmp_path / "stranger", np.full((60, 1), 1.0), Dataset.open(web).taxonomy, [f"web{i}" for i in range(60)])
    with pytest.raises(TaxonomyMismatch):
        train(sheets_dataset, recipe, tmp_path / "run", teacher=[answers, stranger], **how)
    assert not (tmp_path / "run").exists()


def test_what_the_student_is_measured_on_is_never_among_them(sheets_dataset: Path) -> None:
    """Of its own dataset what a fraction or a fold leaves; of none what it is trained, validated or tested on."""
    dataset = Dataset.open(sheets_dataset)
    few, fold = dataset.fraction(0.4, seed=3), Fold(1, 3).of(dataset, 3)
    for student in (few, fold):
        own = {image for name in ("train", "validation", "test") for image in student.part(name).image_ids}
        training = student.part("train")
        if student is few:
            both = Unlabelled.open(str(sheets_dataset)).beside(training, student, 99)
            assert {*both.image_ids[len(training) :]} == {*dataset.part("train").image_ids} - own
            assert both.class_index.tolist() == [*training.class_index, *[99] * (len(both) - len(training))]
            assert both.image_bytes(len(training)).startswith(b"\xff\xd8")
            assert set(both.table["scientificName"].to_pylist()[len(training) :]) == {None}
        else:
            with pytest.raises(BadInput, match="every one"):
                Unlabelled.open(f"{sheets_dataset}:train").beside(training, student, 99)


def test_vectors_of_the_same_dataset_are_found(sheets_dataset: Path, stores: list[Path]) -> None:
    few = Dataset.open(sheets_dataset).fraction(0.4, seed=3)
    both = Unlabelled.open(f"{sheets_dataset}:train").beside(few.part("train"), few, 99)
    stored = Vectors(stores[0])
    np.testing.assert_array_equal(vectors_of(both, [stored]), stored.part("train", both.image_ids))


def test_pictures_of_another_dataset_are_learnt_from_too(sheets_dataset: Path, web: Path, tmp_path: Path) -> None:
    """By a network that is told dates: the web's records have other columns."""
    datasets = [Dataset.open(folder).part("train") for folder in (sheets_dataset, web)]
    answers = [
        said(tmp_path / str(number), [number] * len(part), part.image_ids, sheets_dataset) for number, part in enumerate(datasets)
    ]
    told = replace(SMOKE, metadata=MetadataOptions(), loop=replace(SMOKE.loop, epochs=1))
    manifest = train(sheets_dataset, told, tmp_path / "run", teacher=answers, unlabelled=str(web), device="cpu")
    assert manifest.counts["unlabelled"] == 60


def test_the_way_by_commands(sheets_dataset: Path, web: Path, stores: list[Path], recipe: Recipe, tmp_path: Path) -> None:
    """A model names the pictures of another dataset, which has other species; a student learns from them and from features."""
    train(sheets_dataset, recipe, tmp_path / "big", embeddings_folder=stores[0], device="cpu")
    with pytest.raises(TaxonomyMismatch):
        predict(tmp_path / "big", web, tmp_path / "no", part="train")
    app = typer.Typer()
    app.command("predict")(predict_command)
    app.command("train")(train_command)

    def call(*arguments: object) -> str:
        done = CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)
        assert done.exit_code == 0
        return done.output

    call("predict", tmp_path / "big", sheets_dataset, tmp_path / "said", "--part", "train", "--embeddings", stores[0])
    call("predict", tmp_path / "big", web, tmp_path / "web", "--part", "train", "--embeddings", stores[1], "--unlabelled")
    answers = Predictions.read(tmp_path / "web" / "images.parquet")
    assert len(answers) == 60
    assert set(answers.table["true_species"].to_pylist()) == {None}
    few = replace(recipe, head=MlpOptions(hidden=16), fraction=0.5, loop=replace(recipe.loop, epochs=1))
    few.write(tmp_path / "few.yaml")
    output = call(
        "train", sheets_dataset, tmp_path / "small", "--recipe", tmp_path / "few.yaml", "--embeddings", stores[0], "--embeddings",
        stores[1], "--teacher", tmp_path / "said", "--teacher", tmp_path / "web", "--unlabelled", f"{web}:train",
        "--teacher-vectors", stores[0], "--teacher-vectors", stores[1],
    )  # fmt: skip
    assert "Features are drawn to those in sheets, web" in output
    manifest = artifacts.read_manifest(tmp_path / "small", "run")
    assert manifest.recipe["distil"]["features"] == {"weight": 1.0}
    assert {"embeddings 2", "teacher 2", "teacher vectors", "teacher vectors 2", "unlabelled"} <= {*manifest.inputs}
    model = load_file(tmp_path / "small" / "model" / "model.safetensors")
    assert not any("projection" in name for name in model)
    assert manifest.counts["trained_parameters"] == 512 * 16 + 16 + 16 * 8 + 8, "the projection is no part of the model"


@pytest.mark.parametrize("whole", [False, True])
def test_features_are_drawn_and_a_run_goes_on_as_if_never_cut_off(
    sheets_dataset: Path, stores: list[Path], recipe: Recipe, tmp_path: Path, whole: bool
) -> None:
    """A head's hidden layer on stored vectors, or a backbone on pictures; a fraction's other pictures are unlabelled."""
    part = Dataset.open(sheets_dataset).part("train")
    answers = said(tmp_path / "said", part.class_index, part.image_ids, sheets_dataset)
    distil = DistilOptions(features=FeatureOptions(5.0))
    loop = replace(recipe.loop, epochs=1 if whole else 6)
    head = LinearOptions() if whole else MlpOptions(hidden=32, dropout=0.2)
    student = replace(recipe, train="all" if whole else "head", head=head, distil=distil, loop=loop, fraction=0.5)
    ends, how = Keeps(), {"teacher": answers, "teacher_vectors": stores[0], "unlabelled": str(sheets_dataset), "device": "cpu"}
    how |= {} if whole else {"embeddings_folder": stores[0]}
    train(sheets_dataset, student, tmp_path / "undisturbed", callbacks=[ends], **how)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="plug"):
        train(sheets_dataset, student, tmp_path / "cut", callbacks=[PullsThePlug(5 if whole else 9)], **how)  # type: ignore[arg-type]
    again = Keeps()
    train(sheets_dataset, student, tmp_path / "cut", callbacks=[again], **how)  # type: ignore[arg-type]
    models = [load_file(tmp_path / run / "model" / "model.safetensors") for run in ("undisturbed", "cut")]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])
    weights = [end.module.loss.projection.weight for end in (ends, again)]
    assert torch.equal(*weights)
    assert not torch.equal(weights[0], ends.started["projection.weight"]), "the projection learns too"
    if not whole:
        assert drawn_together(ends.module, stores[0], sheets_dataset, student) < 0.9, "vectors by lot are 1 apart"


def drawn_together(module: Any, store: Path, dataset: Path, student: Recipe) -> float:
    """The mean of 1 − cosine over the labelled training pictures; the student's input is the teacher's vector."""
    part = Dataset.open(dataset).fraction(student.fraction, student.seed).part("train")
    vectors_NT = torch.from_numpy(Vectors(store).part("train", part.image_ids))
    module.head.eval()
    with torch.inference_mode():
        projected = module.loss.projection(module.head.representation(vectors_NT))
        return float((1 - torch.nn.functional.cosine_similarity(projected, vectors_NT)).mean())
