"""A recipe: one YAML file that says everything a run needs besides its data.

The options are frozen dataclasses that live beside the code that obeys them; pydantic checks them here, at the door, only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from taxakey.artifacts import write_text
from taxakey.dataset.augment import AugmentOptions
from taxakey.errors import BadRecipe
from taxakey.losses.cross_entropy import CrossEntropyOptions
from taxakey.models.backbones import HUB, NO_WEIGHTS, BackboneOptions
from taxakey.models.head_options import HeadOptions, wants_statistics
from taxakey.models.heads import LinearOptions
from taxakey.training.schedule import OptimizerOptions, ScheduleOptions


@dataclass(frozen=True)
class LoopOptions:
    """How long, in what portions, how exactly.

    `accumulate`: batches per optimiser step. `clip`: largest norm of the gradient, null for none. `precision`: Lightning's
    words ("32-true", "bf16-mixed", "16-mixed"). `best_by`: the validation figure that chooses the best checkpoint.
    """

    epochs: int = 30
    batch_size: int = 64
    accumulate: int = 1
    clip: float | None = 1.0
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    best_by: Literal["validation_loss", "validation_top_1", "validation_macro_top_1"] = "validation_macro_top_1"

    def __post_init__(self) -> None:
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
        return self.with_weights(_expand(self.backbone.weights))

    def write(self, path: Path | str) -> None:
        """Write it as YAML, whole: every default spelled out."""
        write_text(path, yaml.safe_dump(_plain(self.to_dict()), sort_keys=False, allow_unicode=True))


# A key that no option has is a slip of the pen and must not be ignored. Said here, so that the components need no pydantic.
for _options in (
    Recipe,
    LoopOptions,
    BackboneOptions,
    *get_args(HeadOptions),
    CrossEntropyOptions,
    OptimizerOptions,
    ScheduleOptions,
    AugmentOptions,
):
    setattr(_options, "__pydantic_config__", ConfigDict(extra="forbid"))  # noqa: B010 - pydantic's door, not in the class
_ADAPTER = TypeAdapter(Recipe)


def read_recipe(source: Path | str) -> Recipe:
    """Read a recipe from a file, or by the name of one that comes with Taxakey (see `built_in`).

    Raises BadRecipe with the file, the key and what was expected.
    """
    text, origin = _text_of(source)
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadRecipe(f"{origin}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict):
        raise BadRecipe(f"{origin}: a recipe is a mapping of keys, this is {type(content).__name__}")
    return recipe_from(content, origin)


def recipe_from(content: Mapping[str, Any], origin: object) -> Recipe:
    """Check plain values; `origin` names them in errors."""
    try:
        return _ADAPTER.validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the recipe"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise BadRecipe(f"{origin}: {place}: {first['msg']}, got {first['input']!r}{more}") from None


def built_in() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = resources.files("taxakey.training") / "recipes"
    return sorted(Path(entry.name).stem for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def _text_of(source: Path | str) -> tuple[str, str]:
    path = Path(source)
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8"), str(path)
        except UnicodeDecodeError as error:
            raise BadRecipe(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    if str(source) in built_in():
        return (resources.files("taxakey.training") / "recipes" / f"{source}.yaml").read_text(encoding="utf-8"), str(source)
    raise BadRecipe(f"{source}: neither a recipe file nor one that comes with Taxakey ({', '.join(built_in())})")


def _expand(weights: str) -> str:
    if weights in (HUB, NO_WEIGHTS):
        return weights

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name not in os.environ:
            raise BadRecipe(f"weights {weights!r}: the environment variable {name} isn't set; set it, or use --weights FILE")
        return os.environ[name]

    return re.sub(r"\$\{(\w+)\}", value, weights)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
