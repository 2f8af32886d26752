"""Which labels of a dataset are likely wrong, from answers of a model that didn't learn from them.

Shapes: O observations judged. An observation of a species that the model doesn't hold can't be judged: any answer to it is wrong.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from taxakey.artifacts import Manifest, hash_of, kind_of, read_manifest
from taxakey.dataset.reader import Dataset
from taxakey.errors import BadInput
from taxakey.metrics.intervals import LEVEL, Interval, bootstrap
from taxakey.metrics.label_errors import Answers, Confidence, confident_learning, share_among_surest, share_of_wrong_labels
from taxakey.predictions import Predictions
from taxakey.taxonomy import Taxonomy

OUT_OF_FOLD = "out-of-fold"
"""The artifact that `prediction.out_of_fold` writes."""

_WEAK = 0.1
"""Share of names contradicted from which on the model itself must be doubted. Where a model contradicted 14 %, six in ten of its
suspects were wrong labels (see the log)."""

REFERENCES = 2
"""Pictures of a species shown beside a suspect."""

COLUMNS = pa.schema(
    [
        ("place", pa.int32()),
        ("observation_id", pa.string()),
        ("image_id", pa.string()),
        ("images", pa.int32()),
        ("part", pa.string()),
        ("scientificName", pa.string()),
        ("probability", pa.float64()),
        ("suspected", pa.string()),
        ("suspected_probability", pa.float64()),
        ("margin", pa.float64()),
        ("kinship", pa.string()),
        ("institutionCode", pa.string()),
        ("catalogNumber", pa.string()),
        ("recordedBy", pa.string()),
    ]
)
"""A row a suspect, the likeliest first. `scientificName`: the name given, `suspected`: the likelier one; `margin`: probability of
the latter minus that of the former, by which rows fall; `image_id`: the first picture; `kinship`: same genus, same family or
other family."""


@dataclass(frozen=True, eq=False)
class Suspects:
    """`table` with the columns of `COLUMNS`; `share_among_surest`: estimated share of wrong labels among the `judged`
    observations; `share`: that of the names which confident learning contests, which also counts what the model confuses and so
    estimates the first from above (see `metrics.label_errors`);
    `classless`: observations whose species is no class of the model; `references`: scientificName -> image ids of observations
    whose name the model confirms most surely, else of training pictures; `by_institution`: code -> (judged, suspects)."""

    table: pa.Table
    share: Interval
    share_among_surest: Interval
    judged: int
    classless: int
    references: dict[str, list[str]]
    by_institution: dict[str, tuple[int, int]]
    part: str
    notes: tuple[str, ...]
    inputs: dict[str, str]


def find_suspects(predictions_folder: Path | str, dataset_folder: Path | str, *, resamples: int = 200, seed: int = 0) -> Suspects:
    """Confident learning on predictions of pictures that the model didn't learn from; see `metrics.label_errors`.

    Raises BadInput for predictions of pictures that it did learn from, TaxonomyMismatch where the two don't belong together.
    """
    folder, dataset = Path(predictions_folder), Dataset.open(dataset_folder)
    manifest, notes = require_out_of_sample(folder, dataset)
    said = Predictions.read(folder / "observations.parquet")
    dataset.taxonomy.require_same(said.taxonomy_fingerprint, mine=dataset.folder, theirs=folder)
    judged_O = np.flatnonzero(said.true_index("species") >= 0)
    classless = len(said) - len(judged_O)
    said = Predictions(said.table.take(pa.array(judged_O)), said.taxonomy_fingerprint, said.level)
    answers = Answers(
        said.index("species").astype(np.int64),
        said.probability("species"),
        said.true_index("species").astype(np.int64),
        said.true_probability("species").astype(np.float64),
        len(dataset.taxonomy),
    )
    found = confident_learning(answers)
    statistics = {"all": share_of_wrong_labels(answers), "surest": share_among_surest(answers)}
    shares = bootstrap(statistics, len(said), resamples=resamples, seed=seed, level=LEVEL)
    records = _records(dataset, str(manifest.recipe["part"]).split("+"))
    table = _table(said, found, dataset.taxonomy, records)
    return Suspects(
        table=table,
        share=shares["all"],
        share_among_surest=shares["surest"],
        judged=len(said),
        classless=classless,
        references=_references(
            said, found, dataset, records, {*table["scientificName"].to_pylist(), *table["suspected"].to_pylist()}
        ),
        by_institution=_by_institution(said, table, records),
        part=str(manifest.recipe["part"]),
        notes=(*notes, *_weak(found, said)),
        inputs={"predictions": hash_of(folder), "dataset": hash_of(dataset.folder)},
    )


# ---- who may judge ----


def require_out_of_sample(folder: Path, dataset: Dataset) -> tuple[Manifest, tuple[str, ...]]:
    """The manifest of predictions and what couldn't be checked; raises BadInput where the model learned from these pictures."""
    if kind_of(folder) == OUT_OF_FOLD:
        manifest, notes = read_manifest(folder, OUT_OF_FOLD), []
    else:
        manifest = read_manifest(folder, "predictions")
        refuse_learned(str(manifest.recipe.get("part")), folder)
        notes = [note for model in _models(manifest) for note in _learned_from(model, dataset, str(manifest.recipe["part"]))]
    if manifest.inputs.get("dataset") != hash_of(dataset.folder):
        raise BadInput(f"{folder}: not made from {dataset.folder} as it is now; predict again, or name the dataset they are of")
    return manifest, tuple(dict.fromkeys(notes))


def refuse_learned(part: str, whose: Path) -> None:
    """Raise BadInput for the training part."""
    if part == "train":
        raise BadInput(
            f"{whose}: this model learned from the training part, wrong names and all, and would repeat them; train with "
            "`taxakey folds` and name its folder, so that each picture is judged by a model that never saw it"
        )


def _models(manifest: Manifest) -> list[Path]:
    model = manifest.recipe.get("model")
    return [Path(folder) for folder in ([model] if model else manifest.recipe.get("members", []))]


def _learned_from(model: Path, dataset: Dataset, part: str) -> list[str]:
    """What can't be known of a model; raises BadInput where it can be, and is bad."""
    if kind_of(model.parent) != "run":
        return ["The run isn't at hand, so nobody has checked that the model didn't learn from these pictures."]
    run = read_manifest(model.parent, "run")
    if run.inputs.get("dataset") != hash_of(dataset.folder):
        raise BadInput(
            f"{model.parent}: it learned from another dataset than {dataset.folder}, which may hold these very pictures; name "
            "predictions of a run on this dataset"
        )
    if part == "validation" and run.recipe.get("fold"):
        raise BadInput(f"{model.parent}: a fold learns from validation pictures too; name the folder of all its folds")
    if "from" in run.inputs:
        return ["The run went on from an earlier model; whether that one learned from these pictures isn't known here."]
    return []


# ---- the list ----


def _records(dataset: Dataset, parts: list[str]) -> dict[str, dict]:
    """observation_id -> its first picture's record, with its part, in the order of image ids."""
    columns = ["occurrenceID", "image_id", "institutionCode", "catalogNumber", "recordedBy"]
    found: dict[str, dict] = {}
    for part in parts:
        table = dataset.part(part).table  # an older dataset may lack columns that came later
        rows = table.select([name for name in columns if name in table.column_names]).sort_by("image_id").to_pylist()
        for row in rows:
            found.setdefault(row["occurrenceID"], {**dict.fromkeys(columns), **row, "part": part})
    return found


def _table(said: Predictions, found: Confidence, taxonomy: Taxonomy, records: dict[str, dict]) -> pa.Table:
    given_O, given_p_O = said.true_index("species"), said.true_probability("species").astype(np.float64)
    doubtful = np.flatnonzero((found.counted_O >= 0) & (found.counted_O != given_O))
    likelier_p = _probability_of(said, doubtful, found.counted_O[doubtful])
    ids = said.strings("observation_id")
    order = np.lexsort((np.array([str(ids[row]) for row in doubtful]), given_p_O[doubtful] - likelier_p))
    rows = []
    for place, at in enumerate(order, 1):
        row = int(doubtful[at])
        record, given, suspected = records[str(ids[row])], int(given_O[row]), int(found.counted_O[row])
        rows.append({
            **record, "place": place, "observation_id": ids[row], "images": int(said.values("images")[row]),
            "scientificName": taxonomy.names[given], "probability": given_p_O[row], "suspected": taxonomy.names[suspected],
            "suspected_probability": likelier_p[at], "margin": likelier_p[at] - given_p_O[row],
            "kinship": kinship(taxonomy, given, suspected),
        })  # fmt: skip
    return pa.Table.from_pylist(rows, schema=COLUMNS)


def _probability_of(said: Predictions, rows: NDArray[np.int64], class_S: NDArray[np.int64]) -> NDArray[np.float64]:
    """Probability of a stored class in each of the rows."""
    at = (said.index("species")[rows] == class_S[:, None]).argmax(axis=1)
    return said.probability("species")[rows, at].astype(np.float64)


def kinship(taxonomy: Taxonomy, one: int, other: int) -> str:
    """Same genus, same family or other family; empty where a family isn't known."""
    for rank in ("genus", "family"):
        mine, theirs = (taxonomy.column(rank)[species] for species in (one, other))
        if mine and mine == theirs:
            return f"same {rank}"
    return "other family" if mine and theirs else ""


def _references(
    said: Predictions, found: Confidence, dataset: Dataset, records: dict[str, dict], wanted: set[str]
) -> dict[str, list[str]]:
    """Of each wanted species the pictures of the observations whose name is confirmed with most probability."""
    given_O, p_O, ids = said.true_index("species"), said.true_probability("species"), said.strings("observation_id")
    confirmed = np.flatnonzero(found.counted_O == given_O)
    chosen: dict[str, list[str]] = {name: [] for name in wanted}
    for row in confirmed[np.argsort(-p_O[confirmed], kind="stable")]:
        pictures = chosen.get(dataset.taxonomy.names[given_O[row]], [])
        if len(pictures) < REFERENCES:
            pictures.append(records[str(ids[row])]["image_id"])
    train = dataset.part("train").table.select(["scientificName", "image_id"]).sort_by("image_id")
    doubtful = {records[str(ids[row])]["image_id"] for row in np.flatnonzero(found.counted_O != given_O)}
    for name, image in zip(train["scientificName"].to_pylist(), train["image_id"].to_pylist(), strict=True):
        pictures = chosen.get(name, [])
        if len(pictures) < REFERENCES and name in chosen and image not in doubtful and image not in pictures:
            pictures.append(image)
    return chosen


def _by_institution(said: Predictions, table: pa.Table, records: dict[str, dict]) -> dict[str, tuple[int, int]]:
    judged = Counter(records[str(name)]["institutionCode"] or "not said" for name in said.strings("observation_id"))
    suspects = Counter(code or "not said" for code in table["institutionCode"].to_pylist())
    return {code: (number, suspects[code]) for code, number in sorted(judged.items())}


def _weak(found: Confidence, said: Predictions) -> tuple[str, ...]:
    """What a reader of the list must know of a model that isn't good here."""
    notes = []
    other = float((said.true_rank("species") != 1).mean())
    if other > _WEAK:
        notes.append(
            f"The model gives another name than the label to {100 * other:.0f} % of the observations. Unless so many labels are "
            "wrong, some of that are its own errors: suspects may be such, and what they add to a share of wrong names is too "
            "much."
        )
    silent = int((found.counted_O < 0).sum())
    if silent > len(found.counted_O) / 2:
        notes.append(f"{silent:,} of {len(found.counted_O):,} observations look like no species enough to count.")
    return tuple(notes)
