"""Embeddings: the backbone's own features, shard by shard, resumed where they stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import taxakey.embeddings as module
from taxakey.dataset.preprocess import Preprocess
from taxakey.dataset.reader import Dataset
from taxakey.dataset.vectors import Vectors, shard_file
from taxakey.embeddings import embed
from taxakey.errors import BadInput, PlanMismatch, WeightsUnavailable
from taxakey.models.backbones import BackboneOptions, build_backbone, data_config, state_hash

# A seeded file of weights stands for pretrained ones: what is tested is that the same weights give the same vectors.
PLAIN = BackboneOptions(name="resnet10t", weights="none", image_size=48)


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> BackboneOptions:
    from safetensors.torch import save_file

    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    save_file({key: value.half() for key, value in build_backbone(PLAIN).state_dict().items()}, file)
    return replace(PLAIN, weights=str(file))


def test_vectors_are_the_backbones_features(options: BackboneOptions, sheets_dataset: Path, tmp_path: Path) -> None:
    manifest = embed(sheets_dataset, options, tmp_path / "vectors")
    part, backbone = Dataset.open(sheets_dataset).part("test"), build_backbone(options).eval()
    preprocess = Preprocess.from_config(data_config(options, backbone))
    with torch.inference_mode():
        expected = [backbone(torch.from_numpy(preprocess.load(part.image_bytes(row)))[None])[0].numpy() for row in range(5)]
    vectors = Vectors(tmp_path / "vectors")
    assert vectors.width == manifest.counts["width"] == 512
    assert vectors.backbone_hash == state_hash(backbone)
    np.testing.assert_allclose(vectors.part("test", part.image_ids)[:5], expected, rtol=1e-4, atol=1e-5)


def test_goes_on_with_the_missing_shards_only(
    options: BackboneOptions, sheets_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROWS_PER_SHARD", 32)
    out = tmp_path / "vectors"
    embed(sheets_dataset, options, out)
    part = Dataset.open(sheets_dataset).part("train")
    whole = Vectors(out).part("train", part.image_ids)
    (out / "manifest.json").unlink()  # as a run killed before its end leaves it
    shard_file(out, "train", 1).unlink()
    kept = shard_file(out, "train", 0).stat().st_mtime_ns
    embed(sheets_dataset, options, out)
    assert shard_file(out, "train", 0).stat().st_mtime_ns == kept
    np.testing.assert_allclose(Vectors(out).part("train", part.image_ids), whole, rtol=1e-5, atol=1e-6)


def test_refuses_another_backbone_in_the_same_folder(options: BackboneOptions, sheets_dataset: Path, tmp_path: Path) -> None:
    embed(sheets_dataset, options, tmp_path / "vectors")
    with pytest.raises(PlanMismatch, match="was begun with recipe"):
        embed(sheets_dataset, replace(options, image_size=32), tmp_path / "vectors")


def test_refuses_pictures_that_were_not_embedded(options: BackboneOptions, sheets_dataset: Path, tmp_path: Path) -> None:
    embed(sheets_dataset, options, tmp_path / "vectors")
    with pytest.raises(BadInput, match="aren't those of this dataset"):
        Vectors(tmp_path / "vectors").part("test", ["somebody-elses-picture"])


def test_weights_of_another_architecture_are_an_error(options: BackboneOptions) -> None:
    with pytest.raises(WeightsUnavailable, match="these aren't weights of mobilenetv3_small_050"):
        build_backbone(replace(options, name="mobilenetv3_small_050"))


def test_a_missing_file_and_an_unreachable_hub_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsUnavailable, match=r"nowhere\.safetensors: no such file.*--weights FILE"):
        build_backbone(replace(PLAIN, weights="nowhere.safetensors"))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("taxakey.models.backbones._cached", lambda config: False)
    with pytest.raises(WeightsUnavailable, match=r"127\.0\.0\.1 doesn't answer.*--weights FILE"):
        build_backbone(replace(PLAIN, weights="hub"))


def test_the_real_weights_name_their_own_test_pictures(shared_data: Path) -> None:
    """ImageNet weights from a file give the features that their classifier was trained on: its top-1 stays what it was."""
    import json

    from safetensors.torch import load_file

    file = shared_data / "weights" / "mobilenetv2_100.tf2_mobilenet_v2_1.0_224_ptq.fp16.safetensors"
    half = (0.5, 0.5, 0.5)
    real = BackboneOptions("mobilenetv2_100", str(file), {"pad_type": "same"}, mean=half, std=half)
    backbone = build_backbone(real).eval()
    classifier = {key: value.float() for key, value in load_file(file).items() if key.startswith("classifier.")}
    preprocess = Preprocess.from_config(data_config(real, backbone))
    expected = json.loads((shared_data / "weights" / "expected_top5.json").read_text())
    labels = (shared_data / "weights" / "imagenet1k_labels.txt").read_text().splitlines()
    top_1 = next(value for key, value in expected.items() if "tf2" in key)
    for picture, answers in top_1.items():
        pixels = torch.from_numpy(preprocess.load(shared_data / "weights" / "test_images" / picture))[None]
        with torch.inference_mode():
            logits = backbone(pixels) @ classifier["classifier.weight"].T + classifier["classifier.bias"]
        assert labels[int(logits.argmax())] in str(answers[0]), picture
