"""`taxakey train --teacher`: from stored predictions to a finished run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import taxakey.torchvision_guard  # noqa: F401  before Lightning

import numpy as np
import pytest
import torch
import typer
from lightning.pytorch.callbacks import Callback
from numpy.typing import NDArray
from safetensors.torch import load_file
from test_loop import SMOKE, weights_file
from torch.testing import assert_close
from typer.testing import CliRunner

from taxakey import artifacts
from taxakey.cli.train import train as train_command
from taxakey.dataset.reader import Dataset
from taxakey.dataset.vectors import Vectors, shard_file, write_shard
from taxakey.embeddings import embed
from taxakey.errors import BadInput, BadRecipe, PlanMismatch
from taxakey.losses.cross_entropy import CrossEntropy
from taxakey.losses.decision import Answer
from taxakey.losses.distillation import Distilled, DistilOptions
from taxakey.models.backbones import Network
from taxakey.models.heads import LinearHead, LinearOptions
from taxakey.models.trees import TreeOptions
from taxakey.prediction.predict import predict
from taxakey.predictions import Predictions, write_full
from taxakey.taxonomy import Taxonomy
from taxakey.training.batches import Batch
from taxakey.training.loop import train
from taxakey.training.mixing import MixingOptions
from taxakey.training.module import TrainingModule
from taxakey.training.recipe import Recipe, read_recipe
from taxakey.training.teacher import Teacher, TeacherFiles


@pytest.fixture(scope="module")
def vectors(sheets_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vectors")
    embed(sheets_dataset, replace(SMOKE.backbone, weights=weights_file(folder)), folder / "vectors")
    drawn = np.random.default_rng(0)  # in 512 dimensions a plane goes between any two parts of these few pictures
    for name in ("train", "validation", "test"):
        ids = Dataset.open(sheets_dataset).part(name).image_ids
        write_shard(shard_file(folder / "vectors", name, 0), ids, drawn.normal(size=(len(ids), 512)).astype(np.float32))
    return folder / "vectors"


@pytest.fixture
def recipe(vectors: Path) -> Recipe:
    backbone = replace(SMOKE.backbone, weights=weights_file(vectors.parent))
    loop = replace(SMOKE.loop, epochs=15, batch_size=16, accumulate=1, checkpoint_steps=3)
    optimizer = replace(SMOKE.optimizer, rate=0.01)
    return replace(SMOKE, train="head", backbone=backbone, head=LinearOptions(), loop=loop, optimizer=optimizer)


def written(folder: Path, p_OC: NDArray[np.float64], taxonomy: Taxonomy, images: list[str], k: int = 100) -> Path:
    """A finished predictions artifact that says this of these pictures."""
    plan = artifacts.Plan("predictions", {}, {"part": "train", "said": float(p_OC[0, 0])})
    artifacts.start(folder, plan)
    said = Predictions.from_probabilities(p_OC, taxonomy, observation_ids=images, image_ids=images, k=k, level="image")
    said.write(folder / "images.parquet")
    artifacts.write_parquet(folder / "taxonomy.parquet", taxonomy.table)
    artifacts.finish(folder, plan, counts={"images": len(images)}, taxonomy=taxonomy.fingerprint)
    return folder


def next_species(folder: Path, dataset: Path, sure: float = 0.98) -> Path:
    """A teacher who calls every species by the name of the next one."""
    opened = Dataset.open(dataset)
    part, classes = opened.part("train"), len(opened.taxonomy)
    p_NC = np.full((len(part), classes), (1 - sure) / (classes - 1))
    p_NC[np.arange(len(part)), (part.class_index + 1) % classes] = sure
    backwards = np.arange(len(part))[::-1]  # in another order than the dataset's
    return written(folder, p_NC[backwards], opened.taxonomy, [part.image_ids[row] for row in backwards], k=3)


def opened(folder: Path) -> Teacher:
    return Teacher.open(TeacherFiles((folder,)))


class Listens(Callback):
    """What the head says of the training pictures at the end; of the epochs the run keeps the one that validation likes best."""

    def __init__(self, features_ND: NDArray[np.float32]) -> None:
        self.features_ND = features_ND

    def on_train_end(self, trainer: Any, module: Any) -> None:
        with torch.inference_mode():
            self.said_N = module.head(torch.from_numpy(self.features_ND)).argmax(1).numpy()


@pytest.mark.parametrize("head", [LinearOptions(), TreeOptions(width=None, slots=3)])
def test_a_student_says_what_its_teacher_says(
    sheets_dataset: Path, vectors: Path, recipe: Recipe, tmp_path: Path, head: Any
) -> None:
    """Not what the labels say: so it is the teacher that is heard, and each of its rows belongs to the right picture."""
    teacher = next_species(tmp_path / "teacher", sheets_dataset)
    part = Dataset.open(sheets_dataset).part("train")
    listens = Listens(Vectors(vectors).part("train", part.image_ids))
    stubborn = replace(recipe, head=head, distil=DistilOptions(soft=1.0, top=2))
    train(
        sheets_dataset, stubborn, tmp_path / "run", embeddings_folder=vectors, teacher=teacher, device="cpu", callbacks=[listens]
    )
    expected_N = (part.class_index + 1) % len(Dataset.open(sheets_dataset).taxonomy)
    assert (listens.said_N == expected_N).mean() > 0.9


def test_the_command_hands_the_teacher_on(sheets_dataset: Path, vectors: Path, recipe: Recipe, tmp_path: Path) -> None:
    teacher = next_species(tmp_path / "teacher", sheets_dataset)
    replace(recipe, distil=DistilOptions(top=2), loop=replace(recipe.loop, epochs=1)).write(tmp_path / "recipe.yaml")
    app = typer.Typer()
    app.command()(train_command)
    arguments = [sheets_dataset, tmp_path / "run", "--recipe", tmp_path / "recipe.yaml", "--embeddings", vectors]
    done = CliRunner().invoke(app, [*map(str, arguments), "--teacher", str(teacher)], catch_exceptions=False)
    assert done.exit_code == 0
    assert "Taught by the predictions in teacher" in done.output
    part = Dataset.open(sheets_dataset).part("train")
    manifest = artifacts.read_manifest(tmp_path / "run", "run")
    assert manifest.inputs["teacher"] == artifacts.hash_of(teacher)
    assert f"{len(part):,} of {len(part):,} training pictures, 2 answers each; 8 of 8 classes" in manifest.notes[0]


def test_pictures_are_taught_too_and_mixed_ones_by_both_teachers(sheets_dataset: Path, tmp_path: Path) -> None:
    teacher = next_species(tmp_path / "teacher", sheets_dataset)
    mixed = replace(SMOKE, mixing=MixingOptions(mixup=0.4, cutmix=1.0), loop=replace(SMOKE.loop, epochs=1))
    train(sheets_dataset, mixed, tmp_path / "run", teacher=teacher, device="cpu")
    distil = artifacts.read_manifest(tmp_path / "run", "run").recipe["distil"]
    assert distil == {"temperature": 2.0, "soft": 0.7, "top": 20, "features": None}


def test_mixed_pictures_cost_each_picture_s_own_lesson_by_its_share() -> None:
    torch.manual_seed(0)
    head, features_BD = LinearHead(5, 4), torch.randn(3, 5)
    said = torch.randint(4, (6, 2)).int(), torch.full((6, 2), 0.3).log(), torch.full((6,), 0.4).log()
    loss = Distilled(CrossEntropy(), DistilOptions(), *said)
    labels, share, rows = (
        torch.tensor([[0, 1, 2], [3, 0, 1]]),
        torch.tensor([0.2, 1.0, 0.7]),
        torch.tensor([[5, 0, 3], [1, 2, 4]]),
    )
    recipe = replace(SMOKE, train="head", head=LinearOptions())
    module = TrainingModule(Network(torch.nn.Identity(), head), recipe, loss)
    object.__setattr__(module, "_trainer", None)
    module._seed = lambda number: None  # type: ignore[method-assign, assignment]
    found = module.training_step(Batch(features_BD, labels[0], None, labels[1], share, rows[0], rows[1]), 0)
    one, other = (loss(Answer(head, features_BD, labels[i], rows_B=rows[i])) for i in (0, 1))
    assert_close(found, (share * one + (1 - share) * other).mean())


class PullsThePlug(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Any, *_: object) -> None:
        if trainer.global_step == self.step:
            raise RuntimeError("the plug was pulled")


def test_a_run_goes_on_with_its_teacher_and_with_no_other(
    sheets_dataset: Path, vectors: Path, recipe: Recipe, tmp_path: Path
) -> None:
    recipe = replace(recipe, head=LinearOptions(dropout=0.3), loop=replace(recipe.loop, epochs=3))
    teacher = next_species(tmp_path / "teacher", sheets_dataset)
    how: dict[str, Any] = {"embeddings_folder": vectors, "device": "cpu"}
    train(sheets_dataset, recipe, tmp_path / "undisturbed", teacher=teacher, **how)
    with pytest.raises(RuntimeError, match="plug"):
        train(sheets_dataset, recipe, tmp_path / "broken", teacher=teacher, callbacks=[PullsThePlug(11)], **how)
    other = next_species(tmp_path / "other", sheets_dataset, sure=0.5)
    with pytest.raises(PlanMismatch, match="'teacher'"):
        train(sheets_dataset, recipe, tmp_path / "broken", teacher=other, **how)
    train(sheets_dataset, recipe, tmp_path / "broken", teacher=teacher, **how)
    models = [load_file(tmp_path / run / "model" / "model.safetensors") for run in ("undisturbed", "broken")]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])


def test_what_predict_writes_teaches(sheets_dataset: Path, vectors: Path, recipe: Recipe, tmp_path: Path) -> None:
    recipe = replace(recipe, loop=replace(recipe.loop, epochs=2))
    train(sheets_dataset, recipe, tmp_path / "big", embeddings_folder=vectors, device="cpu")
    predict(tmp_path / "big", sheets_dataset, tmp_path / "said", part="train", embeddings_folder=vectors)
    train(sheets_dataset, recipe, tmp_path / "small", embeddings_folder=vectors, teacher=tmp_path / "said", device="cpu")
    predict(tmp_path / "big", sheets_dataset, tmp_path / "tested", embeddings_folder=vectors)
    with pytest.raises(BadInput, match=r"no answer to \d+ of the \d+ pictures .* --part train"):
        train(sheets_dataset, recipe, tmp_path / "no", embeddings_folder=vectors, teacher=tmp_path / "tested", device="cpu")
    assert not (tmp_path / "no").exists()


def test_a_recipe_that_distils_needs_a_teacher(sheets_dataset: Path, recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(BadRecipe, match="none is named; use --teacher"):
        train(sheets_dataset, replace(recipe, distil=DistilOptions()), tmp_path / "run", device="cpu")
    (tmp_path / "a.yaml").write_text("name: a\ndistil: {temprature: 2}\n")
    with pytest.raises(BadRecipe, match=r"distil\.temprature"):
        read_recipe(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("name: a\ndistil: {}\nhead: {kind: sampled, sparse: true}\noptimizer: {name: lazy_adamw}\n")
    with pytest.raises(BadRecipe, match="distil needs the scores of all classes"):
        read_recipe(tmp_path / "a.yaml").resolved()


class Pictures:
    """As much of a part as a teacher asks for."""

    image_ids, observation_ids = ["a", "b", "c", "d"], ["o", "o", "p", "q"]

    def __init__(self, labels: list[int]) -> None:
        self.class_index = np.array(labels)


def names(*wanted: str) -> Taxonomy:
    return Taxonomy.from_rows({"scientificName": name} for name in wanted)


def test_classes_are_found_by_name_and_foreign_ones_left_out(tmp_path: Path) -> None:
    """The teacher knows B, C, X; the student A, B, C. A picture of an A learns from its label."""
    p_OK = np.array([[0.1, 0.3, 0.6], [0.5, 0.25, 0.25], [0.2, 0.8, 0.0], [0.0, 0.0, 1.0]])
    teacher = opened(written(tmp_path / "said", p_OK, names("B", "C", "X"), ["a", "b", "c", "d"]))
    student = names("A", "B", "C")
    loss, note = teacher.teach(CrossEntropy(), DistilOptions(top=1), student, Pictures([1, 0, 2, 1]))  # type: ignore[arg-type]
    assert loss.classes_Nk.table_N.tolist() == [[2], [-1], [2], [-1]]  # the last one's answer is no class of the student
    assert_close(loss.log_p_Nk.table_N[[0, 2], 0].exp(), torch.tensor([0.75, 0.8]))
    assert_close(loss.log_rest_N.table_N[[0, 2]].exp(), torch.tensor([0.25, 0.2]))
    assert "2 of 4 training pictures, 1 answers each; 2 of 3 classes" in note
    partly = Pictures([1, -1, 2, 4])  # type: ignore[arg-type]  # no species; then one known to its family alone, not asked of
    partly.image_ids = ["a", "b", "c", "nobody"]
    loss, _ = teacher.teach(CrossEntropy(), DistilOptions(top=2), student, partly)  # type: ignore[arg-type]
    assert loss.classes_Nk.table_N.tolist() == [[2, 1], [2, 1], [-1, -1]]


def test_the_full_scores_are_read_where_the_table_of_answers_is_too_short(tmp_path: Path) -> None:
    taxonomy, p_OC = names(*"ABCDE"), np.array([[0.4, 0.3, 0.15, 0.1, 0.05]] * 4)
    folder = written(tmp_path / "said", p_OC, taxonomy, ["a", "b", "c", "d"], k=2)
    full_OC = np.array([[0.05, 0.1, 0.15, 0.3, 0.4], [0.2] * 5, [0.3, 0.3, 0.2, 0.1, 0.1]])
    write_full(folder / "full" / "00000.arrow", ["o", "p", "q"], full_OC)
    part: Any = Pictures([0, 1, 2, 3])
    few, _ = opened(folder).teach(CrossEntropy(), DistilOptions(top=2), taxonomy, part)
    assert few.classes_Nk.table_N.tolist() == [[0, 1]] * 4
    more, _ = opened(folder).teach(CrossEntropy(), DistilOptions(top=3), taxonomy, part)
    assert more.classes_Nk.table_N.tolist() == [[4, 3, 2], [4, 3, 2], [0, 1, 2], [0, 1, 2]]  # two pictures of one observation
    assert_close(more.log_rest_N.table_N.exp(), torch.tensor([0.15, 0.15, 0.4, 0.2]), rtol=2e-3, atol=0)
    everything, _ = opened(folder).teach(CrossEntropy(), DistilOptions(top=None), taxonomy, part)
    assert everything.classes_Nk.table_N.shape == (4, 5)
