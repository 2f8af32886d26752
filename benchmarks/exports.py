"""What a smaller file costs: one model in every precision and for some of its species, on the same pictures.

    python benchmarks/exports.py RUN DATASET WORK [--part test] [--every 4] [--pictures 64] [--agreement 0.9] [--out FILE]

Writes the files into WORK and asks eager torch (channels last, as `taxakey predict` runs it) and each of them about every batch
of the part, in turns. Printed and added to `--out` as lines of JSON: bytes; the share of pictures with torch's best species, and
by how much a calibrated probability differs at most; images a second, the median of the batches, and their ratio to torch's;
top-1 with a 95 % interval, and the paired difference to fp32 with its interval (1,000 resamples of pictures).

int8 takes its ranges from `--pictures` of validation, and computes in float32 where these would lose more than `--agreement`
allows. "some" holds every fourth species (`--every`) in float32. It is judged on pictures of these alone: against torch's answers
restricted to them, but its top-1 against that of the whole model, which has more to choose from.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import taxakey.torchvision_guard  # noqa: F401  before timm

import numpy as np
import torch
from numpy.typing import NDArray

from taxakey.calibration import Calibration
from taxakey.cpu_memory import keep_freed_memory
from taxakey.dataset.preprocess import Preprocess
from taxakey.dataset.reader import Dataset, Part
from taxakey.export import write_onnx
from taxakey.export.pictures import validation_pictures
from taxakey.export.precisions import write_dynamic, write_halved, write_narrow_weights
from taxakey.export.pruned_model import prune
from taxakey.export.sparing import write_sparing
from taxakey.export.verification import bytes_of
from taxakey.metrics.differences import paired_differences
from taxakey.metrics.intervals import bootstrap, mean_of
from taxakey.prediction.scorers import OnnxScorer, Scorer, TorchScorer
from taxakey.serving.restriction import restrict
from taxakey.taxonomy import Taxonomy
from taxakey.training.checkpoint import Model, load_model

BATCH = 16
RESAMPLES = 1000
SOME, TORCH, WHOLE = "some", "torch", "fp32"
Floats = NDArray[np.float64]


@dataclass
class Asked:
    """Answers to the pictures so far: calibrated probabilities [N, C] and seconds a picture of each batch."""

    scorer: Scorer
    taxonomy: Taxonomy
    calibration: Calibration
    answers: list[Floats] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def ask(self, pixels_B3HW: NDArray[np.float32]) -> None:
        before = time.perf_counter()
        scores_BC = self.scorer.scores(pixels_B3HW)
        self.seconds.append((time.perf_counter() - before) / len(pixels_B3HW))
        self.answers.append(self.calibration.bind(self.taxonomy).probabilities(scores_BC))

    @property
    def probabilities_NC(self) -> Floats:
        return np.concatenate(self.answers)

    @property
    def per_second(self) -> float:
        return 1 / float(np.median(self.seconds))


def written(model: Model, work: Path, dataset: Path, pictures: int, agreement: float) -> dict[str, tuple[Path, int]]:
    """Each precision's file, and how many layers int8 spared in it."""
    names = (WHOLE, "fp16", "int8-weights", "int8-dynamic", "int8")
    files = {name: work / f"{name}.onnx" for name in names}
    write_onnx(model.network, model.preprocess.input_size, files[WHOLE])
    write_halved(files[WHOLE], files["fp16"])
    write_narrow_weights(files[WHOLE], files["int8-weights"])
    write_dynamic(files[WHOLE], files["int8-dynamic"])
    _, fitted = validation_pictures(dataset, pictures, model.preprocess, None)
    spared = len(write_sparing(files[WHOLE], files["int8"], fitted, agreement))
    return {name: (file, spared if name == "int8" else 0) for name, file in files.items()}


def ask_all(models: dict[str, Asked], rows: Part, preprocess: Preprocess) -> None:
    for first in range(0, len(rows), BATCH):
        pixels = np.stack([preprocess.load(rows.image_bytes(at)) for at in range(first, min(first + BATCH, len(rows)))])
        for model in models.values():
            model.ask(pixels)


def row_of(name: str, models: dict[str, Asked], file: Path, rows: Part) -> dict:
    """The figures of one file."""
    own, torch_NC, whole_NC = models[name], models[TORCH].probabilities_NC, models[WHOLE].probabilities_NC
    taxonomy, whole = own.taxonomy, models[TORCH].taxonomy
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
        "export": name,
        "species": len(taxonomy),
        "pictures": len(judged),
        "bytes": bytes_of(file),
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
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--agreement", type=float, default=0.9)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    model, rows = load_model(given.run), Dataset.open(given.dataset).part(given.part)
    rows.taxonomy.require_same(model.taxonomy.fingerprint, mine=given.dataset, theirs=given.run)
    given.work.mkdir(parents=True, exist_ok=True)
    files = written(model, given.work, given.dataset, given.pictures, given.agreement)
    flora = given.work / "flora.txt"
    flora.write_text("\n".join(model.taxonomy.names[:: given.every]) + "\n", encoding="utf-8")
    some = prune(model, restrict(model.taxonomy, str(flora))).model
    files[SOME] = given.work / f"{SOME}.onnx", 0
    write_onnx(some.network, some.preprocess.input_size, files[SOME][0])

    keep_freed_memory()
    threads, calibration = torch.get_num_threads(), model.calibration or Calibration()
    network = model.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    models = {TORCH: Asked(TorchScorer(network), model.taxonomy, calibration)}
    for name, (file, _) in files.items():
        own = some if name == SOME else model
        models[name] = Asked(OnnxScorer(file, threads=threads), own.taxonomy, own.calibration or Calibration())
    ask_all(models, rows, model.preprocess)
    about = {"run": given.run.name, "part": given.part, "threads": threads, "torch_per_second": models[TORCH].per_second}
    for name, (file, spared) in files.items():
        line = json.dumps({**about, **row_of(name, models, file, rows), "spared_layers": spared})
        print(line, flush=True)
        if given.out is not None:
            with given.out.open("a", encoding="utf-8") as results:
                results.write(line + "\n")


if __name__ == "__main__":
    main()
