"""A recipe: one YAML file that says everything a run needs besides its data.

The options are frozen dataclasses that live beside the code that obeys them; pydantic checks them here, at the door, only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import Field, TypeAdapter

from taxakey.artifacts import write_text
from taxakey.dataset.augment import AugmentOptions
from taxakey.errors import BadRecipe
from taxakey.losses.cross_entropy import CrossEntropyOptions
from taxakey.models.backbones import NO_WEIGHTS, BackboneOptions
from taxakey.models.head_options import HeadOptions, wants_statistics
from taxakey.models.heads import LinearOptions
from taxakey.recipe_file import checked, expanded, read_mapping, read_text, refuse_unknown_keys
from taxakey.training.averaging import AveragingOptions
from taxakey.training.scale import ScaleOptions
from taxakey.training.schedule import OptimizerOptions, ScheduleOptions
from taxakey.training.tracking import TrackingOptions


@dataclass(frozen=True)
class LoopOptions:
    """How long, in what portions, how exactly.

    `accumulate`: batches per optimiser step. `clip`: largest norm of the gradient, null for none. `precision`: Lightning's
    words ("32-true", "bf16-mixed", "16-mixed"). `best_by`: the validation figure that chooses the best checkpoint.
    Within an epoch a checkpoint is written after `checkpoint_minutes` and after each `checkpoint_steps` batches (null: never).
    """

    epochs: int = 30
    batch_size: int = 64
    accumulate: int = 1
    clip: float | None = 1.0
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    best_by: Literal["validation_loss", "validation_top_1", "validation_macro_top_1"] = "validation_macro_top_1"
    checkpoint_minutes: float | None = 10.0
    checkpoint_steps: int | None = None

    def __post_init__(self) -> None:
        if any(value is not None and value <= 0 for value in (self.checkpoint_minutes, self.checkpoint_steps)):
            raise ValueError("checkpoint_minutes and checkpoint_steps must be above 0, or null")
        if self.epochs < 0 or min(self.batch_size, self.accumulate) < 1:
            raise ValueError("batch_size and accumulate must be at least 1, epochs at least 0 (the head as it starts)")


@dataclass(frozen=True)
class Recipe:
    """`train: head` learns the head alone on stored embeddings; `train: all` learns the whole network on pictures."""

    name: str
    train: Literal["head", "all"] = "head"
    seed: int = 0
    backbone: BackboneOptions = field(default_factory=BackboneOptions)
    head: Annotated[HeadOptions, Field(discriminator="kind")] = field(default_factory=LinearOptions)
    loss: CrossEntropyOptions = field(default_factory=CrossEntropyOptions)
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    schedule: ScheduleOptions = field(default_factory=ScheduleOptions)
    loop: LoopOptions = field(default_factory=LoopOptions)
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    averaging: AveragingOptions = field(default_factory=AveragingOptions)
    scale: ScaleOptions = field(default_factory=ScaleOptions)
    tracking: TrackingOptions = field(default_factory=TrackingOptions)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as for a manifest."""
        return asdict(self)

    def with_seed(self, seed: int | None) -> Recipe:
        """The same recipe with another seed; None leaves it."""
        return self if seed is None else replace(self, seed=seed)

    def with_weights(self, weights: str | None) -> Recipe:
        """The same recipe with other pretrained weights ("hub", "none" or a file); None leaves it."""
        return self if weights is None else replace(self, backbone=replace(self.backbone, weights=weights))

    def resolved(self) -> Recipe:
        """With the environment variables in the weights' path filled in; raises BadRecipe for what can't be trained."""
        if self.train == "head" and self.backbone.weights == NO_WEIGHTS:
            raise BadRecipe(f"{self.name}: a head on a frozen backbone needs pretrained weights; name some, or use train: all")
        if self.train == "all" and wants_statistics(self.head):
            raise BadRecipe(
                f"{self.name}: this head is built from embeddings (start: class_means, or an order by similarity), and "
                "train: all makes none; use train: head, or start: random and order: taxonomic"
            )
        if self.loop.epochs == 0 and getattr(self.head, "start", "random") == "random":
            raise BadRecipe(f"{self.name}: no epochs leave a random head; give the head start: class_means, or train it")
        if getattr(self.head, "sparse", False) and self.optimizer.name != "lazy_adamw":
            raise BadRecipe(f"{self.name}: head.sparse needs the optimizer lazy_adamw, not {self.optimizer.name}")
        if self.train == "head" and (self.scale.compile or self.scale.checkpointing or self.optimizer.layer_decay is not None):
            raise BadRecipe(
                f"{self.name}: scale.compile, scale.checkpointing and optimizer.layer_decay are the backbone's, and train: head "
                "trains none; leave them out, or use train: all"
            )
        if self.averaging.kind != "none" and self.scale.strategy == "fsdp":
            raise BadRecipe(f"{self.name}: shared-out weights (scale.strategy: fsdp) can't be averaged; use ddp, or no averaging")
        return self.with_weights(expanded(self.backbone.weights, "weights", "use --weights FILE"))

    def write(self, path: Path | str) -> None:
        """Write it as YAML, whole: every default spelled out."""
        write_text(path, yaml.safe_dump(_plain(self.to_dict()), sort_keys=False, allow_unicode=True))


refuse_unknown_keys(
    Recipe,
    LoopOptions,
    BackboneOptions,
    *get_args(HeadOptions),
    CrossEntropyOptions,
    OptimizerOptions,
    ScheduleOptions,
    AugmentOptions,
    AveragingOptions,
    ScaleOptions,
    TrackingOptions,
)
_ADAPTER = TypeAdapter(Recipe)


def read_recipe(source: Path | str) -> Recipe:
    """Read a recipe from a file, or by the name of one that comes with Taxakey (see `built_in`).

    Raises BadRecipe with the file, the key and what was expected.
    """
    text, origin = _text_of(source)
    return recipe_from(read_mapping(text, origin), origin)


def recipe_from(content: Mapping[str, Any], origin: object) -> Recipe:
    """Check plain values; `origin` names them in errors."""
    return checked(_ADAPTER, content, origin)


def built_in() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = resources.files("taxakey.training") / "recipes"
    return sorted(Path(entry.name).stem for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def _text_of(source: Path | str) -> tuple[str, str]:
    path = Path(source)
    if path.is_file():
        return read_text(path), str(path)
    if str(source) in built_in():
        return (resources.files("taxakey.training") / "recipes" / f"{source}.yaml").read_text(encoding="utf-8"), str(source)
    raise BadRecipe(f"{source}: neither a recipe file nor one that comes with Taxakey ({', '.join(built_in())})")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
