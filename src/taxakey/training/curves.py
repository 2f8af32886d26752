"""The learning curves of a run: `curves.csv`, one row an epoch, true after every epoch and after a resume."""

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

COLUMNS = ("epoch", "train_loss", "validation_loss", "validation_top_1", "validation_macro_top_1", "learning_rate", "seconds")


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
            shown = "  ".join(f"{name} {value:.4f}" for name, value in figures.items())
            print(f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}  {shown}", file=sys.stderr, flush=True)


def _short(value: Any) -> Any:
    return f"{value:.7g}" if isinstance(value, float) else value
