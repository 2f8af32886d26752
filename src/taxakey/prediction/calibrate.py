"""A finished run's calibration and decisions fitted anew: model + validation part -> calibration.json and decisions.json.

Shapes: I images, O observations, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from taxakey.artifacts import hash_of, write_text
from taxakey.calibration import Calibration, Decisions, Method
from taxakey.calibration.decisions import FILE
from taxakey.calibration.likeness import learn_likeness
from taxakey.calibration.validation import DecisionOptions, learn_from_validation
from taxakey.dataset.reader import Dataset, Part, require_pictures
from taxakey.dataset.vectors import Vectors
from taxakey.embeddings import features
from taxakey.errors import BadInput
from taxakey.models.backbones import state_hash, with_metadata
from taxakey.training.checkpoint import Model, load_model


@dataclass(frozen=True)
class Calibrated:
    """What lies in the model's folder now, and the calibration that lay there before."""

    calibration: Calibration
    decisions: Decisions
    before: Calibration | None


def calibrate(
    model_folder: Path | str,
    dataset_folder: Path | str,
    *,
    method: Method | Literal["best"] = "temperature",
    options: DecisionOptions = DecisionOptions(),
    part: str = "validation",
    embeddings_folder: Path | str | None = None,
    device: str = "cpu",
) -> Calibrated:
    """Score a part again and write both files, each atomically; the facts of the calibration before stand in the new one.

    Predictions that were made before are those of the old calibration: `taxakey predict` refuses to go on with them. Raises
    BadInput for a training part, whose scores the model has learnt to please, and where no picture is of a class of the model.
    """
    if part.startswith("train"):
        raise BadInput(f"--part {part}: the model was trained on it, and would be called surer than it is; take validation")
    model, dataset = load_model(model_folder, device, decisions=False), Dataset.open(dataset_folder)
    dataset.taxonomy.require_same(model.taxonomy.fingerprint, mine=dataset.folder, theirs=model.folder)
    rows = dataset.part(part)
    scores_IC = raw_scores(model, rows, embeddings_folder, device)
    train = dataset.part("train")
    likeness = learn_likeness(
        lambda some: raw_scores(model, train.only(some), embeddings_folder, device), train.class_index, model.taxonomy
    )
    calibration, decisions = learn_from_validation(
        scores_IC, rows.observation_ids, rows.truth(), model.taxonomy, method=method, options=options, likeness=likeness
    )
    decisions = replace(decisions, train_images=tuple(dataset.train_counts().tolist()))
    calibration = replace(calibration, measured={**calibration.measured, **_facts(model, dataset, part)})
    calibration.write(model.folder / "calibration.json")
    decisions.write(model.folder / FILE)  # a kill in between leaves decisions of the old one, and loading says so
    _renew_card(model, calibration)
    return Calibrated(calibration, decisions, model.calibration)


def _renew_card(model: Model, calibration: Calibration) -> None:
    """The card quotes what the calibration was measured to mean."""
    card = model.folder / "README.md"
    if model.calibration is not None and card.is_file():
        text = card.read_text(encoding="utf-8")
        write_text(card, text.replace(model.calibration.meaning, calibration.meaning))


def raw_scores(model: Model, rows: Part, embeddings_folder: Path | str | None, device: str) -> NDArray[np.float32]:
    """Raw scores [I, C] of a part's pictures, from stored vectors of the model's own backbone where they are given."""
    require_pictures(rows)
    told_IM = None if model.metadata is None else model.metadata.encode(rows.table)
    if embeddings_folder is None:
        preprocess = model.preprocess
        return features(model.network, rows, range(len(rows)), preprocess, metadata_NM=told_IM, device=device)
    vectors = Vectors(embeddings_folder)
    if not vectors.come_from(state_hash(model.network.backbone), model.preprocess):
        raise BadInput(
            f"{embeddings_folder}: its vectors come from another backbone, or pictures of another size, than those of the "
            f"model in {model.folder}; leave them out"
        )
    stored_ID = torch.from_numpy(vectors.part(rows.name, rows.image_ids)).to(device)
    with torch.inference_mode():
        told = None if told_IM is None else torch.from_numpy(told_IM).to(device)
        return model.network.head(with_metadata(stored_ID, told)).float().cpu().numpy()


def _facts(model: Model, dataset: Dataset, part: str) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "part": part,
        "dataset": hash_of(dataset.folder),
        "fitted": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if model.calibration is not None:
        old = model.calibration
        measured = {name: value for name, value in old.measured.items() if name != "before"}
        facts["before"] = {
            "method": old.method,
            "temperature": old.temperature,
            "unsure_below": old.unsure_below,
            "measured": measured,
        }
    return facts
