"""Which of a backbone's weights learn when the whole network is trained, and what their training may cost.

timm sorts a network's weights into groups from the input to the output: stages, or blocks, with the stem first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import taxakey.torchvision_guard  # noqa: F401  before timm

import timm
from timm.layers import RmsNorm, RmsNorm2d
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from taxakey.errors import BadRecipe
from taxakey.models.adapters import LoraOptions, add_adapters, merge_adapters

_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, RmsNorm, RmsNorm2d)


@dataclass(frozen=True)
class TuningOptions:
    """With `train: all`: what of the backbone learns. By default all of it; the head always does.

    `freeze`: so many stages keep their weights, counted from the input, where the stem is the first; below zero, all but the last
    so many; or "all_but_norms", where only norms learn. `by`: count timm's stages, or its blocks (in a vision transformer they
    are the same). `lora`: low-rank adapters learn instead. `head_first`: for so many epochs the head learns alone, on the
    backbone as it came. `checkpointing`: forget activations and compute them again for the backward pass: less memory, more time.
    """

    freeze: int | Literal["all_but_norms"] = 0
    by: Literal["stages", "blocks"] = "stages"
    lora: LoraOptions | None = None
    head_first: int = 0
    checkpointing: bool = False

    def __post_init__(self) -> None:
        if self.head_first < 0:
            raise ValueError("head_first must be at least 0")
        if self.lora is not None and self.freeze != 0:
            raise ValueError("lora keeps all of the backbone's own weights as they are; leave freeze out")

    @property
    def meaning(self) -> str:
        """In words, for people."""
        count = self.freeze
        if self.lora is not None:
            learnt = f"adapted by LoRA of rank {self.lora.rank}"
        elif isinstance(count, str):
            learnt = "only its norms were trained"
        elif count:
            learnt = f"{f'its first {count}' if count > 0 else f'all but its last {-count}'} {self.by} frozen, the others trained"
        else:
            learnt = "trained as a whole"
        return learnt + (f", after {self.head_first} epochs of the head alone" if self.head_first else "")


def make_ready(backbone: nn.Module, options: TuningOptions, input_size: tuple[int, int, int]) -> None:
    """Freeze, adapt and set checkpoints as the options say, in place; raises BadRecipe for what this backbone can't do."""
    if options.lora is not None:
        add_adapters(backbone, options.lora, input_size)
    elif isinstance(options.freeze, str):
        _freeze_all_but_norms(backbone)
    elif options.freeze:
        _freeze_groups(backbone, options.freeze, options.by)
    if options.checkpointing:
        _set_checkpoints(backbone)


def make_plain(backbone: nn.Module, options: TuningOptions) -> None:
    """Undo what only training needs, in place, and keep what was learnt: the backbone as it is stored."""
    if options.lora is not None:
        merge_adapters(backbone)
    if options.checkpointing:
        backbone.set_grad_checkpointing(False)  # type: ignore[operator]


def groups(backbone: nn.Module, by: Literal["stages", "blocks"] = "stages") -> list[list[str]]:
    """Names of the weights, group by group, from the input to the output; raises BadRecipe where timm knows no groups.

    A norm after the last stage, which timm counts by itself in some networks and not in others, is the last stage's here.
    """
    matcher = getattr(backbone, "group_matcher", None)
    if matcher is None:
        raise BadRecipe(f"timm tells no {by} of {_name(backbone)} apart; say tuning.freeze: 0 or all_but_norms")
    found = timm.models.group_parameters(backbone, matcher(coarse=by == "stages"))
    *before, last = (found[number] for number in sorted(found))
    if before and all(backbone.get_parameter(name).ndim < 2 for name in last):
        last = before.pop() + last
    return [*before, last]


def set_modes(backbone: nn.Module, *, head_alone: bool, freeze_norm: bool) -> None:
    """Training mode for what learns. BatchNorm that doesn't, in frozen stages or by `freeze_norm`, keeps its statistics.

    With `head_alone` nothing learns: the features are those of an answer, without dropout.
    """
    backbone.train(not head_alone)
    for layer in backbone.modules():
        if isinstance(layer, _BatchNorm) and (freeze_norm or _is_frozen(layer)):
            layer.eval()


def _is_frozen(layer: nn.Module) -> bool:
    parameters = list(layer.parameters())
    return bool(parameters) and not any(parameter.requires_grad for parameter in parameters)


def _freeze_groups(backbone: nn.Module, count: int, by: Literal["stages", "blocks"]) -> None:
    found = groups(backbone, by)
    if not 0 < abs(count) < len(found):
        raise BadRecipe(
            f"tuning.freeze is {count}, and {_name(backbone)} has {len(found)} {by}, the stem among them; freeze fewer, "
            "or, to learn the head alone, take train: head"
        )
    for names in found[:count]:
        for name in names:
            backbone.get_parameter(name).requires_grad_(False)


def _freeze_all_but_norms(backbone: nn.Module) -> None:
    backbone.requires_grad_(False)
    norms = [layer for layer in backbone.modules() if isinstance(layer, _NORMS)]
    if not any(True for layer in norms for _ in layer.parameters()):
        raise BadRecipe(f"tuning.freeze: all_but_norms leaves nothing: {_name(backbone)} has no norms that learn")
    for layer in norms:
        layer.requires_grad_(True)


def _set_checkpoints(backbone: nn.Module) -> None:
    try:
        backbone.set_grad_checkpointing(True)  # type: ignore[operator]
    except (AssertionError, AttributeError):
        raise BadRecipe(f"tuning.checkpointing: timm has none for {_name(backbone)}; leave it out") from None


def _name(backbone: nn.Module) -> str:
    return str(backbone.pretrained_cfg.get("architecture"))  # type: ignore[union-attr, operator]
