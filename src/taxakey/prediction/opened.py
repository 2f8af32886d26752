"""A trained model or an exported bundle, whichever a folder holds.

Shapes: B pictures, M metadata inputs, C classes.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from taxakey.artifacts import kind_of, read_manifest
from taxakey.prediction.bundle import Bundle, is_bundle, weight_files
from taxakey.prediction.scorers import Scorer
from taxakey.training.checkpoint import Model, load_model


class Scored(nn.Module):
    """What scores pictures without torch, as a network: whatever runs networks runs bundles too."""

    def __init__(self, scorer: Scorer) -> None:
        super().__init__()
        self.scorer = scorer

    def forward(self, *given: Tensor) -> Tensor:
        return torch.from_numpy(self.scorer.scores(*(part.cpu().numpy() for part in given)))


def open_model(path: Path | str, device: str = "cpu") -> Model | Bundle:
    """A run, its model/ folder or a bundle, which gets as many processor threads as torch."""
    return Bundle.open(path, device, threads=torch.get_num_threads()) if is_bundle(path) else load_model(path, device)


def network_of(model: Model | Bundle) -> nn.Module:
    """Pixels [B, 3, H, W], and metadata [B, M] where it takes them -> unnormalised log-probabilities [B, C]."""
    return Scored(model.scorer) if isinstance(model, Bundle) else model.network


def weights_of(model: Model | Bundle) -> list[Path]:
    """The files of its weights."""
    return weight_files(model.folder) if isinstance(model, Bundle) else [model.folder / "model.safetensors"]


def fold_of(model: Model | Bundle) -> str | None:
    """Which fold it was trained on, so that it has seen validation pictures; None: none, or its run isn't at hand."""
    folder, kind = (model.folder, "bundle") if isinstance(model, Bundle) else (model.folder.parent, "run")
    return read_manifest(folder, kind).recipe.get("fold") if kind_of(folder) == kind else None
