"""What an ensemble's members say of the pictures that they did NOT learn from: the folds of the training and validation parts.

Shapes: I images, O observations, C classes. Each observation is named by the one member whose fold it lies in, so a label that
is wrong isn't repeated by a model that was taught it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from taxakey import artifacts
from taxakey.artifacts import Manifest, Plan
from taxakey.calibration import Calibration, mean_by_observation
from taxakey.dataset.folds import Fold
from taxakey.dataset.reader import Dataset, Part
from taxakey.dataset.vectors import Vectors
from taxakey.embeddings import features
from taxakey.errors import BadInput
from taxakey.models.backbones import state_hash, with_metadata
from taxakey.predictions import Predictions, Truth
from taxakey.progress import track
from taxakey.training.checkpoint import FOLDS, Model, load_model, members_of

KIND = "out-of-fold"
_SCORES_AT_ONCE = 20_000_000
"""As in `predict`: 160 MB as float64."""


def predict_out_of_fold(
    folds_folder: Path | str,
    dataset_folder: Path | str,
    out: Path | str,
    *,
    embeddings_folder: Path | str | None = None,
    device: str = "cpu",
) -> Manifest:
    """Write `observations.parquet` (see `Predictions`) of every training and validation observation that a member was kept from.

    A species of a single observation is learnt by all members, so nothing is said of it; `left_out` counts those. Interrupted, it
    goes on with the next member. Raises BadInput for an ensemble of another dataset, or one whose folds leave out the training
    part.
    """
    folds_folder, out, dataset = Path(folds_folder), Path(out), Dataset.open(dataset_folder)
    manifest = artifacts.read_manifest(folds_folder, FOLDS)
    if manifest.recipe.get("pool") != "all":
        raise BadInput(f"{folds_folder}: all its members learned from the training part; train folds without --validation-only")
    if manifest.inputs["dataset"] != artifacts.hash_of(dataset.folder):
        raise BadInput(
            f"{folds_folder}: its folds are those of another dataset than {dataset.folder}; name the one it learned from"
        )
    inputs = {"dataset": manifest.inputs["dataset"], "folds": artifacts.hash_of(folds_folder)}
    plan = Plan(KIND, inputs, {"part": "train+validation", "dataset": str(dataset.folder.resolve())})
    if artifacts.start(out, plan) == "finished":
        return artifacts.read_manifest(out, KIND)
    members, seed = members_of(folds_folder), manifest.seed or 0
    files = [out / "members" / f"{member.name}.parquet" for member in members]
    for number, (member, file) in enumerate(zip(members, files, strict=True), 1):
        if not file.is_file():
            rows = Fold(number, len(members)).of(dataset, seed).part("validation")
            _said(load_model(member, device), rows, embeddings_folder, device).write(file)
    joined = Predictions.concat([Predictions.read(file) for file in files])
    joined.write(out / "observations.parquet")
    artifacts.write_parquet(out / "taxonomy.parquet", dataset.taxonomy.table)
    everything = {name for part in ("train", "validation") for name in dataset.part(part).observation_ids}
    counts = {"observations": len(joined), "left_out": len(everything) - len(joined)}
    found = artifacts.finish(out, plan, counts=counts, taxonomy=dataset.taxonomy.fingerprint, notes=manifest.notes)
    shutil.rmtree(out / "members")
    return found


def kept_from(folds_folder: Path | str, rows: Part) -> NDArray[np.int64] | None:
    """The member, from 0, that each picture of the training or validation part was kept from, [N]; -1: none was.

    None for another part, where the folds are those of another dataset, and where they leave out the training part.
    """
    manifest = artifacts.read_manifest(folds_folder, FOLDS)
    if rows.name not in ("train", "validation") or manifest.recipe.get("pool") != "all":
        return None
    if manifest.inputs["dataset"] != artifacts.hash_of(rows.folder):
        return None
    dataset = Dataset.open(rows.folder)
    members = manifest.counts["members"]
    held = [Fold(number, members).of(dataset, manifest.seed or 0).part("validation") for number in range(1, members + 1)]
    member_of = {image: member for member, part in enumerate(held) for image in part.image_ids}
    return np.array([member_of.get(image, -1) for image in rows.image_ids], dtype=np.int64)


def _said(model: Model, rows: Part, embeddings_folder: Path | str | None, device: str) -> Predictions:
    """A member's answers to the observations of a part."""
    rows.taxonomy.require_same(model.taxonomy.fingerprint, mine=rows.folder, theirs=model.folder)
    vectors_ND = _own_vectors(model, embeddings_folder, rows)
    portions = list(_portions(rows, max(1, _SCORES_AT_ONCE // len(model.taxonomy))))
    said = [
        _answered(model, rows, images, vectors_ND, device) for images in track(portions, f"naming {model.folder.parent.name}")
    ]
    return Predictions.concat(said)


def _own_vectors(model: Model, folder: Path | str | None, rows: Part) -> NDArray[np.float32] | None:
    if folder is None:
        return None
    vectors = Vectors(folder)
    if not vectors.come_from(state_hash(model.network.backbone), model.preprocess):
        raise BadInput(
            f"{folder}: its vectors come from another backbone, or pictures of another size, than those of the model in "
            f"{model.folder}; leave them out"
        )
    return vectors.part(rows.name, rows.image_ids)


def _portions(rows: Part, size: int) -> Iterator[NDArray[np.int64]]:
    """Row numbers, all pictures of an observation in one portion, an observation being begun while less than `size` are there."""
    order = np.argsort(np.array(rows.observation_ids), kind="stable")
    names = np.array(rows.observation_ids)[order]
    begins = np.flatnonzero(np.append(True, names[1:] != names[:-1]))
    portion = begins // size
    starts = begins[np.flatnonzero(np.diff(portion, prepend=-1))]
    yield from np.split(order, starts[1:])


def _answered(
    model: Model, rows: Part, images: NDArray[np.int64], vectors_ND: NDArray[np.float32] | None, device: str
) -> Predictions:
    told_IM = None if model.metadata is None else model.metadata.encode(rows.table.take(images))
    if vectors_ND is None:
        scores_IC = features(
            model.network, rows, images.tolist(), model.preprocess, metadata_NM=told_IM, device=device, description=None
        )
    else:
        told = None if told_IM is None else torch.from_numpy(told_IM).to(device)
        with torch.inference_mode():
            vectors = torch.from_numpy(vectors_ND[images]).to(device)
            scores_IC = model.network.head(with_metadata(vectors, told)).float().cpu().numpy()
    probabilities_IC = (model.calibration or Calibration()).bind(model.taxonomy).probabilities(scores_IC)
    ids = [rows.observation_ids[image] for image in images]
    observations, first_O, observation_I = np.unique(ids, return_index=True, return_inverse=True)
    truth = rows.truth()
    return Predictions.from_probabilities(
        mean_by_observation(probabilities_IC, observation_I, len(observations)),
        model.taxonomy,
        observation_ids=observations.tolist(),
        images=np.bincount(observation_I).tolist(),
        truth=Truth(*([names[images[row]] for row in first_O] for names in (truth.species, truth.genus, truth.family))),
    )
