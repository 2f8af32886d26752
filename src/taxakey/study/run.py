"""Every variant and seed of a study through embedding, training and prediction; what is finished isn't done again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from taxakey.embeddings import embed
from taxakey.errors import BadInput
from taxakey.models.backbones import quiet_timm
from taxakey.prediction.predict import predict
from taxakey.study.plan import MAIN, Study, slug
from taxakey.training.continuation import Beginning
from taxakey.training.folds import train_folds
from taxakey.training.loop import train
from taxakey.training.recipe import Recipe


def run_study(
    study: Study,
    datasets: Mapping[str, Path],
    out: Path,
    *,
    device: str = "cpu",
    smoke: bool = False,
    part: str = "test",
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, dict[int, Path]]:
    """Train and predict what isn't yet; -> the predictions' folder of each measured variant and seed.

    A recipe with `folds` gives an ensemble, averaged. Vectors of a frozen backbone are computed once for each dataset and shared.
    `say` is told what begins. Raises BadInput for a dataset that is missing.
    """
    if missing := [name for name in study.datasets if name not in datasets]:
        raise BadInput(f"the study {study.study} needs a dataset {missing[0]!r} too: name it with --also {missing[0]}=FOLDER")
    quiet_timm()
    runs: dict[tuple[str, int], Path] = {}
    predictions: dict[str, dict[int, Path]] = {name: {} for name in study.measured}
    for seed in study.seeds:
        for name, variant in study.variants.items():
            recipe = study.recipe(name, smoke=smoke).with_seed(seed)
            folder = out / "variants" / slug(name) / f"seed-{seed}"
            dataset = Path(datasets[variant.dataset])
            say(f"{name}, seed {seed}")
            start = runs[variant.start, seed] if variant.start is not None else None
            vectors = _vectors(dataset, recipe, out, device, start)
            fit = train_folds if recipe.folds else train
            fit(dataset, recipe, folder / "run", embeddings_folder=vectors, device=device, start_from=start)
            runs[name, seed] = folder / "run"
            if variant.measured:
                predictions[name][seed] = _predicted(folder, Path(datasets[MAIN]), dataset, vectors, device, part)
    return predictions


def _predicted(folder: Path, measured_on: Path, trained_on: Path, vectors: Path | None, device: str, part: str) -> Path:
    own = vectors if measured_on == trained_on else None
    out = folder / f"predictions-{part}"
    predict(folder / "run", measured_on, out, part=part, embeddings_folder=own, device=device)
    return out


def _vectors(dataset: Path, recipe: Recipe, out: Path, device: str, start: Path | None) -> Path | None:
    """Of the recipe's frozen backbone, or of the one that the run it goes on from has fine-tuned."""
    if recipe.train != "head":
        return None
    recipe = recipe if start is None else Beginning.open(start).recipe(recipe)
    backbone = recipe.resolved().backbone
    known = hashlib.sha256(json.dumps([str(dataset.resolve()), asdict(backbone)], sort_keys=True).encode()).hexdigest()[:12]
    folder = out / "vectors" / f"{slug(backbone.name)}-{known}"
    embed(dataset, backbone, folder, device=device)
    return folder
