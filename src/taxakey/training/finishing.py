"""The end of a run: its model written, calibrated on validation, and a card and manifest that say what was made."""

from __future__ import annotations

from dataclasses import replace

import taxakey.torchvision_guard  # noqa: F401  before Lightning

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from taxakey import artifacts
from taxakey.calibration.decisions import FILE as DECISIONS_FILE
from taxakey.calibration.decisions import Decisions
from taxakey.calibration.likeness import learn_likeness
from taxakey.calibration.stored import Calibration
from taxakey.calibration.validation import learn_from_validation
from taxakey.dataset.reader import Part
from taxakey.embeddings import features
from taxakey.models.backbones import Network, with_metadata
from taxakey.models.metadata_vit import MetadataViT
from taxakey.models.tuning import make_plain
from taxakey.training.card import write_card
from taxakey.training.checkpoint import save_model
from taxakey.training.costs import trained_parameters
from taxakey.training.module import TrainingModule
from taxakey.training.preparation import Run, learns_partial
from taxakey.training.unlabelled import WithUnlabelled, vectors_of


def finish(run: Run, module: TrainingModule, device: str, notes: tuple[str, ...]) -> None:
    """Write the model, calibrate it, and say what was made; the first process does it alone."""
    trained = trained_parameters(module)
    backbone = run.network.backbone if module.backbone is None else module.backbone
    make_plain(backbone.vit if isinstance(backbone, MetadataViT) else backbone, run.recipe.tuning)
    network = Network(backbone, module.head).eval()
    save_model(run.out / "model", network, run.dataset.taxonomy, run.preprocess, run.recipe, run.encoder)
    calibration, decisions = _calibrated(run, network, device)
    if calibration is not None and decisions is not None:
        calibration.write(run.out / "model" / "calibration.json")
        decisions.write(run.out / "model" / DECISIONS_FILE)
    counts = {
        "classes": len(run.dataset.taxonomy),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "trained_parameters": trained,
        "train": len(run.dataset.part("train")),
        "validation": len(run.dataset.part("validation")),
        **_partial_counts(run),
        **({"unlabelled": len(run.training.parts[1])} if isinstance(run.training, WithUnlabelled) else {}),
        **run.taken,
    }
    write_card(run.out, run.recipe, run.dataset.taxonomy, counts, calibration, notes)
    artifacts.finish(run.out, run.plan, counts=counts, taxonomy=run.dataset.taxonomy.fingerprint, notes=notes)


def _partial_counts(run: Run) -> dict[str, int]:
    """Pictures known to genus or family: learnt from, or left out for want of a loss that can."""
    partial = run.dataset.partial()
    if partial is None:
        return {}
    usable = int((partial.labels >= 0).sum()) if learns_partial(run.recipe) else 0
    return {"partial": usable, "partial_left_out": len(partial) - usable}


def _calibrated(run: Run, network: Network, device: str) -> tuple[Calibration, Decisions] | tuple[None, None]:
    part = run.dataset.part("validation")
    if not (part.class_index >= 0).any():
        return None, None
    train = run.dataset.part("train")
    likeness = learn_likeness(
        lambda some: _scores(run, network, device, train.only(some)), train.class_index, run.dataset.taxonomy
    )
    scores_IC = _scores(run, network, device, part)
    truth, taxonomy = part.truth(), run.dataset.taxonomy
    calibration, decisions = learn_from_validation(scores_IC, part.observation_ids, truth, taxonomy, likeness=likeness)
    return calibration, replace(decisions, train_images=tuple(run.dataset.train_counts().tolist()))


def _scores(run: Run, network: Network, device: str, part: Part) -> NDArray[np.float32]:
    """Raw scores [I, C] of pictures."""
    told_NM = run.metadata(part)
    if run.stores:
        head: nn.Module = network.head.cpu()
        stored_ND = torch.from_numpy(vectors_of(part, run.stores))
        with torch.inference_mode():
            return head(with_metadata(stored_ND, None if told_NM is None else torch.from_numpy(told_NM))).float().numpy()
    where, rows = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu", range(len(part))
    what = "calibrating"
    return features(network.to(where), part, rows, run.preprocess, metadata_NM=told_NM, device=where, description=what)
