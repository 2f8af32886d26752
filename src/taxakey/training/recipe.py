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
from pydantic import BeforeValidator, Field, TypeAdapter

from taxakey.artifacts import write_text
from taxakey.dataset.augment import AugmentOptions, RareOptions, with_preset
from taxakey.errors import BadRecipe
from taxakey.losses.cross_entropy import CrossEntropyOptions
from taxakey.losses.distillation import DistilOptions
from taxakey.losses.feature_matching import FeatureOptions
from taxakey.losses.loss_options import LossOptions
from taxakey.metadata.encoder import MetadataOptions
from taxakey.models.adapters import LoraOptions
from taxakey.models.backbones import NO_WEIGHTS, BackboneOptions
from taxakey.models.head_options import HeadOptions, wants_statistics
from taxakey.models.heads import LinearOptions
from taxakey.models.metadata import MetadataTransformerOptions
from taxakey.models.targets import TargetOptions
from taxakey.models.tuning import TuningOptions
from taxakey.recipe_file import checked, expanded, read_mapping, read_text, refuse_unknown_keys
from taxakey.training.averaging import AveragingOptions
from taxakey.training.mixing import MixingOptions
from taxakey.training.samplers import PlainOptions, SamplerOptions
from taxakey.training.scale import ScaleOptions
from taxakey.training.schedule import OptimizerOptions, ScheduleOptions
from taxakey.training.tracking import TrackingOptions


@dataclass(frozen=True)
class LoopOptions:
    """How long, in what portions, how exactly.

    `accumulate`: batches per optimiser step. `clip`: largest norm of the gradient, null for none. `precision`: Lightning's
    words ("32-true", "bf16-mixed", "16-mixed"). `best_by`: the validation figure that chooses the best checkpoint. (Not the
    share of poisonous taken for harmless, nor the distance of errors: calling all poisonous, or few near errors among many,
    would win.)
    Within an epoch a checkpoint is written after `checkpoint_minutes` and after each `checkpoint_steps` batches (null: never).
    """

    epochs: int = 30
    batch_size: int = 64
    accumulate: int = 1
    clip: float | None = 1.0
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    best_by: Literal[
        "validation_loss", "validation_top_1", "validation_top_3", "validation_macro_top_1", "validation_macro_f1",
        "validation_poison_accuracy",
    ] = "validation_macro_top_1"  # fmt: skip
    checkpoint_minutes: float | None = 10.0
    checkpoint_steps: int | None = None

    def __post_init__(self) -> None:
        if any(value is not None and value <= 0 for value in (self.checkpoint_minutes, self.checkpoint_steps)):
            raise ValueError("checkpoint_minutes and checkpoint_steps must be above 0, or null")
        if self.epochs < 0 or min(self.batch_size, self.accumulate) < 1:
            raise ValueError("batch_size and accumulate must be at least 1, epochs at least 0 (the head as it starts)")


def _listed(loss: Any) -> Any:
    return [loss] if isinstance(loss, Mapping) else loss


Losses = Annotated[tuple[Annotated[LossOptions, Field(discriminator="kind")], ...], BeforeValidator(_listed), Field(min_length=1)]


@dataclass(frozen=True)
class Recipe:
    """`train: head` learns the head alone on stored embeddings; `train: all` learns the whole network on pictures, or what of
    it `tuning` says. `targets`: what is learnt besides the species. `loss`: the losses that are added up by their weights; in a
    file one will do without a list. `fraction`: share of each species' observations to train on and to choose by, at least one;
    for trying things out.
    """

    name: str
    train: Literal["head", "all"] = "head"
    seed: int = 0
    fraction: float = 1.0
    backbone: BackboneOptions = field(default_factory=BackboneOptions)
    head: Annotated[HeadOptions, Field(discriminator="kind")] = field(default_factory=LinearOptions)
    targets: TargetOptions = field(default_factory=TargetOptions)
    tuning: TuningOptions = field(default_factory=TuningOptions)
    loss: Losses = (CrossEntropyOptions(),)
    distil: DistilOptions | None = None
    """How much is learnt from a teacher, where one is named (`training.teacher`)."""
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    schedule: ScheduleOptions = field(default_factory=ScheduleOptions)
    loop: LoopOptions = field(default_factory=LoopOptions)
    sampler: Annotated[SamplerOptions, Field(discriminator="kind")] = field(default_factory=PlainOptions)
    augment: Annotated[AugmentOptions, BeforeValidator(with_preset)] = field(default_factory=AugmentOptions)
    mixing: MixingOptions = field(default_factory=MixingOptions)
    metadata: MetadataOptions | None = None
    averaging: AveragingOptions = field(default_factory=AveragingOptions)
    scale: ScaleOptions = field(default_factory=ScaleOptions)
    tracking: TrackingOptions = field(default_factory=TrackingOptions)
    folds: int = 0
    """Members that `taxakey folds` trains by this recipe (`dataset.folds`); a single run isn't changed by it."""

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise ValueError(f"fraction is {self.fraction}; it must lie above 0 and not above 1")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as for a manifest."""
        return asdict(self)

    def with_seed(self, seed: int | None) -> Recipe:
        """The same recipe with another seed; None leaves it."""
        return self if seed is None else replace(self, seed=seed)

    def with_fraction(self, fraction: float | None) -> Recipe:
        """The same recipe for a part of the pictures; None leaves it."""
        return self if fraction is None else replace(self, fraction=fraction)

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
        if self.train == "head" and self.tuning != TuningOptions():
            raise BadRecipe(f"{self.name}: tuning says how a backbone learns, and train: head leaves it as it is; drop one")
        if self.tuning.head_first and self.tuning.head_first >= self.loop.epochs:
            raise BadRecipe(
                f"{self.name}: tuning.head_first is {self.tuning.head_first} of {self.loop.epochs} epochs, so the backbone would "
                "never learn; take train: head for that, or more epochs"
            )
        if self.loop.epochs == 0 and getattr(self.head, "start", "random") == "random":
            raise BadRecipe(f"{self.name}: no epochs leave a random head; give the head start: class_means, or train it")
        if getattr(self.head, "sparse", False) and self.optimizer.name != "lazy_adamw":
            raise BadRecipe(f"{self.name}: head.sparse needs the optimizer lazy_adamw, not {self.optimizer.name}")
        _check_losses(self)
        _check_distillation(self)
        _check_metadata(self)
        _check_scale(self)
        if self.train == "head" and self.mixing.cutmix:
            raise BadRecipe(f"{self.name}: cutmix cuts pictures, and train: head learns on stored features; use mixing.mixup")
        return self.with_weights(expanded(self.backbone.weights, "weights", "use --weights FILE"))

    def write(self, path: Path | str) -> None:
        """Write it as YAML, whole: every default spelled out."""
        write_text(path, self.as_yaml())

    def as_yaml(self) -> str:
        """The text of the file."""
        return yaml.safe_dump(_plain(self.to_dict()), sort_keys=False, allow_unicode=True)


def _check_losses(recipe: Recipe) -> None:
    """Raise BadRecipe for losses that don't go together with each other or with the rest."""
    kinds = [options.kind for options in recipe.loss]
    if all(options.accompanies for options in recipe.loss):
        raise BadRecipe(f"{recipe.name}: loss: {', '.join(kinds)} alone teaches no species; list it beside cross_entropy, say")
    if kinds.count("marginal") > 1:
        raise BadRecipe(f"{recipe.name}: loss: marginal stands twice; once is enough, with another weight")
    for options in recipe.loss:
        if options.scores_all and getattr(recipe.head, "sparse", False):
            raise BadRecipe(f"{recipe.name}: loss: {options.kind} needs the scores of all classes, and so head.sparse: false")
        if options.compares_choices and recipe.head.kind == "sampled":
            raise BadRecipe(
                f"{recipe.name}: loss: {options.kind} compares classes with each other, and each that a sampled head draws "
                "stands for many; take logit_adjusted, or another head"
            )
        if options.moves_features and recipe.train == "head":
            raise BadRecipe(f"{recipe.name}: loss: {options.kind} moves the features, which train: head leaves as they are")


def _check_distillation(recipe: Recipe) -> None:
    if recipe.distil is not None and getattr(recipe.head, "sparse", False) and recipe.head.kind != "tree":
        raise BadRecipe(f"{recipe.name}: distil needs the scores of all classes, and so head.sparse: false (or a tree)")
    if recipe.distil is not None and recipe.distil.features is not None and recipe.train == "head" and recipe.head.kind != "mlp":
        raise BadRecipe(
            f"{recipe.name}: distil.features moves the student's features, and train: head leaves the backbone's as they are; "
            "take train: all, or head: {kind: mlp}, whose hidden layer learns"
        )


def _check_metadata(recipe: Recipe) -> None:
    """Raise BadRecipe where the network's metadata and the recipe's don't go together."""
    tokens, transformer = recipe.backbone.metadata_tokens, isinstance(recipe.head, MetadataTransformerOptions)
    if recipe.metadata is None and (tokens or transformer):
        raise BadRecipe(f"{recipe.name}: this network takes metadata and the recipe names none; add metadata: {{}}")
    if tokens and transformer:
        raise BadRecipe(f"{recipe.name}: backbone.metadata_tokens leaves no metadata to the head; take another head")
    if tokens and recipe.train == "head":
        raise BadRecipe(f"{recipe.name}: backbone.metadata_tokens must be learnt; use train: all, or a head that takes metadata")


def _check_scale(recipe: Recipe) -> None:
    """Raise BadRecipe for what can't be done in several processes, or with a head alone."""
    if recipe.train == "head" and (recipe.scale.compile or recipe.optimizer.layer_decay is not None):
        raise BadRecipe(
            f"{recipe.name}: scale.compile and optimizer.layer_decay are the backbone's, and train: head trains none; leave "
            "them out, or use train: all"
        )
    if recipe.scale.strategy == "fsdp" and (recipe.averaging.kind != "none" or recipe.tuning != TuningOptions()):
        raise BadRecipe(f"{recipe.name}: shared-out weights (scale.strategy: fsdp) can't be averaged or learnt in part; use ddp")


refuse_unknown_keys(
    Recipe,
    LoopOptions,
    BackboneOptions,
    *get_args(HeadOptions),
    TargetOptions,
    TuningOptions,
    LoraOptions,
    *get_args(LossOptions),
    DistilOptions,
    FeatureOptions,
    OptimizerOptions,
    ScheduleOptions,
    *get_args(SamplerOptions),
    AugmentOptions,
    RareOptions,
    MixingOptions,
    MetadataOptions,
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
