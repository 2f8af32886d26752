"""An ensemble as one model: what `Identifier` takes for a network and its way to prepare pictures, and is several of them.

Shapes: B pictures, X numbers of a picture prepared in every way that a member asks for, M members, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from taxakey.artifacts import hash_of, kind_of
from taxakey.calibration import Calibration
from taxakey.dataset.preprocess import Preprocess
from taxakey.errors import BadInput
from taxakey.taxonomy import Taxonomy

if TYPE_CHECKING:
    from taxakey.prediction.namer import Namer

_LEAST = 1e-30  # its logarithm is finite


@dataclass(frozen=True)
class PreparedForAll:
    """As `Preprocess`, for several of them: a picture becomes all their inputs, one after another, as one row of numbers."""

    kinds: tuple[Preprocess, ...]

    def load(self, source: bytes | Path | str, **limits: Any) -> NDArray[np.float32]:
        """float32 [X]; raises BadImage."""
        return np.concatenate([kind.load(source, **limits).ravel() for kind in self.kinds])

    def split(self, pixels_BX: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """The inputs [B, 3, h, w] again, in the order of `kinds`."""
        shapes = [kind.input_size for kind in self.kinds]
        parts = np.split(pixels_BX, np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1], axis=1)
        return [part.reshape(len(part), *shape) for part, shape in zip(parts, shapes, strict=True)]


class EnsembleScorer:
    """Members' calibrated probabilities, mixed as the ensemble's file says (folds: their mean), as logarithms.

    Members whose pictures are prepared alike run together, and a backbone that they share runs once (`prediction.namer`).
    """

    def __init__(self, namer: Namer) -> None:
        self._namer = namer
        if told := [model for model in namer.models if model.metadata is not None]:
            raise BadInput(
                f"{told[0].folder}: this member is told more than a picture, which an ensemble isn't; name pictures with "
                "`taxakey predict`, or teach one model (docs/distillation.md)"
            )
        self.preprocess = PreparedForAll(tuple(namer.models[alike[0]].preprocess for alike, _ in namer.groups))
        self._scalings = [(model.calibration or Calibration()).bind(model.taxonomy) for model in namer.models]

    @property
    def taxonomy(self) -> Taxonomy:
        return self._namer.taxonomy

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the members' weights and calibrations, and of the rule."""
        from taxakey.prediction.opened import weights_of

        files = []
        for model in self._namer.models:
            files += [*weights_of(model), *([model.folder / "calibration.json"] if model.calibration else [])]
        files += [] if self._namer.ensemble is None else [self._namer.ensemble.path]
        return sha256("\n".join(map(hash_of, files)).encode()).hexdigest()

    def scores(self, pixels_BX: NDArray[np.float32], metadata_BM: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """log p [B, C]."""
        import torch

        found: dict[int, NDArray[np.float32]] = {}
        for (alike, network), pixels in zip(self._namer.groups, self.preprocess.split(pixels_BX), strict=True):
            with torch.inference_mode():
                scores = network(torch.from_numpy(pixels).to(self._namer.device)).float().cpu().numpy()
            found |= dict(zip(alike, np.split(scores, len(alike), axis=1), strict=True))
        p_MBC = np.stack([scaling.probabilities(found[m]) for m, scaling in enumerate(self._scalings)])
        return np.log(np.maximum(self._mixed(p_MBC), _LEAST)).astype(np.float32)

    def _mixed(self, p_MBC: NDArray[np.float64]) -> NDArray[np.floating]:
        rule = self._namer.rule
        return p_MBC.mean(axis=0) if rule is None else rule.mix(p_MBC.astype(np.float32))


def is_ensemble(folder: Path) -> bool:
    """Whether the folder holds several models: an ensemble's file, or the members of folds."""
    return kind_of(folder) == "folds" or any((place / "ensemble.json").is_file() for place in (folder, folder / "predictions"))
