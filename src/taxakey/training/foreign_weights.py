"""Weights that others trained: read without running anything, their names brought to timm's.

A checkpoint is what somebody's script saved: the weights alone, or {"epoch", "model" or "state_dict", "optimizer", …}, in
safetensors or in torch's format, whatever the ending of the file (Pl@ntNet-300K's are called .tar).
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import taxakey.torchvision_guard  # noqa: F401  before timm

import timm
import torch
from torch import Tensor, nn

from taxakey.artifacts import read_json
from taxakey.errors import BadInput, MissingArtifact
from taxakey.models.backbones import classifier_name

_PLACES = ("state_dict", "model", "model_state_dict", "model_state", "net", "weights")
"""Under which keys scripts keep the weights, in the order in which they are looked for."""
_PREFIXES = ("module.", "model.", "_orig_mod.")
_ARCHITECTURES = ("arch", "architecture")
_IN_ORDER = ("mobilenetv2_100", "efficientnet_b0")
"""Networks that torchvision builds of the same layers in the same order under other names; tests compare their scores."""
_NAMED = 3  # tensors that an error names


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """`weights`: by the names of the file, without prefixes. `architecture`: where the file says one.

    `picture`: timm's facts of the pictures (`pretrained_cfg`), from the config.json beside a timm model.
    """

    file: Path
    weights: Mapping[str, Tensor]
    architecture: str | None
    picture: Mapping[str, Any]

    def for_network(self, network: nn.Module, architecture: str) -> dict[str, Tensor]:
        """The weights by timm's names. Raises BadInput with the tensors that lack, are left over or have another shape."""
        wanted, classifier = network.state_dict(), _classifier(network, architecture)
        found = _plain_classifier(self.weights, classifier)
        if wanted.keys() != found.keys() and architecture.split(".")[0] in _IN_ORDER:
            found = _in_order(found, wanted)
        counters = {name: tensor for name, tensor in wanted.items() if name.endswith("num_batches_tracked")}
        found = {**counters, **found}  # torch before 0.4.1 had none, and they say nothing of what was learnt
        self._check(wanted, found, architecture, classifier)
        return {name: found[name] for name in wanted}

    def _check(self, wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], architecture: str, classifier: str) -> None:
        lacking, more = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
        if lacking or more:
            raise BadInput(
                f"{self.file}: not the weights of timm's {architecture}: {_listed('it lacks', lacking)}"
                f"{'; ' if lacking and more else ''}{_listed('it has besides', more)}; name what it is with --architecture"
            )
        wrong = [
            f"{name} is {_shape(found[name])}, there {_shape(tensor)}"
            for name, tensor in wanted.items()
            if found[name].shape != tensor.shape and not name.startswith(f"{classifier}.")
        ]
        if wrong:
            raise BadInput(
                f"{self.file}: not the weights of timm's {architecture}: {_listed('of another shape', wrong)}; name what it is "
                "with --architecture"
            )

    def classes(self, network: nn.Module, architecture: str) -> int:
        """How many classes its last layer has; raises BadInput where there is none."""
        weights = _plain_classifier(self.weights, _classifier(network, architecture))
        last = [tensor for name, tensor in weights.items() if name.endswith(".weight") and tensor.ndim == 2]
        weight = weights.get(f"{_classifier(network, architecture)}.weight", last[-1] if last else None)
        if weight is None:
            raise BadInput(f"{self.file}: no last layer in it that tells classes apart; a backbone goes into a recipe's weights")
        return len(weight)


def read_checkpoint(file: Path | str) -> Checkpoint:
    """Read a file of weights; nothing in it is run.

    Raises MissingArtifact, or BadInput where it isn't one, or holds Python objects instead of tensors.
    """
    file = Path(file)
    if not file.is_file():
        raise MissingArtifact(f"{file}: no such file of weights")
    content = _content(file)
    weights = _tensors(content)
    if not weights:
        raise BadInput(f"{file}: no weights in it (keys: {', '.join(map(str, list(content)[:8]))}); save the model's state_dict")
    beside = file.parent / "config.json"
    config = read_json(beside) if beside.is_file() else {}
    config = config if isinstance(config, dict) else {}
    said = [of.get(name) for of in (content, config) for name in _ARCHITECTURES]
    architecture = next((name for name in said if isinstance(name, str)), None)
    picture = config.get("pretrained_cfg", {})
    return Checkpoint(file, _without_prefixes(weights), architecture, picture if isinstance(picture, dict) else {})


def _content(file: Path) -> Mapping[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        # The reference scripts of torchvision and timm keep their arguments in one of these, a bag of values.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise BadInput(f"{file}: not a safetensors file ({error})") from None
    except Exception as error:  # torch.load fails in as many ways as a file can be wrong
        foreign = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = f"it asks for {foreign[1]}" if foreign else f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        raise BadInput(
            f"{file}: not a file of weights alone ({reason}); Python objects in it could run code and aren't loaded; save "
            "model.state_dict(), best as safetensors"
        ) from None
    if not isinstance(content, Mapping):
        raise BadInput(f"{file}: holds a {type(content).__name__}, where a state_dict is needed; save model.state_dict()")
    return content


def _tensors(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights, wherever a script keeps them."""
    for inner in (*(content.get(place) for place in _PLACES), content):
        if isinstance(inner, Mapping):
            found = {str(name): value for name, value in inner.items() if isinstance(value, Tensor)}
            if len(found) > 1:
                return found
    return {}


def _without_prefixes(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = dict(weights)
    while prefix := next((prefix for prefix in _PREFIXES if all(name.startswith(prefix) for name in found)), None):
        found = {name.removeprefix(prefix): tensor for name, tensor in found.items()}
    return found


def _classifier(network: nn.Module, architecture: str) -> str:
    name = classifier_name(network)
    if name is None:
        raise BadInput(f"{architecture}: its last layer is not one plain layer, and so its classes can't be put in order")
    return name


def _plain_classifier(weights: Mapping[str, Tensor], classifier: str) -> dict[str, Tensor]:
    """With `fc.1.weight` for `fc.weight`: the last layer was put behind a dropout."""
    numbered = re.compile(rf"{re.escape(classifier)}\.\d+\.(weight|bias)")
    inner = [name for name in weights if numbered.fullmatch(name)]
    if len({name.rsplit(".", 1)[0] for name in inner}) != 1:
        return dict(weights)
    return {f"{classifier}.{name.rsplit('.', 1)[1]}" if name in inner else name: tensor for name, tensor in weights.items()}


def _in_order(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """By their place, where as many stand there; shapes are compared afterwards."""
    if len(weights) != len(wanted):
        return dict(weights)
    return dict(zip(wanted, weights.values(), strict=True))


def new_network(architecture: str, classes: int) -> nn.Module:
    """timm's network with random weights; raises BadInput where timm has none of that name."""
    if not timm.is_model(architecture.split(".")[0]):
        raise BadInput(
            f"timm {timm.__version__} has no network named {architecture!r}; name timm's with --architecture, such as resnet50 "
            "or mobilenetv2_100"
        )
    return timm.create_model(architecture, pretrained=False, num_classes=classes)


def _listed(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{what} {', '.join(names[:_NAMED])}{more}"


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "one number"
