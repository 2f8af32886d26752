"""A model's answers for a part of a dataset: model + dataset -> predictions artifact.

Shapes: I images, O observations, C classes. Several images of one observation are averaged as calibrated probabilities, and so
are the members of an ensemble (a folder of folds).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp

from taxakey import artifacts
from taxakey.calibration import Calibration, mean_by_observation
from taxakey.dataset.crops import CropOptions, Crops
from taxakey.dataset.reader import Dataset, Part
from taxakey.dataset.vectors import Vectors
from taxakey.embeddings import features
from taxakey.errors import BadInput
from taxakey.metadata.encoder import FILE as METADATA_FILE
from taxakey.models.backbones import state_hash, with_metadata
from taxakey.predictions import Predictions, Truth
from taxakey.progress import track
from taxakey.training.checkpoint import Model, load_model
from taxakey.training.folds import members_of

_IMAGES_AT_ONCE = 256
_SCORES_AT_ONCE = 20_000_000  # numbers held for one portion: 160 MB as float64, whatever the number of classes


def predict(
    model_folder: Path | str,
    dataset_folder: Path | str,
    out: Path | str,
    *,
    part: str = "test",
    embeddings_folder: Path | str | None = None,
    device: str = "cpu",
    full_scores: bool = False,
    crops: CropOptions | None = None,
) -> artifacts.Manifest:
    """Write `observations.parquet` and `images.parquet` (see `Predictions`), portion by portion; interrupted, it goes on.

    `full_scores` adds `full/*.parquet`: all C log-probabilities per observation as float16, for ensembles and calibration.
    `embeddings_folder` saves running the backbone; refused unless its vectors come from the model's own backbone.
    `crops`: several of each picture, their calibrated probabilities averaged.
    """
    out = Path(out)
    if crops and embeddings_folder is not None:
        raise BadInput(f"{embeddings_folder}: stored vectors are of whole pictures; leave out either the crops or the embeddings")
    models, dataset = [load_model(member, device) for member in members_of(model_folder)], Dataset.open(dataset_folder)
    for model in models:
        dataset.taxonomy.require_same(model.taxonomy.fingerprint, mine=dataset.folder, theirs=model.folder)
    rows = dataset.part(part)
    if not len(rows):
        raise BadInput(f"{dataset.folder}: its part {part!r} has no pictures")
    vectors = _own_vectors(models, embeddings_folder, rows)
    plan = _plan(models, dataset, part, full_scores, crops)
    if artifacts.start(out, plan) == "finished":
        return artifacts.read_manifest(out, plan.kind)
    scores_an_image = len(dataset.taxonomy) * (crops.count if crops else 1)
    portions = list(_portions(rows, max(1, min(_IMAGES_AT_ONCE, _SCORES_AT_ONCE // scores_an_image))))
    for number, images in enumerate(track(portions, f"naming {part}")):
        if not _portion_file(out, "observations", number).is_file():
            _name_portion(models, rows, images, vectors, out, number, device=device, full_scores=full_scores, crops=crops)
    counts = {level: _join(out, level, len(portions)) for level in ("observations", "images")}
    artifacts.write_parquet(out / "taxonomy.parquet", dataset.taxonomy.table)
    notes = (f"The mean of {len(models)} members' calibrated probabilities",) if len(models) > 1 else ()
    manifest = artifacts.finish(out, plan, counts=counts, taxonomy=dataset.taxonomy.fingerprint, notes=notes)
    shutil.rmtree(out / "portions")
    return manifest


def _plan(models: Sequence[Model], dataset: Dataset, part: str, full_scores: bool, crops: CropOptions | None) -> artifacts.Plan:
    inputs = {"dataset": artifacts.hash_of(dataset.folder)}
    for number, model in enumerate(models, 1):
        which = f" {number}" if len(models) > 1 else ""
        inputs[f"model{which}"] = artifacts.hash_of(model.folder / "model.safetensors")
        if model.calibration is not None:
            inputs[f"calibration{which}"] = artifacts.hash_of(model.folder / "calibration.json")
        if model.metadata is not None:
            inputs[f"metadata{which}"] = artifacts.hash_of(model.folder / METADATA_FILE)
    folders = [str(model.folder.resolve()) for model in models]
    whose = {"model": folders[0]} if len(models) == 1 else {"members": folders}
    recipe = {"part": part, **whose, "dataset": str(dataset.folder.resolve())}
    several = {"crops": asdict(crops)} if crops else {}
    return artifacts.Plan("predictions", inputs, {**recipe, "full_scores": full_scores, **several})


def _own_vectors(models: Sequence[Model], folder: Path | str | None, rows: Part) -> NDArray[np.float32] | None:
    if folder is None:
        return None
    vectors = Vectors(folder)
    for model in models:
        if vectors.backbone_hash != state_hash(model.network.backbone):
            raise BadInput(f"{folder}: its vectors come from another backbone than the model in {model.folder}; leave them out")
    return vectors.part(rows.name, rows.image_ids)


def _portions(rows: Part, size: int) -> Iterator[NDArray[np.int64]]:
    """Row numbers in portions of about `size`, never with an observation in two of them."""
    order = np.argsort(np.array(rows.observation_ids), kind="stable")
    observations = np.array(rows.observation_ids)[order]
    begins = np.flatnonzero(np.append(True, observations[1:] != observations[:-1]))
    first = 0
    for begin, end in zip(begins, np.append(begins[1:], len(order)), strict=True):
        if end - first >= size or end == len(order):
            yield order[first:end]
            first = int(end)
        assert begin < end


def _name_portion(
    models: Sequence[Model],
    rows: Part,
    images: NDArray[np.int64],
    vectors: NDArray[np.float32] | None,
    out: Path,
    number: int,
    *,
    device: str,
    full_scores: bool,
    crops: CropOptions | None,
) -> None:
    taxonomy = models[0].taxonomy
    probabilities_IC, logsumexp_I = _mean_of_members(models, rows, images, vectors, device, crops)
    ids = [rows.observation_ids[image] for image in images]
    observations, first_I, observation_I = np.unique(ids, return_index=True, return_inverse=True)
    images_O = np.bincount(observation_I)
    probabilities_OC = mean_by_observation(probabilities_IC, observation_I, len(observations))
    image_ids = [rows.image_ids[image] for image in images]
    by_image = Predictions.from_probabilities(
        probabilities_IC,
        taxonomy,
        observation_ids=ids,
        image_ids=image_ids,
        truth=_pick(rows.truth(), images),
        logsumexp_O=logsumexp_I,
        level="image",
    )
    by_observation = Predictions.from_probabilities(
        probabilities_OC,
        taxonomy,
        observation_ids=observations.tolist(),
        image_ids=[image_ids[first] if count == 1 else None for first, count in zip(first_I, images_O, strict=True)],
        images=images_O.tolist(),
        truth=_pick(rows.truth(), images[first_I]),
        logsumexp_O=mean_by_observation(logsumexp_I[:, None], observation_I, len(observations))[:, 0],
    )
    if full_scores:
        _write_full(out / "full" / f"{number:05d}.parquet", observations.tolist(), probabilities_OC)
    by_image.write(_portion_file(out, "images", number))
    by_observation.write(_portion_file(out, "observations", number))  # last: its presence says that the portion is done


def _mean_of_members(
    models: Sequence[Model],
    rows: Part,
    images: NDArray[np.int64],
    vectors: NDArray[np.float32] | None,
    device: str,
    crops: CropOptions | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Calibrated probabilities [I, C], each member's by its own calibration, and the raw scores' log-sum-exp [I]; means."""
    answers = [_answers(model, rows, images, vectors, device, crops) for model in models]
    probabilities_IC, logsumexp_I = (sum(part, np.zeros(())) / len(models) for part in zip(*answers, strict=True))
    return probabilities_IC, logsumexp_I


def _answers(
    model: Model,
    rows: Part,
    images: NDArray[np.int64],
    vectors: NDArray[np.float32] | None,
    device: str,
    crops: CropOptions | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Calibrated probabilities [I, C], and the log-sum-exp [I] of the raw scores; of crops their means."""
    calibration = (model.calibration or Calibration()).bind(model.taxonomy)
    scores = _scores(model, rows, images, vectors, device, crops)
    if crops is None:
        return calibration.probabilities(scores), logsumexp(scores, axis=1)
    probabilities_XC = calibration.probabilities(scores.reshape(-1, scores.shape[-1]))
    return crops.combined(probabilities_XC.reshape(scores.shape)), logsumexp(scores, axis=2).mean(1)


def _scores(
    model: Model,
    rows: Part,
    images: NDArray[np.int64],
    vectors: NDArray[np.float32] | None,
    device: str,
    crops: CropOptions | None,
) -> NDArray[np.float32]:
    """Raw scores [I, C], of crops [I, K, C]."""
    told_IM = None if model.metadata is None else model.metadata.encode(rows.table.take(images))
    if vectors is None:
        load = Crops(crops, model.preprocess) if crops else model.preprocess
        return features(model.network, rows, images.tolist(), load, metadata_NM=told_IM, device=device, description=None)
    told = None if told_IM is None else torch.from_numpy(told_IM).to(device)
    with torch.inference_mode():
        return model.network.head(with_metadata(torch.from_numpy(vectors[images]).to(device), told)).float().cpu().numpy()


def _pick(truth: Truth, images: NDArray[np.int64]) -> Truth:
    return Truth(*([names[image] for image in images] for names in (truth.species, truth.genus, truth.family)))


def _write_full(path: Path, observations: list[str], probabilities_OC: NDArray[np.float64]) -> None:
    # As logarithms: float16 holds no number below 6e-8, and among 80,000 classes most probabilities are smaller.
    log_p = np.log(np.maximum(probabilities_OC, 1e-300)).astype(np.float16)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(log_p.reshape(-1)), log_p.shape[1])
    artifacts.write_parquet(path, pa.table({"observation_id": observations, "log_probability": lists}))


def _portion_file(out: Path, level: str, number: int) -> Path:
    return out / "portions" / f"{level}-{number:05d}.parquet"


def _join(out: Path, level: str, portions: int) -> int:
    joined = Predictions.concat([Predictions.read(_portion_file(out, level, number)) for number in range(portions)])
    joined.write(out / f"{level}.parquet")
    return len(joined)
