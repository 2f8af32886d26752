"""A run with random weights, quick to export."""

from __future__ import annotations

from pathlib import Path

import taxakey.torchvision_guard  # noqa: F401  before timm

import timm
import torch

from taxakey.calibration import Calibration
from taxakey.dataset.preprocess import Preprocess
from taxakey.models.backbones import Network
from taxakey.models.head_options import build_head
from taxakey.taxonomy import Taxonomy
from taxakey.training.checkpoint import save_model
from taxakey.training.recipe import recipe_from

BACKBONE = "test_byobnet"  # one of timm's own for tests: half a million parameters, quick to export
SIZE = (3, 64, 64)
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def train_nothing(folder: Path, kind: str, *, species: int = 11, seed: int = 0) -> Path:
    """A run's model/ folder with random weights and lively scores."""
    torch.manual_seed(seed)
    names = [(f"Genus{_LETTERS[i % 4]}", f"species{_LETTERS[i]}") for i in range(species)]
    taxonomy = Taxonomy.from_rows([{"scientificName": f"{g} {s}", "genus": g, "family": "Aceae"} for g, s in names])
    recipe = recipe_from({"name": kind, "backbone": {"name": BACKBONE, "weights": "none"}, "head": {"kind": kind}}, "a test")
    backbone = timm.create_model(BACKBONE, num_classes=0)
    network = Network(backbone, build_head(recipe.head, backbone.num_features, taxonomy))
    for parameter in network.head.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    save_model(folder / "model", network, taxonomy, Preprocess(input_size=SIZE), recipe)
    Calibration(1.5, 0.4, {}).write(folder / "model" / "calibration.json")
    return folder
