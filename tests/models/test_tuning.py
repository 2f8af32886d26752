"""Which weights of a backbone learn: what is frozen stays, and what isn't moves."""

from __future__ import annotations

from typing import Any

import taxakey.torchvision_guard  # noqa: F401  before timm

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from taxakey.errors import BadRecipe
from taxakey.models.adapters import LoraOptions
from taxakey.models.tuning import TuningOptions, groups, make_plain, make_ready, set_modes

SIZE = (3, 32, 32)


def network(name: str = "resnet10t", **arguments: Any) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=0, **arguments)


def vit(**arguments: Any) -> nn.Module:
    return network("vit_tiny_patch16_224", depth=3, embed_dim=48, num_heads=3, img_size=32, **arguments)


def learning(backbone: nn.Module) -> set[str]:
    return {name for name, parameter in backbone.named_parameters() if parameter.requires_grad}


def state(backbone: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in backbone.state_dict().items()}


def trained(backbone: nn.Module, *, steps: int = 3, freeze_norm: bool = False) -> set[str]:
    """Names of what changes in a few real steps."""
    before = state(backbone)
    optimizer = torch.optim.AdamW([p for p in backbone.parameters() if p.requires_grad], lr=0.01)
    set_modes(backbone, head_alone=False, freeze_norm=freeze_norm)
    for _ in range(steps):
        optimizer.zero_grad()
        backbone(torch.randn(4, *SIZE)).square().sum().backward()
        optimizer.step()
    return {name for name, tensor in backbone.state_dict().items() if not torch.equal(tensor, before[name])}


def test_frozen_stages_keep_weights_and_statistics() -> None:
    backbone = network()
    stages = groups(backbone)
    assert [names[0].split(".")[0] for names in stages] == ["conv1", "layer1", "layer2", "layer3", "layer4"]
    make_ready(backbone, TuningOptions(freeze=3), SIZE)
    assert learning(backbone) == {*stages[3], *stages[4]}
    moved = trained(backbone)
    assert {name.split(".")[0] for name in moved} == {"layer3", "layer4"}
    assert any(name.endswith("running_mean") for name in moved)


@pytest.mark.parametrize(("freeze", "by", "kept"), [(-1, "stages", 1), (-2, "blocks", 2), (1, "blocks", 3), (3, "blocks", 1)])
def test_blocks_are_counted_from_both_ends(freeze: int, by: Any, kept: int) -> None:
    backbone = vit()
    found = groups(backbone, by)
    assert [names[0] for names in found] == ["cls_token", *(f"blocks.{block}.norm1.weight" for block in range(3))]
    assert found[-1][-2:] == ["norm.weight", "norm.bias"]
    make_ready(backbone, TuningOptions(freeze=freeze, by=by), SIZE)
    assert learning(backbone) == {name for names in found[-kept:] for name in names}


def test_a_last_norm_is_part_of_the_last_stage() -> None:
    last = groups(network("convnext_atto"))[-1]
    assert {"norm_pre.weight", "head.norm.weight", "norm.weight"} & set(last)
    assert any(name.startswith("stages.3.") for name in last)


@pytest.mark.parametrize("name", ["resnet10t", "convnext_atto", "vit"])
def test_norms_alone(name: str) -> None:
    backbone = vit() if name == "vit" else network(name)
    make_ready(backbone, TuningOptions(freeze="all_but_norms"), SIZE)
    norms = (nn.BatchNorm2d, nn.LayerNorm)
    expected = {f"{key}.{of}" for key, m in backbone.named_modules() if isinstance(m, norms) for of in ("weight", "bias")}
    assert learning(backbone) == expected
    assert {key for key in trained(backbone) if "running" not in key and "num_batches" not in key} <= learning(backbone)


def test_norms_of_trained_parts_keep_their_statistics_when_asked() -> None:
    moved = trained(network(), freeze_norm=True)
    assert not [name for name in moved if "running" in name]
    assert "layer4.0.bn1.weight" in moved


def test_while_the_head_learns_alone_a_backbone_answers_as_in_an_answer() -> None:
    backbone, pixels = vit(drop_path_rate=0.5), torch.randn(4, *SIZE)
    expected = backbone.eval()(pixels)
    set_modes(backbone, head_alone=True, freeze_norm=False)
    assert torch.equal(backbone(pixels), expected)
    set_modes(backbone, head_alone=False, freeze_norm=False)
    assert not torch.equal(backbone(pixels), expected)


def test_checkpointing_gives_the_same_gradients_from_fewer_kept_activations() -> None:
    kept, gradients = [], []
    pixels = torch.randn(2, *SIZE)
    for checkpointing in (False, True):
        backbone, options = vit().train(), TuningOptions(checkpointing=checkpointing)
        make_ready(backbone, options, SIZE)
        numbers = 0

        def count(tensor: Tensor) -> Tensor:
            nonlocal numbers
            numbers += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            output = backbone(pixels)
        kept.append(numbers)
        output.sum().backward()
        gradients.append([p.grad for p in backbone.parameters() if p.grad is not None])
        make_plain(backbone, options)
        assert not backbone.grad_checkpointing
    assert kept[1] < kept[0] / 2
    for one, other in zip(*gradients, strict=True):
        assert_close(one, other)


def test_checkpointing_and_frozen_first_stages_go_together() -> None:
    """Checkpoints of the old kind give no gradients where nothing before them learns."""
    backbone = vit()
    make_ready(backbone, TuningOptions(freeze=2, checkpointing=True), SIZE)
    assert trained(backbone) == learning(backbone)


@pytest.mark.parametrize("freeze", [5, -5, 9])
def test_too_many_stages_are_refused(freeze: int) -> None:
    with pytest.raises(BadRecipe, match=r"tuning.freeze is -?\d, and resnet10t has 5 stages"):
        make_ready(network(), TuningOptions(freeze=freeze), SIZE)


def test_options_that_contradict_each_other() -> None:
    with pytest.raises(ValueError, match="leave freeze out"):
        TuningOptions(freeze=1, lora=LoraOptions())
    with pytest.raises(ValueError, match="head_first"):
        TuningOptions(head_first=-1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (TuningOptions(), "trained as a whole"),
        (TuningOptions(freeze=2), "its first 2 stages frozen, the others trained"),
        (TuningOptions(head_first=3), "trained as a whole, after 3 epochs of the head alone"),
        (TuningOptions(freeze=-2, by="blocks"), "all but its last 2 blocks frozen, the others trained"),
        (TuningOptions(freeze="all_but_norms"), "only its norms were trained"),
        (TuningOptions(lora=LoraOptions(rank=4)), "adapted by LoRA of rank 4"),
    ],
)
def test_the_card_says_it_in_words(options: TuningOptions, words: str) -> None:
    assert options.meaning == words
