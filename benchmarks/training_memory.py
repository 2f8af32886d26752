"""Peak memory of training: what `taxakey size` computes beside what Lightning's real steps need, one process per line.

    python benchmarks/training_memory.py [--device cpu|cuda] [--only WORD]

On a CPU: the growth of the process's resident memory (VmHWM, set back through /proc/self/clear_refs) over what it was after the
imports and a small warm-up run. Twice: with freed blocks handed back at once, so that it shows what lives, and as `taxakey train`
runs, which lets glibc keep freed blocks for speed (src/taxakey/cpu_memory.py). On a GPU: torch.cuda.max_memory_allocated, once.
Every line is printed, also those where the two disagree.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import taxakey.torchvision_guard  # noqa: F401  before Lightning

import lightning as L
import torch
from torch.utils.data import DataLoader, IterableDataset

from taxakey.cpu_memory import keep_freed_memory
from taxakey.models.backbones import Network, build_backbone, data_config
from taxakey.size.memory import StepMemory, Training
from taxakey.size.network import Backbone, ClassList
from taxakey.training.module import TrainingModule
from taxakey.training.recipe import Recipe, recipe_from

TREE = {"kind": "tree", "order": "listed"}
LAZY_TREE = {**TREE, "sparse": True}
DEEP_TREE = {**TREE, "slots": [43, 43]}
SGD = {"name": "sgd", "momentum": 0.9}
LAZY = {"name": "lazy_adamw"}
Line = tuple[int, dict[str, Any]]


def head_line(
    classes: int, backbone: str, head: dict[str, Any], optimizer: dict[str, Any] | None = None, batch: int = 64
) -> Line:
    return classes, {
        "name": "head", "train": "head", "backbone": {"name": backbone, "weights": "none"}, "head": head,
        "optimizer": optimizer or {"name": "adamw"}, "loop": {"batch_size": batch},
    }  # fmt: skip


def network_line(classes: int, backbone: str, batch: int, **more: Any) -> Line:
    return classes, {
        "name": "all", "train": "all", "backbone": {"name": backbone, "weights": "none", "image_size": 224},
        "optimizer": {"name": "adamw"}, "loop": {"batch_size": batch}, **more,
    }  # fmt: skip


LINES = [
    head_line(20_000, "mobilenetv2_100", {"kind": "linear"}),
    head_line(80_000, "mobilenetv2_100", {"kind": "linear"}),
    head_line(80_000, "mobilenetv2_100", {"kind": "linear"}, SGD),
    head_line(80_000, "mobilenetv2_100", {"kind": "linear"}, batch=1024),
    head_line(80_000, "efficientnet_b4", {"kind": "linear"}),
    head_line(80_000, "efficientnet_b4", {"kind": "bottleneck"}),
    head_line(80_000, "efficientnet_b4", TREE),
    head_line(80_000, "efficientnet_b4", LAZY_TREE, LAZY),
    head_line(80_000, "efficientnet_b4", DEEP_TREE),
    head_line(80_000, "efficientnet_b4", {**DEEP_TREE, "sparse": True}, LAZY),
    head_line(400_000, "efficientnet_b4", {"kind": "bottleneck"}),
    head_line(400_000, "efficientnet_b4", TREE),
    head_line(400_000, "efficientnet_b4", LAZY_TREE, LAZY),
    head_line(400_000, "efficientnet_b4", {"kind": "sampled"}),
    head_line(400_000, "efficientnet_b4", {"kind": "adaptive"}),
    network_line(1_000, "mobilenetv2_100", 16),
    network_line(1_000, "mobilenetv2_100", 32),
    network_line(1_000, "resnet18", 32),
    network_line(80_000, "resnet18", 32),
    network_line(80_000, "resnet18", 32, head=TREE),
    network_line(1_000, "efficientnet_b0", 16),
    network_line(1_000, "vit_tiny_patch16_224", 32),
]


class Drawn(IterableDataset):
    """Random batches as the recipe's loader would give them; `steps` of them."""

    def __init__(self, recipe: Recipe, shape: tuple[int, ...], classes: int, steps: int) -> None:
        self.batch, self.shape, self.classes, self.steps = recipe.loop.batch_size, shape, classes, steps

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for _ in range(self.steps):
            yield torch.rand(self.batch, *self.shape), torch.randint(self.classes, (self.batch,))


def train(classes: int, recipe: Recipe, device: str, steps: int) -> None:
    backbone = build_backbone(recipe.backbone)
    head = ClassList.numbered(classes).head(recipe.head, int(backbone.num_features))  # type: ignore[arg-type]
    shape = data_config(recipe.backbone, backbone)["input_size"] if recipe.train == "all" else (head.in_features,)
    module = TrainingModule(Network(backbone, head), recipe)
    trainer = L.Trainer(
        accelerator={"cpu": "cpu", "cuda": "gpu"}[device], devices=1, max_epochs=1, gradient_clip_val=recipe.loop.clip,
        precision=recipe.loop.precision, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, DataLoader(Drawn(recipe, shape, classes, steps), batch_size=None))


def computed(classes: int, recipe: Recipe, device: str) -> int:
    """As the command computes it."""
    training = Training(
        recipe.optimizer.build, recipe.loop.batch_size, recipe.loss, recipe.train == "all", recipe.loop.precision,
        device,  # type: ignore[arg-type]
    )  # fmt: skip
    return StepMemory(Backbone(recipe.backbone), training).of(ClassList.numbered(classes), recipe.head).peak


def measure(line: Line, device: str, way: str) -> int:
    """Bytes that training needs beyond what the process held before; to be called once in a process."""
    warnings.simplefilter("ignore")
    classes, content = line
    recipe = recipe_from(content, "benchmark")
    small = {**content, "backbone": {"name": "resnet10t", "weights": "none", "image_size": 64}, "loop": {"batch_size": 4}}
    train(500, recipe_from(small, "warm-up"), device, 2)
    gc.collect()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        train(classes, recipe, device, 5)
        return torch.cuda.max_memory_allocated() - before
    if way == "kept":
        keep_freed_memory()
    else:
        _hand_back_at_once()
    before = _status("VmRSS")
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    train(classes, recipe, device, 5)
    return _status("VmHWM") - before


def _hand_back_at_once() -> None:
    """Blocks from 64 KiB on come from the kernel one by one and go back when they are freed."""
    mmap_threshold = -3  # malloc.h
    ctypes.CDLL(None).mallopt(mmap_threshold, 1 << 16)


def _status(key: str) -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(key))


def measured(line: Line, device: str, way: str) -> int:
    command = [sys.executable, __file__, "--device", device, "--measure", json.dumps([*line, way])]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def title(line: Line) -> str:
    classes, content = line
    head = content.get("head", {"kind": "linear"})
    sparse = " sparse" if head.get("sparse") else ""
    deep = " of three levels" if "slots" in head else ""
    what = f"{head['kind']}{sparse}{deep} {classes:,} on {content['backbone']['name']}"
    return f"{content['train']:4} {what}, {content['optimizer']['name']}, batch {content['loop']['batch_size']}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--only", default="", help="lines whose title contains this")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        classes, content, way = json.loads(options.measure)
        print(measure((classes, content), options.device, way))
        return
    ways = ["live", "kept"] if options.device == "cpu" else ["live"]
    print(f"{'MB':74} computed" + "".join(f"{way:>9} ratio" for way in ways))
    for line in LINES:
        if options.only not in title(line):
            continue
        expected = computed(line[0], recipe_from(line[1], "benchmark"), options.device)
        cells = [measured(line, options.device, way) for way in ways]
        shown = "".join(f"{cell / 1e6:9.0f} {expected / cell:5.2f}" for cell in cells)
        print(f"{title(line):74} {expected / 1e6:8.0f}{shown}", flush=True)


if __name__ == "__main__":
    main()
