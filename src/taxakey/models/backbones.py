"""Backbones from timm, with weights from a file, from the hub, or none. Shapes: B images, D pooled features."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import taxakey.torchvision_guard  # noqa: F401  before timm

import timm
import torch
from torch import Tensor, nn

from taxakey.errors import BadRecipe, WeightsUnavailable
from taxakey.models.metadata_vit import of_the_transformer

HUB = "hub"
NO_WEIGHTS = "none"
_HUB_TIMEOUT_SECONDS = 5.0  # timm itself would retry for 45 s before it gives up


@dataclass(frozen=True)
class BackboneOptions:
    """Which network computes features, from which weights, from what kind of picture.

    `weights`: "hub" (what timm downloads for that name), "none" (random), or a .safetensors or .pth file; `${NAME}` in it is
    an environment variable. `arguments` go to `timm.create_model` (e.g. `pad_type: same`). The picture's facts (`image_size`: its
    side, or height and width; `mean`, `std`, `interpolation`, `crop_pct`, `crop_mode`) default to what timm knows of the weights.
    `freeze_norm`: while the whole is trained, BatchNorm keeps the statistics it came with; for small batches, and for weights
    whose norms were folded into the convolutions (their stored statistics are no statistics of anything).
    `metadata_tokens`: a vision transformer is given the recipe's metadata as further tokens (models/metadata_vit.py).
    """

    name: str = "mobilenetv3_small_100"
    weights: str = HUB
    arguments: Mapping[str, Any] = field(default_factory=dict)
    image_size: int | tuple[int, int] | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    interpolation: str | None = None
    crop_pct: float | None = None
    crop_mode: str | None = None
    freeze_norm: bool = False
    metadata_tokens: bool = False


class Network(nn.Module):
    """A backbone and a head: pixels [B, 3, H, W] (and metadata [B, M]) -> unnormalised log-probabilities [B, C]."""

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, pixels_B3HW: Tensor, metadata_BM: Tensor | None = None) -> Tensor:
        return self.head(features_of(self.backbone, pixels_B3HW, metadata_BM))


def features_of(backbone: nn.Module, pixels_B3HW: Tensor, metadata_BM: Tensor | None) -> Tensor:
    """What a head is given, [B, D + M], or [B, D] where the backbone itself takes the metadata."""
    if getattr(backbone, "takes_metadata", False):
        return backbone(pixels_B3HW, metadata_BM)
    return with_metadata(backbone(pixels_B3HW), metadata_BM)


def with_metadata(features_BD: Tensor, metadata_BM: Tensor | None) -> Tensor:
    """What a head is given: the picture's features and, behind them, what is known besides [B, D + M]."""
    return features_BD if metadata_BM is None else torch.cat([features_BD, metadata_BM], dim=1)


def build_backbone(options: BackboneOptions) -> nn.Module:
    """The timm model without its classifier: pixels [B, 3, H, W] -> pooled features [B, D] (`feature_width` is D).

    A vision transformer for pictures of another size than its weights' gets their position embedding resampled, by timm.
    Raises WeightsUnavailable when the weights can't be had, and BadRecipe when timm doesn't know the name, or can't make the
    network for pictures of that size.
    """
    if not timm.is_model(options.name.split(".")[0]):
        near = timm.list_models(f"*{options.name.split('_')[0]}*")[:5]
        hint = f"; near it: {', '.join(near)}" if near else ""
        raise BadRecipe(f"timm {timm.__version__} has no model named {options.name!r}{hint}")
    try:
        bare = timm.create_model(options.name, pretrained=False, num_classes=0, **creation_arguments(options))
    except (RuntimeError, TypeError, AssertionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadRecipe(f"timm can't make {options.name!r} with {creation_arguments(options)} ({reason})") from error
    _check_patches(options, bare)
    if options.weights == NO_WEIGHTS:
        return bare
    if options.weights == HUB:
        return _from_hub(options, bare.pretrained_cfg)
    return _from_file(options, Path(options.weights), classifier_name(bare))


def feature_width(backbone: nn.Module) -> int:
    """D: how many features come out. Where a layer stands between pooling and classifier, it isn't timm's `num_features`."""
    return int(getattr(backbone, "head_hidden_size", None) or backbone.num_features)  # type: ignore[arg-type]


def creation_arguments(options: BackboneOptions) -> dict[str, Any]:
    """What `timm.create_model` is given: the options' arguments, and the pictures' size where a network is made for one size.

    Such networks (most vision transformers) have weights for each place in the picture.
    """
    arguments, size = dict(options.arguments), picture_size(options)
    config = timm.models.get_pretrained_cfg(options.name, allow_unregistered=True)
    if size is None or config is None or not config.fixed_input_size or {"img_size", "dynamic_img_size"} & arguments.keys():
        return arguments
    return arguments if size == tuple(config.input_size[1:]) else {**arguments, "img_size": size}


def picture_size(options: BackboneOptions) -> tuple[int, int] | None:
    """Height and width that the options ask for, None for the weights' own."""
    size = options.image_size if options.image_size is not None else options.arguments.get("img_size")
    if size is None or isinstance(size, int):
        return None if size is None else (size, size)
    height, width = size
    return height, width


def _check_patches(options: BackboneOptions, backbone: nn.Module) -> None:
    """timm would leave out the rows and columns that make no whole patch, and say nothing."""
    size, patch = picture_size(options), getattr(getattr(backbone, "patch_embed", None), "patch_size", None)
    if size is None or not isinstance(patch, tuple) or options.arguments.get("dynamic_img_pad"):
        return
    if any(edge % side for edge, side in zip(size, patch, strict=True)):
        fitting = "×".join(str(max(1, round(edge / side)) * side) for edge, side in zip(size, patch, strict=True))
        raise BadRecipe(
            f"{options.name} cuts pictures into patches of {patch[0]}×{patch[1]}, and {size[0]}×{size[1]} isn't made of whole "
            f"ones; say image_size {fitting}"
        )


def data_config(options: BackboneOptions, backbone: nn.Module) -> dict[str, Any]:
    """What the backbone expects of a picture, in timm's words (input_size, mean, std, interpolation, crop_pct, crop_mode)."""
    config = timm.data.resolve_data_config({}, model=backbone)
    given = {key: value for key, value in asdict(options).items() if key in config and value is not None}
    if (size := picture_size(options)) is not None:
        given["input_size"] = (3, *size)
    return {**config, **given}


def classifier_name(backbone: nn.Module) -> str | None:
    """The name under which timm keeps the last layer, or None where it is not one plain layer."""
    name = backbone.pretrained_cfg.get("classifier")  # type: ignore[union-attr, operator]
    return name if isinstance(name, str) else None


def state_hash(backbone: nn.Module) -> str:
    """Sixteen hexadecimal digits over all weights: two backbones that give the same features have the same."""
    digest = hashlib.sha256()
    for name, tensor in sorted(backbone.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _from_file(options: BackboneOptions, file: Path, classifier: str | None) -> nn.Module:
    if not file.is_file():
        raise WeightsUnavailable(f"{file}: no such file of weights; name one with --weights FILE, or say weights: none")
    if _is_whole_model(file):
        return _of_model(options, file)
    classes = _classes_in(file, classifier)
    try:
        # With the file's own number of classes timm loads strictly: a file of another architecture is an error, not noise.
        backbone = timm.create_model(
            options.name,
            pretrained=True,
            num_classes=classes,
            pretrained_cfg_overlay={"file": str(file), "num_classes": classes, "label_offset": 0, "custom_load": False},
            **creation_arguments(options),
        )
    except (RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsUnavailable(f"{file}: these aren't weights of {options.name} ({reason})") from error
    backbone.reset_classifier(0)
    return backbone


_OURS = "taxakey_"
"""How names begin, in a model that Taxakey wrote, that are no backbone's (training/checkpoint.py)."""


def _is_whole_model(file: Path) -> bool:
    """Whether the file also holds what timm can't know, such as a tree."""
    if file.suffix != ".safetensors":
        return False
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            return any(name.startswith(_OURS) for name in opened.keys())  # noqa: SIM118 - no mapping
    except SafetensorError as error:
        raise WeightsUnavailable(f"{file}: not a safetensors file ({error})") from None


def _of_model(options: BackboneOptions, file: Path) -> nn.Module:
    """The backbone of a model that Taxakey wrote."""
    from safetensors.torch import load_file

    backbone = timm.create_model(options.name, pretrained=False, num_classes=0, **options.arguments)
    try:
        stored = {name: tensor for name, tensor in load_file(file).items() if not name.startswith(_OURS)}
        backbone.load_state_dict(of_the_transformer(stored))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsUnavailable(f"{file}: these aren't weights of {options.name} ({reason})") from error
    return backbone


def _classes_in(file: Path, name: str | None) -> int:
    if file.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(file, framework="pt") as opened:
                key = f"{name}.weight"
                return opened.get_slice(key).get_shape()[0] if key in opened.keys() else 0  # noqa: SIM118 - no mapping
        except SafetensorError as error:
            raise WeightsUnavailable(f"{file}: not a safetensors file ({error})") from None
    try:
        # Tensors only: a foreign pickle is refused here, before timm is given the file.
        weight = timm.models.load_state_dict(str(file), weights_only=True).get(f"{name}.weight")
    except Exception as error:  # torch.load fails in as many ways as a file can be wrong
        raise WeightsUnavailable(f"{file}: not a file of weights ({type(error).__name__})") from error
    return 0 if weight is None else len(weight)


def _from_hub(options: BackboneOptions, config: Mapping[str, Any]) -> nn.Module:
    how = "name a file of them with --weights FILE, or train from scratch with --weights none"
    if not (config.get("hf_hub_id") or config.get("url")):
        raise WeightsUnavailable(f"timm {timm.__version__} knows no pretrained weights for {options.name}; {how}")
    if not _cached(config) and (reason := _unreachable(config)):
        raise WeightsUnavailable(f"the pretrained weights of {options.name} can't be downloaded ({reason}); {how}")
    try:
        return timm.create_model(options.name, pretrained=True, num_classes=0, **creation_arguments(options))
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsUnavailable(f"the pretrained weights of {options.name} can't be loaded ({reason}); {how}") from error


def _cached(config: Mapping[str, Any]) -> bool:
    from huggingface_hub import try_to_load_from_cache

    files = ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors")
    hub_id = config.get("hf_hub_id")
    if hub_id and any(isinstance(try_to_load_from_cache(hub_id, file), str) for file in files):
        return True
    downloaded = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(config.get("url") or "").path).name
    return downloaded.is_file()


def _unreachable(config: Mapping[str, Any]) -> str | None:
    """Why the host of the weights doesn't answer, or None if it does: one short try before timm's long ones."""
    import urllib.error
    import urllib.request

    from huggingface_hub import constants

    host = constants.ENDPOINT if config.get("hf_hub_id") else config["url"]
    if constants.HF_HUB_OFFLINE and config.get("hf_hub_id"):
        return "HF_HUB_OFFLINE is set"
    if urlsplit(host).scheme not in ("http", "https"):
        return f"{host} is no web address"
    try:
        urllib.request.urlopen(urllib.request.Request(host, method="HEAD"), timeout=_HUB_TIMEOUT_SECONDS).close()
    except urllib.error.HTTPError:
        return None  # it answered, if only to refuse this request
    except OSError as error:
        return f"{urlsplit(host).hostname} doesn't answer: {getattr(error, 'reason', error)}"
    return None


def quiet_timm() -> None:
    """Keep timm's and the hub's remarks about retries out of the user's terminal; errors are ours to word."""
    for name in ("timm", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.ERROR)
