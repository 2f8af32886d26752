"""A run made of a finished one: its model with more species, from a few photographs of each, without training.

Shapes: M photographs of a new species, D features.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from taxakey import __version__, artifacts
from taxakey.artifacts import Manifest, write_text
from taxakey.dataset.reader import Dataset
from taxakey.embeddings import features
from taxakey.errors import BadInput
from taxakey.models.additions import add_classes, extended_taxonomy
from taxakey.models.backbones import Network
from taxakey.models.heads import Head
from taxakey.training.checkpoint import Model, load_model, save_model
from taxakey.training.recipe import read_recipe

_PARTS = ("train", "validation")  # nothing is chosen here, so validation needn't be kept apart; test stays unseen
_NAMED = 20  # species named in the card; all stand in taxonomy.parquet


def extend(model_folder: Path, dataset_folder: Path, out: Path, *, device: str = "cpu") -> Manifest:
    """Write the run `out` with a model for the old species and the new ones of a dataset."""
    model, dataset = load_model(model_folder), Dataset.open(dataset_folder)
    new = _new_species(model, dataset)
    recipe = read_recipe(model.folder / "recipe.yaml")
    inputs = {"model": artifacts.hash_of(model.folder / "model.safetensors"), "dataset": artifacts.hash_of(dataset.folder)}
    plain = recipe.to_dict()
    plain["backbone"] = {**plain["backbone"], "weights": Path(recipe.backbone.weights).name}
    plan = artifacts.Plan("run", inputs, plain, recipe.seed)
    if artifacts.start(out, plan) == "finished":
        return artifacts.read_manifest(out, plan.kind)
    examples = _examples(model, dataset, new, device)
    taxonomy = extended_taxonomy(model.taxonomy, dataset.taxonomy)
    head = model.network.head
    assert isinstance(head, Head)
    network = Network(model.network.backbone, add_classes(head, model.taxonomy, taxonomy, examples)).eval()
    save_model(out / "model", network, taxonomy, model.preprocess, recipe, model.metadata)
    counts = {"classes": len(taxonomy), "added": len(new), "train": sum(map(len, examples.values()))}
    note = _note([*map(len, examples.values())], calibrated=model.calibration is not None)
    _write_calibration(model, len(new), out)
    _write_card(model, new, note, len(taxonomy), out)
    return artifacts.finish(out, plan, counts=counts, taxonomy=taxonomy.fingerprint, notes=(note,))


def _new_species(model: Model, dataset: Dataset) -> list[str]:
    known = set(model.taxonomy.names)
    new = [name for name in dataset.taxonomy.names if name not in known]
    if not new:
        raise BadInput(f"{dataset.folder}: the model in {model.folder} knows all its {len(dataset.taxonomy):,} species already")
    return new


def _examples(model: Model, dataset: Dataset, new: list[str], device: str) -> dict[str, Tensor]:
    """Features [M, D] of each new species' photographs, and their metadata behind them where the head takes such."""
    network = Network(model.network.backbone, nn.Identity()).to(device)
    classes_K = dataset.taxonomy.index_of(new)
    vectors, labels = [], []
    for name in _PARTS:
        part = dataset.part(name)
        rows = np.flatnonzero(np.isin(part.class_index, classes_K))
        if len(rows):
            what = f"reading {name}"
            told_NM = None if model.metadata is None else model.metadata.encode(part.table.take(rows))
            vectors.append(
                features(network, part, rows.tolist(), model.preprocess, metadata_NM=told_NM, device=device, description=what)
            )
            labels.append(part.class_index[rows])
    vectors_ND, labels_N = np.concatenate(vectors), np.concatenate(labels)
    return {name: torch.from_numpy(vectors_ND[labels_N == index]) for name, index in zip(new, classes_K.tolist(), strict=True)}


def _note(photographs: list[int], *, calibrated: bool) -> str:
    fewest, most = min(photographs), max(photographs)
    each = f"{fewest} to {most} of each" if fewest < most else f"{most} of each"
    kept = ", nor is the calibration, which is that of before" if calibrated else ""
    return (
        f"{len(photographs):,} species were added without training, from {sum(photographs):,} photographs ({each}); "
        f"how well they are told apart isn't measured{kept}"
    )


def _write_calibration(model: Model, added: int, out: Path) -> None:
    """Kept, because the old species' scores keep their ratios: without it all their probabilities would change."""
    if model.calibration is not None:
        before = int(model.calibration.measured.get("species_added_since", 0))
        measured = {**model.calibration.measured, "species_added_since": before + added}
        replace(model.calibration, measured=measured).write(out / "model" / "calibration.json")


def _write_card(model: Model, new: list[str], note: str, classes: int, out: Path) -> None:
    """The old card stays true of the old model: it follows under what is new."""
    own = model.folder / "README.md"
    before = own.read_text(encoding="utf-8") if own.is_file() else "There was none."
    more = f" and {len(new) - _NAMED:,} more" if len(new) > _NAMED else ""
    lines = [
        f"# {classes:,} species, {len(new):,} of them added",
        "",
        f"**Note:** {note}.",
        "",
        f"* Added by Taxakey {__version__} (`taxakey add-species`): {', '.join(new[:_NAMED])}{more}.",
        f"* The other {classes - len(new):,} species keep the weights of the model before: their probabilities change only by",
        "  what the added ones take.",
        "* Once there are photographs enough of the added species, train with them: it is better, on trees above all.",
        "",
        "The card of the model before:",
        "",
        before.rstrip(),
        "",
    ]
    write_text(out / "model" / "README.md", "\n".join(lines))
