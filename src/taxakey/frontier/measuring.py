"""What a model or an ensemble costs, read off its files, counted on its networks and timed on pictures."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from taxakey.artifacts import read_json, read_manifest
from taxakey.dataset.crops import CropOptions
from taxakey.dataset.reader import Dataset
from taxakey.errors import BadInput, MissingArtifact
from taxakey.evaluation.figures import statistics_of
from taxakey.evaluation.labels import label
from taxakey.frontier.points import FIGURES, Point
from taxakey.metrics.intervals import RESAMPLES, bootstrap
from taxakey.prediction.bundle import Bundle
from taxakey.prediction.ensemble_file import ensemble_at
from taxakey.prediction.namer import Namer
from taxakey.prediction.opened import open_model, weights_of
from taxakey.predictions import Predictions
from taxakey.progress import track
from taxakey.taxonomy import Taxonomy
from taxakey.training.checkpoint import Model

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
    namers = {name: _namer(folder) for name, folder in folders.items()}
    speeds = _speeds(namers, folders[first], pictures, rounds) if pictures else {}
    return [
        Point(name, _figures(folder, resamples, seed), {**_counted(namers[name]), "pictures_per_second": speeds.get(name)})
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


def _namer(predictions: Path) -> Namer | None:
    """What gave the predictions; None where nothing can be counted: a model no longer lies where it lay, or a member of an
    ensemble answered crops."""
    recipe = read_manifest(predictions, "predictions").recipe
    try:
        ensemble = ensemble_at(predictions)
    except MissingArtifact:
        return None
    folders = [Path(model) for model in recipe.get("members") or [recipe["model"]]] if ensemble is None else ensemble.models
    if not all(folder.is_dir() for folder in folders) or (ensemble is not None and ensemble.of_crops):
        return None
    crops = CropOptions(**recipe["crops"]) if recipe.get("crops") else None
    return Namer(tuple(open_model(folder) for folder in folders), ensemble, crops=crops)


def _counted(namer: Namer | None) -> dict[str, float | None]:
    """Sums over the models, a backbone that several share once; files are all needed, so their bytes are all counted."""
    if namer is None:
        return dict.fromkeys(("parameters", "bytes", "multiply_adds", "training_seconds"))
    seconds = [_training_seconds(model.folder) for model in namer.models]
    crops = namer.crops.count if namer.crops else 1
    groups = [(namer.models[alike[0]], network) for alike, network in namer.groups]
    return {
        "parameters": float(sum(parameters(model, network) for model, network in groups)),
        "bytes": float(sum(file.stat().st_size for model in namer.models for file in weights_of(model))),
        "multiply_adds": float(sum(multiply_adds(model, network) for model, network in groups) * crops),
        "training_seconds": None if None in seconds else float(sum(filter(None, seconds))),
    }


def _training_seconds(model: Path) -> float | None:
    file = model.parent / "costs.json"
    return read_json(file).get("training_seconds") if file.is_file() else None


def parameters(model: Model | Bundle, network: nn.Module | None = None) -> int:
    """Numbers in the network; of a bundle in that which it was exported from. `network`: as `multiply_adds` has it."""
    if isinstance(model, Bundle):
        return _counted_at_export(model, "parameters")
    return sum(parameter.numel() for parameter in (network or model.network).parameters())


def multiply_adds(model: Model | Bundle, network: nn.Module | None = None) -> int:
    """Products of one picture from pixels to the scores of all classes: convolutions, linear layers, attention.

    `network`: another than the model's own, for the same input. Of a bundle, whose products may be of smaller numbers, as many
    as when it was exported.
    """
    if isinstance(model, Bundle):
        return _counted_at_export(model, "multiply_adds")
    told = () if model.metadata is None else (torch.zeros(1, model.metadata.width),)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        (network or model.network)(torch.zeros(1, *model.preprocess.input_size), *told)
    return counter.get_total_flops() // 2


def _counted_at_export(bundle: Bundle, what: str) -> int:
    if what not in bundle.manifest.counts:
        raise BadInput(f"{bundle.folder}: exported by a version that didn't count its {what}; run `taxakey export` again")
    return int(bundle.manifest.counts[what])


# ---- speed ----


def speeds_of(folders: Mapping[str, Path], *, pictures: int = PICTURES, rounds: int = ROUNDS) -> dict[str, float]:
    """Pictures a second of what gave each predictions artifact, as in `measure`. Raises BadInput where a model isn't there."""
    namers = {name: _namer(folder) for name, folder in folders.items()}
    if gone := [folders[name] for name, namer in namers.items() if namer is None]:
        raise BadInput(f"{gone[0]}: its model isn't where it was, so it can't be timed; predict again")
    return _speeds(namers, next(iter(folders.values())), pictures, rounds)


def _speeds(namers: Mapping[str, Namer | None], predictions: Path, pictures: int, rounds: int) -> dict[str, float]:
    """Pictures a second, median over the rounds."""
    recipe = read_manifest(predictions, "predictions").recipe
    if not recipe.get("dataset") or not Path(recipe["dataset"]).is_dir():
        raise BadInput(f"{predictions}: its dataset isn't where it was, so nothing can be timed; leave timing out (--pictures 0)")
    part = Dataset.open(recipe["dataset"]).part(recipe["part"])
    at_hand = {name: namer.at(part) for name, namer in namers.items() if namer is not None}
    images = np.arange(min(pictures, len(part)))
    seconds: dict[str, list[float]] = {name: [] for name in at_hand}
    for pictures_namer in at_hand.values():  # the first pass fills caches and is not counted
        pictures_namer.probabilities(images[:16])
    for _ in track(range(rounds), "timing"):
        for name, pictures_namer in at_hand.items():
            begin = time.perf_counter()
            pictures_namer.probabilities(images)
            seconds[name].append(time.perf_counter() - begin)
    return {name: len(images) / median(times) for name, times in seconds.items()}
