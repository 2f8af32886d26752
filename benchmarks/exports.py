"""What smaller numbers cost: a run and bundles exported from it, on the same pictures of a dataset's part.

    python benchmarks/exports.py RUN DATASET BUNDLE... [--part test] [--batch 8] [--rounds 9] [--pictures N]

Printed for the run (eager torch) and each bundle (onnxruntime): bytes of weights, images a second, top-1 with a 95 % interval,
the paired difference to the run with its interval (1,000 resamples of pictures), and the share of pictures with the run's best
species. Images a second: medians of rounds of one batch, all models taking turns, with as many threads as torch takes.
`--pictures` draws so many of the part. A bundle of some of the species (--only) can't be judged on all pictures and is refused.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import taxakey.torchvision_guard  # noqa: F401  before timm

import numpy as np
import torch
from numpy.typing import NDArray

from taxakey.dataset.reader import Dataset, Part
from taxakey.metrics.differences import paired_differences
from taxakey.metrics.intervals import bootstrap, mean_of
from taxakey.serving.identifier import Identifier, load


def best_species(model: Identifier, rows: Part, batch: int) -> NDArray[np.int64]:
    """Class index of each picture's first answer [N]."""
    answers = model.identify((rows.image_bytes(index) for index in range(len(rows))), top=1, batch_size=batch)
    return model.taxonomy.index_of([answer.species[0].scientific_name for answer in answers])


def speeds(models: list[Identifier], rows: Part, batch: int, rounds: int) -> NDArray[np.float64]:
    """Images a second of each model, pictures decoded before."""
    pixels = np.stack([models[0].preprocess.load(rows.image_bytes(index)) for index in range(batch)])
    seconds = np.empty((rounds, len(models)))
    for times in seconds:
        for number, model in enumerate(models):
            before = time.perf_counter()
            model.scorer.scores(pixels)
            times[number] = time.perf_counter() - before
    return batch / np.median(seconds, axis=0)


def weight_bytes(folder: Path) -> int:
    weights = [*folder.glob("model.onnx*"), *folder.glob("model.safetensors"), *folder.glob("model/model.safetensors")]
    return sum(file.stat().st_size for file in weights)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--part", default="test")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--pictures", type=int)
    arguments = parser.parse_args()
    folders = [arguments.run, *arguments.bundles]
    rows = Dataset.open(arguments.dataset).part(arguments.part)
    if arguments.pictures is not None:
        rows = rows.only(np.sort(np.random.default_rng(0).permutation(len(rows))[: arguments.pictures]))
    threads = torch.get_num_threads()
    models = [load(folder, threads=threads) for folder in folders]
    for folder, model in zip(folders, models, strict=True):
        rows.taxonomy.require_same(model.taxonomy.fingerprint, mine=arguments.dataset, theirs=folder)
    per_second = speeds(models, rows, arguments.batch, arguments.rounds)
    print(f"{len(rows):,} pictures of {arguments.part}, {threads} threads, batches of {arguments.batch}")
    whole = None
    for folder, model, speed in zip(folders, models, per_second, strict=True):
        named = best_species(model, rows, arguments.batch)
        right = (named == rows.class_index).astype(float)
        whole = (named, right) if whole is None else whole
        difference = paired_differences({"top-1": (mean_of(right), mean_of(whole[1]))}, len(rows), resamples=1000)["top-1"]
        own = bootstrap({"top-1": mean_of(right)}, len(rows), resamples=1000)["top-1"]
        print(f"{folder.name:14} {weight_bytes(folder):>12,} bytes {speed:7.1f} images/s  top-1 {own.value:.4f}", end=" ")
        print(f"[{own.low:.4f}, {own.high:.4f}]  {difference}  same best {(named == whole[0]).mean():.4f}", flush=True)


if __name__ == "__main__":
    main()
