"""What training does to a picture: every option changes pixels, none the shape, and rare classes only where asked."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import taxakey.torchvision_guard  # noqa: F401  before torchvision

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from small_pictures import noise
from torchvision.transforms.v2 import functional as F

from taxakey.dataset import distortion
from taxakey.dataset.augment import PRESETS, AugmentOptions, RareOptions, with_preset
from taxakey.dataset.preprocess import Preprocess
from taxakey.errors import BadRecipe
from taxakey.training.recipe import recipe_from

PICTURE = np.asarray(noise(3, 90, 130))
PREPROCESS = Preprocess(input_size=(3, 56, 48))
COUNTS = np.array([5, 10, 11])
STILL = AugmentOptions(crop="whole", flip=False, colour=0.0)
# Each grey level tells where a pixel was: rows in red, columns in green.
ROWS, COLUMNS = np.mgrid[0:100, 0:150]
PLACES = np.stack([ROWS, COLUMNS, 0 * ROWS], axis=2).astype(np.uint8)

CHANGES: dict[str, dict[str, Any]] = {
    "part": {"crop": "part", "smallest_part": 0.3},
    "window": {"crop": "window", "window": 0.7},
    "flip": {"flip": True},
    "rotation": {"rotation": 20.0},
    "perspective": {"perspective": 0.4},
    "blur": {"blur": 3.0},
    "colour": {"colour": 0.3},
    "rand_augment": {"automatic": "rand_augment"},
    "trivial_augment": {"automatic": "trivial_augment"},
    "auto_augment": {"automatic": "auto_augment"},
    "erasing": {"erasing": 1.0},
}


def build(options: AugmentOptions, preprocess: Preprocess = PREPROCESS) -> Any:
    return options.build(preprocess, COUNTS)


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
def test_without_changes_training_sees_what_evaluation_sees(mode: str) -> None:
    preprocess = replace(PREPROCESS, crop_mode=mode)
    pixels = build(STILL, preprocess)(PICTURE, 0, seed=1)
    assert_array_equal(preprocess.standardise(pixels), preprocess(PICTURE))


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("name", CHANGES)
def test_each_option_changes_pixels_and_not_the_shape_and_follows_from_the_seed(name: str, mode: str) -> None:
    preprocess = replace(PREPROCESS, crop_mode=mode)
    still, augment = build(STILL, preprocess)(PICTURE, 0, seed=0), build(replace(STILL, **CHANGES[name]), preprocess)
    made = [augment(PICTURE, 0, seed=seed) for seed in range(12)]
    for seed, pixels in enumerate(made):
        assert pixels.shape == (56, 48, 3)
        assert pixels.dtype == np.uint8
        torch.manual_seed(99)
        assert_array_equal(augment(PICTURE, 0, seed=seed), pixels)
    changed = [pixels for pixels in made if (pixels != still).any()]
    assert len(changed) >= (3 if name in ("flip", "auto_augment") else 8), name
    assert len({pixels.tobytes() for pixels in made}) > 1


def test_only_rare_classes_are_changed_and_common_ones_exactly_as_without() -> None:
    common = AugmentOptions(crop="window", colour=0.1)
    both = replace(common, rare=RareOptions(threshold=11))
    for seed in range(10):
        for label, count in enumerate(COUNTS):
            with_rare, without = build(both)(PICTURE, label, seed), build(common)(PICTURE, label, seed)
            assert (with_rare == without).all() == (count >= 11), (seed, label)


def test_the_aggressive_setting_changes_more() -> None:
    still = build(STILL)(PICTURE, 0, 0).astype(int)

    def change(preset: str) -> float:
        rare = RareOptions(**{key: value for key, value in _rare(preset).items() if key != "flip"}, flip=False)
        augment = build(replace(STILL, rare=rare))
        return float(np.mean([np.abs(augment(PICTURE, 0, seed).astype(int) - still).mean() for seed in range(20)]))

    assert change("aggressive") > 1.5 * change("weak") > 0


def _rare(preset: str) -> dict[str, Any]:
    return with_preset({"rare": {"preset": preset, "threshold": 20}})["rare"]


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_options_and_what_is_given_goes_before(name: str) -> None:
    options = recipe_from({"name": "a", "augment": {"preset": name}}, "r").augment
    assert options == recipe_from({"name": "a", "augment": {"preset": name, "flip": options.flip}}, "r").augment
    turned = recipe_from({"name": "a", "augment": {"preset": name, "rotation": 33}}, "r").augment
    assert turned == replace(options, rotation=33.0)


def test_presets_say_what_the_papers_say() -> None:
    def of(**given: Any) -> AugmentOptions:
        return recipe_from({"name": "a", "augment": given}, "r").augment

    assert of() == AugmentOptions()
    assert of(preset="naflora") == AugmentOptions(crop="whole", rotation=15.0, colour=0.0)
    assert of(preset="rare").rare == RareOptions(threshold=1000, rotation=15.0, perspective=0.2, blur=1.0, colour=0.1)
    narrowed = of(preset="rare", rare={"preset": "aggressive", "threshold": 20}).rare
    assert narrowed == RareOptions(threshold=20, rotation=45.0, perspective=0.5, blur=3.0, colour=0.5)
    assert of(preset="rare", rare=None).rare is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"preset": "nonsense"}, "no preset 'nonsense'; one of usual, naflora"),
        ({"rare": {"preset": "strong"}}, "no preset 'strong'; one of weak, aggressive"),
        ({"rare": {"threshold": 0}}, "threshold is 0"),
        ({"rotation": 200}, "rotation must lie between 0 and 180"),
        ({"smallest_part": 0}, "smallest_part and window must lie above 0"),
        ({"colour": 2}, "colour in"),
        ({"rare": {"bogus": 1}}, "Unexpected keyword argument"),
    ],
)
def test_says_what_is_wrong(given: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRecipe, match=message):
        recipe_from({"name": "a", "augment": given}, "r.yaml")


def test_a_random_part_has_the_size_that_was_asked_for() -> None:
    areas, shapes = [], []
    for seed in range(300):
        part = distortion.random_part(PLACES, (40, 40), 0.3, (0.8, 1.25), Random(seed)).astype(int)
        # bilinear enlarging or shrinking reaches the part's edges to within a pixel
        h, w = np.ptp(part[:, :, 0]) + 1, np.ptp(part[:, :, 1]) + 1
        areas.append(h * w / 15_000)
        shapes.append(w / h)
    assert 0.26 < min(areas) < 0.34
    assert 0.6 < max(areas) <= 1
    assert min(shapes) > 0.75
    assert max(shapes) < 1.32
    thin = distortion.random_part(PLACES[:2], (40, 40), 0.9, (0.8, 1.25), Random(0))
    assert thin.shape == (40, 40, 3)
    assert 70 <= thin[:, :, 1].min() <= thin[:, :, 1].max() <= 80, "nothing fits: the middle"


def test_windows_reach_every_place() -> None:
    corners = {tuple(distortion.random_window(PLACES, (98, 149), Random(seed))[0, 0, :2]) for seed in range(200)}
    assert corners == {(row, column) for row in range(3) for column in range(2)}


def test_a_turn_by_nothing_is_nothing_and_a_quarter_is_numpys() -> None:
    square = PLACES[:80, :80]
    assert_array_equal(distortion.random_turn(square, 0.0, 0.0, Random(0)), square)

    class Quarter(Random):
        def uniform(self, low: float, high: float) -> float:
            return high

    turned = distortion.random_turn(square, 90.0, 0.0, Quarter())
    inner = np.abs(turned[2:-2, 2:-2].astype(int) - np.rot90(square)[2:-2, 2:-2])
    assert inner.max() <= 1  # the centre of turning lies between pixels
    aslant = distortion.random_turn(square, 0.0, 0.5, Quarter())
    assert aslant[0, 0, 0] == pytest.approx(20, abs=1), "the upper left corner now shows what was a quarter further in"


def test_colours_are_torchvisions() -> None:
    """Brightness, then saturation, then contrast, by torchvision's own functions one after another."""
    picture = (PICTURE // 3 + 70).astype(np.uint8)  # where nothing is clipped on the way

    class Factors(Random):
        def __init__(self) -> None:
            super().__init__()
            self.left = [1.1, 0.8, 1.3]

        def uniform(self, low: float, high: float) -> float:
            return self.left.pop(0)

    ours = distortion.random_colours(picture, 0.5, Factors())
    pixels = torch.from_numpy(picture).permute(2, 0, 1) / 255  # its functions cut off what uint8 can't hold, each anew
    theirs = F.adjust_contrast(F.adjust_saturation(F.adjust_brightness(pixels, 1.1), 1.3), 0.8)
    assert np.abs(ours - 255 * theirs.permute(1, 2, 0).numpy()).max() < 0.6
