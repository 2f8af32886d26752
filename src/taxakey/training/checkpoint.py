"""A model's folder: written whole by a run, read by whoever names photographs. See DESIGN.md, "What a model is"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import taxakey.torchvision_guard  # noqa: F401  before timm

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from taxakey import __version__
from taxakey.artifacts import kind_of, read_json, read_manifest, write_json, write_parquet
from taxakey.calibration import Calibration, Decisions
from taxakey.dataset.preprocess import Preprocess
from taxakey.errors import BadInput, MissingArtifact
from taxakey.metadata.encoder import FILE as METADATA_FILE
from taxakey.metadata.encoder import MetadataEncoder
from taxakey.models.backbones import Network, classifier_name, creation_arguments
from taxakey.models.head_options import build_head
from taxakey.models.heads import Head, LinearHead
from taxakey.models.hierarchies import Hierarchy
from taxakey.models.metadata_vit import MetadataViT, with_metadata_tokens
from taxakey.models.targets import with_targets
from taxakey.taxonomy import Taxonomy
from taxakey.training.recipe import Recipe, recipe_from

_FLAT_HEAD = "head.linear."  # our name of a flat head's layer; on disk it has timm's, so that timm can load the folder


@dataclass(frozen=True, eq=False)
class Model:
    """A model in memory. `network`: pixels [B, 3, H, W] -> unnormalised log-probabilities [B, C], in eval mode.

    `metadata`: how to encode the further input [B, M] of the network, None where it takes none.
    """

    folder: Path
    network: Network
    taxonomy: Taxonomy
    preprocess: Preprocess
    calibration: Calibration | None
    config: Mapping[str, Any]
    metadata: MetadataEncoder | None = None
    decisions: Decisions | None = None


def save_model(
    folder: Path | str,
    network: Network,
    taxonomy: Taxonomy,
    preprocess: Preprocess,
    recipe: Recipe,
    metadata: MetadataEncoder | None = None,
) -> None:
    """Write weights, configuration, names and the recipe. The calibration and the card are added by those who measure them."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {_timm_key(key, network): tensor.detach().cpu().contiguous() for key, tensor in network.state_dict().items()}
    aside = folder / "model.safetensors.partial"
    save_file(state, aside, metadata={"format": "pt", "taxonomy": taxonomy.fingerprint})
    aside.replace(folder / "model.safetensors")
    write_json(folder / "config.json", _config(network, taxonomy, preprocess, recipe, metadata))
    if metadata is not None:
        metadata.write(folder)
    write_parquet(folder / "taxonomy.parquet", taxonomy.table)
    recipe.write(folder / "recipe.yaml")


def _config(
    network: Network, taxonomy: Taxonomy, preprocess: Preprocess, recipe: Recipe, metadata: MetadataEncoder | None
) -> dict[str, Any]:
    classifier = classifier_name(network.backbone)
    assert isinstance(network.head, Head)
    plain = recipe.to_dict()
    told = {"metadata": list(metadata.widths) if metadata else [], "metadata_tokens": isinstance(network.backbone, MetadataViT)}
    heads = {"head": plain["head"], "targets": plain["targets"]}
    return {
        "architecture": recipe.backbone.name.split(".")[0],
        "num_classes": len(taxonomy) if _is_flat(network) else 0,
        "num_features": network.head.in_features - network.head.metadata,
        "model_args": creation_arguments(recipe.backbone),
        "pretrained_cfg": {
            **preprocess.to_config(),
            "num_classes": len(taxonomy) if _is_flat(network) else 0,
            "classifier": classifier,
            "first_conv": network.backbone.pretrained_cfg.get("first_conv"),  # type: ignore[union-attr, operator]
            "fixed_input_size": False,
            "custom_load": False,
        },
        "label_names": list(taxonomy.names),
        "taxakey": {"version": __version__, **heads, **told, "taxonomy": taxonomy.fingerprint},
    }


FOLDS = "folds"
"""The kind of a folder of folds."""


def members_of(path: Path | str) -> list[Path]:
    """The runs of a finished folder of folds; any other path is the only member of itself."""
    path = Path(path)
    if (path / "plan.json").is_file() and read_json(path / "plan.json").get("kind") == FOLDS:
        members = read_manifest(path, FOLDS).counts["members"]
        return [path / f"fold-{number}" for number in range(1, members + 1)]
    return [path]


def model_folder(path: Path | str) -> Path:
    """The model/ folder meant by a run's folder or by itself; raises MissingArtifact where there is neither.

    A run that was begun and not finished has no model yet, even if weights lie there: they aren't calibrated.
    """
    path = Path(path)
    for folder in (path / "model", path):
        if (folder / "config.json").is_file() and (folder / "model.safetensors").is_file():
            run = folder.resolve().parent
            if folder.resolve().name == "model" and (run / "plan.json").is_file() and not (run / "manifest.json").is_file():
                raise MissingArtifact(f"{run}: this run was begun and not finished; run its `taxakey train` again")
            return folder
    if kind_of(path) == FOLDS or any((place / "ensemble.json").is_file() for place in (path, path / "predictions")):
        raise BadInput(
            f"{path}: several models, not one; predict, identify and serve take them as they are. One model that knows what they "
            "know: taxakey predict … --part train, then taxakey train … --teacher (docs/distillation.md)"
        )
    raise MissingArtifact(f"{path}: no trained model there (model.safetensors and config.json); name a run or its model/ folder")


def load_model(path: Path | str, device: str = "cpu", *, decisions: bool = True) -> Model:
    """Read a run's or a model's folder. Raises MissingArtifact, BadInput with the file that doesn't fit.

    `decisions` False leaves them alone, for who is about to write others.
    """
    folder = model_folder(path)
    config = read_json(folder / "config.json")
    taxonomy = Taxonomy.read(folder / "taxonomy.parquet")
    try:
        facts = config["taxakey"]
        heads = {"head": facts["head"], "targets": facts.get("targets", {})}  # a model of before had no further targets
        recipe = recipe_from({"name": "model", **heads}, folder / "config.json")
        taxonomy.require_same(facts["taxonomy"], mine=folder / "taxonomy.parquet", theirs=folder / "config.json")
        backbone = timm.create_model(config["architecture"], pretrained=False, num_classes=0, **config["model_args"])
        preprocess = Preprocess.from_config(config["pretrained_cfg"])
    except (KeyError, TypeError) as error:
        raise BadInput(f"{folder / 'config.json'}: not a Taxakey model's configuration ({error!r})") from None
    metadata = _metadata(folder, facts)
    groups = metadata.widths if metadata else ()
    if facts.get("metadata_tokens"):
        backbone, groups = with_metadata_tokens(backbone, groups), ()
    stored = _stored(folder / "model.safetensors")
    head = build_head(recipe.head, config["num_features"], taxonomy, hierarchy=_hierarchy(stored), metadata=groups)
    network = Network(backbone, with_targets(head, recipe.targets, taxonomy))
    _load_weights(network, stored, folder / "model.safetensors")
    calibration_file = folder / "calibration.json"
    calibration = Calibration.read(calibration_file) if calibration_file.is_file() else None
    found = Decisions.beside(folder, taxonomy, calibration) if decisions else None
    return Model(folder, network.eval().to(device), taxonomy, preprocess, calibration, config, metadata, found)


def _metadata(folder: Path, facts: Mapping[str, Any]) -> MetadataEncoder | None:
    """The encoder that the network was trained with; raises BadInput where the file of another model lies there, or none."""
    encoder = MetadataEncoder.read(folder)
    if list(encoder.widths if encoder else ()) != facts.get("metadata", []):
        raise BadInput(
            f"{folder / METADATA_FILE}: missing or of another model than config.json; restore the folder or train again"
        )
    return encoder


def _stored(file: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(file)
    except SafetensorError as error:
        raise BadInput(f"{file}: not a safetensors file ({error}); restore the folder or train again") from None


def _hierarchy(stored: Mapping[str, torch.Tensor]) -> Hierarchy | None:
    """The shape of a stored tree, or None for a head that is none."""
    for head in ("taxakey_head.", "taxakey_head.species."):  # the second inside a head with further targets
        if f"{head}first_N1" in stored:
            return Hierarchy(*(stored[f"{head}{name}"].numpy().astype("int64") for name in ("first_N1", "target_E")))
    return None


def _load_weights(network: Network, stored: Mapping[str, torch.Tensor], file: Path) -> None:
    try:
        network.load_state_dict({key: stored[_timm_key(key, network)] for key in network.state_dict()})
    except (RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadInput(f"{file}: its weights don't fit config.json ({reason}); restore the folder or train again") from None


def _is_flat(network: Network) -> bool:
    """Whether it is a network as timm has them; one that takes metadata isn't."""
    plain = isinstance(network.head, LinearHead) and not network.head.metadata and not isinstance(network.backbone, MetadataViT)
    return plain and classifier_name(network.backbone) is not None


def _timm_key(key: str, network: Network) -> str:
    """Our name of a tensor -> its name on disk: timm's for the backbone and for a flat head, ours below `head.` else."""
    if key.startswith("backbone."):
        return key.removeprefix("backbone.")
    if _is_flat(network) and key.startswith(_FLAT_HEAD):
        return f"{classifier_name(network.backbone)}.{key.removeprefix(_FLAT_HEAD)}"
    return f"taxakey_{key}"
