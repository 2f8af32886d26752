"""What a run is made of: data, vectors, network and loss, read and checked before anything is written.

Shapes: N pictures, M numbers of metadata, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import taxakey.torchvision_guard  # noqa: F401  before Lightning

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from taxakey import artifacts
from taxakey.dataset.folds import Fold
from taxakey.dataset.preprocess import Preprocess
from taxakey.dataset.reader import Dataset, Part
from taxakey.dataset.vectors import Vectors
from taxakey.errors import BadInput, BadRecipe
from taxakey.losses.decision import Loss
from taxakey.losses.distillation import DistilOptions
from taxakey.losses.facts import LossFacts
from taxakey.losses.loss_options import build_loss
from taxakey.metadata.encoder import MetadataEncoder
from taxakey.models.backbones import Network, build_backbone, data_config, feature_width, state_hash
from taxakey.models.class_means import FeatureStatistics
from taxakey.models.head_options import ClassFacts, build_head, wants_statistics
from taxakey.models.heads import Head
from taxakey.models.metadata_vit import MetadataViT, with_metadata_tokens
from taxakey.models.targets import with_targets
from taxakey.models.tuning import make_ready
from taxakey.taxonomy import Taxonomy
from taxakey.training.continuation import Beginning
from taxakey.training.recipe import Recipe
from taxakey.training.teacher import Teacher
from taxakey.training.unlabelled import WithUnlabelled, store_of, vectors_of


@dataclass(frozen=True, eq=False)
class Run:
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


@dataclass
class _Said:
    """What the manifest will say, gathered while the run is put together: `inputs` by hash, `taken` as `Run.taken`."""

    inputs: dict[str, str]
    taken: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def prepare(
    dataset_folder: Path,
    recipe: Recipe,
    out: Path,
    *,
    embeddings: Sequence[Path] = (),
    beginning: Beginning | None = None,
    fold: Fold | None = None,
    teacher: Teacher | None = None,
) -> Run:
    """Read and check all of it. The seed decides what is drawn from here on, in this order: backbone, head, loss."""
    dataset = _dataset(dataset_folder, recipe, fold)
    said = _Said({"dataset": artifacts.hash_of(dataset_folder)}, notes=_notes(recipe, dataset))
    L.seed_everything(recipe.seed, workers=True, verbose=False)
    backbone = build_backbone(recipe.backbone)
    weights = state_hash(backbone)
    config = data_config(recipe.backbone, backbone)
    preprocess = Preprocess.from_config(config)
    stores = _matching_vectors(embeddings, recipe, weights, preprocess) if recipe.train == "head" else ()
    said.inputs |= {"embeddings" if i == 1 else f"embeddings {i}": artifacts.hash_of(v.folder) for i, v in enumerate(stores, 1)}
    make_ready(backbone, recipe.tuning, config["input_size"])
    encoder = None if recipe.metadata is None else MetadataEncoder.fit(recipe.metadata, dataset.part("train").table)
    facts = _class_facts(recipe, dataset, stores)
    backbone, head = _with_head(recipe, backbone, dataset, facts, encoder)
    if beginning is not None:
        # Before the loss, which may ask how the classes stand.
        _go_on(beginning, backbone, head, dataset.taxonomy, encoder, said)
    loss = build_loss(recipe.loss, head, LossFacts(facts.counts_C, dataset.taxonomy))
    training = dataset.training(partial=learns_partial(recipe))
    if teacher is not None and recipe.distil is not None:
        training = teacher.pictures(training, dataset)
        if stores and isinstance(training, WithUnlabelled):
            store_of(training, stores)  # before anything is written
        loss = _taught(teacher, recipe.distil, loss, head, dataset, training, said)
    if fold is not None:
        said.notes.append(f"Trained on fold {fold}: the others' validation pictures are among its training pictures")
    plan = artifacts.Plan("run", said.inputs, _plain(recipe, weights, fold), recipe.seed)
    return Run(
        out, recipe, dataset, training, stores, Network(backbone, head), loss, preprocess, plan, encoder,
        said.taken, tuple(said.notes),
    )  # fmt: skip


def _dataset(folder: Path, recipe: Recipe, fold: Fold | None) -> Dataset:
    dataset = Dataset.open(folder)
    if recipe.loop.best_by == "validation_poison_accuracy" and dataset.taxonomy.poisonous() is None:
        raise BadRecipe(
            f"{recipe.name}: loop.best_by is validation_poison_accuracy, and {folder} marks no species as poisonous "
            "or not (column poisonous); mark them in its records, or choose by another figure"
        )
    dataset = dataset if fold is None else fold.of(dataset, recipe.seed)
    return dataset if recipe.fraction == 1 else dataset.fraction(recipe.fraction, recipe.seed)


def _notes(recipe: Recipe, dataset: Dataset) -> list[str]:
    if recipe.fraction == 1:
        return []
    return [
        f"A development run on {recipe.fraction:.3g} of the observations of each species, at least one "
        f"({len(dataset.part('train')):,} training and {len(dataset.part('validation')):,} validation photographs)."
    ]


def _plain(recipe: Recipe, weights: str, fold: Fold | None) -> dict[str, Any]:
    """The recipe for the manifest, without the paths of this machine."""
    plain = {**recipe.to_dict(), "backbone_hash": weights if recipe.backbone.weights != "none" else "drawn by the seed"}
    plain["backbone"] = {**plain["backbone"], "weights": Path(recipe.backbone.weights).name}
    return plain if fold is None else {**plain, "fold": str(fold)}


def _with_head(
    recipe: Recipe, backbone: nn.Module, dataset: Dataset, facts: ClassFacts, encoder: MetadataEncoder | None
) -> tuple[nn.Module, Head]:
    """The backbone, with tokens of the metadata where the recipe wants them there, and the head on it."""
    groups = () if encoder is None else encoder.widths
    if recipe.backbone.metadata_tokens:
        backbone, groups = with_metadata_tokens(backbone, groups), ()
    head = build_head(recipe.head, feature_width(backbone), dataset.taxonomy, facts, metadata=groups)
    return backbone, with_targets(head, recipe.targets, dataset.taxonomy, facts.counts_C)


def _go_on(
    beginning: Beginning, backbone: nn.Module, head: Head, taxonomy: Taxonomy, encoder: MetadataEncoder | None, said: _Said
) -> None:
    if isinstance(backbone, MetadataViT) and encoder is not None:
        said.notes.append(f"Went on with {beginning.hand_over_tokens(backbone, encoder)}")
    said.inputs["from"] = beginning.hash
    said.taken, note = beginning.hand_over(head, taxonomy, encoder)
    said.notes.append(note)


def _taught(
    teacher: Teacher, options: DistilOptions, of_label: Loss, head: Head, dataset: Dataset, training: Part, said: _Said
) -> Loss:
    said.inputs |= teacher.inputs
    loss, note = teacher.teach(of_label, options, dataset.taxonomy, training)
    said.notes.append(note)
    if options.features is None:
        return loss
    return teacher.draw(loss, options.features, training, _representation_width(head))


def _representation_width(head: Head) -> int:
    with torch.inference_mode():
        return head.representation(torch.zeros(1, head.in_features)).shape[1]


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


def learns_partial(recipe: Recipe) -> bool:
    """Whether a loss of the recipe knows what to do with labels of genera and families (SPEC section 6)."""
    return any(options.kind == "marginal" for options in recipe.loss)
