"""`identify` and `serve` on an ensemble's folder: the answers of `predict`, which reads the same pictures from a dataset."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import taxakey.torchvision_guard  # noqa: F401  before Lightning

import httpx
import pytest
from fastapi import FastAPI

from taxakey import artifacts
from taxakey.dataset.reader import Dataset
from taxakey.errors import BadInput
from taxakey.export import export
from taxakey.metadata.encoder import MetadataOptions
from taxakey.models.heads import LinearOptions
from taxakey.prediction.predict import predict
from taxakey.predictions import Predictions
from taxakey.serving.answers import Answer
from taxakey.serving.app import create_app
from taxakey.serving.identifier import load
from taxakey.training.loop import train
from taxakey.training.recipe import Recipe, read_recipe

SMOKE = read_recipe(Path(__file__).parent.parent.parent / "recipes" / "smoke.yaml")


@pytest.fixture(scope="module")
def runs(sheets_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three networks: two that want the same picture, and one that wants a smaller one."""
    folder = tmp_path_factory.mktemp("members")
    plain = replace(SMOKE, head=LinearOptions(), loop=replace(SMOKE.loop, epochs=1), fraction=0.2)
    for name, recipe in {"a": plain, "b": plain.with_seed(3), "c": _smaller(plain)}.items():
        train(sheets_dataset, recipe, folder / name, device="cpu")
    return [folder / name for name in "abc"]


def _smaller(recipe: Recipe) -> Recipe:
    return replace(recipe, backbone=replace(recipe.backbone, image_size=32))


def mixed(runs: list[Path], out: Path, formula: str) -> Path:
    out.mkdir()
    weights = dict(zip("abc", [0.2, 0.5, 0.3], strict=True))
    artifacts.write_json(out / "ensemble.json", {
        "members": list("abc"), "models": [str(run) for run in runs], "formula": formula, "weights": weights,
    })  # fmt: skip
    return out


def folds(runs: list[Path], out: Path, _: str) -> Path:
    plan = artifacts.Plan("folds", {}, {})
    artifacts.start(out, plan)
    for number, run in enumerate(runs, 1):
        shutil.copytree(run, out / f"fold-{number}")
    artifacts.finish(out, plan, counts={"members": len(runs)})
    return out


def with_a_bundle(runs: list[Path], out: Path, formula: str) -> Path:
    export(runs[0], out.parent / "bundle")
    return mixed([out.parent / "bundle", *runs[1:]], out, formula)


@pytest.mark.parametrize(("make", "formula"), [(mixed, "mean"), (mixed, "geometric"), (folds, ""), (with_a_bundle, "mean")])
def test_the_same_probabilities_as_predict(
    runs: list[Path], sheets_dataset: Path, tmp_path: Path, make: Callable[..., Path], formula: str
) -> None:
    ensemble = make(runs, tmp_path / "ensemble", formula)
    predict(ensemble, sheets_dataset, tmp_path / "said")
    said = Predictions.read(tmp_path / "said" / "images.parquet")
    part, identifier = Dataset.open(sheets_dataset).part("test"), load(ensemble)
    pictures, classes = [part.image_bytes(row) for row in range(len(part))], len(identifier.taxonomy)
    answers = dict(zip(part.image_ids, identifier.identify(pictures, top=classes), strict=True))
    for row, image in enumerate(said.strings("image_id")):
        answer = answers[image]
        assert isinstance(answer, Answer)
        found = {identifier.taxonomy.names.index(species.scientific_name): species.probability for species in answer.species}
        expected = dict(zip(said.index("species")[row].tolist(), said.probability("species")[row].tolist(), strict=True))
        assert found == pytest.approx(expected, rel=1e-4)
        assert len(found) == classes
    assert len(identifier.fingerprint) == 16


def test_it_is_served(
    runs: list[Path], sheets_dataset: Path, tmp_path: Path, serve_app: Callable[[FastAPI], AbstractContextManager[str]]
) -> None:
    ensemble, picture = mixed(runs, tmp_path / "ensemble", "mean"), Dataset.open(sheets_dataset).part("test").image_bytes(0)
    (expected,) = load(ensemble).identify([picture])
    assert isinstance(expected, Answer)
    with serve_app(create_app(ensemble, project="flora")) as address:
        response = httpx.post(f"{address}/v2/identify/flora", files=[("images", ("a.jpg", picture, "image/jpeg"))], timeout=30)
    assert response.status_code == 200
    best = response.json()["results"][0]
    assert best["species"]["scientificNameWithoutAuthor"] == expected.species[0].scientific_name
    assert best["score"] == pytest.approx(expected.species[0].probability, rel=1e-4)


def test_what_takes_one_model_says_how_to_make_one(runs: list[Path], tmp_path: Path) -> None:
    for make in (mixed, folds):
        ensemble = make(runs, tmp_path / make.__name__, "mean")
        with pytest.raises(BadInput, match=r"several models, not one.*--teacher"):
            export(ensemble, tmp_path / "bundle")


def test_a_member_that_is_told_more_is_refused(runs: list[Path], sheets_dataset: Path, tmp_path: Path) -> None:
    told = replace(SMOKE, head=LinearOptions(), loop=replace(SMOKE.loop, epochs=1), fraction=0.2, metadata=MetadataOptions())
    train(sheets_dataset, told, tmp_path / "told", device="cpu")
    with pytest.raises(BadInput, match="told more than a picture"):
        load(mixed([*runs[:2], tmp_path / "told"], tmp_path / "ensemble", "mean"))
