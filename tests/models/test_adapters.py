"""LoRA: the adapters alone learn, by the formula, and merged they answer the same from plain layers."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Any

import taxakey.torchvision_guard  # noqa: F401  before timm

import pytest
import timm
import torch
from torch import nn
from torch.testing import assert_close

from taxakey.errors import BadRecipe, MissingExtra
from taxakey.models.adapters import LoraOptions, add_adapters, merge_adapters

SIZE = (3, 32, 32)
needs_peft = pytest.mark.skipif(find_spec("peft") is None, reason="the extra lora isn't installed")


def vit(name: str = "vit_tiny_patch16_224", **arguments: Any) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=0, img_size=32, **{"depth": 2, "embed_dim": 48, "num_heads": 3, **arguments})


@needs_peft
def test_training_starts_from_the_network_as_it_came() -> None:
    backbone, pixels = vit().eval(), torch.randn(2, *SIZE)
    before = backbone(pixels)
    add_adapters(backbone, LoraOptions(), SIZE)
    assert torch.equal(backbone(pixels), before)
    assert not backbone.training


@needs_peft
@pytest.mark.parametrize("targets", [("attn.qkv",), LoraOptions().targets])
def test_only_adapters_learn_and_merged_they_answer_the_same(targets: tuple[str, ...]) -> None:
    backbone, pixels = vit(), torch.randn(4, *SIZE)
    plain = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    options = LoraOptions(rank=3, alpha=6.0, targets=targets)
    add_adapters(backbone, options, SIZE)
    numbers = {"attn.qkv": 3 * (48 + 144), "attn.proj": 3 * (48 + 48), "mlp.fc1": 3 * (48 + 192), "mlp.fc2": 3 * (192 + 48)}
    learning = [p for p in backbone.parameters() if p.requires_grad]
    assert sum(p.numel() for p in learning) == 2 * sum(numbers[target] for target in targets)
    optimizer = torch.optim.AdamW(learning, lr=0.02)
    for _ in range(5):
        optimizer.zero_grad()
        (backbone.train()(pixels) - 1).square().mean().backward()
        optimizer.step()
    adapted = backbone.eval()(pixels)
    qkv = backbone.get_submodule("blocks.1.attn.qkv")
    A, B = qkv.lora_A["default"].weight.detach(), qkv.lora_B["default"].weight.detach()
    expected = plain["blocks.1.attn.qkv.weight"] + 6.0 / 3 * B @ A
    merge_adapters(backbone)
    assert_close(backbone(pixels), adapted, rtol=1e-4, atol=1e-5)
    merged = backbone.state_dict()
    assert merged.keys() == plain.keys()
    assert_close(merged["blocks.1.attn.qkv.weight"], expected)
    changed = {name for name in plain if not torch.equal(plain[name], merged[name])}
    assert changed == {f"blocks.{block}.{target}.weight" for block in range(2) for target in targets}
    assert not [name for name, module in backbone.named_modules() if "peft" in type(module).__module__]


@needs_peft
def test_layers_that_are_never_called_are_refused() -> None:
    """BEiT multiplies by qkv's weights itself: an adapter beside it would be stored, counted, and never learn."""
    with pytest.raises(BadRecipe, match=r"never calls blocks.0.attn.qkv \(nor 1 more\).*leave attn.qkv out of targets"):
        add_adapters(vit("beit_base_patch16_224"), LoraOptions(), SIZE)
    backbone = vit("beit_base_patch16_224")
    add_adapters(backbone, LoraOptions(targets=("attn.proj", "mlp.fc1")), SIZE)
    backbone(torch.randn(2, *SIZE)).sum().backward()
    assert not [name for name, p in backbone.named_parameters() if p.requires_grad and p.grad is None]


@needs_peft
def test_names_that_no_layer_has_are_refused() -> None:
    torch.manual_seed(0)
    with pytest.raises(BadRecipe, match=r"no layer of resnet10t is called attn.qkv or .*some that it has: .*conv1"):
        add_adapters(timm.create_model("resnet10t", num_classes=0), LoraOptions(), SIZE)


def test_without_peft_the_line_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtra, match=r"pip install 'taxakey\[lora\]'"):
        add_adapters(vit(), LoraOptions(), SIZE)


def test_options_out_of_bounds() -> None:
    for wrong in ({"rank": 0}, {"alpha": 0.0}, {"dropout": 1.0}, {"targets": ()}):
        with pytest.raises(ValueError, match=r"must be|no targets"):
            LoraOptions(**wrong)  # type: ignore[arg-type]
