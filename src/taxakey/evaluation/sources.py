"""Opens what an evaluation rests on, and checks that it belongs together."""

from __future__ import annotations

import csv
import math
import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from taxakey.artifacts import Manifest, hash_of, kind_of, read_manifest
from taxakey.calibration import Calibration
from taxakey.dataset.reader import Dataset, Part
from taxakey.errors import BadInput, MissingArtifact
from taxakey.evaluation.content import Epoch, SourceFacts
from taxakey.predictions import Predictions
from taxakey.taxonomy import Taxonomy

ANSWERS = 5
"""Answers of each row that a report shows or counts; ranks and sums were made from all of them."""

_SEEN = {"train": "was trained on", "validation": "was chosen and calibrated on"}


@dataclass(frozen=True, eq=False)
class Sources:
    """Opened and checked. `dataset`, `calibration` are None and `curves` empty where they can't be had; `notes` say so."""

    folder: Path
    manifest: Manifest
    taxonomy: Taxonomy
    observations: Predictions
    images: Predictions
    dataset: Dataset | None
    calibration: Calibration | None
    curves: tuple[Epoch, ...]
    facts: tuple[SourceFacts, ...]
    notes: tuple[str, ...]
    inputs: dict[str, str]

    @cached_property
    def part(self) -> Part | None:
        """The part that was predicted, with its pictures."""
        return self.dataset.part(self.manifest.recipe["part"]) if self.dataset else None


def open_sources(
    predictions_folder: Path | str, *, dataset_folder: Path | str | None = None, run_folder: Path | str | None = None
) -> Sources:
    """Open the predictions, and the dataset and the run that they name unless others are given."""
    folder = Path(predictions_folder)
    manifest = read_manifest(folder, "predictions")
    taxonomy = Taxonomy.read(folder / "taxonomy.parquet")
    tables = [_predictions(folder / f"{level}.parquet", taxonomy) for level in ("observations", "images")]
    notes: list[str] = list(manifest.notes)
    facts: list[SourceFacts] = []
    dataset = _dataset(dataset_folder, manifest, taxonomy, folder, notes, facts)
    model_folder, run = _model(run_folder, manifest, taxonomy, folder, notes, facts)
    calibration_file = model_folder / "calibration.json" if model_folder else None
    calibrated = calibration_file is not None and calibration_file.is_file()
    if (part := manifest.recipe.get("part")) in _SEEN:
        notes.append(f"The model {_SEEN[part]} these photographs: it will do worse on new ones.")
    if model_folder is not None and not calibrated:
        notes.append("The model's probabilities aren't calibrated and no threshold was set: it had no validation pictures.")
    facts.append(_facts("predictions", folder, manifest))
    return Sources(
        folder=folder,
        manifest=manifest,
        taxonomy=taxonomy,
        observations=tables[0],
        images=tables[1],
        dataset=dataset,
        calibration=Calibration.read(calibration_file) if calibrated and calibration_file else None,
        curves=read_curves(run / "curves.csv") if run and (run / "curves.csv").is_file() else (),
        facts=tuple(facts),
        notes=tuple(dict.fromkeys(notes)),
        inputs={"predictions": hash_of(folder)},
    )


def _predictions(file: Path, taxonomy: Taxonomy) -> Predictions:
    predictions = Predictions.read(file, answers=ANSWERS)
    taxonomy.require_same(predictions.taxonomy_fingerprint, mine=file.parent / "taxonomy.parquet", theirs=file)
    return predictions


def _dataset(
    given: Path | str | None,
    manifest: Manifest,
    taxonomy: Taxonomy,
    predictions: Path,
    notes: list[str],
    facts: list[SourceFacts],
) -> Dataset | None:
    folder = _chosen(given, manifest, "dataset")
    if folder is None:
        notes.append("The dataset wasn't at hand: no training counts and no pictures here (name it with --dataset).")
        return None
    dataset = Dataset.open(folder)
    if "only" in manifest.recipe:  # a bundle's, of some species
        dataset = dataset.among(taxonomy)
    taxonomy.require_same(dataset.taxonomy.fingerprint, mine=predictions, theirs=folder)
    if manifest.inputs.get("dataset") not in (None, hash_of(folder)):
        notes.append(
            f"The dataset {_name(folder)!r} was built anew since these predictions were made; they may not belong together."
        )
    notes.extend(dataset.manifest.notes)
    facts.append(_facts("dataset", folder, dataset.manifest))
    return dataset


def _model(
    given: Path | str | None,
    manifest: Manifest,
    taxonomy: Taxonomy,
    predictions: Path,
    notes: list[str],
    facts: list[SourceFacts],
) -> tuple[Path | None, Path | None]:
    """The model's folder and its run's, where they exist; an ensemble has none of its own."""
    if given is None and manifest.recipe.get("members"):
        return None, None
    folder = _chosen(given, manifest, "model")
    if folder is None:
        notes.append("The run wasn't at hand: no learning curves and no threshold here (name it with --run).")
        return None, None
    if folder.resolve().name == "model" and (folder.resolve().parent / "manifest.json").is_file():
        folder = folder.resolve().parent
    model = folder / "model" if (folder / "model").is_dir() else folder
    if not (model / "taxonomy.parquet").is_file():
        raise MissingArtifact(f"{folder}: no model there (no taxonomy.parquet); name a run or its model/ folder")
    taxonomy.require_same(Taxonomy.read(model / "taxonomy.parquet").fingerprint, mine=predictions, theirs=folder)
    weights = model / "model.safetensors"
    if weights.is_file() and manifest.inputs.get("model") not in (None, hash_of(weights)):
        notes.append(f"The model in {_name(folder)!r} isn't the one that made these predictions: it was trained anew since.")
    if kind_of(folder) == "bundle":
        facts.insert(0, _facts("bundle", folder, read_manifest(folder, "bundle")))
        return model, None
    if not (folder / "manifest.json").is_file():
        return model, None
    run = read_manifest(folder, "run")
    notes[:0] = run.notes  # how the model came to be explains its figures best
    facts.insert(0, _facts("run", folder, run))
    return model, folder


def _chosen(given: Path | str | None, manifest: Manifest, key: str) -> Path | None:
    """The folder that was given, which must exist, or the one that the predictions name, which may not."""
    if given is not None:
        return Path(given)
    named = manifest.recipe.get(key)
    return Path(named) if named and Path(named).is_dir() else None


def _name(folder: Path) -> str:
    return folder.resolve().name


def command_of(sources: Sources, validation: Path | str | None, *, resamples: int, seed: int) -> str:
    """The command that makes the report again, where folders of these names lie side by side; every option is said."""
    words = ["taxakey", "evaluate", _name(sources.folder), "REPORT"]
    for facts in sources.facts:
        if facts.kind in ("dataset", "run"):
            words += [f"--{facts.kind}", facts.name]
    if validation is not None:
        words += ["--validation", _name(Path(validation))]
    return shlex.join([*words, "--resamples", str(resamples), "--seed", str(seed)])


def validation_facts(folder: Path | str) -> SourceFacts:
    """Of the predictions that the thresholds of answer sets come from."""
    return _facts("validation", Path(folder), read_manifest(folder, "predictions"))


def _facts(kind: str, folder: Path, manifest: Manifest) -> SourceFacts:
    return SourceFacts(
        kind=kind,
        name=_name(folder),
        created=manifest.created,
        taxakey=manifest.taxakey,
        seed=manifest.seed,
        taxonomy=manifest.taxonomy,
        recipe=_without_paths(manifest.recipe),
        counts=dict(manifest.counts),
        packages=dict(manifest.packages),
        digest=hash_of(folder),
    )


def _without_paths(value: Any) -> Any:
    """The same values with every absolute path cut to its last part."""
    if isinstance(value, dict):
        return {key: _without_paths(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_paths(item) for item in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def read_curves(file: Path) -> tuple[Epoch, ...]:
    """Read `curves.csv` of a run; raises BadInput where it isn't one. Epochs are counted from 1 for people."""
    with open(file, newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    names = ("train_loss", "validation_loss", "validation_top_1", "validation_macro_top_1")
    try:
        return tuple(Epoch(int(row["epoch"]) + 1, **{name: _number(row.get(name)) for name in names}) for row in rows)
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{file}: not the curves of a run ({error!r}); restore the file or leave the run out") from None


def _number(text: str | None) -> float | None:
    """None for an empty cell and for a loss that isn't finite."""
    return float(text) if text and math.isfinite(float(text)) else None
