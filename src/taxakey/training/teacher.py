"""A teacher: stored predictions of the training part, brought to the student's classes and pictures.

Shapes: N training pictures, O rows of the predictions, C classes of the student, K of the teacher, k answers kept.

The answers lie in a predictions artifact, made once by any model or ensemble, so a teacher costs a student's training nothing. A
teacher that learned from the very same pictures is surer of them than of others, and the temperature softens that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from taxakey.artifacts import hash_of, read_manifest
from taxakey.dataset.reader import Part
from taxakey.errors import BadInput, BadRecipe
from taxakey.losses.decision import Loss
from taxakey.losses.distillation import Distilled, DistilOptions
from taxakey.predictions import Predictions, top_k
from taxakey.taxonomy import Taxonomy, same_classes
from taxakey.training.recipe import Recipe


def with_teacher(recipe: Recipe, folder: Path | str | None) -> tuple[Recipe, Teacher | None]:
    """The recipe with what it learns from a teacher, and the teacher; raises BadRecipe where it wants one and none is named."""
    if folder is None:
        if recipe.distil is not None:
            raise BadRecipe(f"{recipe.name}: distil learns from a teacher, and none is named; use --teacher PREDICTIONS")
        return recipe, None
    return replace(recipe, distil=recipe.distil or DistilOptions()), Teacher.open(folder)


@dataclass(frozen=True, eq=False)
class _Answers:
    """Of some rows: their ids, the teacher's classes [O, k] and probabilities [O, k], and what lies beyond [O]."""

    ids: list[str]
    classes_Ok: NDArray[np.integer]
    p_Ok: NDArray[np.floating]
    rest_O: NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Teacher:
    """A predictions artifact. `hash`: of what it was made from, for the student's plan."""

    folder: Path
    taxonomy: Taxonomy
    hash: str

    @classmethod
    def open(cls, folder: Path | str) -> Teacher:
        """Raises MissingArtifact where there are no finished predictions."""
        folder = Path(folder)
        read_manifest(folder, "predictions")
        return cls(folder, Taxonomy.read(folder / "taxonomy.parquet"), hash_of(folder))

    def teach(
        self,
        of_label: Loss,
        options: DistilOptions,
        taxonomy: Taxonomy,
        part: Part,
    ) -> tuple[Distilled, str]:
        """The loss of a student of the pictures of a part that have a label, and a note for the manifest.

        A picture of a species that the teacher doesn't know learns from its label alone: any answer would be wrong; so does one
        that is known to its genus or family, where the teacher wasn't asked. Answers that aren't classes of the student are left
        out, and the others are taken to be GIVEN that it is none of those. Raises BadInput where pictures have no answer.
        """
        match_C = same_classes(taxonomy, self.taxonomy)
        inverse_K = np.full(len(self.taxonomy), -1)
        inverse_K[match_C[match_C >= 0]] = np.flatnonzero(match_C >= 0)
        answers, by_observation = self._answers(inverse_K, options.top)
        position = {name: row for row, name in enumerate(answers.ids)}
        learnt_N = np.flatnonzero(part.class_index >= 0)
        labels_N, ids = part.class_index[learnt_N], part.observation_ids if by_observation else part.image_ids
        row_N = np.array([position.get(ids[picture], -1) for picture in learnt_N], dtype=np.int64)
        self._check_cover(row_N, labels_N < len(taxonomy))
        foreign_N = np.append(match_C, 0)[np.minimum(labels_N, len(taxonomy))] < 0
        untaught_N = (row_N < 0) | foreign_N
        classes_Nk = np.where(untaught_N[:, None], -1, answers.classes_Ok[row_N]).astype(np.int32)
        with np.errstate(divide="ignore"):
            log_p_Nk, log_rest_N = (np.log(p[row_N]).astype(np.float32) for p in (answers.p_Ok, answers.rest_O))
        taught = int((classes_Nk >= 0).any(1).sum())
        note = (
            f"Taught by the predictions in {self.folder.resolve().name} ({self.hash[:16]}): {taught:,} of {len(row_N):,} "
            f"training pictures, {classes_Nk.shape[1]} answers each; {int((match_C >= 0).sum()):,} of {len(taxonomy):,} "
            "classes are known to the teacher"
        )
        return Distilled(of_label, options, *map(torch.from_numpy, (classes_Nk, log_p_Nk, log_rest_N))), note

    def _check_cover(self, row_N: NDArray[np.int64], species_N: NDArray[np.bool_]) -> None:
        missing = int(((row_N < 0) & species_N).sum())
        if missing:
            raise BadInput(
                f"{self.folder}: no answer to {missing:,} of the {int(species_N.sum()):,} pictures that are learnt from; a "
                "teacher answers the training part: taxakey predict RUN DATASET OUT --part train"
            )

    def _answers(self, inverse_K: NDArray[np.int64], top: int | None) -> tuple[_Answers, bool]:
        """All rows in the student's classes, and whether they are observations.

        Of pictures, as far as the table of answers reaches; the full scores are kept of observations only.
        """
        wanted = len(self.taxonomy) if top is None else min(top, len(self.taxonomy))
        file = self.folder / "images.parquet"
        stored = pq.read_schema(file).field("species_index").type.list_size
        full = sorted((self.folder / "full").glob("*.parquet"))
        by_observation = stored < wanted and bool(full)
        portions = _from_full(full, wanted) if by_observation else _from_table(file)
        found = [_of_student(portion, inverse_K, top) for portion in portions]
        ids = [name for part in found for name in part.ids]
        joined = (np.concatenate([getattr(part, name) for part in found]) for name in ("classes_Ok", "p_Ok", "rest_O"))
        return _Answers(ids, *joined), by_observation


def _from_table(file: Path) -> Iterator[_Answers]:
    for portion in Predictions.portions(file):
        ids = [str(name) for name in portion.strings("image_id")]
        yield _Answers(ids, portion.index("species"), portion.probability("species"), portion.values("tail"))


def _from_full(files: Sequence[Path], k: int) -> Iterator[_Answers]:
    for file in files:
        table = pq.read_table(file)
        lists = table["log_probability"].combine_chunks()
        p_OK = np.exp(lists.flatten().to_numpy(zero_copy_only=False).reshape(len(lists), -1).astype(np.float32))
        classes_Ok = top_k(p_OK, k)
        p_Ok = np.take_along_axis(p_OK, classes_Ok, axis=1)
        yield _Answers(table["observation_id"].to_pylist(), classes_Ok, p_Ok, np.maximum(p_OK.sum(1) - p_Ok.sum(1), 0))


def _of_student(answers: _Answers, inverse_K: NDArray[np.int64], top: int | None) -> _Answers:
    """The first `top` answers that are classes of the student, falling, the probabilities of all that are summing to 1."""
    classes_Ok = inverse_K[answers.classes_Ok]
    order_Ok = np.argsort(classes_Ok < 0, axis=1, kind="stable")
    classes_Ok = np.take_along_axis(classes_Ok, order_Ok, axis=1)
    p_Ok = np.where(classes_Ok >= 0, np.take_along_axis(answers.p_Ok, order_Ok, axis=1), 0)
    total_O1 = np.maximum(p_Ok.sum(1) + answers.rest_O, np.finfo(np.float32).tiny)[:, None]
    rest_O = answers.rest_O + p_Ok[:, top:].sum(1) if top is not None else answers.rest_O
    classes_Ok[p_Ok.sum(1) == 0] = -1  # nothing but classes that the student lacks
    return _Answers(answers.ids, classes_Ok[:, :top].astype(np.int32), p_Ok[:, :top] / total_O1, rest_O / total_O1[:, 0])
