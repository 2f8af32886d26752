"""Each observation is named by the member that never saw it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import taxakey.torchvision_guard  # noqa: F401  before timm

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from taxakey.artifacts import hash_of, read_manifest
from taxakey.dataset.build import BuildOptions, build
from taxakey.dataset.folds import Fold
from taxakey.dataset.reader import Dataset
from taxakey.embeddings import embed, features
from taxakey.errors import ArtifactError, BadInput
from taxakey.export import export
from taxakey.models.heads import LinearOptions
from taxakey.prediction import out_of_fold as module
from taxakey.prediction.ensemble import require_fair
from taxakey.prediction.members import Member
from taxakey.prediction.out_of_fold import kept_from, predict_out_of_fold
from taxakey.prediction.predict import predict
from taxakey.predictions import Predictions
from taxakey.training.checkpoint import load_model
from taxakey.training.folds import train_folds
from taxakey.training.recipe import read_recipe

SMOKE = read_recipe(Path(__file__).parent.parent.parent / "recipes" / "smoke.yaml")


@pytest.fixture(scope="module")
def made(sheets_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with vectors, an ensemble of two, and what it says out of fold, in several portions."""
    folder = tmp_path_factory.mktemp("out-of-fold")
    torch.manual_seed(0)
    save_file(timm.create_model(SMOKE.backbone.name, num_classes=0).state_dict(), folder / "weights.safetensors")
    recipe = replace(SMOKE, train="head", head=LinearOptions(), folds=2).with_weights(str(folder / "weights.safetensors"))
    embed(sheets_dataset, recipe.backbone, folder / "vectors")
    train_folds(sheets_dataset, recipe, folder / "folds", embeddings_folder=folder / "vectors", device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_SCORES_AT_ONCE", 8 * 11)
        predict_out_of_fold(folder / "folds", sheets_dataset, folder / "said", embeddings_folder=folder / "vectors")
    return folder


def test_every_observation_is_named_by_the_member_it_was_kept_from(made: Path, sheets_dataset: Path) -> None:
    dataset, said = Dataset.open(sheets_dataset), Predictions.read(made / "said" / "observations.parquet")
    row_of = {name: row for row, name in enumerate(said.strings("observation_id"))}
    seen = 0
    for number in (1, 2):
        own = Fold(number, 2).of(dataset, SMOKE.seed)
        held, learnt = own.part("validation"), set(own.part("train").observation_ids)
        model = load_model(made / "folds" / f"fold-{number}")
        assert model.calibration is not None
        scores = features(model.network, held, range(len(held)), model.preprocess, description=None)
        probabilities = model.calibration.probabilities(scores)
        for observation in sorted(set(held.observation_ids)):
            assert observation not in learnt
            rows = [row for row, name in enumerate(held.observation_ids) if name == observation]
            found = row_of[observation]
            expected = probabilities[rows].mean(0)
            np.testing.assert_allclose(said.probability("species")[found], expected[said.index("species")[found]], rtol=1e-3)
            assert said.strings("true_species")[found] == held.table["scientificName"][rows[0]].as_py()
            assert said.values("images")[found] == len(rows)
            seen += 1
    assert seen == len(said) == len(row_of)
    manifest = read_manifest(made / "said", module.KIND)
    everything = {name for part in ("train", "validation") for name in dataset.part(part).observation_ids}
    assert manifest.counts == {"observations": seen, "left_out": len(everything) - seen}
    assert manifest.inputs["folds"] == hash_of(made / "folds")
    assert not (made / "said" / "members").exists()


def test_without_vectors_it_says_the_same(made: Path, sheets_dataset: Path, tmp_path: Path) -> None:
    predict_out_of_fold(made / "folds", sheets_dataset, tmp_path / "said")
    with_vectors, without = (Predictions.read(folder / "said" / "observations.parquet") for folder in (made, tmp_path))
    assert with_vectors.strings("observation_id") == without.strings("observation_id")
    np.testing.assert_allclose(
        with_vectors.true_probability("species"), without.true_probability("species"), rtol=1e-3, atol=1e-6
    )


def test_what_cannot_judge_is_refused(made: Path, sheets_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="'folds' is needed"):
        predict_out_of_fold(made / "folds" / "fold-1", sheets_dataset, tmp_path / "a")
    with pytest.raises(ArtifactError, match="dataset"):
        predict_out_of_fold(made / "folds", made / "folds", tmp_path / "b")
    other = tmp_path / "other"
    build(sheets_dataset.parent / "records", other, BuildOptions(longest_edge=64))
    with pytest.raises(BadInput, match="another dataset"):
        predict_out_of_fold(made / "folds", other, tmp_path / "c")


def test_folds_of_validation_alone_are_refused(made: Path, sheets_dataset: Path, tmp_path: Path) -> None:
    recipe = replace(SMOKE, train="head", head=LinearOptions(), loop=replace(SMOKE.loop, epochs=1))
    recipe = recipe.with_weights(str(made / "weights.safetensors"))
    train_folds(
        sheets_dataset, recipe, tmp_path / "folds", members=2, pool="validation", embeddings_folder=made / "vectors", device="cpu"
    )
    with pytest.raises(BadInput, match="without --validation-only"):
        predict_out_of_fold(tmp_path / "folds", sheets_dataset, tmp_path / "said")


def test_no_weight_is_fitted_on_what_a_fold_has_learnt(made: Path, sheets_dataset: Path, tmp_path: Path) -> None:
    export(made / "folds" / "fold-1", tmp_path / "bundle")
    for name, model in (("run", made / "folds" / "fold-1"), ("bundle", tmp_path / "bundle")):
        pair = [tmp_path / f"{name}-{part}" for part in ("validation", "test")]
        for folder, part in zip(pair, ("validation", "test"), strict=True):
            predict(model, sheets_dataset, folder, part=part)
        with pytest.raises(BadInput, match=r"learned from validation pictures too \(fold 1/2\)"):
            require_fair([Member.open(pair[0])], [Member.open(pair[1])])


def test_asked_about_what_they_learnt_from_folds_answer_as_they_do_out_of_fold(
    made: Path, sheets_dataset: Path, tmp_path: Path
) -> None:
    for part in ("train", "validation", "test"):
        predict(made / "folds", sheets_dataset, tmp_path / part, part=part, full_scores=True)
    out = Predictions.read(made / "said" / "observations.parquet")
    expected = dict(zip(out.strings("observation_id"), out.probability("species"), strict=True))
    said = Predictions.read(tmp_path / "validation" / "observations.parquet")
    for name, found_C in zip(said.strings("observation_id"), said.probability("species"), strict=True):
        assert found_C == pytest.approx(expected[name], abs=1e-4)
    train, validation, test = (read_manifest(tmp_path / part, "predictions") for part in ("train", "validation", "test"))
    assert validation.notes == ("Each picture is answered by the one member that was kept from it",)
    alone = int((kept_from(made / "folds", Dataset.open(sheets_dataset).part("train")) < 0).sum())
    assert train.notes[0].endswith(f"; {alone} that all learnt from are answered by all" if alone else "kept from it")
    assert test.notes == ("The mean of 2 members' calibrated probabilities",)
    members = [Member.open(tmp_path / part) for part in ("validation", "test")]
    require_fair(members[:1], members[1:])
    assert {member.name for member in members} == {"folds"}
