"""Old answers under new names, without training: probabilities of classes that became one are added.

Shapes: O rows (observations or images), C old classes, N new classes, k stored answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse

from taxakey.artifacts import Manifest, Plan, finish, hash_of, read_manifest, start, write_parquet
from taxakey.errors import BadInput
from taxakey.predictions import Predictions, Truth
from taxakey.records.naming.name_drift import Drift
from taxakey.taxonomy import RANKS, Taxonomy

_SCORES_AT_ONCE = 20_000_000
"""Numbers held for one portion, as in `predict`: 160 MB as float64."""


@dataclass(frozen=True, eq=False)
class Translation:
    """Old classes as shares of new ones. `weights_CN`: sparse, each row sums to 1; `left`: classes that keep their old name,
    because the newer checklist has no decided name for them."""

    old: Taxonomy
    new: Taxonomy
    weights_CN: sparse.csr_array
    left: tuple[str, ...]

    def name_of(self, old: str | None) -> str | None:
        """The one new name of an old one; None where a class was split, the same where it isn't a class."""
        place = {name: index for index, name in enumerate(self.old.names)}.get(old or "")
        if place is None:
            return old
        targets = self.weights_CN[[place]].nonzero()[1]
        return self.new.names[targets[0]] if len(targets) == 1 else None


def make_translation(old: Taxonomy, drift: Drift, *, undecided: Literal["refuse", "heir"] = "refuse") -> Translation:
    """How a model's classes become those of a newer checklist. The drift must be that of these classes.

    A split class without weights is refused with BadInput, or goes whole to its heir where the caller chooses so. Dropped and
    undecided classes keep their old name: the model still knows them.
    """
    links = _links(old, drift, undecided)
    left = tuple(name for name in old.names if name not in links)
    shares = {name: links.get(name, {name: 1.0}) for name in old.names}
    new = _new_taxonomy(old, drift, shares)
    column = {name: index for index, name in enumerate(new.names)}
    cells = [(row, column[name], weight) for row, target in enumerate(shares.values()) for name, weight in target.items()]
    rows, columns, weights = (np.array(values) for values in zip(*cells, strict=True))
    return Translation(old, new, sparse.csr_array((weights, (rows, columns)), shape=(len(old), len(new))), left)


def _links(old: Taxonomy, drift: Drift, undecided: str) -> dict[str, dict[str, float]]:
    known = set(drift.classes["scientificName"].to_pylist())
    if strange := [name for name in old.names if name not in known]:
        raise BadInput(f"{len(strange)} classes (first: {strange[0]}) aren't in the drift; compare this model's own classes")
    links: dict[str, dict[str, float]] = {}
    heirs: dict[str, str] = {}
    for row in drift.mapping.to_pylist():
        links.setdefault(row["old"], {})[row["new"]] = row["weight"]
        if row["heir"]:
            heirs[row["old"]] = row["new"]
    split = [name for name in old.names if None in links.get(name, {}).values()]
    if split and undecided == "refuse":
        raise BadInput(
            f"{len(split)} classes were split (first: {split[0]} into {', '.join(links[split[0]])}), and names alone can't say "
            "how; name records that do (--records), or let each go to its heir (--heir)"
        )
    for name in split:
        links[name] = {heirs[name]: 1.0} if name in heirs else {name: 1.0}
    return {name: {new: weight for new, weight in links[name].items() if weight} for name in old.names if name in links}


def _new_taxonomy(old: Taxonomy, drift: Drift, shares: Mapping[str, Mapping[str, float]]) -> Taxonomy:
    """The new classes: names, genus, family and kingdom from the newer checklist, the rest from the first old class of each."""
    accepted = {row["scientificName"]: row for row in drift.accepted.to_pylist()}
    family = {row["genus"]: row["family"] for row in accepted.values() if row["family"]}
    rows: dict[str, dict[str, Any]] = {}
    for own, (_, targets) in zip(old.table.to_pylist(), shares.items(), strict=True):
        for name in targets:
            row = rows.setdefault(name, {**own, "scientificName": name})
            row["poisonous"] = row["poisonous"] or own["poisonous"] if own["poisonous"] is not None else row["poisonous"]
            if name in accepted:
                row |= {field: accepted[name][field] for field in ("taxonID", "scientificNameAuthorship", "genus")}
                row |= {field: accepted[name][field] or row[field] for field in ("family", "kingdom")}
    for row in rows.values():  # a class that kept its name must not leave its genus in the old family
        row["family"] = family.get(row["genus"]) or row["family"]
    return Taxonomy.from_rows(rows.values())


# ---- scores ----


def rescore_probabilities(probabilities_OC: NDArray[np.floating], translation: Translation) -> NDArray[np.floating]:
    """Full probabilities of the old classes -> of the new ones, [O, C] -> [O, N]; a row's sum stays the same."""
    if probabilities_OC.shape[1] != len(translation.old):
        raise BadInput(f"scores for {probabilities_OC.shape[1]} classes, where the old taxonomy has {len(translation.old)}")
    return np.asarray(probabilities_OC @ translation.weights_CN)


def rescore_predictions(predictions: Predictions, translation: Translation) -> Predictions:
    """Stored predictions under the new names, with the new taxonomy's fingerprint.

    Exact where all classes were stored (`tail` is 0). Else a class may lack what an unstored member had, at most `tail`; so may
    genera and families, which are summed over stored species; and the rank of a true class that wasn't stored assumes that
    what was unstored and stood before it still does.
    """
    translation.old.require_same(predictions.taxonomy_fingerprint, mine="the translation", theirs="the predictions")
    portion = max(1, _SCORES_AT_ONCE // max(len(translation.old), len(translation.new)))
    parts = [
        Predictions(predictions.table.slice(start, portion), predictions.taxonomy_fingerprint, predictions.level)
        for start in range(0, len(predictions), portion)
    ]
    k = min(_distinct_answers(part, translation) for part in parts)
    return Predictions.concat([_rescored(part, translation, k) for part in parts])


def write_rescored(folder: Path, out: Path, translation: Translation, inputs: Mapping[str, str]) -> Manifest:
    """Write the artifact "predictions" of those in `folder` under the new names; `inputs`: hashes of what the translation is
    from.

    Their dataset and their run bear the old names, so the new manifest doesn't name them.
    """
    given = read_manifest(folder, "predictions")
    recipe = {"part": given.recipe.get("part", ""), "taxonomy": translation.new.fingerprint}
    plan = Plan("predictions", {"predictions": hash_of(folder), **inputs}, recipe)
    if start(out, plan) == "finished":
        return read_manifest(out, "predictions")
    counts = {}
    for level in ("observations", "images"):
        found = rescore_predictions(Predictions.read(folder / f"{level}.parquet"), translation)
        found.write(out / f"{level}.parquet")
        counts[level] = len(found)
    write_parquet(out / "taxonomy.parquet", translation.new.table)
    notes = (*given.notes, _note(translation))
    return finish(out, plan, counts=counts, taxonomy=translation.new.fingerprint, notes=notes)


def _note(translation: Translation) -> str:
    left = f"; {len(translation.left):,} of them aren't decided there and keep their name" if translation.left else ""
    return f"Predicted as {len(translation.old):,} classes and put under the names of a newer checklist{left}."


def _distinct_answers(part: Predictions, translation: Translation) -> int:
    """The fewest new classes among a row's stored answers: so many can be stored in every row."""
    new_C = np.asarray(translation.weights_CN.argmax(axis=1)).reshape(-1)
    sorted_Ok = np.sort(new_C[part.index("species")], axis=1)
    return int(1 + (np.diff(sorted_Ok, axis=1) > 0).sum(axis=1).min())


def _rescored(part: Predictions, translation: Translation, k: int) -> Predictions:
    old_OC = _dense(part, len(translation.old))
    truth = _truth(part, translation)
    strings = [part.strings(column) for column in ("observation_id", "image_id")]
    found = Predictions.from_probabilities(
        rescore_probabilities(old_OC, translation),
        translation.new,
        observation_ids=strings[0],  # type: ignore[arg-type]
        image_ids=strings[1],
        images=part.strings("images"),  # type: ignore[arg-type]
        truth=truth,
        k=k,
        level=part.level,
    )
    whole_O = part.probability("species").sum(axis=1) + part.values("tail")
    columns = {name: found.table[name] for name in found.table.column_names}
    columns["tail"] = pa.array(np.maximum(whole_O - found.probability("species").sum(axis=1), 0).astype(np.float32))
    columns["logsumexp"], columns["poisonous_probability"] = part.table["logsumexp"], part.table["poisonous_probability"]
    rank_O = found.true_rank("species") + _unstored_before_truth(part)
    columns["true_species_rank"] = pa.array(np.where(found.true_index("species") >= 0, rank_O, 0).astype(np.int32))
    return Predictions(pa.table(columns), translation.new.fingerprint, part.level)


def _dense(part: Predictions, classes: int) -> NDArray[np.float64]:
    """Stored probabilities [O, C], and that of the true class, which is kept even where it isn't among the stored; else 0."""
    dense_OC = np.zeros((len(part), classes))
    np.put_along_axis(dense_OC, part.index("species").astype(np.int64), part.probability("species").astype(np.float64), axis=1)
    true_O = part.true_index("species")
    known = np.flatnonzero(true_O >= 0)
    dense_OC[known, true_O[known]] = part.true_probability("species")[known]
    return dense_OC


def _unstored_before_truth(part: Predictions) -> NDArray[np.int64]:
    """How many classes [O] stand before the true one and weren't stored."""
    stored = part.index("species").shape[1]
    return np.maximum(part.true_rank("species").astype(np.int64) - 1 - stored, 0)


def _truth(part: Predictions, translation: Translation) -> Truth:
    names: dict[str | None, str | None] = {name: translation.name_of(name) for name in set(part.strings("true_species"))}
    species = [names[name] for name in part.strings("true_species")]
    place = {name: index for index, name in enumerate(translation.new.names)}
    higher: list[Sequence[str | None]] = []
    for rank in RANKS[1:]:
        parents = translation.new.column(rank)
        given = zip(species, part.strings(f"true_{rank}"), strict=True)
        higher.append([parents[place[name]] or None if name in place else old for name, old in given])
    return Truth(species, *higher)
