"""A run: recipe + dataset (+ embeddings) -> run folder with curves, checkpoints and `model/`."""

from __future__ import annotations

import copy
import logging
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import taxakey.torchvision_guard  # noqa: F401  before Lightning

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader

from taxakey import artifacts, progress
from taxakey.calibration import Calibration, fit_calibration
from taxakey.cpu_memory import keep_freed_memory
from taxakey.dataset.preprocess import Preprocess
from taxakey.dataset.reader import Dataset
from taxakey.dataset.vectors import Vectors
from taxakey.embeddings import features
from taxakey.errors import BadInput
from taxakey.models.backbones import Network, build_backbone, data_config, state_hash
from taxakey.models.class_means import FeatureStatistics
from taxakey.models.head_options import ClassFacts, build_head, wants_statistics
from taxakey.training.batches import Pictures, StoredFeatures, feature_loader, picture_loader
from taxakey.training.card import write_card
from taxakey.training.checkpoint import save_model
from taxakey.training.costs import Costs
from taxakey.training.curves import Curves, TrainingBar
from taxakey.training.module import TrainingModule
from taxakey.training.recipe import Recipe
from taxakey.training.resume import FOLDER, LAST, AtomicFiles, Checkpoints, kept_weights, position_of
from taxakey.training.scale import accelerator_for, first_process, process_of, wait_for_all
from taxakey.training.shares import Process


@dataclass(frozen=True, eq=False)
class _Run:
    """What a run is made of, once everything has been read and checked."""

    out: Path
    recipe: Recipe
    dataset: Dataset
    vectors: Vectors | None
    network: Network
    preprocess: Preprocess
    plan: artifacts.Plan


def train(
    dataset_folder: Path | str,
    recipe: Recipe,
    out: Path | str,
    *,
    embeddings_folder: Path | str | None = None,
    device: str = "auto",
    notes: tuple[str, ...] = (),
) -> artifacts.Manifest:
    """Train by the recipe, calibrate on validation, and leave a finished run. An interrupted run goes on at its last checkpoint.

    `train: head` needs `embeddings_folder`, made from the same dataset with the same backbone. `notes` are facts that a reader
    of the numbers must know; they go into the manifest and the model card.
    """
    run = _prepare(Path(dataset_folder), recipe.resolved(), Path(out), embeddings_folder)
    if first_process():
        artifacts.start(run.out, run.plan)
    if not (run.out / "manifest.json").is_file():
        module = _fit(run, device)
        if first_process():
            _finish(run, module, device, notes)
        wait_for_all()
    return artifacts.read_manifest(run.out, run.plan.kind)


def _finish(run: _Run, module: TrainingModule, device: str, notes: tuple[str, ...]) -> None:
    """Write the model, calibrate it, and say what was made; the first process does it alone."""
    network = Network(run.network.backbone, module.head).eval()
    save_model(run.out / "model", network, run.dataset.taxonomy, run.preprocess, run.recipe)
    calibration = _calibrate(run, network, device)
    if calibration is not None:
        calibration.write(run.out / "model" / "calibration.json")
    counts = {
        "classes": len(run.dataset.taxonomy),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "trained_parameters": sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad),
        "train": len(run.dataset.part("train")),
        "validation": len(run.dataset.part("validation")),
    }
    write_card(run.out, run.recipe, run.dataset.taxonomy, counts, calibration, notes)
    artifacts.finish(run.out, run.plan, counts=counts, taxonomy=run.dataset.taxonomy.fingerprint, notes=notes)


def _prepare(dataset_folder: Path, recipe: Recipe, out: Path, embeddings_folder: Path | str | None) -> _Run:
    dataset = Dataset.open(dataset_folder)
    L.seed_everything(recipe.seed, workers=True, verbose=False)
    backbone = build_backbone(recipe.backbone)
    config = data_config(recipe.backbone, backbone)
    hash_of_weights = state_hash(backbone) if recipe.backbone.weights != "none" else "drawn by the seed"
    inputs = {"dataset": artifacts.hash_of(dataset_folder)}
    vectors = None
    if recipe.train == "head":
        vectors = _matching_vectors(embeddings_folder, recipe, state_hash(backbone))
        inputs["embeddings"] = artifacts.hash_of(vectors.folder)
    head = build_head(recipe.head, int(backbone.num_features), dataset.taxonomy, _class_facts(recipe, dataset, vectors))  # type: ignore[arg-type]
    plain = {**recipe.to_dict(), "backbone_hash": hash_of_weights}
    plain["backbone"] = {**plain["backbone"], "weights": Path(recipe.backbone.weights).name}
    plan = artifacts.Plan("run", inputs, plain, recipe.seed)
    return _Run(out, recipe, dataset, vectors, Network(backbone, head), Preprocess.from_config(config), plan)


def _matching_vectors(folder: Path | str | None, recipe: Recipe, backbone_hash: str) -> Vectors:
    if folder is None:
        raise BadInput(f"the recipe {recipe.name!r} trains a head on embeddings: run `taxakey embed` first and name its folder")
    vectors = Vectors(folder)
    if vectors.backbone_hash != backbone_hash:
        raise BadInput(
            f"{folder}: its vectors were computed by other weights ({vectors.backbone_hash}) than the recipe's backbone "
            f"{recipe.backbone.name} has ({backbone_hash}); run `taxakey embed` with this recipe"
        )
    return vectors


def _class_facts(recipe: Recipe, dataset: Dataset, vectors: Vectors | None) -> ClassFacts:
    part = dataset.part("train")
    counts_C = np.bincount(part.class_index, minlength=len(dataset.taxonomy))
    statistics = None
    if vectors is not None and wants_statistics(recipe.head):
        statistics = FeatureStatistics.of([(vectors.part(part.name, part.image_ids), part.class_index)], len(counts_C))
    return ClassFacts(counts_C, statistics, recipe.seed)


def _fit(run: _Run, device: str) -> TrainingModule:
    """Train; every process of the run does this, and only this, together."""
    module = TrainingModule(run.network, run.recipe)
    if run.recipe.loop.epochs == 0:  # the head as it starts
        return module
    keep_freed_memory()
    whole = copy.deepcopy(module) if run.recipe.scale.strategy == "fsdp" else module
    trainer = _trainer(run, module, device)
    training, validation = _loaders(run, process_of(trainer))
    if not len(training):
        raise BadInput(f"{run.dataset.folder}: too few training pictures in it; look at failures.parquet there")
    last = run.out / FOLDER / LAST
    if last.is_file():
        position = position_of(last)
        # Lightning tells the sampler its epoch only after the workers have been given their first batches.
        training.batch_sampler.go_on_at(position.epochs, position.batches)  # type: ignore[union-attr]
    with warnings.catch_warnings():
        # Lightning warns of its own use of torch, and advises more workers than this machine has cores.
        warnings.filterwarnings("ignore", module=r"lightning\..*")
        warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*before.*optimizer.step.*")
        trainer.fit(
            module,
            training,
            validation if len(run.dataset.part("validation")) else None,
            ckpt_path=str(last) if last.is_file() else None,
            weights_only=True,
        )
    if trainer.interrupted:
        raise KeyboardInterrupt
    if first_process():
        kept_weights(whole.cpu(), run.out)
    return whole


def _loaders(run: _Run, process: Process) -> tuple[DataLoader, DataLoader]:
    parts = run.dataset.part("train"), run.dataset.part("validation")
    if run.vectors is not None:
        stored = [StoredFeatures(run.vectors.part(part.name, part.image_ids), part.class_index) for part in parts]
        return (
            feature_loader(stored[0], run.recipe, training=True, process=process),
            feature_loader(stored[1], run.recipe, training=False, process=process),
        )
    augment = run.recipe.augment.build(run.preprocess)
    pictures = Pictures(parts[0], run.preprocess, augment, seed=run.recipe.seed), Pictures(parts[1], run.preprocess)
    return (
        picture_loader(pictures[0], run.recipe, training=True, process=process),
        picture_loader(pictures[1], run.recipe, training=False, process=process),
    )


def _trainer(run: _Run, module: TrainingModule, device: str) -> L.Trainer:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    recipe, loop, scale = run.recipe, run.recipe.loop, run.recipe.scale
    return L.Trainer(
        accelerator=accelerator_for(device, loop.precision, scale.devices),
        devices=scale.devices,
        num_nodes=scale.nodes,
        strategy=scale.build(),
        use_distributed_sampler=False,  # ours doesn't deal a picture twice
        max_epochs=loop.epochs,
        accumulate_grad_batches=loop.accumulate,
        gradient_clip_val=loop.clip,
        precision=loop.precision,
        callbacks=_callbacks(run, module),
        plugins=[AtomicFiles()],
        logger=recipe.tracking.build(run.out, recipe.name, recipe.to_dict()),
        enable_progress_bar=False,  # ours looks like those of the other stages
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=50,
    )


def _callbacks(run: _Run, module: TrainingModule) -> list[Callback]:
    recipe, loop = run.recipe, run.recipe.loop
    has_validation = bool((run.dataset.part("validation").class_index >= 0).any())
    facts = {"batch": loop.batch_size * loop.accumulate * recipe.scale.world, "precision": loop.precision}
    callbacks = [
        recipe.averaging.build(freeze_norm=recipe.backbone.freeze_norm),
        Curves(run.out),
        Costs(run.out, run.network, module, facts),
        Checkpoints(
            run.out, loop.best_by if has_validation else None, minutes=loop.checkpoint_minutes, steps=loop.checkpoint_steps
        ),
        TrainingBar() if progress.shown() and sys.stderr.isatty() and first_process() else None,
    ]
    return [callback for callback in callbacks if callback is not None]


def _calibrate(run: _Run, network: Network, device: str) -> Calibration | None:
    part = run.dataset.part("validation")
    if not (part.class_index >= 0).any():
        return None
    scores_IC = _scores(run, network, device)
    observations, observation_I = np.unique(part.observation_ids, return_inverse=True)
    true_O = np.empty(len(observations), dtype=np.int64)
    true_O[observation_I] = part.class_index
    return fit_calibration(scores_IC, observation_I, true_O)


def _scores(run: _Run, network: Network, device: str) -> NDArray[np.float32]:
    """Raw scores [I, C] of the validation pictures."""
    part = run.dataset.part("validation")
    if run.vectors is not None:
        head: nn.Module = network.head.cpu()
        with torch.inference_mode():
            return head(torch.from_numpy(run.vectors.part(part.name, part.image_ids))).float().numpy()
    where = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    return features(network.to(where), part, range(len(part)), run.preprocess, device=where, description="calibrating")
