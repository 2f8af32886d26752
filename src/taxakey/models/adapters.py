"""LoRA: low-rank adapters beside the frozen layers of a transformer, through peft (Hu et al., 2021, arXiv 2106.09685).

A layer W x becomes W x + alpha/rank · B (A x), of which A and B alone learn; B starts at zero, so training starts from the
network as it came. Before a model is stored they are added into W: what is stored needs no peft, and costs what it cost before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from taxakey.errors import BadRecipe, needs_extra

TRANSFORMER_LAYERS = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")


@dataclass(frozen=True)
class LoraOptions:
    """`rank` of the change of a layer, `alpha`: its scale times the rank. `targets`: which layers, by how timm's names end."""

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    targets: tuple[str, ...] = TRANSFORMER_LAYERS

    def __post_init__(self) -> None:
        if self.rank < 1 or not self.alpha > 0 or not 0 <= self.dropout < 1:
            raise ValueError("rank must be at least 1, alpha above 0, dropout at least 0 and below 1")
        if not self.targets:
            raise ValueError(f"no targets; name layers, such as {', '.join(TRANSFORMER_LAYERS)}")


def add_adapters(backbone: nn.Module, options: LoraOptions, input_size: tuple[int, int, int]) -> None:
    """Put adapters beside the layers that the options name, in place; from then on only they learn.

    `input_size`: of a picture. Raises MissingExtra without peft, BadRecipe where no layer has such a name, or where a network
    reads a layer's weights without calling it, so that an adapter would be passed by (BEiT's and SwinV2's qkv).
    """
    with needs_extra("lora"):
        from peft import LoraConfig, inject_adapter_in_model
    layers = [name for name, module in backbone.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
    chosen = [name for name in layers if name.endswith(tuple(f".{target}" for target in options.targets))]
    if not chosen:
        ends = sorted({".".join(name.split(".")[-2:]) for name in layers})
        raise BadRecipe(
            f"tuning.lora: no layer of {_name(backbone)} is called {' or '.join(options.targets)}; "
            f"some that it has: {', '.join(ends[:8])}"
        )
    config = LoraConfig(
        r=options.rank, lora_alpha=options.alpha, lora_dropout=options.dropout, target_modules=chosen, bias="none"
    )
    inject_adapter_in_model(config, backbone)
    if unused := _never_called(backbone, [f"{name}.lora_A.default" for name in chosen], input_size):
        first = unused[0].removesuffix(".lora_A.default")
        raise BadRecipe(
            f"tuning.lora: {_name(backbone)} never calls {first} (nor {len(unused) - 1} more), it only reads its weights, so an "
            f"adapter there would learn nothing; leave {'.'.join(first.split('.')[-2:])} out of targets"
        )


def merge_adapters(backbone: nn.Module) -> None:
    """Add every adapter into the layer beside it and take it away, in place: the same answers from plain layers."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(backbone.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge(safe_merge=True)
            backbone.set_submodule(name, module.get_base_layer())


def _never_called(backbone: nn.Module, names: Sequence[str], input_size: tuple[int, int, int]) -> list[str]:
    """Which of these modules a forward pass leaves out. It runs on the meta device: shapes without numbers, in no time."""
    called = set[str]()
    hooks = [backbone.get_submodule(name).register_forward_pre_hook(lambda *_, name=name: called.add(name)) for name in names]
    tensors = {**dict(backbone.named_parameters()), **dict(backbone.named_buffers())}
    training = backbone.training
    with torch.no_grad():
        shapes = {name: tensor.to("meta") for name, tensor in tensors.items()}
        torch.func.functional_call(backbone.eval(), shapes, (torch.empty(1, *input_size, device="meta"),))
    backbone.train(training)
    for hook in hooks:
        hook.remove()
    return [name for name in names if name not in called]


def _name(backbone: nn.Module) -> str:
    return str(backbone.pretrained_cfg.get("architecture"))  # type: ignore[union-attr, operator]
