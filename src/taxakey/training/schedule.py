"""Optimisers (timm's) and learning rates over a run (torch's)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import taxakey.torchvision_guard  # noqa: F401  before timm

import timm.optim
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    ExponentialLR,
    LambdaLR,
    LRScheduler,
    OneCycleLR,
)

from taxakey.training.lazy_adamw import LazyAdamW

LAZY_ADAMW = "lazy_adamw"


@dataclass(frozen=True)
class OptimizerOptions:
    """`name` is one of timm's (adamw, sgd, lion …), or lazy_adamw, for heads that touch few of their rows in a step.

    `backbone_rate`: the backbone's learning rate as a share of the head's.
    """

    name: str = "adamw"
    rate: float = 1e-3
    weight_decay: float = 0.01
    momentum: float = 0.9
    backbone_rate: float = 1.0

    def __post_init__(self) -> None:
        if self.name != LAZY_ADAMW and self.name not in (known := timm.optim.list_optimizers()):
            raise ValueError(f"timm has no optimizer {self.name!r}; some it has: {', '.join(known[:8])} …")
        if not self.rate > 0 or self.weight_decay < 0 or self.backbone_rate < 0:
            raise ValueError("rate must be above 0, weight_decay and backbone_rate at least 0")

    def build(self, backbone: nn.Module | None, head: nn.Module) -> Optimizer:
        """An optimiser with a group for the head and, where it is trained, one for the backbone. No decay on biases and norms."""
        groups = [*_groups(head, self.rate, self.weight_decay)]
        if backbone is not None:
            groups += _groups(backbone, self.rate * self.backbone_rate, self.weight_decay)
        if self.name == LAZY_ADAMW:
            return LazyAdamW(groups, lr=self.rate, weight_decay=0.0, fused=True)
        return timm.optim.create_optimizer_v2(groups, opt=self.name, lr=self.rate, weight_decay=0.0, momentum=self.momentum)


def _groups(module: nn.Module, rate: float, decay: float) -> Iterable[dict]:
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    decayed = [parameter for parameter in trained if parameter.ndim > 1]
    others = [parameter for parameter in trained if parameter.ndim <= 1]
    for parameters, weight_decay in ((decayed, decay), (others, 0.0)):
        if parameters:
            yield {"params": parameters, "lr": rate, "weight_decay": weight_decay}


@dataclass(frozen=True)
class ScheduleOptions:
    """How the learning rate moves, step by step.

    cosine: linear warm-up over `warmup` (share of the run), then down to `final` (share of the peak); one_cycle: peak at
    `warmup`; exponential: times `decay` each epoch (BioMachina: 0.85); constant.
    """

    kind: Literal["cosine", "one_cycle", "exponential", "constant"] = "cosine"
    warmup: float = 0.05
    final: float = 0.01
    decay: float = 0.85

    def __post_init__(self) -> None:
        if not (0 <= self.warmup < 1 and 0 < self.final <= 1 and 0 < self.decay <= 1):
            raise ValueError("warmup must lie in [0, 1), final and decay in (0, 1]")

    def build(self, optimizer: Optimizer, *, steps: int, steps_per_epoch: int) -> LRScheduler:
        """A schedule to be advanced after every optimiser step; `steps`: of the whole run."""
        rise = min(max(round(steps * self.warmup), 1), max(steps - 1, 1))
        match self.kind:
            case "constant":
                return ConstantLR(optimizer, factor=1.0)
            case "exponential":
                return ExponentialLR(optimizer, self.decay ** (1 / max(steps_per_epoch, 1)))
            case "one_cycle":
                peaks = [group["lr"] for group in optimizer.param_groups]
                share = min(max(self.warmup, 1 / max(steps, 2)), 0.9)
                return OneCycleLR(optimizer, peaks, total_steps=steps, pct_start=share, final_div_factor=1 / self.final)
            case "cosine":
                return LambdaLR(optimizer, lambda step: _cosine(step, steps, rise, self.final))


def _cosine(step: int, steps: int, rise: int, final: float) -> float:
    """Share of the peak at a step: linear from 0.01 to 1 over `rise` steps, then along a cosine to `final`."""
    if step < rise:
        return 0.01 + 0.99 * step / rise
    done = min((step - rise) / max(steps - rise, 1), 1.0)
    return final + (1 - final) * (1 + math.cos(math.pi * done)) / 2
