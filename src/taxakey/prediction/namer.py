"""What names pictures: a model or several, what they look at, and where. Shapes: I images, K crops, C classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp

from taxakey.calibration import Calibration
from taxakey.dataset.crops import CropOptions, Crops
from taxakey.dataset.reader import Dataset, Part
from taxakey.dataset.vectors import Vectors
from taxakey.embeddings import features
from taxakey.errors import BadInput
from taxakey.models.backbones import state_hash, with_metadata
from taxakey.taxonomy import Taxonomy
from taxakey.training.checkpoint import Model, load_model
from taxakey.training.folds import members_of


@dataclass(frozen=True, eq=False)
class Namer:
    """The members of an ensemble, often one, and how they look at a picture; its answer is the mean of theirs."""

    models: tuple[Model, ...]
    device: str = "cpu"
    embeddings_folder: Path | str | None = None
    crops: CropOptions | None = None

    @classmethod
    def open(
        cls,
        model_folder: Path | str,
        dataset: Dataset,
        *,
        device: str = "cpu",
        embeddings_folder: Path | str | None = None,
        crops: CropOptions | None = None,
    ) -> Namer:
        """Load a run, its model/ folder or a folder of folds.

        Raises TaxonomyMismatch where a member's classes aren't the dataset's, and BadInput for stored vectors of crops.
        """
        if crops and embeddings_folder is not None:
            raise BadInput(
                f"{embeddings_folder}: stored vectors are of whole pictures; leave out either the crops or the embeddings"
            )
        models = tuple(load_model(member, device) for member in members_of(model_folder))
        for model in models:
            dataset.taxonomy.require_same(model.taxonomy.fingerprint, mine=dataset.folder, theirs=model.folder)
        return cls(models, device, embeddings_folder, crops)

    @property
    def taxonomy(self) -> Taxonomy:
        return self.models[0].taxonomy

    def at(self, rows: Part) -> PartNamer:
        """The same for one part, whose stored vectors are opened; BadInput where they are of another backbone."""
        return PartNamer(self, rows, self._vectors(rows))

    def _vectors(self, rows: Part) -> NDArray[np.float32] | None:
        if self.embeddings_folder is None:
            return None
        vectors = Vectors(self.embeddings_folder)
        for model in self.models:
            if vectors.backbone_hash != state_hash(model.network.backbone):
                raise BadInput(
                    f"{self.embeddings_folder}: its vectors come from another backbone than the model in {model.folder}; "
                    "leave them out"
                )
        return vectors.part(rows.name, rows.image_ids)


@dataclass(frozen=True, eq=False)
class PartNamer:
    """Names the pictures of one part by their number there."""

    namer: Namer
    rows: Part
    vectors_ND: NDArray[np.float32] | None

    def probabilities(self, images: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Calibrated probabilities [I, C], each member's by its own calibration, and the raw scores' log-sum-exp [I]; means."""
        answers = [self._answers(model, images) for model in self.namer.models]
        probabilities_IC, logsumexp_I = (sum(part, np.zeros(())) / len(answers) for part in zip(*answers, strict=True))
        return probabilities_IC, logsumexp_I

    def _answers(self, model: Model, images: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Calibrated probabilities [I, C], and the log-sum-exp [I] of the raw scores; of crops their means."""
        calibration = (model.calibration or Calibration()).bind(model.taxonomy)
        scores, crops = self._scores(model, images), self.namer.crops
        if crops is None:
            return calibration.probabilities(scores), logsumexp(scores, axis=1)
        probabilities_XC = calibration.probabilities(scores.reshape(-1, scores.shape[-1]))
        return crops.combined(probabilities_XC.reshape(scores.shape)), logsumexp(scores, axis=2).mean(1)

    def _scores(self, model: Model, images: NDArray[np.int64]) -> NDArray[np.float32]:
        """Raw scores [I, C], of crops [I, K, C]."""
        told_IM = None if model.metadata is None else model.metadata.encode(self.rows.table.take(images))
        device, crops = self.namer.device, self.namer.crops
        if self.vectors_ND is None:
            load = Crops(crops, model.preprocess) if crops else model.preprocess
            return features(model.network, self.rows, images.tolist(), load, metadata_NM=told_IM, device=device, description=None)
        told = None if told_IM is None else torch.from_numpy(told_IM).to(device)
        vectors = torch.from_numpy(self.vectors_ND[images]).to(device)
        with torch.inference_mode():
            return model.network.head(with_metadata(vectors, told)).float().cpu().numpy()


def folders_of(models: Sequence[Model]) -> dict[str, object]:
    """What a plan says of the models: the one, or the members."""
    folders = [str(model.folder.resolve()) for model in models]
    return {"model": folders[0]} if len(models) == 1 else {"members": folders}
