"""A run: recipe + dataset (+ embeddings) -> run folder with curves, checkpoints and `model/`."""

from __future__ import annotations

import copy
import logging
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from taxakey.calibration.decisions import FILE as DECISIONS_FILE
from taxakey.calibration.decisions import Decisions
from taxakey.calibration.likeness import learn_likeness
from taxakey.calibration.stored import Calibration
from taxakey.calibration.validation import learn_from_validation
from taxakey.cpu_memory import keep_freed_memory
from taxakey.dataset.contact_sheet import write_contact_sheet
from taxakey.dataset.folds import Fold
from taxakey.dataset.preprocess import Preprocess
from taxakey.dataset.reader import Dataset, Part
from taxakey.dataset.vectors import Vectors
from taxakey.embeddings import features
from taxakey.errors import BadInput, BadRecipe
from taxakey.losses.decision import Loss
from taxakey.losses.facts import LossFacts
from taxakey.losses.loss_options import build_loss
from taxakey.metadata.encoder import MetadataEncoder
from taxakey.models.backbones import Network, build_backbone, data_config, feature_width, state_hash, with_metadata
from taxakey.models.class_means import FeatureStatistics
from taxakey.models.head_options import ClassFacts, build_head, wants_statistics
from taxakey.models.heads import Head
from taxakey.models.metadata_vit import MetadataViT, with_metadata_tokens
from taxakey.models.targets import with_targets
from taxakey.models.tuning import make_plain, make_ready
from taxakey.training.batches import Pictures, StoredFeatures, feature_loader, picture_loader
from taxakey.training.card import write_card
from taxakey.training.checkpoint import save_model
from taxakey.training.continuation import Beginning
from taxakey.training.costs import Costs, trained_parameters
from taxakey.training.curves import Curves, TrainingBar
from taxakey.training.module import TrainingModule
from taxakey.training.recipe import Recipe
from taxakey.training.resume import FOLDER, LAST, AtomicFiles, Checkpoints, kept_weights, position_of
from taxakey.training.samplers import TrainingPart
from taxakey.training.scale import accelerator_for, first_process, process_of, wait_for_all
from taxakey.training.shares import Process
from taxakey.training.teacher import Teacher, TeacherFiles, with_teacher
from taxakey.training.unlabelled import WithUnlabelled, store_of, vectors_of
from taxakey.training.waiting import Waiting

Folders = Path | str | Sequence[Path | str] | None
"""One folder, several, or none."""


def _folders(named: Folders) -> tuple[Path, ...]:
    several = [named] if isinstance(named, (str, Path)) else named or []
    return tuple(map(Path, several))


@dataclass(frozen=True, eq=False)
class _Run:
    """What a run is made of, once everything has been read and checked."""

    out: Path
    recipe: Recipe
    dataset: Dataset
    training: Part
    stores: tuple[Vectors, ...]
    network: Network
    loss: Loss
    preprocess: Preprocess
    plan: artifacts.Plan
    encoder: MetadataEncoder | None = None
    taken: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    """`training`: the pictures that are learnt from. `stores`: their vectors and those of validation, for a head alone. `taken`,
    `notes`: what came from another run."""

    def metadata(self, part: Part) -> NDArray[np.float32] | None:
        """Of all pictures of a part, [N, M]."""
        return None if self.encoder is None else self.encoder.encode(part.table)


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
    run = _prepare(Path(dataset_folder), recipe.resolved(), Path(out), _folders(embeddings_folder), beginning, fold, taught_by)
    if first_process():
        artifacts.start(run.out, run.plan)
    if not (run.out / "manifest.json").is_file():
        module = _fit(run, device, callbacks)
        if first_process():
            _finish(run, module, device, (*run.notes, *notes))
        wait_for_all()
    return artifacts.read_manifest(run.out, run.plan.kind)


def _finish(run: _Run, module: TrainingModule, device: str, notes: tuple[str, ...]) -> None:
    """Write the model, calibrate it, and say what was made; the first process does it alone."""
    trained = trained_parameters(module)
    backbone = run.network.backbone if module.backbone is None else module.backbone
    make_plain(backbone.vit if isinstance(backbone, MetadataViT) else backbone, run.recipe.tuning)
    network = Network(backbone, module.head).eval()
    save_model(run.out / "model", network, run.dataset.taxonomy, run.preprocess, run.recipe, run.encoder)
    calibration, decisions = _calibrate(run, network, device)
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


def _partial_counts(run: _Run) -> dict[str, int]:
    """Pictures known to genus or family: learnt from, or left out for want of a loss that can."""
    partial = run.dataset.partial()
    if partial is None:
        return {}
    usable = int((partial.labels >= 0).sum()) if _learns_partial(run.recipe) else 0
    return {"partial": usable, "partial_left_out": len(partial) - usable}


def _prepare(
    dataset_folder: Path,
    recipe: Recipe,
    out: Path,
    embeddings_folders: Sequence[Path],
    beginning: Beginning | None,
    fold: Fold | None,
    teacher: Teacher | None,
) -> _Run:
    dataset = Dataset.open(dataset_folder)
    if recipe.loop.best_by == "validation_poison_accuracy" and dataset.taxonomy.poisonous() is None:
        raise BadRecipe(
            f"{recipe.name}: loop.best_by is validation_poison_accuracy, and {dataset_folder} marks no species as poisonous "
            "or not (column poisonous); mark them in its records, or choose by another figure"
        )
    dataset = dataset if fold is None else fold.of(dataset, recipe.seed)
    if recipe.fraction < 1:
        dataset = dataset.fraction(recipe.fraction, recipe.seed)
    L.seed_everything(recipe.seed, workers=True, verbose=False)
    backbone = build_backbone(recipe.backbone)
    config = data_config(recipe.backbone, backbone)
    hash_of_weights = state_hash(backbone) if recipe.backbone.weights != "none" else "drawn by the seed"
    inputs = {"dataset": artifacts.hash_of(dataset_folder)}
    stores: tuple[Vectors, ...] = ()
    if recipe.train == "head":
        stores = _matching_vectors(embeddings_folders, recipe, state_hash(backbone), Preprocess.from_config(config))
        inputs |= {"embeddings" if i == 1 else f"embeddings {i}": artifacts.hash_of(v.folder) for i, v in enumerate(stores, 1)}
    make_ready(backbone, recipe.tuning, config["input_size"])
    encoder = None if recipe.metadata is None else MetadataEncoder.fit(recipe.metadata, dataset.part("train").table)
    groups = () if encoder is None else encoder.widths
    if recipe.backbone.metadata_tokens:
        backbone, groups = with_metadata_tokens(backbone, groups), ()
    facts = _class_facts(recipe, dataset, stores)
    head = build_head(recipe.head, feature_width(backbone), dataset.taxonomy, facts, metadata=groups)
    head = with_targets(head, recipe.targets, dataset.taxonomy, facts.counts_C)
    taken: dict[str, int] = {}
    notes: tuple[str, ...] = () if recipe.fraction == 1 else (_fraction_note(recipe, dataset),)
    if beginning is not None:
        if isinstance(backbone, MetadataViT) and encoder is not None:
            notes = (*notes, f"Went on with {beginning.hand_over_tokens(backbone, encoder)}")
        inputs["from"] = beginning.hash
        taken, note = beginning.hand_over(head, dataset.taxonomy, encoder)  # before the loss, which may ask how the classes stand
        notes = (*notes, note)
    loss = build_loss(recipe.loss, head, LossFacts(facts.counts_C, dataset.taxonomy))
    training = dataset.training(partial=_learns_partial(recipe))
    if teacher is not None and recipe.distil is not None:
        inputs |= teacher.inputs
        training = teacher.pictures(training, dataset)
        if stores and isinstance(training, WithUnlabelled):
            store_of(training, stores)  # before anything is written
        loss, note = teacher.teach(loss, recipe.distil, dataset.taxonomy, training)
        notes = (*notes, note)
        if recipe.distil.features is not None:
            loss = teacher.draw(loss, recipe.distil.features, training, _representation_width(head))
    plain = {**recipe.to_dict(), "backbone_hash": hash_of_weights}
    plain["backbone"] = {**plain["backbone"], "weights": Path(recipe.backbone.weights).name}
    if fold is not None:
        plain["fold"] = str(fold)
        notes = (*notes, f"Trained on fold {fold}: the others' validation pictures are among its training pictures")
    plan = artifacts.Plan("run", inputs, plain, recipe.seed)
    network, preprocess = Network(backbone, head), Preprocess.from_config(config)
    return _Run(out, recipe, dataset, training, stores, network, loss, preprocess, plan, encoder, taken, notes)


def _representation_width(head: Head) -> int:
    with torch.inference_mode():
        return head.representation(torch.zeros(1, head.in_features)).shape[1]


def _fraction_note(recipe: Recipe, dataset: Dataset) -> str:
    return (
        f"A development run on {recipe.fraction:.3g} of the observations of each species, at least one "
        f"({len(dataset.part('train')):,} training and {len(dataset.part('validation')):,} validation photographs)."
    )


def _matching_vectors(folders: Sequence[Path], recipe: Recipe, backbone_hash: str, preprocess: Preprocess) -> tuple[Vectors, ...]:
    if not folders:
        raise BadInput(f"the recipe {recipe.name!r} trains a head on embeddings: run `taxakey embed` first and name its folder")
    stores = tuple(map(Vectors, folders))
    for vectors in stores:
        if vectors.backbone_hash != backbone_hash:
            raise BadInput(
                f"{vectors.folder}: its vectors were computed by other weights ({vectors.backbone_hash}) than the recipe's "
                f"backbone {recipe.backbone.name} has ({backbone_hash}); run `taxakey embed` with this recipe"
            )
        if not vectors.come_from(backbone_hash, preprocess):
            raise BadInput(
                f"{vectors.folder}: its vectors are of pictures prepared otherwise (their size, say) than this recipe wants "
                "them; run `taxakey embed` with this recipe"
            )
    return stores


def _class_facts(recipe: Recipe, dataset: Dataset, stores: Sequence[Vectors]) -> ClassFacts:
    part = dataset.part("train")
    counts_C = np.bincount(part.class_index, minlength=len(dataset.taxonomy))
    statistics = None
    if stores and wants_statistics(recipe.head):
        statistics = FeatureStatistics.of([(vectors_of(part, stores), part.class_index)], len(counts_C))
    return ClassFacts(counts_C, statistics, recipe.seed)


def _fit(run: _Run, device: str, callbacks: Sequence[Callback]) -> TrainingModule:
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


def _loaders(run: _Run, process: Process) -> tuple[DataLoader, DataLoader]:
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


def _learns_partial(recipe: Recipe) -> bool:
    """Whether a loss of the recipe knows what to do with labels of genera and families (SPEC section 6)."""
    return any(options.kind == "marginal" for options in recipe.loss)


def _trainer(run: _Run, device: str, callbacks: list[Callback]) -> L.Trainer:
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


def _callbacks(run: _Run, module: TrainingModule) -> list[Callback]:
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


def _calibrate(run: _Run, network: Network, device: str) -> tuple[Calibration, Decisions] | tuple[None, None]:
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


def _scores(run: _Run, network: Network, device: str, part: Part) -> NDArray[np.float32]:
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
