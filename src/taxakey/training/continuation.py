"""A run that goes on from a finished one: its backbone, and of its head what means the same for the new classes.

So a network learns on a noisy web set first and on the trusted one afterwards (BioMachina, PlantCLEF 2022; SPEC section 1), and a
head that was trained on a frozen backbone is a good start for training both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from taxakey import artifacts
from taxakey.errors import BadRecipe
from taxakey.metadata.encoder import MetadataEncoder, alike
from taxakey.models.heads import Head
from taxakey.models.metadata_vit import MetadataViT
from taxakey.models.remapping import Taken, take_over
from taxakey.taxonomy import Taxonomy, same_classes
from taxakey.training.checkpoint import Model, load_model
from taxakey.training.recipe import Recipe

_PICTURE = ("mean", "std", "interpolation", "crop_pct", "crop_mode")


@dataclass(frozen=True, eq=False)
class Beginning:
    """A model to go on from. `hash`: of its weights."""

    model: Model
    hash: str

    @classmethod
    def open(cls, path: Path | str) -> Beginning:
        """Read a run's or a model's folder; raises MissingArtifact where there is no finished one."""
        model = load_model(path)
        return cls(model, artifacts.hash_of(model.folder / "model.safetensors"))

    @property
    def name(self) -> str:
        """Of the run, for people; the paths of a machine are nobody else's affair."""
        folder = self.model.folder.resolve()
        return folder.parent.name if folder.name == "model" else folder.name

    def recipe(self, recipe: Recipe) -> Recipe:
        """The recipe with the model's weights and, where it says nothing of them, the model's facts of a picture.

        Raises BadRecipe where it names another backbone.
        """
        architecture = recipe.backbone.name.split(".")[0]
        mine = self.model.config["architecture"]
        if architecture != mine:
            raise BadRecipe(
                f"{recipe.name}: its backbone is {architecture}, and {self.model.folder} holds a {mine}; "
                "name that one in the recipe, or go on from another run"
            )
        facts = picture_facts(self.model)
        missing = {name: value for name, value in facts.items() if getattr(recipe.backbone, name) is None}
        weights = str(self.model.folder / "model.safetensors")
        arguments = recipe.backbone.arguments or self.model.config["model_args"]
        return replace(recipe, backbone=replace(recipe.backbone, weights=weights, arguments=arguments, **missing))

    def hand_over_tokens(self, backbone: MetadataViT, metadata: MetadataEncoder) -> str:
        """Fill a backbone's metadata tokens in place, where the old one had some for the same metadata; words for a note."""
        old = self.model.network.backbone
        if not isinstance(old, MetadataViT):
            return "fresh metadata tokens"
        if not alike(metadata, self.model.metadata):
            return "fresh metadata tokens, since the old ones mean other metadata"
        backbone.tokens.load_state_dict(old.tokens.state_dict())
        return "its metadata tokens"

    def hand_over(self, head: Head, taxonomy: Taxonomy, metadata: MetadataEncoder | None = None) -> tuple[dict[str, int], str]:
        """Fill a new head for the classes of `taxonomy` in place; counts and a note for the manifest.

        `metadata`: what the new model is told. Where the old head was told something else nothing of it is taken over: its
        columns of weights mean other things, even if there are as many.
        """
        old = self.model.network.head
        assert isinstance(old, Head)
        match_C = same_classes(taxonomy, self.model.taxonomy)
        if not (head.metadata or old.metadata) or alike(metadata, self.model.metadata):
            taken = take_over(head, old, match_C)
        else:
            taken = Taken(np.zeros(len(taxonomy), dtype=bool), "nothing of the head: it was told other metadata")
        counts = {
            "classes_taken_over": int(taken.classes_C.sum()),
            "classes_fresh": int((~taken.classes_C).sum()),
            "classes_gone": len(self.model.taxonomy) - int((match_C >= 0).sum()),
        }
        renamed = sum(taxonomy.names[c] != self.model.taxonomy.names[match_C[c]] for c in np.flatnonzero(match_C >= 0))
        also = f", {renamed:,} of them under another name (by taxonID)" if renamed else ""
        note = (
            f"Went on from {self.name} (weights {self.hash[:16]}, class list {self.model.taxonomy.fingerprint}): "
            f"its backbone, and {taken.words}. Of {len(taxonomy):,} classes {int((match_C >= 0).sum()):,} were known{also}; "
            f"{counts['classes_fresh']:,} start fresh, {counts['classes_gone']:,} of before are gone"
        )
        return counts, note


def picture_facts(model: Model) -> Mapping[str, Any]:
    """How the model wants its pictures, in the words of a recipe's backbone."""
    _, height, width = model.preprocess.input_size
    size = height if height == width else (height, width)
    return {"image_size": size, **{name: getattr(model.preprocess, name) for name in _PICTURE}}
