"""A run made of somebody else's checkpoint and class list: everything that takes a run takes it.

Shapes: C classes, D features.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from taxakey import __version__, artifacts
from taxakey.artifacts import Manifest, read_json, write_text
from taxakey.dataset.preprocess import Preprocess
from taxakey.errors import BadInput, MissingArtifact
from taxakey.models.backbones import BackboneOptions, Network, build_backbone, classifier_name, data_config
from taxakey.models.heads import LinearHead, LinearOptions
from taxakey.records.reading.names import author_of, genus_of, without_author
from taxakey.taxonomy import Taxonomy
from taxakey.training.checkpoint import save_model
from taxakey.training.foreign_weights import Checkpoint, new_network, read_checkpoint
from taxakey.training.recipe import Recipe

_PICTURE = ("mean", "std", "interpolation", "crop_pct", "crop_mode")


@dataclass(frozen=True)
class ImportOptions:
    """`architecture`: timm's name, with its tag where pictures are to be made ready as for those weights (resnet50.tv_in1k).

    The facts of a picture default to those of the config.json beside the file, else to timm's for the architecture.
    """

    architecture: str | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    image_size: int | None = None
    crop_pct: float | None = None
    interpolation: str | None = None


@dataclass(frozen=True)
class ListedClass:
    """A class as its list has it: a name, its author cut off, and an identifier where the list says one."""

    name: str
    author: str | None = None
    taxon_id: str = ""

    def row(self) -> dict[str, str | None]:
        """For `Taxonomy.from_rows`."""
        return {
            "scientificName": self.name,
            "scientificNameAuthorship": self.author,
            "genus": genus_of(self.name),
            "taxonID": self.taxon_id,
        }


def import_model(file: Path, classes: Path, out: Path, options: ImportOptions = ImportOptions()) -> Manifest:
    """Write the run `out` with the file's network, its classes in the order of their names.

    Raises BadInput where the weights aren't that network's, or aren't for as many classes as are listed.
    """
    listed, checkpoint = read_classes(classes), read_checkpoint(file)
    name = options.architecture or checkpoint.architecture
    if name is None:
        raise BadInput(f"{file}: doesn't say what network it is; name timm's with --architecture, such as resnet50")
    network = _network(checkpoint, name, len(listed), classes)
    taxonomy = Taxonomy.from_rows(entry.row() for entry in listed)
    recipe = Recipe(file.stem, train="all", backbone=_backbone_options(name, checkpoint, options), head=LinearOptions())
    inputs = {"weights": artifacts.hash_of(file), "classes": artifacts.hash_of(classes)}
    plan = artifacts.Plan("run", inputs, {**recipe.to_dict(), "imported": True}, None)
    if artifacts.start(out, plan) == "finished":
        return artifacts.read_manifest(out, plan.kind)
    ours = _ours(network, recipe, taxonomy, listed)
    preprocess = Preprocess.from_config(data_config(recipe.backbone, ours.backbone))
    save_model(out / "model", ours, taxonomy, preprocess, recipe)
    notes = (
        f"Imported from {file.name} (weights {inputs['weights'][:16]}): trained by others, on what pictures isn't known here",
        "Not calibrated: run `taxakey calibrate` on pictures that it didn't learn from",
    )
    _write_card(out, name, preprocess, taxonomy, notes)
    counts = {"classes": len(taxonomy), "parameters": sum(parameter.numel() for parameter in ours.parameters())}
    return artifacts.finish(out, plan, counts=counts, taxonomy=taxonomy.fingerprint, notes=notes)


def _network(checkpoint: Checkpoint, architecture: str, listed: int, list_file: Path) -> nn.Module:
    """timm's network with the file's weights."""
    outputs = checkpoint.classes(new_network(architecture, 1), architecture)
    if outputs != listed:
        raise BadInput(
            f"{checkpoint.file} tells {outputs:,} classes apart and {list_file} names {listed:,}; name the list that it was "
            "trained with, one name a class, in its order"
        )
    network = new_network(architecture, outputs)
    network.load_state_dict(checkpoint.for_network(network, architecture))
    return network.eval()


def _backbone_options(architecture: str, checkpoint: Checkpoint, options: ImportOptions) -> BackboneOptions:
    told: dict[str, Any] = {key: checkpoint.picture[key] for key in _PICTURE if checkpoint.picture.get(key) is not None}
    if "input_size" in checkpoint.picture:
        told["image_size"] = tuple(checkpoint.picture["input_size"][1:])
    own = {key: getattr(options, key) for key in ("mean", "std", "image_size", "crop_pct", "interpolation")}
    told.update({key: value for key, value in own.items() if value is not None})
    return BackboneOptions(architecture, weights="none", **told)


def _ours(network: nn.Module, recipe: Recipe, taxonomy: Taxonomy, listed: Sequence[ListedClass]) -> Network:
    """The same network in our form, its classes in the order of the taxonomy."""
    classifier = network.get_submodule(str(classifier_name(network)))
    place = {entry.name: number for number, entry in enumerate(listed)}
    order_C = torch.tensor([place[name] for name in taxonomy.names])
    backbone = build_backbone(recipe.backbone)
    weights = network.state_dict()
    backbone.load_state_dict({name: weights[name] for name in backbone.state_dict()})
    weight_CD, bias_C = classifier.weight.detach(), classifier.bias  # type: ignore[operator]
    head = LinearHead(weight_CD.shape[1], len(order_C))
    head.linear.weight.data = weight_CD[order_C].clone()
    if bias_C is not None:
        head.linear.bias.data = bias_C.detach()[order_C].clone()  # type: ignore[operator]
    return Network(backbone, head).eval()


def read_classes(file: Path | str) -> list[ListedClass]:
    """The classes in the model's order: a name a line, a JSON list, or a JSON object.

    An object's keys are class indices where they are 0 … C−1, else identifiers as strings, whose order is the classes' (as in
    Pl@ntNet-300K, where they are folders). Authors behind a name are cut off. Raises MissingArtifact, BadInput.
    """
    file = Path(file)
    if not file.is_file():
        raise MissingArtifact(f"{file}: no such list of classes")
    entries = _from_json(file) if file.suffix.lower() == ".json" else _from_lines(file)
    if not entries:
        raise BadInput(f"{file}: names no class")
    if empty := [number for number, (name, _) in enumerate(entries) if not isinstance(name, str) or not name.strip()]:
        raise BadInput(f"{file}: class {empty[0]} has no name; every class needs one, in the order of the model's")
    listed = [_listed(name, taxon_id) for name, taxon_id in entries]
    seen: dict[str, int] = {}
    for number, entry in enumerate(listed):
        first = seen.setdefault(entry.name, number)
        if first != number:
            said = f"{entries[first][0]!r}, {entries[number][0]!r}"
            raise BadInput(
                f"{file}: the classes {first} and {number} are both {entry.name!r} ({said}); give each a name of its own"
            )
    return listed


def _listed(text: str, taxon_id: str) -> ListedClass:
    text = " ".join(text.replace("_", " ").split())
    name = without_author(text)
    if name is None or " " not in name:  # no name of a species: left as it is
        return ListedClass(text, None, taxon_id)
    return ListedClass(name, author_of(text), taxon_id)


def _from_lines(file: Path) -> list[tuple[str, str]]:
    try:
        lines = file.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except UnicodeDecodeError as error:
        raise BadInput(f"{file}: not UTF-8 text ({error}); save it as UTF-8") from None
    return [(line, "") for line in lines]


def _from_json(file: Path) -> list[tuple[str, str]]:
    found = read_json(file)
    if isinstance(found, list):
        return [(name, "") for name in found]
    if not isinstance(found, dict):
        raise BadInput(f"{file}: neither a list of names nor an object of names; see `taxakey import-model --help`")
    if sorted(found) == sorted(map(str, range(len(found)))):
        return [(found[str(number)], "") for number in range(len(found))]
    return [(found[key], key) for key in sorted(found)]


def _write_card(out: Path, architecture: str, preprocess: Preprocess, taxonomy: Taxonomy, notes: Sequence[str]) -> None:
    lines = [
        f"# {out.resolve().name}",
        "",
        f"Names {len(taxonomy):,} classes of {len(taxonomy.taxa('genus')):,} genera from photographs.",
        "",
        *(f"**Note:** {note}.\n" for note in notes),
        f"* Network: `{architecture}`, flat head.",
        f"* Pictures are made ready like this, which decides accuracy: `{json.dumps(preprocess.to_config())}`.",
        f"* Class list {taxonomy.fingerprint} (`taxonomy.parquet`), without families; made by Taxakey {__version__}.",
        "",
    ]
    write_text(out / "model" / "README.md", "\n".join(lines))
