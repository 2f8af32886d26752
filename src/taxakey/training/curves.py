"""What a run tells while it learns: `curves.csv`, one row an epoch, `steps.csv`, one a batch, both true after a resume; a bar.

Shapes: K steps.
"""

from __future__ import annotations

import csv
import io
import math
import sys
import time
from pathlib import Path
from typing import Any

import taxakey.torchvision_guard  # noqa: F401  before Lightning

import lightning as L
import torch
from torch import Tensor

from taxakey import progress
from taxakey.artifacts import write_text
from taxakey.training.validation import FIGURES as VALIDATION

FIGURES = ("train_loss", *VALIDATION)
TIMES = ("seconds_waiting", "seconds_in_steps")
COLUMNS = ("epoch", *FIGURES, "learning_rate", "seconds", *TIMES, "best")
STEP_COLUMNS = ("step", "epoch", "train_loss", "learning_rate")
STEPS_AT_ONCE = 50
LINE = ("train_loss", *(f"validation_{name}" for name in ("loss", "top_1", "top_3", "macro_f1", "poison_confusion")))
"""What the printed line of an epoch holds of it; `curves.csv` has all."""


class Curves(L.Callback):
    """Writes `curves.csv` anew after each epoch, adds to `steps.csv`, and prints a line for each epoch where no bar is drawn.

    A step's loss is fetched from the device with those of the steps around it, for each fetching waits until the device is done.
    """

    def __init__(self, run: Path) -> None:
        self.epochs_file, self.steps_file = run / "curves.csv", run / "steps.csv"
        self.rows: list[dict[str, Any]] = []
        self.pending: list[tuple[Tensor, int, float]] = []
        self.steps, self.loss_sum, self.pictures, self.seconds = 0, 0.0, 0, 0.0
        self.begun = time.monotonic()

    def on_train_start(self, trainer: L.Trainer, _: L.LightningModule) -> None:
        # A resumed run goes on from its last checkpoint: what it does again is dropped.
        self.begun = time.monotonic()
        if not trainer.is_global_zero:
            return
        if trainer.current_epoch and self.epochs_file.is_file():
            with open(self.epochs_file, newline="", encoding="utf-8") as file:
                self.rows = [row for row in csv.DictReader(file) if int(row["epoch"]) < trainer.current_epoch]
        lines = self.steps_file.read_text(encoding="utf-8").splitlines() if self.steps and self.steps_file.is_file() else []
        kept = lines[1 : 1 + self.steps]
        write_text(self.steps_file, "\n".join([",".join(STEP_COLUMNS), *kept]) + "\n")

    def on_train_batch_end(self, trainer: L.Trainer, _: L.LightningModule, outputs: Any, batch: Any, number: int) -> None:
        # Lightning has divided the loss by the batches of an optimiser step.
        self.pending.append((outputs["loss"], len(batch.labels), trainer.optimizers[0].param_groups[0]["lr"]))
        if len(self.pending) >= STEPS_AT_ONCE:
            self.write_steps(trainer)

    def write_steps(self, trainer: L.Trainer) -> None:
        """Add the steps since the last time to `steps.csv`; every process must call it at the same step."""
        if not self.pending:
            return
        losses, counts, rates = zip(*self.pending, strict=True)
        self.pending.clear()
        figures_2K = torch.stack([torch.stack(losses).float(), torch.tensor(counts, device=losses[0].device).float()])
        if trainer.world_size > 1:
            figures_2K = trainer.strategy.reduce(figures_2K, reduce_op="sum")
        means = (figures_2K[0] * (trainer.accumulate_grad_batches / trainer.world_size)).tolist()
        self.loss_sum += math.fsum(loss * count for loss, count in zip(means, figures_2K[1].tolist(), strict=True))
        self.pictures += int(figures_2K[1].sum())
        epoch, first = trainer.current_epoch, self.steps
        self.steps += len(means)
        for logger in trainer.loggers:
            logger.log_metrics({"step_loss": math.fsum(means) / len(means), "learning_rate": rates[-1]}, step=trainer.global_step)
        if trainer.is_global_zero:
            lines = [f"{first + k},{epoch},{loss!r},{rates[k]!r}\n" for k, loss in enumerate(means)]
            with open(self.steps_file, "a", encoding="utf-8") as file:
                file.writelines(lines)

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.write_steps(trainer)
        measured = {name: float(value) for name, value in trainer.callback_metrics.items() if name in FIGURES}
        # A loss of NaN says that the run diverged; of the others, that no picture had what they need.
        measured = {name: value for name, value in measured.items() if name.endswith("loss") or not math.isnan(value)}
        figures = {**measured, "train_loss": self.loss_sum / max(self.pictures, 1)}
        module.log("train_loss", figures["train_loss"])
        now = time.monotonic()
        seconds = self.seconds + now - self.begun
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        times = {name: float(value) for name, value in trainer.callback_metrics.items() if name in TIMES}
        row = {"epoch": trainer.current_epoch, **figures, "learning_rate": rate, "seconds": seconds, **times}
        row["best"] = int(getattr(trainer.checkpoint_callback, "best_epoch", None) == trainer.current_epoch)
        self.rows.append({name: _short(row[name]) for name in COLUMNS if name in row})
        self.loss_sum, self.pictures, self.seconds, self.begun = 0.0, 0, 0.0, now
        if trainer.is_global_zero:
            self._write_epochs()
        if progress.shown() and not sys.stderr.isatty() and trainer.is_global_zero:
            shown = "  ".join(f"{name} {figures[name]:.4f}" for name in LINE if name in figures)
            print(f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}  {shown}", file=sys.stderr, flush=True)

    def _write_epochs(self) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.epochs_file, text.getvalue())

    def on_save_checkpoint(self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self.write_steps(trainer)
        sums = {"steps": self.steps, "loss_sum": self.loss_sum, "pictures": self.pictures}
        checkpoint["curves"] = {**sums, "seconds": self.seconds + time.monotonic() - self.begun}

    def on_load_checkpoint(self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["curves"]
        self.steps, self.loss_sum, self.pictures = state["steps"], state["loss_sum"], state["pictures"]
        self.seconds = state["seconds"]


class TrainingBar(L.Callback):
    """One bar over all batches of the run, drawn on a terminal like those of the other stages."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        text = TextColumn("{task.description:<28}"), BarColumn(), TextColumn("{task.percentage:3.0f} %")
        self.progress = Progress(*text, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True))

    def on_train_start(self, trainer: L.Trainer, _: L.LightningModule) -> None:
        batches, epochs = int(trainer.num_training_batches), int(trainer.max_epochs or 1)
        self.task = self.progress.add_task(
            "training", total=batches * epochs, completed=trainer.fit_loop.epoch_loop.total_batch_idx + 1
        )
        self.progress.start()

    def on_train_batch_end(self, *_: Any) -> None:
        self.progress.advance(self.task)

    def on_train_epoch_end(self, trainer: L.Trainer, _: L.LightningModule) -> None:
        top_1 = trainer.callback_metrics.get("validation_top_1")
        shown = "" if top_1 is None else f", top-1 {float(top_1):.3f}"
        self.progress.update(self.task, description=f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}{shown}")

    def teardown(self, trainer: L.Trainer, _: L.LightningModule, stage: str) -> None:
        self.progress.stop()

    def on_exception(self, *_: Any) -> None:
        self.progress.stop()


def _short(value: Any) -> Any:
    return f"{value:.7g}" if isinstance(value, float) else value
