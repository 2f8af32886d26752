"""A challenge's file against the truth, by the organisers' metrics.

Shapes: O true ids, N rows of the file, L labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from taxakey.artifacts import kind_of
from taxakey.errors import BadInput
from taxakey.evaluation.challenges.checking import check_rows, require
from taxakey.evaluation.challenges.faults import Faults
from taxakey.evaluation.challenges.formats import UNKNOWN, Format
from taxakey.evaluation.challenges.lists import column, numbers_of_classes, read_list, whole
from taxakey.evaluation.challenges.reading import Submission, read_submission
from taxakey.metrics import costs
from taxakey.metrics.accuracy import top_k
from taxakey.metrics.long_tail import macro_f1
from taxakey.metrics.ranking import ma_mrr, reciprocal_ranks
from taxakey.predictions import Predictions
from taxakey.taxonomy import Taxonomy

_BY_HALF = "usage"
"""Column of a solution.csv that says which pictures count for the public and which for the private leaderboard."""


@dataclass(frozen=True, eq=False)
class Key:
    """`class_O`: the challenge's number of each id, -1 for an unknown species. `half_O`: public or private, where that is known.

    `poisonous`: the numbers of the poisonous classes, None where nobody said.
    """

    id_O: pa.Array
    class_O: NDArray[np.int64]
    half_O: NDArray[np.str_] | None = None
    poisonous: NDArray[np.int64] | None = None


def score(
    path: Path | str,
    format: Format,
    truth: Path | str,
    *,
    poisonous: Path | str | None = None,
    classes: Path | str | None = None,
) -> dict[str, float]:
    """The organisers' figures, by their names. Raises BadInput where they would reject the file.

    truth: a list with id and class, a solution.csv (`Usage` is scored apart), or a predictions artifact whose names are known
    (`classes` as in `WritingOptions`). poisonous: a list of classes, or a CSV with class_id and poisonous; predictions know it
    from their taxonomy.
    """
    key = read_key(truth, format, poisonous, classes)
    faults = Faults()
    rows = read_submission(path, format, faults)
    require(check_rows(rows, format, faults, key.id_O, None), path)
    found = _figures(rows, key, format)
    for half in () if key.half_O is None else np.unique(key.half_O[key.half_O != ""]):
        inside_O = key.half_O == half
        part = Key(key.id_O.filter(pa.array(inside_O)), key.class_O[inside_O], None, key.poisonous)
        found |= {f"{name}, {half}": value for name, value in _figures(rows, part, format).items()}
    return found


def read_key(truth: Path | str, format: Format, poisonous: Path | str | None, classes: Path | str | None) -> Key:
    """The truth of a challenge, however it lies there; raises BadInput."""
    key = _of_predictions(Path(truth), format, classes) if kind_of(truth) == "predictions" else _of_list(Path(truth), format)
    if poisonous is not None:
        key = Key(key.id_O, key.class_O, key.half_O, _poisonous(poisonous))
    if format.unknown and key.poisonous is None:
        raise BadInput(f"{truth}: doesn't say which classes are poisonous, and tracks 2 and 3 need it; name a list (--poisonous)")
    return key


# ---- figures ----


def _figures(rows: Submission, key: Key, format: Format) -> dict[str, float]:
    at_N = pc.fill_null(pc.index_in(rows.id_N.combine_chunks(), key.id_O), -1).to_numpy(zero_copy_only=False)
    inside_N = at_N >= 0
    if format.ranked:
        rank_O = np.zeros(len(key.class_O), np.int64)
        right_N = inside_N & (rows.class_N == key.class_O[at_N])
        rank_O[at_N[right_N]] = rows.rank_N[right_N]
        mrr = float(reciprocal_ranks(rank_O, cutoff=format.most).mean())
        return {"MA-MRR": ma_mrr(rank_O, key.class_O, cutoff=format.most), "MRR": mrr, "Top-1": top_k(rank_O, 1)}
    answer_O = np.empty(len(key.class_O), np.int64)
    answer_O[at_N[inside_N]] = rows.class_N[inside_N]
    if not format.unknown:
        return {"Macro F1": macro_f1(key.class_O, answer_O), "Accuracy": float((key.class_O == answer_O).mean())}
    assert key.poisonous is not None, "asked for when the key was read"
    return _fungi(key.class_O, answer_O, key.poisonous, with_accuracy=format.name == "fungiclef2024")


def _fungi(
    true_O: NDArray[np.int64], answer_O: NDArray[np.int64], poisonous: NDArray[np.int64], *, with_accuracy: bool
) -> dict[str, float]:
    # Labels without gaps, unknown staying -1, so that a class that is only answered can be poisonous too.
    labels = np.unique(np.concatenate([true_O, answer_O]))
    labels = labels[labels >= 0]
    true_O, answer_O = (np.where(each >= 0, np.searchsorted(labels, each), UNKNOWN) for each in (true_O, answer_O))
    poisonous_L = np.isin(labels, poisonous)
    track_1 = costs.track1(true_O, answer_O)
    found = {"Accuracy (%)": 100 * (1 - track_1)} if with_accuracy else {}
    return found | {
        # The unknown is a class like others here, so labels move up by one.
        "F1 Score": 100 * macro_f1(true_O + 1, answer_O + 1),
        "Track 1: Classification Error": track_1,
        "Track 2: Cost for Poisonousness Confusion": costs.track2(true_O, answer_O, poisonous_L),
        "Track 3: User-Focused Loss": costs.track3(true_O, answer_O, poisonous_L),
        "Track 4: Classification Error with Special Cost for Unknown": costs.track4(true_O, answer_O),
    }


# ---- the truth ----


def _of_list(path: Path, format: Format) -> Key:
    names = (format.columns[0], *format.ids)
    columns = read_list(path, "annotations", names)
    if "" in columns:
        raise BadInput(f"{path}: a list of ids alone; the truth needs a class for each")
    ids = column(columns, names, path)
    class_O = whole(column(columns, (format.columns[1], *format.classes), path), path)
    if not format.unknown and (class_O < 0).any():
        raise BadInput(f"{path}: a class below 0, and {format.name} has no unknown species")
    first: dict[str, int] = {}
    for row, (id, number) in enumerate(zip(ids, class_O.tolist(), strict=True)):
        if class_O[first.setdefault(id, row)] != number:
            raise BadInput(f"{path}: {id!r} has two classes, {class_O[first[id]]} and {number}; leave one of them")
    kept = np.fromiter(first.values(), np.int64)
    half_O = np.array([text.lower() for text in columns[_BY_HALF]])[kept] if _BY_HALF in columns else None
    return Key(pa.array(first, pa.large_string()), class_O[kept], half_O)


def _of_predictions(folder: Path, format: Format, classes: Path | str | None) -> Key:
    taxonomy = Taxonomy.read(folder / "taxonomy.parquet")
    number_C = numbers_of_classes(taxonomy.names, taxonomy.column("taxonID"), format, None if classes is None else Path(classes))
    rows = Predictions.read(folder / f"{format.level}s.parquet")
    names = rows.strings("true_species")
    if unnamed := sum(name is None for name in names):
        raise BadInput(
            f"{folder}: {unnamed:,} of its {len(rows):,} {format.level}s have no known species; score a part that is named"
        )
    outside = sorted(set(names) - set(taxonomy.names), key=str)
    # A species that the model doesn't hold: unknown where the challenge has that, else a class that nobody can answer.
    beyond = {name: UNKNOWN if format.unknown else int(number_C.max()) + 1 + place for place, name in enumerate(outside)}
    number_of: Mapping[str | None, int] = {**dict(zip(taxonomy.names, number_C.tolist(), strict=True)), **beyond}
    poisonous_C = taxonomy.poisonous()
    class_O = np.array([number_of[name] for name in names], np.int64)
    ids = pa.array(rows.strings(f"{format.level}_id"), pa.large_string())
    return Key(ids, class_O, None, None if poisonous_C is None else number_C[poisonous_C])


def _poisonous(path: Path | str) -> NDArray[np.int64]:
    names = ("classid", "speciesid", "taxonid")
    columns = read_list(path, "poisonous", names)
    numbers = whole(column(columns, names, path), path)
    marks = columns.get("poisonous")
    return numbers if marks is None else numbers[[mark.strip().lower() in ("1", "true", "1.0") for mark in marks]]
