"""Crops of a picture against cutting it by hand."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from small_pictures import noise

from taxakey.dataset import crops as module
from taxakey.dataset.crops import CropOptions, Crops
from taxakey.dataset.preprocess import Preprocess, decode
from taxakey.errors import BadInput

PREPROCESS = Preprocess(input_size=(3, 56, 56), crop_pct=0.875)


def encoded(height: int = 90, width: int = 130) -> bytes:
    buffer = io.BytesIO()
    noise(5, height, width).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def test_five_crops_are_the_corners_and_the_centre_of_the_fitted_picture() -> None:
    data = encoded()
    fitted = PREPROCESS.standardise(PREPROCESS.fitted(decode(data)))
    height, width = fitted.shape[1:]
    assert height == 64
    assert width > 64
    made = Crops(CropOptions.named("five"), PREPROCESS).load(data)
    expected = [fitted[:, :56, :56], fitted[:, :56, -56:], fitted[:, -56:, :56], fitted[:, -56:, -56:]]
    assert_array_equal(made[:4], np.stack(expected))
    assert_array_equal(made[4], PREPROCESS.load(data))


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
def test_many_crops_differ_and_are_the_same_for_the_same_picture(mode: str) -> None:
    preprocess = replace(PREPROCESS, crop_mode=mode, crop_pct=1.0)
    crops = Crops(CropOptions.named("30"), preprocess)
    made = crops.load(encoded())
    assert made.shape == (30, 3, 56, 56)
    assert made.dtype == np.float32
    assert len({crop.tobytes() for crop in made}) > 8
    assert_array_equal(crops.load(encoded()), made)


def test_a_picture_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(module, "decode", lambda *a, **k: calls.append(1) or decode(*a, **k))
    Crops(CropOptions.named("20"), PREPROCESS).load(encoded())
    assert len(calls) == 1


def test_crops_are_averaged_or_their_best_are_summed() -> None:
    # two crops of one picture, three classes
    probabilities = np.array([[[0.5, 0.3, 0.2], [0.1, 0.15, 0.75]]])
    assert_allclose(CropOptions(2).combined(probabilities), [[0.3, 0.225, 0.475]])
    # of each crop the best two: 0.5 + 0, 0.3 + 0.15, 0 + 0.75, over their sum 1.7
    assert_allclose(CropOptions(2, top=2).combined(probabilities), [[0.5 / 1.7, 0.45 / 1.7, 0.75 / 1.7]])
    assert_allclose(CropOptions(2, top=3).combined(probabilities), [[0.3, 0.225, 0.475]])
    assert probabilities[0, 0, 2] == 0.2, "what came in must stay as it was"


@pytest.mark.parametrize("name", ["six", "0", "-3", "2.5", "5000", "²"])
def test_what_is_no_number_of_crops_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="five"):
        CropOptions.named(name)


def test_none_of_the_best_is_refused() -> None:
    with pytest.raises(BadInput, match="choose 1 or more"):
        CropOptions.named("five", top=0)
