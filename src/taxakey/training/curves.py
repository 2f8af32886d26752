"""What a run tells while it learns: `curves.csv`, one row an epoch, true after every epoch and after a resume; and a bar."""

from __future__ import annotations

import csv
import io
import sys
import time
from pathlib import Path
from typing import Any

import taxakey.torchvision_guard  # noqa: F401  before Lightning

import lightning as L

from taxakey import progress
from taxakey.artifacts import write_text

COLUMNS = (
    "epoch", "train_loss", "validation_loss", "validation_top_1", "validation_macro_top_1", "learning_rate", "seconds",
    "seconds_waiting", "seconds_in_steps",
)  # fmt: skip


class Curves(L.Callback):
    """Writes the file anew after each epoch, and prints a line where no bar is drawn."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self.begun = 0.0

    def on_train_epoch_start(self, trainer: L.Trainer, _: L.LightningModule) -> None:
        self.begun = time.monotonic()
        # A resumed run goes on from its last checkpoint: rows of epochs that it does again are dropped.
        if trainer.current_epoch and not self.rows and self.path.is_file():
            with open(self.path, newline="", encoding="utf-8") as file:
                self.rows = [row for row in csv.DictReader(file) if int(row["epoch"]) < trainer.current_epoch]

    def on_train_epoch_end(self, trainer: L.Trainer, _: L.LightningModule) -> None:
        figures = {name: float(value) for name, value in trainer.callback_metrics.items() if name in COLUMNS}
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        row = {"epoch": trainer.current_epoch, **figures, "learning_rate": rate, "seconds": time.monotonic() - self.begun}
        self.rows.append({name: _short(row[name]) for name in COLUMNS if name in row})
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.path, text.getvalue())
        if progress.shown() and not sys.stderr.isatty():
            shown = "  ".join(f"{name} {value:.4f}" for name, value in figures.items() if "seconds" not in name)
            print(f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}  {shown}", file=sys.stderr, flush=True)


class TrainingBar(L.Callback):
    """One bar over all batches of the run, drawn on a terminal like those of the other stages."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        text = TextColumn("{task.description:<28}"), BarColumn(), TextColumn("{task.percentage:3.0f} %")
        self.progress = Progress(*text, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True))

    def on_train_start(self, trainer: L.Trainer, _: L.LightningModule) -> None:
        batches, epochs = int(trainer.num_training_batches), int(trainer.max_epochs or 1)
        self.task = self.progress.add_task("training", total=batches * epochs, completed=batches * trainer.current_epoch)
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
