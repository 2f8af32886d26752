"""What a model costs, read off its files, counted on its network and timed on pictures.

Shapes: O observations, M models of an ensemble.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import torch
from torch.utils.flop_counter import FlopCounterMode

from taxakey.artifacts import read_json, read_manifest
from taxakey.dataset.reader import Dataset, Part
from taxakey.embeddings import features
from taxakey.errors import BadInput
from taxakey.evaluation.figures import statistics_of
from taxakey.evaluation.labels import label
from taxakey.frontier.points import FIGURES, Point
from taxakey.metrics.intervals import RESAMPLES, bootstrap
from taxakey.predictions import Predictions
from taxakey.progress import track
from taxakey.taxonomy import Taxonomy
from taxakey.training.checkpoint import Model, load_model

ROUNDS = 3
PICTURES = 64


def measure(
    folders: Mapping[str, Path], *, pictures: int = PICTURES, rounds: int = ROUNDS, resamples: int = RESAMPLES, seed: int = 0
) -> list[Point]:
    """One point for each predictions artifact (of a model, of folds or of an ensemble), by name.

    Speed is that of this machine: `pictures` of the predicted part, decoded and named `rounds` times, in turns over all models,
    so that a busy moment strikes them alike; 0 pictures: not timed. Raises BadInput where two were measured on different
    observations.
    """
    ids = {name: _ids(folder) for name, folder in folders.items()}
    first = next(iter(ids))
    for name, own in ids.items():
        if own != ids[first]:
            raise BadInput(f"{folders[first]} and {folders[name]} were measured on different observations; predict the same part")
    models = {name: _models(folder) for name, folder in folders.items()}
    speeds = _speeds(models, folders[first], pictures, rounds) if pictures else {}
    return [
        Point(name, _figures(folder, resamples, seed), {**_counted(models[name]), "pictures_per_second": speeds.get(name)})
        for name, folder in folders.items()
    ]


def _ids(folder: Path) -> list[tuple[str | None, str | None]]:
    found = Predictions.read(folder / "observations.parquet")
    return sorted(zip(found.strings("observation_id"), found.strings("true_species"), strict=True), key=lambda row: row[0] or "")


def _figures(folder: Path, resamples: int, seed: int) -> dict:
    rows = label(Predictions.read(folder / "observations.parquet"), Taxonomy.read(folder / "taxonomy.parquet"), "species")
    statistics = statistics_of(rows)
    return bootstrap({name: statistics[name] for name in FIGURES}, len(rows.label_O), resamples=resamples, seed=seed)


# ---- files and networks ----


def _models(predictions: Path) -> list[Path]:
    """Folders of the models behind predictions that still lie where they lay."""
    recipe = read_manifest(predictions, "predictions").recipe
    named = recipe.get("models") or recipe.get("members") or [recipe.get("model")]
    return [Path(model) for model in named if model and Path(model).is_dir()]


def _counted(models: Sequence[Path]) -> dict[str, float | None]:
    """Sums over the models; None where they aren't at hand."""
    if not models:
        return dict.fromkeys(("parameters", "bytes", "multiply_adds", "training_seconds"))
    loaded = [load_model(model) for model in models]
    seconds = [_training_seconds(model) for model in models]
    return {
        "parameters": float(sum(p.numel() for model in loaded for p in model.network.parameters())),
        "bytes": float(sum((model.folder / "model.safetensors").stat().st_size for model in loaded)),
        "multiply_adds": float(sum(multiply_adds(model) for model in loaded)),
        "training_seconds": None if None in seconds else float(sum(filter(None, seconds))),
    }


def _training_seconds(model: Path) -> float | None:
    file = model.parent / "costs.json"
    return read_json(file).get("training_seconds") if file.is_file() else None


def multiply_adds(model: Model) -> int:
    """Products of one picture from pixels to the scores of all classes: convolutions, linear layers, attention."""
    told = () if model.metadata is None else (torch.zeros(1, model.metadata.width),)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model.network(torch.zeros(1, *model.preprocess.input_size), *told)
    return counter.get_total_flops() // 2


# ---- speed ----


def _speeds(models: Mapping[str, Sequence[Path]], predictions: Path, pictures: int, rounds: int) -> dict[str, float | None]:
    """Pictures a second, median over the rounds."""
    recipe = read_manifest(predictions, "predictions").recipe
    if not recipe.get("dataset") or not Path(recipe["dataset"]).is_dir():
        raise BadInput(f"{predictions}: its dataset isn't where it was, so nothing can be timed; leave timing out (--pictures 0)")
    part = Dataset.open(recipe["dataset"]).part(recipe["part"])
    loaded = {name: [load_model(folder) for folder in folders] for name, folders in models.items() if folders}
    seconds: dict[str, list[float]] = {name: [] for name in loaded}
    for name in loaded:  # the first pass fills caches and is not counted
        _named(loaded[name], part, min(16, pictures))
    for _ in track(range(rounds), "timing"):
        for name in loaded:
            seconds[name].append(_named(loaded[name], part, pictures))
    return {name: min(pictures, len(part)) / median(times) for name, times in seconds.items()}


def _named(models: Sequence[Model], part: Part, pictures: int) -> float:
    """Seconds to decode and name the first pictures with every model, one after the other."""
    begin = time.perf_counter()
    rows = range(min(pictures, len(part)))
    for model in models:
        told = None if model.metadata is None else model.metadata.encode(part.table.slice(0, len(rows)))
        features(model.network, part, rows, model.preprocess, metadata_NM=told, description=None)
    return time.perf_counter() - begin
