"""Parameters, bytes and multiply-adds of a network, read off the real modules on torch's meta device: shapes without memory.

Shapes: B images, D features, d bottleneck width, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from taxakey.dataset.reader import Dataset
from taxakey.errors import BadInput
from taxakey.models.backbones import NO_WEIGHTS, BackboneOptions, build_backbone, data_config, feature_width
from taxakey.models.factorised import FactorisedOptions
from taxakey.models.head_options import ClassFacts, HeadOptions, build_head, build_hierarchy
from taxakey.models.heads import Head
from taxakey.models.hierarchies import Hierarchy
from taxakey.models.targets import TargetOptions, species_head, with_targets
from taxakey.models.trees import Nodes, TreeOptions
from taxakey.models.tuning import TuningOptions, make_ready
from taxakey.taxonomy import SCHEMA, Taxonomy

BYTES_PER_NUMBER = {"32-bit": 4, "16-bit": 2}
BACKWARD_AND_FORWARD = 3
"""A backward pass forms two products where the forward pass forms one: for the weights' gradients and for the inputs'."""


@dataclass(frozen=True, eq=False)
class ClassList:
    """The classes a head is built for. `counts_C`: training pictures of each. `named`: whether their parents are known.

    `targets`: what is learnt of them besides.
    """

    taxonomy: Taxonomy
    counts_C: NDArray[np.int64]
    named: bool
    targets: TargetOptions = TargetOptions()  # noqa: RUF009 - it is frozen

    @classmethod
    def numbered(cls, classes: int) -> ClassList:
        """So many classes of which nothing is known; raises BadInput for none."""
        if classes < 1:
            raise BadInput(f"{classes} classes: a model needs at least 1")
        numbers = pa.array(np.arange(classes))
        # Not through from_rows, whose checks take seconds for a million rows.
        columns = {field.name: pa.nulls(classes, field.type) for field in SCHEMA}
        columns |= {"class_index": numbers.cast(pa.int32()), "scientificName": numbers.cast(pa.string())}
        columns["poisonous"] = pa.array(np.arange(classes) == 0)  # a loss may want some; which makes no difference to a size
        return cls(Taxonomy(pa.table(columns, schema=SCHEMA)), np.ones(classes, dtype=np.int64), named=False)

    @classmethod
    def of_dataset(cls, folder: Path | str) -> ClassList:
        """The taxonomy of a finished dataset and its counts; raises MissingArtifact or ArtifactError."""
        dataset = Dataset.open(folder)
        labels_N = dataset.part("train").class_index
        return cls(dataset.taxonomy, np.bincount(labels_N[labels_N >= 0], minlength=len(dataset.taxonomy)), named=True)

    def __len__(self) -> int:
        return len(self.taxonomy)

    def head(self, options: HeadOptions, in_features: int) -> Head:
        """The head that the options describe; raises BadInput where its size hangs on parents that aren't known.

        Which class sits where doesn't change a tree of even nodes, so orders that need embeddings aren't needed here; a tree of
        nodes found by clustering is sized as one of even nodes.
        """
        if not self.named and (isinstance(options, FactorisedOptions) or getattr(options, "nodes", None) in ("taxa", "genera")):
            raise BadInput(
                f"the size of this {options.kind} head hangs on families and genera, and a number doesn't tell them; "
                "name a dataset with --dataset, and leave --memory out"
            )
        hierarchy = self._hierarchy(options.nodes, options.slots) if isinstance(options, TreeOptions) else None
        head = build_head(options, in_features, self.taxonomy, ClassFacts(self.counts_C), hierarchy)
        return with_targets(head, self.targets, self.taxonomy, self.counts_C)

    def _hierarchy(self, nodes: Nodes, slots: int | tuple[int, ...] | None) -> Hierarchy:
        if (nodes, slots) not in self._hierarchies:
            shape = TreeOptions(nodes="even" if nodes == "clusters" else nodes, slots=slots, order="listed")
            self._hierarchies[nodes, slots] = build_hierarchy(shape, self.taxonomy, ClassFacts(self.counts_C))
        return self._hierarchies[nodes, slots]

    @cached_property
    def _hierarchies(self) -> dict[Any, Hierarchy]:
        return {}


class Backbone:
    """A backbone without weights. `features`: D. `input_size`: channels, height and width of the pictures it takes.

    `parameters`: as it is stored; `tuning`: what of them learns, where the backbone is trained.
    """

    def __init__(self, options: BackboneOptions, tuning: TuningOptions | None = None) -> None:
        """Raises BadRecipe for a name that timm doesn't know, and for a tuning that this backbone can't have."""
        self.options, self.tuning = replace(options, weights=NO_WEIGHTS), tuning or TuningOptions()
        self._module = self._plain()
        self.features = feature_width(self._module)
        self.input_size: tuple[int, int, int] = tuple(data_config(self.options, self._module)["input_size"])
        self.parameters = count_parameters(self._module)

    @property
    def name(self) -> str:
        return self.options.name

    def build(self) -> nn.Module:
        """The module on the meta device, ready for its training."""
        module = self._plain()
        with torch.device("meta"):
            make_ready(module, self.tuning, self.input_size)
        return module

    def _plain(self) -> nn.Module:
        with torch.device("meta"):
            return build_backbone(self.options)

    @cached_property
    def learning(self) -> int:
        """How many numbers learn where the backbone is trained, adapters' included."""
        return sum(parameter.numel() for parameter in self.build().parameters() if parameter.requires_grad)

    @cached_property
    def multiply_adds(self) -> int:
        """Of one picture, forward: products in convolutions, linear layers and attention; not norms and activations."""
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            self.accept(lambda: self._module.eval()(torch.empty(1, *self.input_size, device="meta")))
        return counter.get_total_flops() // 2

    def accept(self, forward: Callable[[], Any]) -> Any:
        """Run a forward pass; raises BadInput where the backbone refuses pictures of this size."""
        try:
            return forward()
        except (AssertionError, RuntimeError) as error:
            _, height, width = self.input_size
            reason = " ".join(str(error).split())[:200]
            raise BadInput(
                f"{self.name} can't take pictures of {height}×{width} ({reason}); leave the size to timm, or take another one"
            ) from error


def meta_head(classes: ClassList, options: HeadOptions, in_features: int) -> Head:
    """A head with parameters on the meta device; its tables of integers are real."""
    with _WeightsOnMeta():
        return classes.head(options, in_features)


class _WeightsOnMeta(TorchFunctionMode):
    """Like `torch.device("meta")`, but what is made from numbers at hand keeps them: some heads count their work by them."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function in (torch.empty, torch.zeros, torch.ones) and kwargs.get("device") is None:
            kwargs = {**kwargs, "device": "meta"}
        return function(*args, **kwargs)


def count_parameters(module: nn.Module) -> int:
    """Numbers that training learns (or, in a frozen backbone, has learnt)."""
    return sum(parameter.numel() for parameter in module.parameters())


@dataclass(frozen=True)
class NetworkSize:
    """Parameters of a network's parts and multiply-adds of one picture, forward."""

    backbone: int
    projection: int
    classifier: int
    backbone_multiply_adds: int
    training_multiply_adds: int
    """Of the head, for what one picture must decide in training."""
    naming_multiply_adds: int
    """Of the head, for the scores of all classes."""

    @property
    def head(self) -> int:
        return self.projection + self.classifier

    @property
    def total(self) -> int:
        return self.backbone + self.head

    def bytes_at(self, precision: str) -> int:
        """Of all parameters, at "32-bit" or "16-bit"."""
        return self.total * BYTES_PER_NUMBER[precision]

    @property
    def naming(self) -> int:
        """Multiply-adds to score all classes for one picture."""
        return self.backbone_multiply_adds + self.naming_multiply_adds

    def training(self, *, backbone: bool) -> int:
        """Multiply-adds of one picture in a training step, forward and backward; a frozen backbone has no part in it."""
        forward = self.training_multiply_adds + (self.backbone_multiply_adds if backbone else 0)
        return BACKWARD_AND_FORWARD * forward


def network_size(backbone: Backbone, head: Head) -> NetworkSize:
    """Sizes of a backbone and of a head on the meta device."""
    # What stands between the features and the vectors of the classes, under the names that the heads give it.
    narrowing = ("bottleneck.", "projection.", "hidden.")
    projection = sum(p.numel() for name, p in species_head(head).named_parameters() if name.startswith(narrowing))
    return NetworkSize(
        backbone=backbone.parameters,
        projection=projection,
        classifier=count_parameters(head) - projection,
        backbone_multiply_adds=backbone.multiply_adds,
        training_multiply_adds=head.multiply_adds(training=True),
        naming_multiply_adds=head.multiply_adds(training=False),
    )
