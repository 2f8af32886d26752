"""Weights averaged over training, by Lightning's callback: what is validated and kept is the average, what learns is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import taxakey.torchvision_guard  # noqa: F401  before Lightning

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import get_ema_multi_avg_fn

from taxakey.training.averaging import AveragingOptions


class Averaging(WeightAveraging):
    """Lightning's averaging with three differences: it begins late if asked, validates an epoch with that epoch in the average,
    and leaves the average in place until the epoch ends, for whoever keeps the best weights."""

    def __init__(self, options: AveragingOptions) -> None:
        self.options, self.swapped = options, False
        ema = options.kind == "ema"
        self._latest_update_step = 0
        super().__init__(use_buffers=ema, **({"multi_avg_fn": _moving_average(options.decay)} if ema else {}))

    @property
    def begun(self) -> bool:
        """Whether there is an average yet."""
        return self._average_model is not None and int(self._average_model.n_averaged) > 0

    def setup(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        self._device = trainer.strategy.root_device  # the module itself goes there only after this
        super().setup(trainer, module, stage)

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        if trainer.global_step > self._latest_update_step and self._wanted(trainer):
            assert self._average_model is not None
            self._average_model.update_parameters(module)
            self._latest_update_step = trainer.global_step

    def _wanted(self, trainer: L.Trainer) -> bool:
        start = self.options.start
        if self.options.kind == "ema":
            return trainer.global_step > (start or 0.0) * trainer.estimated_stepping_batches
        begin = (0.75 if start is None else start) * (trainer.max_epochs or 1)
        # At least the last epoch is averaged.
        return trainer.is_last_batch and trainer.current_epoch + 1 > min(begin, (trainer.max_epochs or 1) - 1)

    def on_validation_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if self.begun:
            self._swap_models(module)
            self.swapped = True
            if self.options.kind == "swa":
                _measure_norms(trainer, module)

    def on_validation_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """The average stays for on_validation_end."""

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if not self.swapped and trainer.current_epoch + 1 == trainer.max_epochs:
            self.on_validation_epoch_start(trainer, module)  # there was no validation, but the norms must be measured
        if self.swapped:
            self._swap_models(module)
            self.swapped = False

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """What is kept has been written already."""


def _moving_average(decay: float) -> Callable[[list[Tensor], list[Tensor], Any], None]:
    move = get_ema_multi_avg_fn(decay)

    def update(averages: list[Tensor], currents: list[Tensor], count: Any) -> None:
        if averages[0].is_floating_point():
            move(averages, currents, count)
        else:  # indices and counters: an average of whole numbers, cut off, would be another number
            torch._foreach_copy_(averages, currents)

    return update


@torch.no_grad()
def _measure_norms(trainer: L.Trainer, module: L.LightningModule) -> None:
    """Give the BatchNorms that learn the statistics of the averaged weights: no average of statistics is that.

    As torch's `update_bn`, but those that were told to keep their statistics keep them.
    """
    mode = module.training
    module.train()
    module.set_modes()
    norms = [layer for layer in module.modules() if isinstance(layer, _BatchNorm) and layer.training]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over the batches
    for batch in trainer.train_dataloader if norms else ():
        module(module.transfer_batch_to_device(batch, module.device, 0))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        for value in (norm.running_mean, norm.running_var):
            assert value is not None
            value.copy_(trainer.strategy.reduce(value, reduce_op="mean"))
    module.train(mode)
    if mode:
        module.set_modes()
