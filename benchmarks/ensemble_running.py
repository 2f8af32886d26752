"""An ensemble on new pictures: all members in one go beside a whole pass for each, as the Pl@ntNet-300K examination did.

    python benchmarks/ensemble_running.py DATASET RUN RUN … --pictures 256 --rounds 3

In turns over several rounds, medians. What is gained: a picture is decoded once for all members that want it alike, and a
backbone that several members share runs once. Members with backbones of their own gain the decoding alone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np

from taxakey.dataset.reader import Dataset
from taxakey.prediction.namer import Namer
from taxakey.training.checkpoint import load_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--pictures", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rows = Dataset.open(arguments.dataset).part("test")
    models = tuple(load_model(run) for run in arguments.runs)
    images = np.arange(min(arguments.pictures, len(rows)))
    ways = {"one pass each": [Namer((model,)) for model in models], "together": [Namer(models)]}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(arguments.rounds + 1):
        for name, namers in ways.items():
            took = timed(namers, rows, images)
            if number:  # the first round fills caches
                seconds[name].append(took)
    groups = Namer(models).groups
    print(f"{len(models)} members, {len(groups)} kinds of input, {len(images)} pictures, {arguments.rounds} rounds")
    for name, times in seconds.items():
        speed = f"{len(images) / median(times):.1f} pictures a second ({min(times):.2f} to {max(times):.2f} s)"
        print(f"{name}: {median(times):.2f} s, {speed}")
    print(f"ratio: {median(seconds['one pass each']) / median(seconds['together']):.2f}")


def timed(namers: Sequence[Namer], rows: object, images: np.ndarray) -> float:
    begin = time.perf_counter()
    for namer in namers:
        namer.at(rows).probabilities(images)  # type: ignore[arg-type]
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
