"""What only training does to a picture: options of a recipe, the papers' presets, and the chain of changes.

Shapes: C classes; h, w of the network's input. A picture stays uint8 until it is on the device where the network computes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Literal

import taxakey.torchvision_guard  # noqa: F401  before torchvision

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.transforms import v2

from taxakey.dataset.distortion import mirrored, random_blur, random_colours, random_part, random_turn, random_window
from taxakey.dataset.preprocess import Preprocess

_BILINEAR = v2.InterpolationMode.BILINEAR
_AUTOMATIC = {"rand_augment": v2.RandAugment, "trivial_augment": v2.TrivialAugmentWide, "auto_augment": v2.AutoAugment}

_PLANTNET300K = {"crop": "window", "window": 0.875, "flip": True, "colour": 0.0}
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "usual": {},
    "naflora": {"crop": "whole", "flip": True, "rotation": 15.0, "colour": 0.0},
    "plantnet300k": _PLANTNET300K,  # resized to 256, a random window of 224
    "rare": {**_PLANTNET300K, "rare": {"preset": "weak"}},
    "biomachina": {"crop": "whole", "flip": False, "colour": 0.0},  # the paper resizes to 224 and names no augmentation
    "fungiclef": {"crop": "part", "flip": True, "colour": 0.0},  # what the paper says stored embeddings forgo
}
RARE_PRESETS: Mapping[str, Mapping[str, Any]] = {
    "weak": {},
    "aggressive": {"rotation": 45.0, "perspective": 0.5, "blur": 3.0, "colour": 0.5},
}


@dataclass(frozen=True)
class RareOptions:
    """Further changes for classes with fewer than `threshold` training pictures, in place of those for all.

    See `AugmentOptions` for what the numbers mean; the defaults are the preset `weak`.
    """

    threshold: int = 1000
    flip: bool = True
    rotation: float = 15.0
    perspective: float = 0.2
    blur: float = 1.0
    colour: float = 0.1

    def __post_init__(self) -> None:
        if self.threshold < 1:
            raise ValueError(f"threshold is {self.threshold}; it must be at least 1 training picture")
        _check_strengths(self)


@dataclass(frozen=True)
class AugmentOptions:
    """What is cut from the picture, then mirrored, turned, blurred, its colours shifted.

    `crop`: a random `part` of the picture with at least `smallest_part` of its area; a random `window` of the picture fitted so
    that the input is `window` of it (0.875: 224 of 256); or the `whole`, as evaluation sees it. `flip`: mirrored half the time.
    `rotation`: degrees either way. `perspective`: how far corners move inwards, as a share of half an edge. `blur`: largest width
    in pixels. `colour`: strength of changes of brightness, contrast and saturation. `automatic`: RandAugment, TrivialAugment or
    AutoAugment as torchvision has them. `erasing`: how often a rectangle is filled with the mean colour. `rare`: other changes
    for rare classes only.
    """

    crop: Literal["part", "window", "whole"] = "part"
    smallest_part: float = 0.4
    window: float = 0.875
    flip: bool = True
    rotation: float = 0.0
    perspective: float = 0.0
    blur: float = 0.0
    colour: float = 0.2
    automatic: Literal["none", "rand_augment", "trivial_augment", "auto_augment"] = "none"
    erasing: float = 0.0
    rare: RareOptions | None = None

    def __post_init__(self) -> None:
        if not (0 < self.smallest_part <= 1 and 0 < self.window <= 1 and 0 <= self.erasing <= 1):
            raise ValueError("smallest_part and window must lie above 0 and not above 1, erasing between 0 and 1")
        _check_strengths(self)

    def build(self, preprocess: Preprocess, counts_C: NDArray[np.int64]) -> Augment:
        """The chain for pictures of classes with so many training pictures each."""
        return Augment(self, preprocess, counts_C)

    def for_rare(self) -> AugmentOptions:
        """What rare classes undergo, as options of its own."""
        if self.rare is None:
            return self
        own = {name: getattr(self.rare, name) for name in ("flip", "rotation", "perspective", "blur", "colour")}
        return replace(self, rare=None, **own)


def with_preset(given: Any) -> Any:
    """A recipe's `augment:` with its `preset` written out; what is given besides goes before what the preset says."""
    if not isinstance(given, Mapping):
        return given
    merged = _filled(given, PRESETS, "usual")
    rare = merged.get("rare")
    if isinstance(rare, Mapping):
        merged["rare"] = _filled(rare, RARE_PRESETS, "weak")
    return merged


def _filled(given: Mapping[str, Any], presets: Mapping[str, Mapping[str, Any]], usual: str) -> dict[str, Any]:
    name = given.get("preset", usual)
    if name not in presets:
        raise ValueError(f"there is no preset {name!r}; one of {', '.join(presets)}")
    merged = {**presets[name], **given}
    merged.pop("preset", None)
    return merged


def _check_strengths(options: AugmentOptions | RareOptions) -> None:
    if not (0 <= options.rotation <= 180 and 0 <= options.perspective < 1 and options.blur >= 0 and 0 <= options.colour <= 1):
        raise ValueError("rotation must lie between 0 and 180, perspective in [0, 1), colour in [0, 1], blur at least 0")


class Augment:
    """A decoded picture [H, W, 3] -> uint8 [h, w, 3]; what happens follows from the seed, any integer, alone."""

    def __init__(self, options: AugmentOptions, preprocess: Preprocess, counts_C: NDArray[np.int64]) -> None:
        self.counts_C = counts_C
        self.rare_C = counts_C < options.rare.threshold if options.rare else np.zeros(len(counts_C), dtype=bool)
        self._all = _Chain(options, preprocess)
        self._rare = _Chain(options.for_rare(), preprocess)

    @property
    def decoded_edge(self) -> int:
        """`target_edge` of `decode`: pictures needn't be decoded larger."""
        return self._all.decoded_edge

    def __call__(self, image_HW3: NDArray[np.uint8], label: int, seed: int) -> NDArray[np.uint8]:
        return (self._rare if self.rare_C[label] else self._all)(image_HW3, seed)


class _Chain:
    """The changes in their order, those that do nothing left out."""

    def __init__(self, options: AugmentOptions, preprocess: Preprocess) -> None:
        self.options, self.size = options, preprocess.input_size[1:]
        # A window is cut from the picture fitted by the evaluation's own rules, only larger.
        self.preprocess = replace(preprocess, crop_pct=options.window) if options.crop == "window" else preprocess
        squash = preprocess.crop_mode == "squash"
        # Shapes in the picture keep theirs, up to the ratio, also where the input is no square.
        aspect = self.size[1] / self.size[0]
        self.ratio = (0.85 * aspect, 1.18 * aspect) if squash else (3 / 4 * aspect, 4 / 3 * aspect)
        self.fits_first = squash or options.crop != "part"
        self.decoded_edge = self.preprocess.decoded_edge
        if options.crop == "part":
            self.decoded_edge = max(self.decoded_edge, round(max(self.size) / options.smallest_part**0.5))
        fill = [round(255 * value) for value in preprocess.mean]
        steps: list[Any] = []
        if options.automatic != "none":
            steps.append(_AUTOMATIC[options.automatic](interpolation=_BILINEAR, fill=fill))
        if options.erasing:
            steps.append(v2.RandomErasing(options.erasing, value=fill))
        self.by_torchvision = v2.Compose(steps) if steps else None

    def __call__(self, image: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
        random, options = Random(seed), self.options
        image = self._cut(image, random)
        if options.flip and random.random() < 0.5:
            image = mirrored(image)
        if options.rotation or options.perspective:
            image = random_turn(image, options.rotation, options.perspective, random)
        if options.blur:
            image = random_blur(image, options.blur, random)
        if options.colour:
            image = random_colours(image, options.colour, random)
        if self.by_torchvision is None:
            return image
        torch.manual_seed(random.getrandbits(63))  # torchvision draws from torch's own generator
        return self.by_torchvision(torch.from_numpy(image).permute(2, 0, 1)).permute(1, 2, 0).numpy()

    def _cut(self, image: NDArray[np.uint8], random: Random) -> NDArray[np.uint8]:
        # A network that sees whole pictures pressed into its input must learn from parts of such.
        fitted = self.preprocess.fitted(image) if self.fits_first else image
        if self.options.crop == "part":
            return random_part(fitted, self.size, self.options.smallest_part, self.ratio, random)
        if self.options.crop == "window":
            return random_window(fitted, self.size, random)
        return self.preprocess.centre(fitted)
