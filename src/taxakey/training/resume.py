"""Checkpoints of a run: the best epoch's weights, and all that a killed run needs to go on as if nothing had happened."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import taxakey.torchvision_guard  # noqa: F401  before Lightning

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import nn

from taxakey.artifacts import open_atomically
from taxakey.training.averaged_weights import Averaging

FOLDER, BEST, LAST = "checkpoints", "best.ckpt", "last.ckpt"


class AtomicFiles(TorchCheckpointIO):
    """Lightning moves a checkpoint over from the system's temporary folder: from another disk that is no single step, and a kill
    leaves half a file. This one writes beside the place."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        with open_atomically(path) as file:
            torch.save(checkpoint, file)


class Checkpoints(Checkpoint):
    """Writes `last.ckpt` after each epoch and within one, and `best.ckpt` when an epoch is better than all before.

    `monitor`: the validation figure that decides, None where there is no validation. Within an epoch: after every `steps` batches
    and once `minutes` have passed (looked at every 50 batches), at the next optimiser step, for gradients that are still being
    added up are in no checkpoint.
    """

    def __init__(self, run: Path, monitor: str | None, *, minutes: float | None, steps: int | None) -> None:
        self.folder, self.monitor, self.steps = run / FOLDER, monitor, steps
        self.seconds = math.inf if minutes is None else 60 * minutes
        self.best, self.due, self.written = -math.inf, False, time.monotonic()
        self.best_epoch: int | None = None

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, number: int) -> None:
        if self.steps and (number + 1) % self.steps == 0:
            self.due = True
        elif (number + 1) % 50 == 0 and self.seconds < math.inf:
            self.due = self.due or trainer.strategy.broadcast(time.monotonic() - self.written >= self.seconds)
        # After its last batch an epoch has still to be validated: it is written when that is done.
        if self.due and (number + 1) % trainer.accumulate_grad_batches == 0 and not trainer.is_last_batch:
            self._write(trainer)

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        figure = trainer.callback_metrics.get(self.monitor or "")
        averaging = [callback for callback in trainer.callbacks if isinstance(callback, Averaging)]
        if figure is None or not all(callback.begun for callback in averaging):
            return
        goodness = -float(figure) if self.monitor == "validation_loss" else float(figure)
        # The first epoch is the best so far, whatever its figure: a loss of NaN must leave weights to look at.
        if goodness > self.best or self.best_epoch is None:
            self.best = self.best if math.isnan(goodness) else goodness
            self.best_epoch = trainer.current_epoch
            weights = trainer.strategy.lightning_module_state_dict()
            if trainer.is_global_zero:
                with open_atomically(self.folder / BEST) as file:
                    torch.save({"state_dict": weights}, file)

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._write(trainer)

    def _write(self, trainer: L.Trainer) -> None:
        trainer.save_checkpoint(self.folder / LAST)
        self.due, self.written = False, time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.best_epoch = state_dict["best"], state_dict["best_epoch"]


@dataclass(frozen=True)
class Position:
    """Where a run stands: epochs and batches of the next epoch that are done."""

    epochs: int
    batches: int


def position_of(checkpoint: Path) -> Position:
    """Where a run stood when it wrote this checkpoint."""
    loops = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)["loops"]["fit_loop"]
    epochs, batches = loops["epoch_progress"]["current"], loops["epoch_loop.batch_progress"]["current"]
    within = epochs["processed"] < epochs["ready"]
    return Position(epochs["processed"], batches["processed"] if within else 0)


def kept_weights(module: nn.Module, run: Path) -> None:
    """Load the best epoch's weights, or the last one's, into the trained module (tensors only: nothing that could run)."""
    best = run / FOLDER / BEST
    state = torch.load(best if best.is_file() else run / FOLDER / LAST, map_location="cpu", weights_only=True)["state_dict"]
    module.load_state_dict(state)
