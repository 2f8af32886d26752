"""What a smaller bundle costs: one run in every precision and for some of its species, on the same pictures.

    python benchmarks/exports.py RUN DATASET WORK [--part test] [--every 4] [--pictures 128] [--agreement 0.98] [--out FILE]

Exports into WORK (what lies there finished is taken), and asks eager torch and every bundle about each batch of the part, in
turns. Printed and added to `--out` as lines of JSON, for each bundle: bytes of weights; the share of pictures with torch's best
species, and by how much a calibrated probability differs at most; images a second, the median of the batches, and their ratio to
torch's; top-1 with a 95 % interval, and the paired difference to fp32 with its interval (1,000 resamples of pictures).

"some" holds every fourth species (`--every`) in float32. It is judged on pictures of these alone: against torch's answers
restricted to them, but its top-1 against that of the whole model, which has more to choose from.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import taxakey.torchvision_guard  # noqa: F401  before timm

import numpy as np
import torch
from numpy.typing import NDArray

from taxakey.dataset.reader import Dataset, Part
from taxakey.errors import ExportMismatch
from taxakey.export import ExportOptions, Precision, export
from taxakey.metrics.differences import paired_differences
from taxakey.metrics.intervals import bootstrap, mean_of
from taxakey.prediction.bundle import weight_files
from taxakey.prediction.scorers import TorchScorer
from taxakey.serving.identifier import Identifier, load
from taxakey.training.checkpoint import load_model

BATCH = 16
RESAMPLES = 1000
SOME, TORCH, WHOLE = "some", "torch", "fp32"
Floats = NDArray[np.float64]


@dataclass
class Asked:
    """Answers to the pictures so far: calibrated probabilities [N, C] and seconds a picture of each batch."""

    model: Identifier
    answers: list[Floats] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def ask(self, pixels_B3HW: NDArray[np.float32]) -> None:
        before = time.perf_counter()
        scores_BC = self.model.scorer.scores(pixels_B3HW)
        self.seconds.append((time.perf_counter() - before) / len(pixels_B3HW))
        calibration = self.model.calibration
        assert calibration is not None, "a run is calibrated"
        self.answers.append(calibration.bind(self.model.taxonomy).probabilities(scores_BC))

    @property
    def probabilities_NC(self) -> Floats:
        return np.concatenate(self.answers)

    @property
    def per_second(self) -> float:
        return 1 / float(np.median(self.seconds))


def exported(run: Path, work: Path, dataset: Path, options: dict[str, ExportOptions]) -> tuple[list[str], list[dict]]:
    """Names of the bundles in `work`, and a row for each one that was refused."""
    work.mkdir(parents=True, exist_ok=True)
    names, refused = [], []
    for name, own in options.items():
        before = time.perf_counter()
        try:
            manifest = export(run, work / name, own)
        except ExportMismatch as error:
            refused.append({"bundle": name, "refused": str(error)})
            continue
        print(f"{name}: {time.perf_counter() - before:.0f} s, {'; '.join(manifest.notes)}", flush=True)
        names.append(name)
    return names, refused


def ask_all(models: dict[str, Asked], rows: Part) -> None:
    preprocess = models[TORCH].model.preprocess
    for first in range(0, len(rows), BATCH):
        pixels = np.stack([preprocess.load(rows.image_bytes(at)) for at in range(first, min(first + BATCH, len(rows)))])
        for model in models.values():
            model.ask(pixels)


def row_of(name: str, models: dict[str, Asked], folder: Path, rows: Part) -> dict:
    """The figures of one bundle."""
    own, torch_NC, whole_NC = models[name], models[TORCH].probabilities_NC, models[WHOLE].probabilities_NC
    taxonomy, whole = own.model.taxonomy, models[TORCH].model.taxonomy
    kept_A = whole.index_of(taxonomy.names)
    judged = np.flatnonzero(np.isin(rows.class_index, kept_A)) if name == SOME else np.arange(len(rows))
    found_MA, expected_MA = own.probabilities_NC[judged], torch_NC[np.ix_(judged, kept_A)]
    expected_MA = expected_MA / expected_MA.sum(1, keepdims=True)
    true_M = rows.class_index[judged]
    right_M = (kept_A[found_MA.argmax(1)] == true_M).astype(float)
    before_M = (whole_NC[judged].argmax(1) == true_M).astype(float)
    accuracy = bootstrap({"top-1": mean_of(right_M)}, len(judged), resamples=RESAMPLES)["top-1"]
    difference = paired_differences({"top-1": (mean_of(right_M), mean_of(before_M))}, len(judged), resamples=RESAMPLES)["top-1"]
    return {
        "bundle": name,
        "species": len(taxonomy),
        "pictures": len(judged),
        "bytes": sum(file.stat().st_size for file in weight_files(folder)),
        "agreement": float((found_MA.argmax(1) == expected_MA.argmax(1)).mean()),
        "largest_difference": float(np.abs(found_MA - expected_MA).max()),
        "images_per_second": own.per_second,
        "times_torch": own.per_second / models[TORCH].per_second,
        "top_1": [accuracy.value, accuracy.low, accuracy.high],
        "from_fp32": [difference.value, difference.low, difference.high],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--part", default="test")
    parser.add_argument("--every", type=int, default=4)
    parser.add_argument("--pictures", type=int, default=128)
    parser.add_argument("--agreement", type=float, default=0.98)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    trained, rows = load_model(given.run), Dataset.open(given.dataset).part(given.part)
    rows.taxonomy.require_same(trained.taxonomy.fingerprint, mine=given.dataset, theirs=given.run)
    given.work.mkdir(parents=True, exist_ok=True)
    flora = given.work / "flora.txt"
    flora.write_text("\n".join(trained.taxonomy.names[:: given.every]) + "\n", encoding="utf-8")
    options = {
        name: ExportOptions(name, dataset=given.dataset, pictures=given.pictures, agreement=given.agreement)
        for name in get_args(Precision)
    }
    options[SOME] = ExportOptions(only=str(flora), dataset=given.dataset, pictures=given.pictures)
    names, lines = exported(given.run, given.work, given.dataset, options)
    threads = torch.get_num_threads()
    models = {TORCH: Asked(load(given.run)), **{name: Asked(load(given.work / name, threads=threads)) for name in names}}
    assert isinstance(models[TORCH].model.scorer, TorchScorer)
    ask_all(models, rows)
    about = {"run": given.run.name, "part": given.part, "threads": threads, "torch_per_second": models[TORCH].per_second}
    lines += [row_of(name, models, given.work / name, rows) for name in names]
    for line in lines:
        text = json.dumps({**about, **line})
        print(text, flush=True)
        if given.out is not None:
            with given.out.open("a", encoding="utf-8") as results:
                results.write(text + "\n")


if __name__ == "__main__":
    main()
