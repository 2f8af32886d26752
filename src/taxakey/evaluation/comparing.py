"""Runs side by side: what each cost, what each scores, by how much each differs from the first, and on which species.

Shapes: O observations, M runs. Differences are paired: the same observations are drawn for both runs in every resample, so that
what chance the choice of observations brings to both cancels out. A small difference may be sure and a large one may not.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from taxakey.artifacts import Manifest, hash_of, kind_of, read_json, read_manifest
from taxakey.dataset.reader import Dataset
from taxakey.errors import BadInput, MissingArtifact
from taxakey.evaluation.compared_meanings import COMPARED
from taxakey.evaluation.figures import statistics_of
from taxakey.evaluation.labels import Labelled, label
from taxakey.evaluation.meanings import Definition
from taxakey.evaluation.tails import tail_statistics
from taxakey.evaluation.winners import Changes, changes
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
    """One run. `figures`: metric -> figure; `differences`: metric -> this run minus the first; empty without predictions.

    `tails`, `tail_differences`: the same by number of training images (`evaluation.tails`), empty without a dataset too.
    `changes`: which species it names better or worse than the first run; None for that one.
    """

    name: str
    costs: Costs
    figures: Mapping[str, Interval]
    differences: Mapping[str, Interval]
    tails: Mapping[str, Interval]
    tail_differences: Mapping[str, Interval]
    changes: Changes | None


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
    """SHA-256 of the manifest of each run, or of its predictions where the run isn't there any more."""
    command: str
    """Makes the comparison again, in the folder under which all that it names lies."""
    definitions: Mapping[str, Definition]

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def compare(
    folders: Sequence[Path | str],
    *,
    rank: str = "species",
    dataset_folder: Path | str | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compare runs (whose predictions lie in their folder "predictions") or predictions (whose run is found by itself).

    The dataset, for the numbers of training images, defaults to the one that the first predictions name; where it doesn't exist
    any more the comparison goes without and says so. Raises BadInput where two were measured on different observations, or the
    truth differs, and where a folder stands twice.
    """
    entries = _named_apart([_Entry.open(Path(folder)) for folder in folders])
    measured = [entry for entry in entries if entry.predictions is not None]
    rows = _aligned(measured, rank)
    counts = _train_counts(dataset_folder, measured, rank)
    counts_of = [None if counts is None else np.array([counts.get(name, 0) for name in row.names]) for row in rows]
    intervals = _intervals(rows, counts_of, resamples, seed)
    changed = [None, *(changes(rows[0], row, counts_of[0]) for row in rows[1:])] if rows else []
    found = {entry.name: (*own, change) for entry, own, change in zip(measured, intervals, changed, strict=True)}
    manifests = [entry.manifest for entry in measured if entry.manifest is not None]
    nothing: tuple[Any, ...] = ({}, {}, {}, {}, None)
    return Comparison(
        runs=tuple(Compared(entry.name, entry.costs(), *found.get(entry.name, nothing)) for entry in entries),
        rank=rank,
        part=str(manifests[0].recipe.get("part", "")) if manifests else None,
        observations=len(rows[0].label_O) if rows else 0,
        notes=_notes(entries, measured, counts is not None),
        settings={"resamples": resamples, "level": LEVEL, "seed": seed},
        inputs={entry.name: hash_of(entry.run or entry.predictions or ".") for entry in entries},
        command=_command(folders, _dataset_of(dataset_folder, measured), rank, resamples, seed),
        definitions=COMPARED,
    )


def _command(folders: Sequence[Path | str], dataset: Path | None, rank: str, resamples: int, seed: int) -> str:
    """Every option said; paths from the folder that holds them all."""
    named = [Path(folder).resolve() for folder in (*folders, *([] if dataset is None else [dataset]))]
    above = Path(os.path.commonpath([path.parent for path in named]))
    paths = [str(path.relative_to(above)) for path in named]
    words = ["taxakey", "compare", *paths[: len(folders)], "--out", "COMPARISON"]
    words += [] if dataset is None else ["--dataset", paths[-1]]
    return shlex.join([*words, "--rank", rank, "--resamples", str(resamples), "--seed", str(seed)])


@dataclass(frozen=True, eq=False)
class _Entry:
    """A run, its predictions, or both. `place`: the folder that it is called after."""

    name: str
    run: Path | None
    predictions: Path | None
    manifest: Manifest | None
    place: Path

    @classmethod
    def open(cls, folder: Path) -> _Entry:
        kind = kind_of(folder)
        if kind == "predictions":
            manifest = read_manifest(folder, kind)
            run = _run_of(manifest)
            # One run may be asked several times, as it is and with its fusion.
            named = folder if run is None or "fusion" in manifest.recipe else run
            return cls(named.resolve().name, run, folder, manifest, named)
        if kind not in ("run", "folds"):
            raise MissingArtifact(f"{folder}: neither a finished run nor predictions; name one of them")
        predictions = folder / PREDICTIONS
        if kind_of(predictions) != "predictions":
            return cls(folder.resolve().name, folder, None, None, folder)
        return cls(folder.resolve().name, folder, predictions, read_manifest(predictions, "predictions"), folder)

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
    run = Path(model).parent if model and kind_of(model) != "bundle" else None
    return run if run is not None and kind_of(run) == "run" else None


def _named_apart(entries: Sequence[_Entry]) -> list[_Entry]:
    """Runs whose folders are called the same are told by the parts of their paths that differ: `focal/seed-1`."""
    paths = [entry.place.resolve() for entry in entries]
    if len(set(paths)) < len(paths):
        raise BadInput("a run stands twice; name each once")
    if len({entry.name for entry in entries}) == len(entries):
        return list(entries)
    parts = [path.parts for path in paths]
    for end in (False, True):
        while min(map(len, parts)) > 1 and len({each[-1 if end else 0] for each in parts}) == 1:
            parts = [each[:-1] if end else each[1:] for each in parts]
    return [replace(entry, name="/".join(each)) for entry, each in zip(entries, parts, strict=True)]


def _dataset_of(given: Path | str | None, measured: Sequence[_Entry]) -> Path | None:
    """The one that is named, else the one that the first predictions name and that is still there."""
    named = next((entry.manifest.recipe.get("dataset") for entry in measured if entry.manifest is not None), None)
    return Path(given) if given is not None else Path(named) if named and Path(named).is_dir() else None


def _train_counts(given: Path | str | None, measured: Sequence[_Entry], rank: str) -> dict[str, int] | None:
    """Training images of each taxon by its name; None where there is no dataset to ask."""
    folder = _dataset_of(given, measured)
    if folder is None:
        return None
    dataset = Dataset.open(folder)
    codes_C, taxa = dataset.taxonomy.codes(rank), dataset.taxonomy.taxa(rank)
    counted = codes_C >= 0
    counts_G = np.bincount(codes_C[counted], dataset.train_counts()[counted], len(taxa)).astype(np.int64)
    return dict(zip(taxa, counts_G.tolist(), strict=True))


def _notes(entries: Sequence[_Entry], measured: Sequence[_Entry], counted: bool) -> tuple[str, ...]:
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
    if measured and not counted:
        notes.append("The dataset wasn't at hand: nothing here by number of training images (name it with --dataset)")
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


_Figures = dict[str, Interval]


def _intervals(
    rows: Sequence[Labelled], counts_of: Sequence[NDArray[np.int64] | None], resamples: int, seed: int
) -> list[tuple[_Figures, _Figures, _Figures, _Figures]]:
    """Figures and differences from the first, and the same by training images, all from the same resamples."""
    if not rows:
        return []
    if not rows[0].known_O.any():
        raise BadInput("no observation has a known name, so nothing can be compared; predict a part whose records are named")
    by_tail = [{} if counts_L is None else tail_statistics(row, counts_L) for row, counts_L in zip(rows, counts_of, strict=True)]
    of_run = [statistics_of(row) | tails for row, tails in zip(rows, by_tail, strict=True)]
    statistics: dict[str, Statistic] = {}
    for number, own in enumerate(of_run):
        statistics |= {f"{number} {name}": statistic for name, statistic in own.items()}
        if number:
            shared = own.keys() & of_run[0].keys()
            statistics |= {f"{number} {name} difference": difference_of(own[name], of_run[0][name]) for name in sorted(shared)}
    found = bootstrap(
        statistics, len(rows[0].label_O), resamples=resamples, seed=seed,
        centred=[name for name in statistics if name.endswith(" macro_f1")],
    )  # fmt: skip
    results = []
    for number, (own, tails) in enumerate(zip(of_run, by_tail, strict=True)):
        figures = {name: found[f"{number} {name}"] for name in own}
        differences = {name: found[key] for name in own if (key := f"{number} {name} difference") in found}
        split = [
            {name: part[name] for name in part if (name in tails) is tail}
            for tail in (False, True)
            for part in (figures, differences)
        ]
        results.append((split[0], split[1], split[2], split[3]))
    return results
