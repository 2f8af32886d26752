"""Backbones: the table of docs/backbones.md, one training step of each family, pictures of any size.

Shapes: B images, D features.
"""

from __future__ import annotations

import re
from pathlib import Path

import taxakey.torchvision_guard  # noqa: F401  before timm

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn
from torch.testing import assert_close

from taxakey.errors import BadRecipe
from taxakey.losses.cross_entropy import CrossEntropy
from taxakey.losses.decision import Answer
from taxakey.models.backbones import (
    BackboneOptions,
    build_backbone,
    creation_arguments,
    data_config,
    feature_width,
    picture_size,
)
from taxakey.models.heads import LinearHead
from taxakey.models.tuning import groups

PAGE = Path(__file__).parent.parent.parent / "docs" / "backbones.md"
ROWS = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE))


def meta(options: BackboneOptions) -> nn.Module:
    with torch.device("meta"):
        return build_backbone(options)


@pytest.mark.parametrize("name", ROWS)
def test_the_table_says_what_the_backbone_is(name: str) -> None:
    options = BackboneOptions(name=name, weights="none")
    backbone = meta(options).eval()
    _, height, width = data_config(options, backbone)["input_size"]
    (features,) = backbone(torch.empty(1, 3, height, width, device="meta")).shape[1:]
    parameters = sum(parameter.numel() for parameter in backbone.parameters())
    counted = f"{len(groups(backbone))} / {len(groups(backbone, 'blocks'))}"
    _, *facts = ROWS[name].split(" | ")
    assert facts == [f"{parameters:,}", f"{features:,}", f"{height}×{width}", counted]
    assert feature_width(backbone) == features


def test_the_table_names_every_family_of_the_papers() -> None:
    families = """resnet18 resnet50 resnet101 efficientnet_b4 efficientnet_b6 efficientnetv2_b1 efficientnetv2_s efficientnetv2_m
        mobilenetv2 mobilenetv3 vit_base_patch16 vit_base_patch32 reg4_dinov2 swin_ swinv2 convnext deit3 beit resnest regnety"""
    assert not [family for family in families.split() if not any(family in name for name in ROWS)]
    missing = re.search(r"timm lacks (.*?), the hybrid", PAGE.read_text(encoding="utf-8").replace("\n", " "))
    assert missing, "what timm lacks isn't said"
    for family in ("alexnet", "squeezenet", "shufflenet", "cswin"):
        assert family in missing[1].lower()
        assert not timm.list_models(f"*{family}*"), f"timm has {family} now: add it to the table"


# Small brothers of each family, or the family itself made shallow.
SHALLOW = {"depth": 2, "embed_dim": 48, "num_heads": 3}
SMALL: dict[str, tuple[str, dict, int | tuple[int, int]]] = {
    "resnet": ("resnet10t", {}, 32),
    "resnest": ("resnest14d", {}, 64),
    "regnety": ("regnety_002", {}, 64),
    "densenet": ("densenet121", {"block_config": (1, 1, 1, 1)}, 32),
    "efficientnet": ("efficientnet_lite0", {}, 64),
    "efficientnetv2": ("tf_efficientnetv2_b0", {}, 64),
    "mobilenetv2": ("mobilenetv2_035", {}, 64),
    "mobilenetv3": ("mobilenetv3_small_050", {}, (64, 96)),
    "convnext": ("convnext_atto", {}, (64, 32)),
    "vit": ("vit_tiny_patch16_224", SHALLOW, (32, 64)),
    "dinov2": ("vit_small_patch14_reg4_dinov2", SHALLOW, 56),
    "deit3": ("deit3_small_patch16_224", SHALLOW, 48),
    "beit": ("beit_base_patch16_224", SHALLOW, (48, 32)),
    "swin": ("swin_tiny_patch4_window7_224", {"depths": (1, 1, 1, 1), "embed_dim": 24}, (64, 96)),
    "swinv2": ("swinv2_tiny_window8_256", {"depths": (1, 1, 1, 1), "embed_dim": 24}, 64),
}


@pytest.mark.parametrize("family", SMALL)
def test_a_family_learns_from_random_weights(family: str) -> None:
    """On pictures of another size than its own: every weight gets a gradient, and a few steps tell two pictures apart."""
    name, arguments, size = SMALL[family]
    options = BackboneOptions(name=name, weights="none", arguments=arguments, image_size=size)
    torch.manual_seed(0)
    backbone = build_backbone(options).train()
    height, width = picture_size(options) or (0, 0)
    pixels, labels_B = torch.randn(4, 3, height, width), torch.tensor([0, 1, 0, 1])
    head = LinearHead(feature_width(backbone), 2)
    optimizer = torch.optim.AdamW([*backbone.parameters(), *head.parameters()], lr=2e-3)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = CrossEntropy()(Answer(head, backbone(pixels), labels_B)).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert not [key for key, parameter in backbone.named_parameters() if parameter.grad is None]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


# ---- the size of pictures ----


def test_a_size_is_a_side_or_height_and_width() -> None:
    assert picture_size(BackboneOptions(image_size=96)) == (96, 96)
    assert picture_size(BackboneOptions(image_size=(96, 64))) == (96, 64)
    assert picture_size(BackboneOptions(arguments={"img_size": [32, 64]})) == (32, 64)
    assert picture_size(BackboneOptions()) is None
    backbone = meta(options := BackboneOptions(name="resnet10t", weights="none", image_size=(96, 64)))
    assert data_config(options, backbone)["input_size"] == (3, 96, 64)


def test_only_networks_of_a_fixed_size_are_told_another_one() -> None:
    assert creation_arguments(BackboneOptions(name="resnet18", image_size=96)) == {}
    assert creation_arguments(BackboneOptions(name="vit_base_patch16_224", image_size=224)) == {}
    assert creation_arguments(BackboneOptions(name="vit_base_patch16_224", image_size=(96, 64))) == {"img_size": (96, 64)}
    dynamic = {"dynamic_img_size": True}
    assert creation_arguments(BackboneOptions(name="vit_base_patch16_224", arguments=dynamic, image_size=96)) == dynamic


def test_position_embeddings_of_a_file_are_resampled(tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = timm.create_model("test_vit", num_classes=0)
    save_file(whole.state_dict(), tmp_path / "weights.safetensors")
    options = BackboneOptions(name="test_vit", weights=str(tmp_path / "weights.safetensors"), image_size=(64, 96))
    smaller = build_backbone(options)
    side = int((whole.pos_embed.shape[1] - 1) ** 0.5)
    grid = whole.pos_embed[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    grid = nn.functional.interpolate(grid, size=(4, 6), mode="bicubic", antialias=True)
    expected = torch.cat([whole.pos_embed[:, :1], grid.permute(0, 2, 3, 1).reshape(1, 24, -1)], dim=1)
    assert_close(smaller.pos_embed, expected)
    others = {key: value for key, value in smaller.state_dict().items() if key != "pos_embed"}
    assert all(torch.equal(value, whole.state_dict()[key]) for key, value in others.items())
    assert smaller(torch.zeros(2, 3, 64, 96)).shape == (2, feature_width(smaller))


@pytest.mark.parametrize("family", ["vit", "dinov2", "deit3", "beit", "swin", "swinv2"])
def test_weights_of_a_transformer_serve_another_size(family: str, tmp_path: Path) -> None:
    name, arguments, size = SMALL[family]
    torch.manual_seed(0)
    save_file(timm.create_model(name, num_classes=0, **arguments).state_dict(), tmp_path / "weights.safetensors")
    options = BackboneOptions(name=name, weights=str(tmp_path / "weights.safetensors"), arguments=arguments, image_size=size)
    height, width = picture_size(options) or (0, 0)
    assert build_backbone(options).eval()(torch.randn(1, 3, height, width)).isfinite().all()


def test_a_side_that_is_no_multiple_of_the_patch_is_refused() -> None:
    with pytest.raises(BadRecipe, match=r"patches of 14×14, and 224×230 isn't made of whole ones; say image_size 224×224"):
        meta(BackboneOptions(name="vit_small_patch14_reg4_dinov2", weights="none", image_size=(224, 230)))


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "vgg11"])
def test_features_behind_a_last_hidden_layer_are_counted_as_they_come(name: str) -> None:
    """timm's num_features is another number there; a head of that width fitted nothing that came out."""
    backbone = meta(BackboneOptions(name=name, weights="none"))
    assert feature_width(backbone) != backbone.num_features
    assert backbone(torch.empty(2, 3, 64, 64, device="meta")).shape == (2, feature_width(backbone))
