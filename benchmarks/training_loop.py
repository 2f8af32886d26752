"""What our training loop costs beside the steps themselves: the same model, data and steps in a hand-written loop of plain torch.

    python benchmarks/training_loop.py [--rounds 7] [--steps 300] [--out results.json]

Each line is one size of step. Both loops take turns, several rounds in one process; the figure is the median over the rounds of
the quotient of the two times (processor time of the process on one thread, for other work on the machine counts less in it), the
quotient of the fastest rounds, and the difference in microseconds a step. Ours is what `taxakey train` runs: Lightning's trainer
with the callbacks for curves, costs and checkpoints (none is written within the time that is taken: it has its own option). The
plain loop does what the result needs and no more: batches from the same loader, loss, gradient, clipping, AdamW, cosine, the
epoch's mean loss.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import taxakey.torchvision_guard  # noqa: F401  before Lightning

import lightning as L
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from taxakey.cpu_memory import keep_freed_memory
from taxakey.models.backbones import Network
from taxakey.models.heads import BottleneckHead, Head, LinearHead
from taxakey.training.batches import StoredFeatures, feature_loader
from taxakey.training.costs import Costs
from taxakey.training.curves import Curves
from taxakey.training.module import TrainingModule
from taxakey.training.recipe import Recipe, recipe_from
from taxakey.training.resume import Checkpoints
from taxakey.training.samplers import Draw, PlainOptions, TrainingPart
from taxakey.training.waiting import Waiting

LINES: dict[str, tuple[int, int, int, int | None]] = {  # batch, features, classes, bottleneck
    "8 x 16, linear, 10 classes: nearly nothing but the loop": (8, 16, 10, None),
    "flowers102: 64 x 1280, linear, 102 classes": (64, 1280, 102, None),
    "512 x 1024, linear, 1,717 classes": (512, 1024, 1717, None),
    "512 x 1024, bottleneck 4096, 1,717 classes": (512, 1024, 1717, 4096),
}


class Clock(L.Callback):
    """Processor time from the first batch's start to the last one's end."""

    seconds = 0.0

    def on_train_epoch_start(self, *_: Any) -> None:
        self.begun = time.process_time()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.is_last_batch:
            self.seconds = time.process_time() - self.begun


def recipe_of(batch: int) -> Recipe:
    return recipe_from(
        {"name": "loop", "loop": {"epochs": 1, "batch_size": batch, "clip": 1.0, "checkpoint_minutes": 10}}, "benchmark"
    )


def head_of(features: int, classes: int, width: int | None) -> Head:
    torch.manual_seed(0)
    return LinearHead(features, classes) if width is None else BottleneckHead(features, classes, width=width)


def drawn(data: StoredFeatures) -> Draw:
    return PlainOptions().build(TrainingPart(data.labels_N.numpy(), np.zeros(1, np.int64), 0))


def ours(data: StoredFeatures, head: Head, recipe: Recipe) -> tuple[float, float]:
    """Seconds, and the last step's loss."""
    clock, network = Clock(), Network(nn.Identity(), head)
    module = TrainingModule(network, recipe)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = Path(folder)
        callbacks = [
            Waiting(),
            Curves(run),
            Costs(run, network, module, {}),
            Checkpoints(run, None, minutes=10, steps=None),
            clock,
        ]
        trainer = L.Trainer(
            accelerator="cpu", max_epochs=1, gradient_clip_val=recipe.loop.clip, callbacks=callbacks,
            logger=recipe.tracking.build(run, "loop", {}), enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(module, feature_loader(data, recipe, drawn(data)))
        last = (run / "steps.csv").read_text().splitlines()[-1].split(",")
    return clock.seconds, float(last[2])


def plain(data: StoredFeatures, head: Head, recipe: Recipe) -> tuple[float, float]:
    loader = feature_loader(data, recipe, drawn(data))
    optimizer = recipe.optimizer.build(None, head)
    schedule = recipe.schedule.build(optimizer, steps=len(loader), steps_per_epoch=len(loader))
    head.train()
    total, seen = torch.zeros(()), 0
    begun = time.process_time()
    for inputs_BD, labels_B, *_ in loader:
        loss = F.cross_entropy(head(inputs_BD), labels_B)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), recipe.loop.clip or 0.0)
        optimizer.step()
        schedule.step()
        total += loss.detach() * len(labels_B)
        seen += len(labels_B)
    return time.process_time() - begun, loss.item()


def measure(line: tuple[int, int, int, int | None], steps: int, rounds: int) -> dict[str, Any]:
    batch, features, classes, width = line
    drawn = np.random.default_rng(0)
    rows = batch * steps
    data = StoredFeatures(
        drawn.standard_normal((rows, features), dtype=np.float32), drawn.integers(0, classes, rows).astype(np.int64)
    )
    recipe, times = recipe_of(batch), []
    for number in range(rounds + 1):
        (one, loss_one), (two, loss_two) = (loop(data, head_of(features, classes, width), recipe) for loop in (ours, plain))
        assert abs(loss_one - loss_two) < 1e-3 * abs(loss_two), f"the loops don't learn the same: {loss_one} and {loss_two}"
        if number:  # the first round warms up
            times.append((one / steps * 1e6, two / steps * 1e6))
    ratios = [one / two for one, two in times]
    return {
        "plain_us": round(statistics.median(two for _, two in times)),
        "ours_us": round(statistics.median(one for one, _ in times)),
        "added_us": round(statistics.median(one - two for one, two in times)),
        "overhead": round(statistics.median(ratios) - 1, 4),
        "of_the_fastest": round(min(one for one, _ in times) / min(two for _, two in times) - 1, 4),
        "each_round": [round(ratio - 1, 4) for ratio in ratios],
        "steps": steps,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    keep_freed_memory()
    found = {}
    for number, (name, line) in enumerate(LINES.items()):
        if arguments.only in name:
            found[name] = measure(line, max(arguments.steps // 8**number, 8), arguments.rounds)
            print(f"{name}: {json.dumps(found[name])}", flush=True)
    if arguments.out:
        arguments.out.write_text(
            json.dumps({"torch": torch.__version__, "lightning": L.__version__, "lines": found}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
