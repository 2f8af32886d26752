"""What the training loader delivers beside what its workers could at most: a ratio in one run.

    python benchmarks/loading.py PHOTOGRAPHS [--workers 2] [--rounds 5] [--out benchmarks/results/loading.json]

The photographs are stored with a shorter edge of 256 px (JPEG, quality 90) in a dataset of shards. Bare: as many processes as the
loader has workers, each of which reads a picture's bytes from the same memory-mapped copy, decodes them, cuts a random window of
224 px and copies it to its place in an array, nothing else; no picture leaves its process. The loader: the one that a run with
`train: all` gets, with its workers, for each preset of the augmentation; batches of 64 arrive in the main process and are let go
of there. Bare and loader take turns in every round, so that a busy machine slows both; a figure is the median over rounds, and a
ratio that of the rounds' ratios. The start of the processes isn't counted, on either side. Two ratios: of pictures a second, and
of the processor time that workers spend on a picture, which other work on the machine disturbs less.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from multiprocessing import active_children, get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median
from typing import NamedTuple

import taxakey.torchvision_guard  # noqa: F401  before Lightning

import cv2
import numpy as np
import pyarrow as pa
import simplejpeg

from taxakey.artifacts import Plan
from taxakey.cpu_memory import keep_freed_memory
from taxakey.dataset.build import BuildOptions, build
from taxakey.dataset.preprocess import Preprocess, decode
from taxakey.dataset.reader import Dataset, Part
from taxakey.records.table import Observations
from taxakey.training import batches
from taxakey.training.recipe import Recipe, recipe_from
from taxakey.training.samplers import TrainingPart

EDGE, INPUT, BATCH = 256, 224, 64
PRESETS = ("plantnet300k", "biomachina", "usual", "naflora", "rare")


def store(photographs: Path, folder: Path, count: int) -> Part:
    """A dataset of `count` pictures, the photographs over and over."""
    files = sorted(photographs.rglob("*.jpg"))
    files = files[:: max(1, len(files) // count)][:count]
    if not files:
        raise SystemExit(f"{photographs}: no .jpg in it")
    for number, file in enumerate(files):
        image = decode(file)
        ratio = EDGE / min(image.shape[:2])
        size = tuple(max(EDGE, round(edge * ratio)) for edge in image.shape[1::-1])
        small = np.ascontiguousarray(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC))
        (folder / f"{number}.jpg").write_bytes(simplejpeg.encode_jpeg(small, 90, "RGB", "420"))
    numbers = [number % len(files) for number in range(count)]
    table = {
        "occurrenceID": [f"o{number}" for number in range(count)],
        "image_id": [f"i{number}" for number in range(count)],
        "path": [str(folder / f"{number}.jpg") for number in numbers],
        "scientificName": [f"Aus b{number % 50}" for number in numbers],
        "split": ["train"] * count,
    }
    Observations.from_table(pa.table(table)).write(folder / "records", Plan("records"))
    build(folder / "records", folder / "dataset", BuildOptions(longest_edge=4096))
    return Dataset.open(folder / "dataset").part("train")


class Rate(NamedTuple):
    """Pictures a second, and milliseconds of processor time of the workers a picture."""

    per_second: float
    processor_ms: float


def processor_seconds(processes: set[int]) -> float:
    """What these processes have used so far, in steps of 10 ms (Linux)."""
    fields = [Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split() for process in processes]
    return sum(int(user) + int(system) for *_, user, system in (row[:13] for row in fields)) / os.sysconf("SC_CLK_TCK")


def bare(part: Part, rows: list[int], ready: Barrier, done: Barrier, let_go: Barrier) -> None:
    """One process: decode, cut, copy."""
    cv2.setNumThreads(0)
    keep_freed_memory()
    place = np.empty((BATCH, INPUT, INPUT, 3), dtype=np.uint8)
    part.image_bytes(0)
    random = np.random.default_rng(rows[0])
    ready.wait()
    for number, row in enumerate(rows):
        image = decode(part.image_bytes(row))
        top, left = random.integers(image.shape[0] - INPUT + 1), random.integers(image.shape[1] - INPUT + 1)
        place[number % BATCH] = image[top : top + INPUT, left : left + INPUT]
    done.wait()
    let_go.wait()  # a process that has ended tells no processor time


def bare_rate(part: Part, workers: int) -> Rate:
    context = get_context("fork")
    ready, done, let_go = (context.Barrier(workers + 1) for _ in range(3))
    rows = [list(range(first, len(part), workers)) for first in range(workers)]
    processes = [context.Process(target=bare, args=(part, mine, ready, done, let_go)) for mine in rows]
    for process in processes:
        process.start()
    ready.wait()
    pids = {process.pid for process in processes if process.pid}
    begun, used = time.perf_counter(), processor_seconds(pids)
    done.wait()
    seconds, used = time.perf_counter() - begun, processor_seconds(pids) - used
    let_go.wait()
    for process in processes:
        process.join()
    return Rate(len(part) / seconds, 1000 * used / len(part))


class Loaded:
    """The loader of a run with a preset, its workers started and kept."""

    def __init__(self, part: Part, preset: str) -> None:
        recipe: Recipe = recipe_from({"name": preset, "train": "all", "augment": {"preset": preset}}, "benchmark")
        recipe = replace(recipe, loop=replace(recipe.loop, batch_size=BATCH))
        preprocess, counts_C = Preprocess(), np.bincount(part.class_index)
        pictures = batches.Pictures(part, preprocess, recipe.augment.build(preprocess, counts_C))
        draw = recipe.sampler.build(TrainingPart(pictures.labels_N, counts_C, 0))
        self.loader = batches.picture_loader(pictures, recipe, draw)
        before = {process.pid for process in active_children()}
        for _ in self.loader:
            pass
        self.workers = {process.pid for process in active_children() if process.pid} - before

    def rate(self) -> Rate:
        """Pictures a second after the first batches, which were made while the processes were told to begin."""
        ahead = self.loader.num_workers * (self.loader.prefetch_factor or 2)
        arriving = iter(self.loader)
        for _ in islice(arriving, ahead):
            pass
        begun, used = time.perf_counter(), processor_seconds(self.workers)
        pictures = sum(len(batch.labels) for batch in arriving)
        seconds, used = time.perf_counter() - begun, processor_seconds(self.workers) - used
        return Rate(pictures / seconds, 1000 * used / pictures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path, help="folder with .jpg files")
    parser.add_argument("--count", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--presets", nargs="+", default=PRESETS)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        part = store(given.photographs, Path(folder), given.count)
        part.image_bytes(0)
        loaders = {preset: Loaded(part, preset) for preset in given.presets}
        workers = next(iter(loaders.values())).loader.num_workers
        rates: dict[str, list[Rate]] = {name: [] for name in ("bare", *loaders)}
        for _ in range(given.rounds):
            rates["bare"].append(bare_rate(part, workers))
            for name, loaded in loaders.items():
                rates[name].append(loaded.rate())
    rows = {name: row(measured, rates["bare"]) for name, measured in rates.items()}
    for name, found in rows.items():
        print(
            f"{name:14} {found['per_second']:6.0f} pictures/s with {workers} workers, {found['share_of_bare']:6.1%} of bare; "
            f"{found['processor_ms']:.3f} ms of processor a picture, {found['share_by_processor']:6.1%}"
        )
    if given.out:
        facts = {"date": datetime.now(UTC).date().isoformat(), "machine": platform.machine(), "cores": os.cpu_count()}
        facts |= {"workers": workers, "pictures": given.count, "batch": BATCH, "rounds": given.rounds}
        given.out.write_text(json.dumps(facts | {"loaders": rows}, indent=2) + "\n")


def row(measured: list[Rate], most: list[Rate]) -> dict[str, float]:
    pairs = list(zip(measured, most, strict=True))
    return {
        "per_second": median(one.per_second for one in measured),
        "processor_ms": median(one.processor_ms for one in measured),
        "share_of_bare": median(one.per_second / bare.per_second for one, bare in pairs),
        "share_by_processor": median(bare.processor_ms / one.processor_ms for one, bare in pairs),
    }


if __name__ == "__main__":
    main()
