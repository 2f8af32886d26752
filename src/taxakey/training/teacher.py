"""A teacher: stored predictions of the training part, brought to the student's classes and pictures.

Shapes: N training pictures, O rows of the predictions, C classes of the student, K of the teacher, k answers kept, T the width of
the teacher's features.

The answers lie in a predictions artifact, made once by any model or ensemble, so a teacher costs a student's training nothing. A
teacher that learned from the very same pictures is surer of them than of others, and the temperature softens that. Its features
are stored likewise (`taxakey embed`), of each picture as it is: the student sees the augmented one.
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
from taxakey.dataset.reader import Dataset, Part
from taxakey.dataset.vectors import Vectors
from taxakey.errors import BadInput, BadRecipe
from taxakey.losses.decision import Loss
from taxakey.losses.distillation import Distilled, DistilOptions
from taxakey.losses.feature_matching import FeatureMatching, FeatureOptions
from taxakey.losses.taxon_labels import no_label
from taxakey.predictions import Predictions, read_full, top_k
from taxakey.taxonomy import Taxonomy, same_classes
from taxakey.training.recipe import Recipe
from taxakey.training.unlabelled import Unlabelled, WithUnlabelled, vectors_of


@dataclass(frozen=True)
class TeacherFiles:
    """Where a teacher's work lies. `answers`: predictions, several if they are of several parts; `vectors`: its embeddings of the
    same pictures, of several datasets if need be; `unlabelled`: DATASET or DATASET:PART to learn from besides.
    """

    answers: tuple[Path, ...]
    vectors: tuple[Path, ...] = ()
    unlabelled: str | None = None


def with_teacher(recipe: Recipe, files: TeacherFiles | None) -> tuple[Recipe, Teacher | None]:
    """The recipe with what it learns from a teacher, and the teacher; raises BadRecipe where it wants one and none is named."""
    if files is None or not files.answers:
        if recipe.distil is not None:
            raise BadRecipe(f"{recipe.name}: distil learns from a teacher, and none is named; use --teacher PREDICTIONS")
        if files is not None and (files.vectors or files.unlabelled):
            raise BadInput("--teacher-vectors and --unlabelled go with a teacher; name its answers: --teacher PREDICTIONS")
        return recipe, None
    distil = recipe.distil or DistilOptions()
    if files.vectors:
        distil = replace(distil, features=distil.features or FeatureOptions())
    elif distil.features is not None:
        raise BadRecipe(
            f"{recipe.name}: distil.features draws features to the teacher's, and none are named; run `taxakey embed` with the "
            "teacher (--from RUN), and use --teacher-vectors FOLDER"
        )
    return replace(recipe, distil=distil), Teacher.open(files)


@dataclass(frozen=True, eq=False)
class _Answers:
    """Of some rows: their ids, the teacher's classes [O, k] and probabilities [O, k], and what lies beyond [O]."""

    ids: list[str]
    classes_Ok: NDArray[np.integer]
    p_Ok: NDArray[np.floating]
    rest_O: NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Teacher:
    """Predictions artifacts, vectors and unlabelled pictures, opened."""

    folders: tuple[Path, ...]
    taxonomy: Taxonomy
    vectors: tuple[Vectors, ...] = ()
    unlabelled: Unlabelled | None = None

    @classmethod
    def open(cls, files: TeacherFiles) -> Teacher:
        """Raises MissingArtifact where something isn't there or finished, TaxonomyMismatch for answers of other classes."""
        for folder in files.answers:
            read_manifest(folder, "predictions")
        first, *others = files.answers
        taxonomy = Taxonomy.read(first / "taxonomy.parquet")
        for other in others:
            taxonomy.require_same(Taxonomy.read(other / "taxonomy.parquet").fingerprint, mine=first, theirs=other)
        unlabelled = None if files.unlabelled is None else Unlabelled.open(files.unlabelled)
        return cls(files.answers, taxonomy, tuple(map(Vectors, files.vectors)), unlabelled)

    @property
    def inputs(self) -> dict[str, str]:
        """Of what all this was made, for the student's plan."""
        named = {"teacher": self.folders, "teacher vectors": [store.folder for store in self.vectors]}
        found = {
            name if number == 1 else f"{name} {number}": hash_of(folder)
            for name, folders in named.items()
            for number, folder in enumerate(folders, 1)
        }
        return (
            found if self.unlabelled is None else {**found, "unlabelled": f"{self.unlabelled.hash}:{self.unlabelled.part.name}"}
        )

    def pictures(self, training: Part, dataset: Dataset) -> Part:
        """What a student learns from: the training pictures, and the unlabelled ones where there are such."""
        return training if self.unlabelled is None else self.unlabelled.beside(training, dataset, no_label(dataset.taxonomy))

    def draw(self, of_answers: Loss, options: FeatureOptions, part: Part, width: int) -> FeatureMatching:
        """The loss with that of features besides; `width`: of the student's. Raises BadInput where vectors are missing."""
        vectors_NT = torch.from_numpy(vectors_of(part, self.vectors)[part.class_index >= 0])
        # Of length 1 they fit into half the memory; a cosine loses nothing that a step would notice.
        return FeatureMatching(of_answers, options, torch.nn.functional.normalize(vectors_NT, dim=1).half(), width)

    def teach(
        self,
        of_label: Loss,
        options: DistilOptions,
        taxonomy: Taxonomy,
        part: Part,
    ) -> tuple[Distilled, str]:
        """The loss of a student of the pictures of a part that have a label, or none by `no_label`, and a note for the manifest.

        A picture of a species that the teacher doesn't know learns from its label alone: any answer would be wrong; so does one
        that is known to its genus or family, where the teacher wasn't asked. Answers that aren't classes of the student are left
        out, and the others are taken to be GIVEN that it is none of those. Of several predictions the first that has a picture
        counts. Raises BadInput where pictures have no answer.
        """
        match_C = same_classes(taxonomy, self.taxonomy)
        inverse_K = np.full(len(self.taxonomy), -1)
        inverse_K[match_C[match_C >= 0]] = np.flatnonzero(match_C >= 0)
        learnt_N = np.flatnonzero(part.class_index >= 0)
        labels_N, unlabelled = part.class_index[learnt_N], no_label(taxonomy)
        answers, row_N = self._answers_to(part, learnt_N, inverse_K, options.top)
        self._check_cover(row_N, labels_N < len(taxonomy), "--part train")
        if self.unlabelled is not None:
            self._check_cover(row_N, labels_N == unlabelled, f"--part {self.unlabelled.part.name} --unlabelled")
        foreign_N = np.append(match_C, 0)[np.minimum(labels_N, len(taxonomy))] < 0
        untaught_N = (row_N < 0) | foreign_N
        classes_Nk = np.where(untaught_N[:, None], -1, answers.classes_Ok[row_N]).astype(np.int32)
        with np.errstate(divide="ignore"):
            log_p_Nk, log_rest_N = (np.log(p[row_N]).astype(np.float32) for p in (answers.p_Ok, answers.rest_O))
        taught = int((classes_Nk >= 0).any(1).sum())
        note = (
            f"Taught by the predictions in {self._names}: {taught:,} of {len(row_N):,} "
            f"training pictures, {classes_Nk.shape[1]} answers each; {int((match_C >= 0).sum()):,} of {len(taxonomy):,} "
            "classes are known to the teacher"
        )
        if isinstance(part, WithUnlabelled) and self.unlabelled is not None:
            own, more = (len(one) for one in part.parts)
            left_out = len(self.unlabelled.part) - more
            note += (
                f". {more:,} of the pictures are unlabelled ones of {self.unlabelled.name} beside {own:,} training pictures; "
                f"{left_out:,} more there are the student's own by their ids, and were left out"
            )
        if options.features is not None:
            note += f". Features are drawn to those in {', '.join(store.folder.resolve().name for store in self.vectors)}"
        said = torch.from_numpy(classes_Nk), torch.from_numpy(log_p_Nk), torch.from_numpy(log_rest_N)
        return Distilled(of_label, options, *said, None if self.unlabelled is None else unlabelled), note

    @property
    def _names(self) -> str:
        return ", ".join(f"{folder.resolve().name} ({hash_of(folder)[:16]})" for folder in self.folders)

    def _check_cover(self, row_N: NDArray[np.int64], wanted_N: NDArray[np.bool_], how: str) -> None:
        missing = int(((row_N < 0) & wanted_N).sum())
        if missing:
            raise BadInput(
                f"{', '.join(map(str, self.folders))}: no answer to {missing:,} of the {int(wanted_N.sum()):,} pictures that are "
                f"learnt from; a teacher answers all of them: taxakey predict RUN DATASET OUT {how}, and --teacher OUT"
            )

    def _answers_to(
        self, part: Part, learnt_N: NDArray[np.int64], inverse_K: NDArray[np.int64], top: int | None
    ) -> tuple[_Answers, NDArray[np.int64]]:
        """All answers of all predictions, and which of them each picture has [N]; -1: none."""
        found, row_N, first = [], np.full(len(learnt_N), -1), 0
        for folder in self.folders:
            answers, by_observation = self._answers(folder, inverse_K, top)
            ids = part.observation_ids if by_observation else part.image_ids
            position = {name: row for row, name in enumerate(answers.ids, first)}
            own_N = np.array([position.get(ids[picture], -1) for picture in learnt_N], dtype=np.int64)
            row_N, first = np.where(row_N < 0, own_N, row_N), first + len(answers.ids)
            found.append(answers)
        return _joined(found), row_N

    def _answers(self, folder: Path, inverse_K: NDArray[np.int64], top: int | None) -> tuple[_Answers, bool]:
        """All rows of a folder in the student's classes, and whether they are observations.

        Of pictures, as far as the table of answers reaches; the full scores are kept of observations only.
        """
        wanted = len(self.taxonomy) if top is None else min(top, len(self.taxonomy))
        file = folder / "images.parquet"
        stored = pq.read_schema(file).field("species_index").type.list_size
        full = folder / "full"
        by_observation = stored < wanted and full.is_dir()
        portions = _from_full(full, wanted) if by_observation else _from_table(file)
        return _joined([_of_student(portion, inverse_K, top) for portion in portions]), by_observation


def _joined(found: Sequence[_Answers]) -> _Answers:
    """Shorter lists of answers are filled up with none."""
    k = max(part.classes_Ok.shape[1] for part in found)
    missing = [((0, 0), (0, k - part.classes_Ok.shape[1])) for part in found]
    classes_Ok = [np.pad(part.classes_Ok, more, constant_values=-1) for part, more in zip(found, missing, strict=True)]
    p_Ok = [np.pad(part.p_Ok, more) for part, more in zip(found, missing, strict=True)]
    ids = [name for part in found for name in part.ids]
    return _Answers(ids, np.concatenate(classes_Ok), np.concatenate(p_Ok), np.concatenate([part.rest_O for part in found]))


def _from_table(file: Path) -> Iterator[_Answers]:
    for portion in Predictions.portions(file):
        ids = [str(name) for name in portion.strings("image_id")]
        yield _Answers(ids, portion.index("species"), portion.probability("species"), portion.values("tail"))


def _from_full(folder: Path, k: int) -> Iterator[_Answers]:
    for ids, log_p_OK in read_full(folder):
        p_OK = np.exp(log_p_OK.astype(np.float32))
        classes_Ok = top_k(p_OK, k)
        p_Ok = np.take_along_axis(p_OK, classes_Ok, axis=1)
        yield _Answers(ids, classes_Ok, p_Ok, np.maximum(p_OK.sum(1) - p_Ok.sum(1), 0))


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
