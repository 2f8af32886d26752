"""Scale bars: a drawn one gives its scale, whatever way it lies; what resembles one doesn't."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from taxakey.dataset.preprocess import decode
from taxakey.dataset.ruler import find_ruler, pixels_per_mm


def with_bar(centimetre: float, blocks: int = 10, *, light: int = 225, dark: int = 30, height: int = 8) -> NDArray[np.uint8]:
    """Paper on a dark board and a bar of blocks at 60 pixels from the left and 20 from the top."""
    image = np.full((900, 700, 3), 25, np.uint8)
    image[60:880, 20:680] = (240, 236, 220)
    image[14 : 26 + height, 50 : 70 + round(blocks * centimetre)] = dark
    for block in range(0, blocks, 2):
        start, end = (round(60 + centimetre * edge) for edge in (block, block + 1))
        image[20 : 20 + height, start:end] = light
    return image


@pytest.mark.parametrize("centimetre", [15.2, 21.0, 30.5, 47.3])
def test_a_lying_bar(centimetre: float) -> None:
    ruler = find_ruler(with_bar(centimetre))
    assert ruler is not None
    assert ruler.pixels_per_mm == pytest.approx(centimetre / 10, rel=0.01)
    left, top, right, bottom = ruler.box
    assert abs(left - 60) <= 1
    assert 20 <= top < bottom <= 28
    assert right - left >= 8 * centimetre


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_bar_that_stands_or_lies_upside_down(turns: int) -> None:
    assert pixels_per_mm(np.ascontiguousarray(np.rot90(with_bar(22.0), turns))) == pytest.approx(2.2, rel=0.01)


def test_a_bar_a_little_askew_blurred_and_noisy() -> None:
    turn = cv2.getRotationMatrix2D((350, 450), 0.5, 1.0)
    askew = cv2.warpAffine(with_bar(30.0, height=16), turn, (700, 900))
    noisy = cv2.GaussianBlur(askew, (0, 0), 1) + np.random.default_rng(0).normal(0, 4, askew.shape)
    assert pixels_per_mm(np.clip(noisy, 0, 255).astype(np.uint8)) == pytest.approx(3.0, rel=0.01)


def test_what_resembles_a_bar_is_none() -> None:
    assert find_ruler(with_bar(25.0, blocks=6)) is None  # too few blocks
    assert find_ruler(with_bar(25.0, light=70)) is None  # hardly any contrast
    assert find_ruler(with_bar(25.0, height=2)) is None  # two lines of pixels only
    assert find_ruler(with_bar(4.0, blocks=40)) is None  # runs too short
    assert find_ruler(np.full((900, 700, 3), 240, np.uint8)) is None


def test_blocks_of_uneven_length_are_none() -> None:
    image = np.full((900, 700, 3), 30, np.uint8)
    x = 60
    for number, length in enumerate((20, 31, 18, 27, 22, 34, 19, 29, 23, 33, 17)):
        image[20:30, x : x + length] = 225 if number % 2 else 30
        x += length
    assert find_ruler(image) is None


def test_a_scale_that_no_sheet_can_have_is_none() -> None:
    tall = np.full((9000, 700, 3), 25, np.uint8)
    tall[:900] = with_bar(20.0)
    assert find_ruler(tall) is None  # 4.5 m of sheet


def test_real_bars(shared_data: Path) -> None:
    """Ten centimetres read off two enlarged pictures by eye; photographs of flowers have none."""
    lying = decode(next((shared_data / "herbarium/sheets_huh_500x750/Rhododendron_prinophyllum").glob("*.jpg")))
    assert pixels_per_mm(lying) == pytest.approx(1.53, rel=0.03)
    standing = decode(shared_data / "herbarium/sheets_large/0421f9c6a6.jpg")
    assert pixels_per_mm(standing) == pytest.approx(3.23, rel=0.02)
    for file in sorted((shared_data / "images/flowers102").rglob("*.jpg"))[::150]:
        assert pixels_per_mm(decode(file)) is None, file
