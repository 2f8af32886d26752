"""An ensemble on new pictures: each is decoded once, a shared backbone runs once, and the answers are those of single passes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from taxakey.artifacts import read_json, read_manifest, write_json
from taxakey.dataset.preprocess import Preprocess
from taxakey.errors import MissingArtifact
from taxakey.models.heads import LinearOptions
from taxakey.prediction.ensemble import EnsembleOptions, fit, write_ensemble
from taxakey.prediction.members import Member, open_pool
from taxakey.prediction.predict import predict
from taxakey.predictions import Predictions
from taxakey.training.loop import train
from taxakey.training.recipe import read_recipe

SMOKE = read_recipe(Path(__file__).parent.parent.parent / "recipes" / "smoke.yaml")


@pytest.fixture(scope="module")
def runs(sheets_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two networks that want the same picture, the third another size; of the first two the backbones are one."""
    folder = tmp_path_factory.mktemp("together")
    plain = replace(SMOKE, head=LinearOptions(), loop=replace(SMOKE.loop, epochs=1))
    train(sheets_dataset, plain, folder / "a", device="cpu")
    train(sheets_dataset, plain.with_seed(3), folder / "b", device="cpu")
    small = replace(plain, backbone=replace(plain.backbone, image_size=32))
    train(sheets_dataset, small, folder / "c", device="cpu")
    from safetensors.torch import load_file, save_file

    first, second = (load_file(folder / name / "model" / "model.safetensors") for name in "ab")
    head = read_json(folder / "a" / "model" / "config.json")["pretrained_cfg"]["classifier"]
    mixed = {key: (second if key.startswith(head) else first)[key].clone() for key in first}
    save_file(mixed, folder / "b" / "model" / "model.safetensors", metadata={"format": "pt"})
    return [folder / name for name in "abc"]


def ensemble_of(runs: list[Path], dataset: Path, out: Path, rule: str) -> Path:
    members = {}
    for part in ("validation", "test"):
        for run in runs:
            predict(run, dataset, run / part, part=part)
        members[part] = [Member.open(run / part) for run in runs]
    options = EnsembleOptions(rule=rule)
    write_ensemble(fit(open_pool(members["validation"]), options), members["test"], out, options)
    return out


@pytest.mark.parametrize("rule", ["mean", "by likelihood", "geometric", "per class", "per rank"])
def test_the_same_answers_as_from_stored_predictions(runs: list[Path], sheets_dataset: Path, tmp_path: Path, rule: str) -> None:
    stored = ensemble_of(runs, sheets_dataset, tmp_path / "stored", rule)
    predict(stored, sheets_dataset, tmp_path / "run", part="test")
    old, new = (Predictions.read(folder / "images.parquet") for folder in (stored, tmp_path / "run"))
    order = [new.strings("image_id").index(name) for name in old.strings("image_id")]
    np.testing.assert_allclose(new.true_probability("species")[order], old.true_probability("species"), rtol=2e-3, atol=1e-5)
    manifest = read_manifest(tmp_path / "run", "predictions")
    assert "3 members" in manifest.notes[0]
    assert "ensemble" in manifest.inputs


def test_each_picture_is_decoded_once_for_members_that_want_it_alike(
    runs: list[Path], sheets_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = ensemble_of(runs, sheets_dataset, tmp_path / "stored", "mean")
    pictures = read_manifest(stored, "predictions").counts["images"]
    decoded, passes = [], []
    load = Preprocess.load
    monkeypatch.setattr(Preprocess, "load", lambda self, data: decoded.append(self.input_size) or load(self, data))
    forward = torch.nn.Conv2d.forward
    monkeypatch.setattr(torch.nn.Conv2d, "forward", lambda self, x: passes.append(x.shape) or forward(self, x))
    predict(stored, sheets_dataset, tmp_path / "run", part="test")
    assert len(decoded) == 2 * pictures  # one for a and b, one for c
    together = len(passes)
    passes.clear()
    for name, run in zip("abc", runs, strict=True):
        predict(run, sheets_dataset, tmp_path / name, part="test")
    assert together * 3 == len(passes) * 2  # two backbones instead of three


def test_a_lost_member_is_named(runs: list[Path], sheets_dataset: Path, tmp_path: Path) -> None:
    stored = ensemble_of(runs, sheets_dataset, tmp_path / "stored", "mean")
    content = read_json(stored / "ensemble.json")
    write_json(stored / "ensemble.json", {**content, "models": [str(tmp_path / "gone"), *content["models"][1:]]})
    with pytest.raises(MissingArtifact, match=r"the model of .* isn't where it was"):
        predict(stored, sheets_dataset, tmp_path / "run", part="test")
