"""What names pictures: a model or several, what they look at, and where.

Shapes: I images, K crops, M models, C classes.

Models whose input is prepared alike see each picture once: it is decoded once for all of them, and a backbone that several share
runs once. (26 whole passes took the Pl@ntNet-300K examination 21 min 30 s, one model 45 s.)
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp
from torch import nn

from taxakey.artifacts import kind_of
from taxakey.calibration import Calibration
from taxakey.dataset.crops import CropOptions, Crops
from taxakey.dataset.preprocess import Preprocess
from taxakey.dataset.reader import Dataset, Part
from taxakey.dataset.vectors import Vectors
from taxakey.embeddings import features
from taxakey.errors import BadInput
from taxakey.models.backbones import state_hash, with_metadata
from taxakey.models.together import Together
from taxakey.prediction.bundle import Bundle
from taxakey.prediction.combining import Rule
from taxakey.prediction.ensemble_file import EnsembleFile, ensemble_at
from taxakey.prediction.opened import network_of, open_model
from taxakey.prediction.out_of_fold import kept_from
from taxakey.taxonomy import Taxonomy
from taxakey.training.checkpoint import FOLDS, Model, members_of


@dataclass(frozen=True, eq=False)
class Namer:
    """The members of an ensemble, often one, and how they look at a picture.

    `ensemble`: how their answers become one; None: by their mean. It mixes the answers to each picture, and an observation's are
    averaged afterwards; `taxakey ensemble` mixes those of observations, which for rules other than means isn't quite the same.
    `folds`: the folder whose members these are; asked about what they learned from, one answers each picture (`at`).
    """

    models: tuple[Model | Bundle, ...]
    ensemble: EnsembleFile | None = None
    device: str = "cpu"
    embeddings_folder: Path | str | None = None
    crops: CropOptions | None = None
    folds: Path | None = None

    @classmethod
    def open(
        cls,
        model_folder: Path | str,
        dataset: Dataset | None,
        *,
        device: str = "cpu",
        embeddings_folder: Path | str | None = None,
        crops: CropOptions | None = None,
    ) -> Namer:
        """Load a run, its model/ folder, a bundle, a folder of folds, or an ensemble's.

        Raises TaxonomyMismatch where a member's classes aren't the dataset's (None: whatever they are), or another member's, and
        BadInput for stored vectors of crops or for a bundle, which can't take them.
        """
        if crops and embeddings_folder is not None:
            raise BadInput(
                f"{embeddings_folder}: stored vectors are of whole pictures; leave out either the crops or the embeddings"
            )
        recipe = ensemble_at(model_folder)
        if recipe is not None:
            recipe.require_whole_pictures()
        folders = members_of(model_folder) if recipe is None else recipe.models
        models = tuple(open_model(member, device) for member in folders)
        wanted, whose = (models[0].taxonomy, models[0].folder) if dataset is None else (dataset.taxonomy, dataset.folder)
        for model in models:
            wanted.require_same(model.taxonomy.fingerprint, mine=whose, theirs=model.folder)
        folds = Path(model_folder) if kind_of(model_folder) == FOLDS else None
        return cls(models, recipe, device, embeddings_folder, crops, folds)

    @cached_property
    def rule(self) -> Rule | None:
        return None if self.ensemble is None else self.ensemble.rule(self.taxonomy)

    @cached_property
    def groups(self) -> list[tuple[list[int], nn.Module]]:
        """Models whose pictures are prepared alike, and what names all of them in one pass."""
        return [(alike, _together([self.models[m] for m in alike])) for alike in _alike(self.models)]

    @property
    def taxonomy(self) -> Taxonomy:
        return self.models[0].taxonomy

    def at(self, rows: Part) -> PartNamer:
        """The same for one part, whose stored vectors are opened; BadInput where they are of another backbone.

        Folds answer the training and validation part that they learned from by the member that was kept from each picture.
        """
        kept_from_N = None if self.folds is None else kept_from(self.folds, rows)
        return PartNamer(self, rows, self._vectors(rows), kept_from_N)

    def _vectors(self, rows: Part) -> NDArray[np.float32] | None:
        if self.embeddings_folder is None:
            return None
        vectors = Vectors(self.embeddings_folder)
        for model in self.models:
            if isinstance(model, Bundle):
                raise BadInput(f"{model.folder}: a bundle takes pictures, not vectors; leave {self.embeddings_folder} out")
            if not vectors.come_from(state_hash(model.network.backbone), model.preprocess):
                raise BadInput(
                    f"{self.embeddings_folder}: its vectors come from another backbone, or pictures of another size, than those "
                    f"of the model in {model.folder}; leave them out"
                )
        return vectors.part(rows.name, rows.image_ids)


@dataclass(frozen=True, eq=False)
class PartNamer:
    """Names the pictures of one part by their number there.

    `kept_from_N`: the one member that answers for each picture, because the others have learnt from it (-1: all answer).
    """

    namer: Namer
    rows: Part
    vectors_ND: NDArray[np.float32] | None
    kept_from_N: NDArray[np.int64] | None = None

    def probabilities(self, images: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Calibrated probabilities [I, C], each member's by its own calibration, and the mean log-sum-exp [I] of raw scores."""
        scores = self.scores(images)
        answers = [self._answers(model, found) for model, found in zip(self.namer.models, scores, strict=True)]
        probabilities, logsumexps = zip(*answers, strict=True)
        mean_I = np.mean(logsumexps, axis=0)
        if self.namer.rule is not None:
            return self.namer.rule.mix(np.stack(probabilities).astype(np.float32)).astype(np.float64), mean_I
        mean_IC = np.mean(probabilities, axis=0)
        if self.kept_from_N is None:
            return mean_IC, mean_I
        member_I = self.kept_from_N[images]
        for member, (own_IC, own_I) in enumerate(answers):
            mean_IC[member_I == member], mean_I[member_I == member] = own_IC[member_I == member], own_I[member_I == member]
        return mean_IC, mean_I

    def _answers(self, model: Model | Bundle, scores: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Calibrated probabilities [I, C], and the log-sum-exp [I] of the raw scores; of crops their means."""
        calibration, crops = (model.calibration or Calibration()).bind(model.taxonomy), self.namer.crops
        if crops is None:
            return calibration.probabilities(scores), logsumexp(scores, axis=1)
        probabilities_XC = calibration.probabilities(scores.reshape(-1, scores.shape[-1]))
        return crops.combined(probabilities_XC.reshape(scores.shape)), logsumexp(scores, axis=2).mean(1)

    def scores(self, images: NDArray[np.int64]) -> list[NDArray[np.float32]]:
        """Raw scores [I, C] of each model, of crops [I, K, C]; what is prepared alike is decoded once."""
        models = self.namer.models
        if self.vectors_ND is not None or len(models) == 1:
            return [self._scores(model, images) for model in models]
        found: dict[int, NDArray[np.float32]] = {}
        for alike, network in self.namer.groups:
            if len(alike) == 1:
                found[alike[0]] = self._scores(models[alike[0]], images)
                continue
            load = self._loader(models[alike[0]])
            scores = features(network, self.rows, images.tolist(), load, device=self.namer.device, description=None)
            ends = np.cumsum([len(models[m].taxonomy) for m in alike])[:-1]
            found |= dict(zip(alike, np.split(scores, ends, axis=-1), strict=True))
        return [found[m] for m in range(len(models))]

    def _loader(self, model: Model | Bundle) -> Preprocess | Crops:
        return Crops(self.namer.crops, model.preprocess) if self.namer.crops else model.preprocess

    def _scores(self, model: Model | Bundle, images: NDArray[np.int64]) -> NDArray[np.float32]:
        """Raw scores [I, C], of crops [I, K, C]."""
        told_IM = None if model.metadata is None else model.metadata.encode(self.rows.table.take(images))
        device = self.namer.device
        if self.vectors_ND is None:
            load = self._loader(model)
            network = network_of(model)
            return features(network, self.rows, images.tolist(), load, metadata_NM=told_IM, device=device, description=None)
        assert isinstance(model, Model)  # `_vectors` refused the others
        told = None if told_IM is None else torch.from_numpy(told_IM).to(device)
        vectors = torch.from_numpy(self.vectors_ND[images]).to(device)
        with torch.inference_mode():
            return model.network.head(with_metadata(vectors, told)).float().cpu().numpy()


def _alike(models: Sequence[Model | Bundle]) -> list[list[int]]:
    """Models by what they want pictures to be; one that takes metadata stands alone, and so does a bundle."""
    groups: dict[Hashable, list[int]] = {}
    for number, model in enumerate(models):
        alone = isinstance(model, Bundle) or model.metadata is not None
        groups.setdefault(number if alone else model.preprocess, []).append(number)
    return list(groups.values())


def _together(models: Sequence[Model | Bundle]) -> nn.Module:
    if len(models) == 1:
        return network_of(models[0])
    trained = [model for model in models if isinstance(model, Model)]
    assert len(trained) == len(models), "a bundle stands alone"
    keys = [
        (model.config["architecture"], str(model.config["model_args"]), state_hash(model.network.backbone)) for model in trained
    ]
    return Together([model.network for model in trained], keys)


def folders_of(models: Sequence[Model | Bundle]) -> dict[str, object]:
    """What a plan says of the models: the one, or the members."""
    folders = [str(model.folder.resolve()) for model in models]
    return {"model": folders[0]} if len(models) == 1 else {"members": folders}
