"""A run: recipe + dataset (+ embeddings) -> run folder with curves, checkpoints and `model/`.

Shapes: N pictures, L labels.
"""

from __future__ import annotations

import copy
import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import taxakey.torchvision_guard  # noqa: F401  before Lightning

import lightning as L
import numpy as np
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader

from taxakey import artifacts, progress
from taxakey.cpu_memory import keep_freed_memory
from taxakey.dataset.contact_sheet import write_contact_sheet
from taxakey.dataset.folds import Fold
from taxakey.errors import BadInput
from taxakey.training.batches import Pictures, StoredFeatures, feature_loader, picture_loader
from taxakey.training.continuation import Beginning
from taxakey.training.costs import Costs
from taxakey.training.curves import Curves, TrainingBar
from taxakey.training.finishing import finish
from taxakey.training.module import TrainingModule
from taxakey.training.preparation import Run, prepare
from taxakey.training.recipe import Recipe
from taxakey.training.resume import FOLDER, LAST, AtomicFiles, Checkpoints, kept_weights, position_of
from taxakey.training.samplers import TrainingPart
from taxakey.training.scale import accelerator_for, first_process, process_of, wait_for_all
from taxakey.training.shares import Process
from taxakey.training.teacher import TeacherFiles, with_teacher
from taxakey.training.unlabelled import vectors_of
from taxakey.training.waiting import Waiting

Folders = Path | str | Sequence[Path | str] | None
"""One folder, several, or none."""


def _folders(named: Folders) -> tuple[Path, ...]:
    several = [named] if isinstance(named, (str, Path)) else named or []
    return tuple(map(Path, several))


def train(
    dataset_folder: Path | str,
    recipe: Recipe,
    out: Path | str,
    *,
    embeddings_folder: Folders = None,
    start_from: Path | str | None = None,
    fold: Fold | None = None,
    teacher: Folders = None,
    teacher_vectors: Folders = None,
    unlabelled: str | None = None,
    device: str = "auto",
    notes: tuple[str, ...] = (),
    callbacks: Sequence[Callback] = (),
) -> artifacts.Manifest:
    """Train by the recipe, calibrate on validation, and leave a finished run. An interrupted run goes on at its last checkpoint.

    `train: head` needs `embeddings_folder`, made from the same dataset with the same backbone. `start_from`, a finished run or
    model: its backbone is taken instead of pretrained weights, and its head as far as it knows the dataset's classes
    (`training.continuation`). `fold`: train on this member's share of the training and validation parts (`dataset.folds`).
    `teacher`: predictions of the training pictures to learn from besides the labels (`training.teacher`; recipe's `distil`);
    `teacher_vectors`: its embeddings of them, to draw features to; `unlabelled`: "DATASET" or "DATASET:part" whose pictures are
    learnt from by the teacher's answers alone. Where they are of another dataset, predictions and embeddings of both are named.
    `notes` are facts that a reader of the numbers must know; they go into the manifest and the card. `callbacks`: Lightning's,
    for who wants to watch the run.
    """
    beginning = None if start_from is None else Beginning.open(start_from)
    recipe = recipe if beginning is None else beginning.recipe(recipe)
    recipe, taught_by = with_teacher(recipe, TeacherFiles(_folders(teacher), _folders(teacher_vectors), unlabelled))
    run = prepare(
        Path(dataset_folder),
        recipe.resolved(),
        Path(out),
        embeddings=_folders(embeddings_folder),
        beginning=beginning,
        fold=fold,
        teacher=taught_by,
    )
    if first_process():
        artifacts.start(run.out, run.plan)
    if not (run.out / "manifest.json").is_file():
        module = _fit(run, device, callbacks)
        if first_process():
            finish(run, module, device, (*run.notes, *notes))
        wait_for_all()
    return artifacts.read_manifest(run.out, run.plan.kind)


def _fit(run: Run, device: str, callbacks: Sequence[Callback]) -> TrainingModule:
    """Train; every process of the run does this, and only this, together."""
    if not len(run.dataset.part("train")):
        raise BadInput(f"{run.dataset.folder}: no training pictures in it; look at failures.parquet there")
    keep_freed_memory()
    module = TrainingModule(run.network, run.recipe, run.loss, run.encoder, run.dataset.taxonomy)
    if run.recipe.loop.epochs == 0:  # the head as it starts
        return module
    whole = copy.deepcopy(module) if run.recipe.scale.sharded else module
    trainer = _trainer(run, device, [*_callbacks(run, module), *callbacks])
    training, validation = _loaders(run, process_of(trainer))
    if not len(training):
        raise BadInput(f"{run.dataset.folder}: fewer training pictures in it than processes (scale); ask for fewer")
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
            validation if len(validation) else None,
            ckpt_path=str(last) if last.is_file() else None,
            weights_only=True,
        )
    if trainer.interrupted:
        raise KeyboardInterrupt
    if first_process():
        kept_weights(whole.cpu(), run.out)
    return whole


def _loaders(run: Run, process: Process) -> tuple[DataLoader, DataLoader]:
    parts = run.training, run.dataset.part("validation")
    # Labels of genera, of families and of nothing come behind those of the classes; -1 is a name that the taxonomy lacks.
    labels = [part.class_index[part.class_index >= 0] for part in parts]
    known = max(len(run.dataset.taxonomy), int(labels[0].max(initial=-1)) + 1)
    counts_L, validation_L = (np.bincount(labels_N, minlength=known) for labels_N in labels)
    if run.stores:
        stored = [StoredFeatures(vectors_of(part, run.stores), part.class_index, run.metadata(part)) for part in parts]
        draw = run.recipe.sampler.build(TrainingPart(stored[0].labels_N.numpy(), validation_L, run.recipe.seed))
        return feature_loader(stored[0], run.recipe, draw, process), feature_loader(stored[1], run.recipe, None, process)
    augment = run.recipe.augment.build(run.preprocess, counts_L)
    told = [run.metadata(part) for part in parts]
    pictures = Pictures(parts[0], run.preprocess, augment, seed=run.recipe.seed, metadata_NM=told[0])
    validation = Pictures(parts[1], run.preprocess, metadata_NM=told[1])
    if process.rank == 0:
        write_contact_sheet(run.out / "augmentation.jpg", parts[0], pictures.rows, run.preprocess, augment, run.recipe.seed)
    draw = run.recipe.sampler.build(TrainingPart(pictures.labels_N, validation_L, run.recipe.seed))
    return picture_loader(pictures, run.recipe, draw, process), picture_loader(validation, run.recipe, None, process)


def _trainer(run: Run, device: str, callbacks: list[Callback]) -> L.Trainer:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    recipe, loop, scale = run.recipe, run.recipe.loop, run.recipe.scale
    return L.Trainer(
        accelerator=accelerator_for(device, loop.precision, scale.devices),
        devices=scale.devices,
        num_nodes=scale.nodes,
        strategy=scale.build(head_first=recipe.tuning.head_first > 0),
        use_distributed_sampler=False,  # ours doesn't deal a picture twice
        max_epochs=loop.epochs,
        accumulate_grad_batches=loop.accumulate,
        gradient_clip_val=loop.clip,
        precision=loop.precision,
        callbacks=callbacks,
        plugins=[AtomicFiles()],
        logger=recipe.tracking.build(run.out, recipe.name, recipe.to_dict()),
        enable_progress_bar=False,  # ours looks like those of the other stages
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=50,
    )


def _callbacks(run: Run, module: TrainingModule) -> list[Callback]:
    recipe, loop = run.recipe, run.recipe.loop
    has_validation = bool((run.dataset.part("validation").class_index >= 0).any())
    facts = {"batch": loop.batch_size * loop.accumulate * recipe.scale.world, "precision": loop.precision}
    callbacks = [
        recipe.averaging.build(),
        Waiting(),
        Curves(run.out),
        Costs(run.out, run.network, module, facts),
        Checkpoints(
            run.out, loop.best_by if has_validation else None, minutes=loop.checkpoint_minutes, steps=loop.checkpoint_steps
        ),
        TrainingBar() if progress.shown() and sys.stderr.isatty() and first_process() else None,
    ]
    return [callback for callback in callbacks if callback is not None]
