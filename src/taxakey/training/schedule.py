"""Optimisers (timm's) and learning rates over a run (a share of each group's rate, step by step)."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import taxakey.torchvision_guard  # noqa: F401  before timm

import timm.optim
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from taxakey.training.lazy_adamw import LazyAdamW

LAZY_ADAMW = "lazy_adamw"


@dataclass(frozen=True)
class OptimizerOptions:
    """`name` is one of timm's, or lazy_adamw, for heads that touch few of their rows in a step.

    timm's names that the papers need: sgd (Nesterov; momentum is the one without), sgdw (Nesterov, decoupled decay), adam,
    adamw, lion. `betas` and `eps`: null for the optimiser's own. `backbone_rate`: the backbone's learning rate as a share of the
    head's. `layer_decay`: each layer of the backbone, counted from its end, learns at this share of the one above it (Clark et
    al., 2020). `rate_batch`: the batch that `rate` is meant for; another one changes the rate in proportion (Goyal et al., 2017).
    """

    name: str = "adamw"
    rate: float = 1e-3
    weight_decay: float = 0.01
    momentum: float = 0.9
    backbone_rate: float = 1.0
    betas: tuple[float, float] | None = None
    eps: float | None = None
    layer_decay: float | None = None
    rate_batch: int | None = None

    def __post_init__(self) -> None:
        if self.name != LAZY_ADAMW and self.name not in (known := timm.optim.list_optimizers()):
            raise ValueError(f"timm has no optimizer {self.name!r}; some it has: {', '.join(known[:8])} …")
        if not self.rate > 0 or self.weight_decay < 0 or self.backbone_rate < 0:
            raise ValueError("rate must be above 0, weight_decay and backbone_rate at least 0")
        if self.layer_decay is not None and not 0 < self.layer_decay <= 1:
            raise ValueError("layer_decay must lie in (0, 1], or be null")
        if self.rate_batch is not None and self.rate_batch < 1:
            raise ValueError("rate_batch must be at least 1, or null")
        for option in self._given():
            if option not in _parameters_of(self.name):
                raise ValueError(f"the optimizer {self.name} takes no {option}; leave it out")

    def build(self, backbone: nn.Module | None, head: nn.Module, *, batch: int | None = None) -> Optimizer:
        """An optimiser with groups for the head and, where it is trained, for the backbone. No decay on biases and norms.

        `batch`: pictures in an optimiser step, over all processes; only `rate_batch` asks for it.
        """
        rate = self.rate
        if self.rate_batch is not None and batch is not None:
            rate *= batch / self.rate_batch
        groups = [*_groups(head, rate, self.weight_decay)]
        if backbone is not None:
            groups += self._backbone_groups(backbone, rate * self.backbone_rate)
        if self.name == LAZY_ADAMW:
            return LazyAdamW(groups, lr=rate, weight_decay=0.0, fused=True, **self._given())
        return timm.optim.create_optimizer_v2(
            groups, opt=self.name, lr=rate, weight_decay=0.0, momentum=self.momentum, **self._given()
        )

    def _given(self) -> dict[str, float | tuple[float, float]]:
        return {name: value for name, value in (("betas", self.betas), ("eps", self.eps)) if value is not None}

    def _backbone_groups(self, backbone: nn.Module, rate: float) -> Iterable[dict]:
        if self.layer_decay is None:
            return _groups(backbone, rate, self.weight_decay)
        groups = timm.optim.param_groups_layer_decay(backbone, weight_decay=self.weight_decay, layer_decay=self.layer_decay)
        return [
            {"params": group["params"], "lr": rate * group["lr_scale"], "weight_decay": group["weight_decay"]} for group in groups
        ]


def _parameters_of(name: str) -> Iterable[str]:
    made = LazyAdamW.__base__ if name == LAZY_ADAMW else timm.optim.get_optimizer_class(name, bind_defaults=False)
    assert made is not None
    return inspect.signature(made).parameters


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

    constant; step: times `decay` at each of the epochs `milestones` (Pl@ntNet-300K: 0.1 at [20, 25]); exponential: times `decay`
    each epoch (BioMachina: 0.85); one_cycle: along a cosine from `start` to the peak at `warmup`, and down to `final` (Smith and
    Topin, 2018; NAFlora: `rate` 0.7, all else as it comes); cosine: down to `final` (Loshchilov and Hutter, 2017); restarts: down
    to the rate `lowest` every `period` epochs, each period `period_factor` times as long as the last (the same paper; FungiCLEF:
    5 epochs, 5e-7); plateau: times `decay` when `loop.best_by` hasn't improved in more than `patience` epochs.

    `warmup`: share of the run in which the rate first rises, in a line from `start` but for one_cycle; null for 0.05 of cosine,
    0.2 of one_cycle and none of the others. `start` and `final` are shares of the peak.
    """

    kind: Literal["cosine", "one_cycle", "exponential", "constant", "step", "restarts", "plateau"] = "cosine"
    warmup: float | None = None
    start: float = 0.01
    final: float = 0.01
    decay: float = 0.85
    milestones: tuple[int, ...] = ()
    period: int = 5
    period_factor: int = 1
    lowest: float = 0.0
    patience: int = 3

    def __post_init__(self) -> None:
        if self.warmup is not None and not 0 <= self.warmup < 1:
            raise ValueError("warmup must lie in [0, 1), or be null")
        if not all(0 < share <= 1 for share in (self.start, self.final, self.decay)):
            raise ValueError("start, final and decay must lie in (0, 1]")
        if (self.kind == "step") != bool(self.milestones):
            raise ValueError("kind: step needs milestones (the epochs at which the rate falls), and no other kind takes them")
        if min(self.period, self.period_factor) < 1 or self.lowest < 0 or self.patience < 0:
            raise ValueError("period and period_factor must be at least 1, lowest and patience at least 0")

    def build(self, optimizer: Optimizer, *, steps: int, steps_per_epoch: int) -> Rates:
        """A schedule to be advanced after every optimiser step; `steps`: of the whole run."""
        shares = [self._share(steps, max(steps_per_epoch, 1), float(group["lr"])) for group in optimizer.param_groups]
        return Rates(optimizer, shares, self.decay, self.patience)

    def _share(self, steps: int, per_epoch: int, rate: float) -> Callable[[int], float]:
        """Share of the peak `rate` at a step."""
        warmup = {"cosine": 0.05, "one_cycle": 0.2}.get(self.kind, 0.0) if self.warmup is None else self.warmup
        rise = round(steps * warmup)
        if self.kind in ("cosine", "one_cycle"):
            rise = min(max(rise, 1), max(steps - 1, 1))

        def share(step: int) -> float:
            if step < rise and self.kind == "one_cycle":
                return _between(self.start, 1.0, step / rise)
            before = self.start + (1 - self.start) * step / rise if step < rise else 1.0
            match self.kind:
                case "cosine" | "one_cycle":
                    return before if step < rise else _between(1.0, self.final, (step - rise) / max(steps - rise, 1))
                case "step":
                    return before * self.decay ** sum(step >= epoch * per_epoch for epoch in self.milestones)
                case "exponential":
                    return before * self.decay ** (step / per_epoch)
                case "restarts":
                    return before * _between(1.0, self.lowest / rate, self._done_of_period(max(step - rise, 0) / per_epoch))
                case _:
                    return before

        return share

    def _done_of_period(self, epochs: float) -> float:
        period = self.period
        while epochs >= period:
            epochs, period = epochs - period, period * self.period_factor
        return epochs / period


def _between(begin: float, end: float, done: float) -> float:
    """Along half a cosine from `begin` (done: 0) to `end` (1, and ever after)."""
    return end + (begin - end) * (1 + math.cos(math.pi * min(done, 1.0))) / 2


class Rates(LambdaLR):
    """Each group's rate times its share at the step, and times `decay` for each time that learning stood still.

    What it counted lies in `state_dict`, so that a resumed run goes on with the same rates.
    """

    def __init__(self, optimizer: Optimizer, shares: list[Callable[[int], float]], decay: float, patience: int) -> None:
        self.decay, self.patience = decay, patience
        self.falls, self.waited, self.best = 0, 0, -math.inf
        super().__init__(optimizer, shares)

    def get_lr(self) -> list[float]:  # type: ignore[override]
        return [
            float(base) * share(self.last_epoch) * self.decay**self.falls
            for base, share in zip(self.base_lrs, self.lr_lambdas, strict=True)
        ]

    def measured(self, goodness: float) -> None:
        """An epoch's figure, the greater the better: too many epochs without a better one let the rate fall at once."""
        self.waited = 0 if goodness > self.best else self.waited + 1
        self.best = max(self.best, goodness)
        if self.waited > self.patience:
            self.falls, self.waited = self.falls + 1, 0
            for group, rate in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
                group["lr"] = rate
