"""Runs side by side: what each cost, what each scores, and by how much each differs from the first.

Shapes: O observations, M runs. Differences are paired: the same observations are drawn for both runs in every resample, so that
what chance the choice of observations brings to both cancels out. A small difference may be sure and a large one may not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from taxakey.artifacts import Manifest, hash_of, kind_of, read_json, read_manifest
from taxakey.errors import BadInput, MissingArtifact
from taxakey.evaluation.figures import statistics_of
from taxakey.evaluation.labels import Labelled, label
from taxakey.metrics.intervals import LEVEL, RESAMPLES, Interval, Statistic, bootstrap, difference_of
from taxakey.predictions import Predictions
from taxakey.taxonomy import Taxonomy

PREDICTIONS = "predictions"
"""The folder in a run's folder where its predictions are looked for."""


@dataclass(frozen=True)
class Costs:
    """The cost table of SPEC section 4, in the words of a run's `costs.json`; None where it wasn't recorded.

    `batch`: pictures behind one step of the optimiser.
    """

    trained_parameters: int | None = None
    parameters: int | None = None
    batch: int | None = None
    seconds_per_epoch: float | None = None
    pictures_per_second: float | None = None
    peak_host_bytes: int | None = None
    peak_device_bytes: int | None = None
    energy_joules: float | None = None
    device: str | None = None


@dataclass(frozen=True)
class Compared:
    """One run. `figures`: metric -> figure; `differences`: metric -> this run minus the first; empty without predictions."""

    name: str
    costs: Costs
    figures: Mapping[str, Interval]
    differences: Mapping[str, Interval]


@dataclass(frozen=True)
class Comparison:
    """`part`, `observations`: what the figures were measured on; None and 0 where no run has predictions."""

    runs: tuple[Compared, ...]
    rank: str
    part: str | None
    observations: int
    notes: tuple[str, ...]
    settings: Mapping[str, float]
    inputs: Mapping[str, str]

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def compare(folders: Sequence[Path | str], *, rank: str = "species", resamples: int = RESAMPLES, seed: int = 0) -> Comparison:
    """Compare runs (whose predictions lie in their folder "predictions") or predictions (whose run is found by itself).

    Raises BadInput where two were measured on different observations, or the truth differs, and where a folder stands twice.
    """
    entries = [_Entry.open(Path(folder)) for folder in folders]
    if len({entry.name for entry in entries}) < len(entries):
        raise BadInput("a run stands twice, or two are called the same: name each once, in folders of different names")
    measured = [entry for entry in entries if entry.predictions is not None]
    rows = _aligned(measured, rank)
    intervals = _intervals(rows, resamples, seed)
    found = dict(zip((entry.name for entry in measured), intervals, strict=True))
    manifests = [entry.manifest for entry in measured if entry.manifest is not None]
    return Comparison(
        runs=tuple(Compared(entry.name, entry.costs(), *found.get(entry.name, ({}, {}))) for entry in entries),
        rank=rank,
        part=str(manifests[0].recipe.get("part", "")) if manifests else None,
        observations=len(rows[0].label_O) if rows else 0,
        notes=_notes(entries, measured),
        settings={"resamples": resamples, "level": LEVEL, "seed": seed},
        inputs={entry.name: hash_of(entry.run or entry.predictions or ".") for entry in entries},
    )


@dataclass(frozen=True, eq=False)
class _Entry:
    """A run, its predictions, or both."""

    name: str
    run: Path | None
    predictions: Path | None
    manifest: Manifest | None

    @classmethod
    def open(cls, folder: Path) -> _Entry:
        kind = kind_of(folder)
        if kind == "predictions":
            manifest = read_manifest(folder, kind)
            run = _run_of(manifest)
            # One run may be asked several times, as it is and with its fusion.
            named = folder if run is None or "fusion" in manifest.recipe else run
            return cls(named.resolve().name, run, folder, manifest)
        if kind not in ("run", "folds"):
            raise MissingArtifact(f"{folder}: neither a finished run nor predictions; name one of them")
        predictions = folder / PREDICTIONS
        if kind_of(predictions) != "predictions":
            return cls(folder.resolve().name, folder, None, None)
        return cls(folder.resolve().name, folder, predictions, read_manifest(predictions, "predictions"))

    def costs(self) -> Costs:
        """What the run recorded of itself; an ensemble's members have costs of their own."""
        if self.run is None or kind_of(self.run) != "run":
            return Costs()
        file = self.run / "costs.json"
        recorded = read_json(file) if file.is_file() else {}
        if not isinstance(recorded, dict):
            raise BadInput(f"{file}: not the costs of a run; restore the file or delete it")
        manifest = read_manifest(self.run, "run")
        loop = manifest.recipe.get("loop") or {}
        known: dict[str, Any] = {
            "trained_parameters": manifest.counts.get("trained_parameters"),
            "parameters": manifest.counts.get("parameters"),
            "batch": loop.get("batch_size", 0) * loop.get("accumulate", 1) or None,
        }
        values: dict[str, Any] = {field.name: recorded.get(field.name) for field in fields(Costs)}
        return Costs(**{name: known.get(name) if value is None else value for name, value in values.items()})


def _run_of(manifest: Manifest) -> Path | None:
    """The run whose model made the predictions, where it still is."""
    model = manifest.recipe.get("model")
    run = Path(model).parent if model else None
    return run if run is not None and kind_of(run) == "run" else None


def _notes(entries: Sequence[_Entry], measured: Sequence[_Entry]) -> tuple[str, ...]:
    """What a reader of the tables must know first."""
    notes = [
        f"{entry.name} has no predictions in its folder, so it has no figures: taxakey predict {entry.run} DATASET "
        f"{entry.run}/{PREDICTIONS}"
        for entry in entries
        if entry.predictions is None
    ]
    for entry in measured:
        model, weights = entry.run and entry.run / "model" / "model.safetensors", (entry.manifest or _NONE).inputs.get("model")
        if model and weights and model.is_file() and hash_of(model) != weights:
            notes.append(f"{entry.name} was trained anew since its predictions were made; predict again")
    return tuple(notes)


_NONE = Manifest("", 0, {}, {}, None, {}, None, {}, "", "")


# ---- the same observations, in the same order ----


def _aligned(entries: Sequence[_Entry], rank: str) -> list[Labelled]:
    """The labelled answers of each run to the observations of the first, in the order of their ids."""
    rows: list[Labelled] = []
    first: pa.Table | None = None
    for entry in entries:
        assert entry.predictions is not None
        found = Predictions.read(entry.predictions / "observations.parquet")
        order = np.argsort(np.array(found.strings("observation_id"), dtype=object), kind="stable")
        found = Predictions(found.table.take(pa.array(order)), found.taxonomy_fingerprint, found.level)
        known = found.table.select(["observation_id", "true_species"])
        if first is None:
            first = known
        elif not known.equals(first):
            raise BadInput(_difference(entries[0].name, entry.name, first, known))
        rows.append(label(found, Taxonomy.read(entry.predictions / "taxonomy.parquet"), rank))
    return rows


def _difference(one: str, other: str, first: pa.Table, second: pa.Table) -> str:
    here, there = (dict(zip(*(table[name].to_pylist() for name in table.column_names), strict=True)) for table in (first, second))
    only = len(here.keys() - there.keys()), len(there.keys() - here.keys())
    if any(only):
        fact = f"{only[0]:,} observations are only in the first, {only[1]:,} only in the second"
    else:
        fact = f"{sum(here[key] != there[key] for key in here):,} observations have another species"
    return f"{one} and {other} were measured on different test parts ({fact}); predict the same part of one dataset with both"


def _intervals(rows: Sequence[Labelled], resamples: int, seed: int) -> list[tuple[dict[str, Interval], dict[str, Interval]]]:
    """Figures and differences from the first, all from the same resamples."""
    if not rows:
        return []
    if not rows[0].known_O.any():
        raise BadInput("no observation has a known name, so nothing can be compared; predict a part whose records are named")
    of_run = [statistics_of(row) for row in rows]
    statistics: dict[str, Statistic] = {}
    for number, own in enumerate(of_run):
        statistics |= {f"{number} {name}": statistic for name, statistic in own.items()}
        if number:
            statistics |= {f"{number} {name} difference": difference_of(own[name], of_run[0][name]) for name in own}
    found = bootstrap(
        statistics, len(rows[0].label_O), resamples=resamples, seed=seed,
        centred=[name for name in statistics if name.endswith(" macro_f1")],
    )  # fmt: skip
    figures = [{name: found[f"{number} {name}"] for name in own} for number, own in enumerate(of_run)]
    differences = [{name: found[f"{number} {name} difference"] for name in own} for number, own in enumerate(of_run) if number]
    return list(zip(figures, [{}, *differences], strict=True))
