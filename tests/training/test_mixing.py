"""Mixup and CutMix against their definitions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from taxakey.errors import BadRecipe
from taxakey.models.backbones import Network
from taxakey.models.heads import LinearHead
from taxakey.training.batches import Batch, StoredFeatures, feature_loader
from taxakey.training.mixing import MixingOptions
from taxakey.training.module import TrainingModule
from taxakey.training.recipe import read_recipe, recipe_from
from taxakey.training.samplers import PlainOptions, TrainingPart

HEAD = replace(read_recipe("frozen-linear"), seed=5)


def stored(pictures: int = 40) -> StoredFeatures:
    features = np.random.default_rng(1).normal(size=(pictures, 6)).astype(np.float32)
    return StoredFeatures(features, np.arange(pictures) % 4)


def test_mixup_blends_stored_features_and_keeps_both_labels() -> None:
    data = stored()
    recipe = replace(HEAD, mixing=MixingOptions(mixup=0.4), loop=replace(HEAD.loop, batch_size=10))
    draw = PlainOptions().build(TrainingPart(data.labels_N.numpy(), np.zeros(4, dtype=np.int64), 5))
    loader = feature_loader(data, recipe, draw)
    for number, batch in enumerate(loader):
        rows = torch.from_numpy(draw.rows(0)[10 * number : 10 * number + 10])
        assert_close(batch.labels, data.labels_N[rows])
        first = data.features_ND[rows]
        for image in range(10):  # the partner is one of the batch with that label, and only one makes the blend
            share = batch.share[image]
            blends = share * first[image] + (1 - share) * first
            found = [other for other in range(10) if torch.allclose(blends[other], batch.inputs[image], atol=1e-6)]
            assert batch.mixed_labels[image] in batch.labels[found]
        assert len(set(batch.share.tolist())) == 10
    again = [batch.inputs for batch in feature_loader(data, recipe, draw)]
    assert_close(again, [batch.inputs for batch in loader])


def test_the_loss_of_mixed_pictures_is_that_of_soft_labels() -> None:
    """Cross-entropy against λ·one-hot(a) + (1−λ)·one-hot(b), as torch computes it."""
    torch.manual_seed(0)
    head = LinearHead(6, 4)
    module = TrainingModule(Network(nn.Identity(), head), HEAD)
    features, labels, mixed = torch.randn(5, 6), torch.tensor([0, 1, 2, 3, 0]), torch.tensor([3, 3, 2, 0, 1])
    share = torch.tensor([0.9, 0.5, 0.1, 0.7, 1.0])
    soft = share[:, None] * torch.eye(4)[labels] + (1 - share)[:, None] * torch.eye(4)[mixed]
    expected = nn.functional.cross_entropy(head(features), soft)
    assert_close(module.training_step(Batch(features, labels, None, mixed, share), 0), expected)


def test_cutmix_tells_the_share_of_pixels_that_stayed() -> None:
    pictures = torch.arange(32, dtype=torch.uint8).view(32, 1, 1, 1).expand(32, 3, 20, 30).contiguous()
    mixed = MixingOptions(cutmix=1.0).mix(pictures, seed=2)
    assert mixed is not None
    for image in range(32):
        partner = int(mixed.partner[image])
        pixels = mixed.inputs[image, 0]
        assert set(pixels.unique().tolist()) <= {image, partner}
        if partner != image:
            assert mixed.share[image] == pytest.approx(float((pixels == image).float().mean()), abs=1e-6)
    assert mixed.share.min() < 0.5 < mixed.share.max() <= 1
    assert mixed.inputs.dtype == torch.uint8
    assert int(pictures[7].max()) == 7, "the batch itself must stay as it was"


def test_mixup_of_uint8_rounds_the_blend() -> None:
    pictures = torch.randint(0, 256, (16, 3, 4, 4), dtype=torch.uint8)
    mixed = MixingOptions(mixup=1.0).mix(pictures, seed=0)
    assert mixed is not None
    share = mixed.share[:, None, None, None]
    exact = share * pictures.float() + (1 - share) * pictures[mixed.partner].float()
    assert (mixed.inputs.float() - exact).abs().max() <= 0.5001


def test_probability_and_both_ways() -> None:
    pictures = torch.zeros(4, 3, 8, 8)
    assert MixingOptions().mix(pictures, 0) is None
    assert MixingOptions(mixup=1.0, probability=0.0).mix(pictures, 0) is None
    some = [MixingOptions(mixup=1.0, probability=0.3).mix(pictures, seed) is not None for seed in range(500)]
    assert 0.2 < np.mean(some) < 0.4
    noise = torch.rand(8, 3, 16, 16)
    both = [MixingOptions(mixup=1.0, cutmix=1.0).mix(noise, seed) for seed in range(200)]
    # what cutmix gives was in one of the pictures
    cut = [bool(torch.isin(one.inputs, noise).all()) for one in both if one is not None]
    assert 0.35 < np.mean(cut) < 0.65


def test_metadata_is_blended_alike() -> None:
    from taxakey.training.batches import _mixed

    batch = Batch(torch.rand(8, 5), torch.arange(8), metadata=torch.eye(8))
    mixed = _mixed((batch, 3), MixingOptions(mixup=1.0), 0)
    assert mixed.share is not None
    assert mixed.metadata is not None
    assert mixed.mixed_labels is not None
    expected = mixed.share[:, None] * torch.eye(8) + (1 - mixed.share)[:, None] * torch.eye(8)[mixed.mixed_labels]
    assert_close(mixed.metadata, expected)


def test_cutmix_of_stored_features_is_refused() -> None:
    content = {"name": "a", "train": "head", "mixing": {"cutmix": 1.0}}
    with pytest.raises(BadRecipe, match="cutmix cuts pictures"):
        recipe_from(content, Path("r.yaml")).resolved()
