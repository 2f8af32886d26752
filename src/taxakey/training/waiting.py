"""Which side waits: whether an epoch's time went into waiting for pictures or into steps of learning."""

from __future__ import annotations

import sys
import time
from itertools import pairwise
from typing import Any

import taxakey.torchvision_guard  # noqa: F401  before Lightning

import lightning as L
import torch

from taxakey import progress

_FEW = 0.1  # below this share of an epoch, faster loading would change little


class Waiting(L.Callback):
    """Logs the seconds between steps and in steps of each epoch, and prints which side waits for the other.

    On a GPU the clock is the device's own: a step that was sent to it is not over when Python goes on. Validation isn't counted.
    """

    def __init__(self) -> None:
        self.marks: list[Any] = []

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.marks = [_mark(module)]  # a run that goes on within an epoch doesn't begin one

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.marks = [_mark(module)]

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        self.marks.append(_mark(module))

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        self.marks.append(_mark(module))

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        marks = self.marks[: len(self.marks) // 2 * 2 + 1]
        spans = [_seconds(before, after) for before, after in pairwise(marks)]
        between, within = sum(spans[0::2]), sum(spans[1::2])
        module.log_dict({"seconds_waiting": between, "seconds_in_steps": within})
        if progress.shown() and not sys.stderr.isatty() and trainer.is_global_zero:
            print(f"epoch {trainer.current_epoch + 1}: {told(between, within)}", file=sys.stderr, flush=True)


def told(between: float, within: float) -> str:
    """The line of the log."""
    share = between / max(between + within, 1e-9)
    side = "the network waits for the data" if share > _FEW else "the data wait for the network"
    return f"{between:.1f} s waiting for batches, {within:.1f} s in steps ({share:.0%} waiting): {side}"


def _mark(module: L.LightningModule) -> Any:
    if module.device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _seconds(before: Any, after: Any) -> float:
    if isinstance(before, float):
        return after - before
    after.synchronize()
    return before.elapsed_time(after) / 1000
