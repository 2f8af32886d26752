"""Masking: text on sheets goes, all else stays to the pixel, photographs are left alone, and it is the same each time."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("rapidocr", reason="the extra `mask` isn't installed")
pytest.importorskip("onnxruntime", reason="the extra `mask` isn't installed")

from taxakey.dataset.labels import find_regions
from taxakey.dataset.masking import (
    MaskOptions,
    TextMasker,
    check_installed,
    may_be_sheet,
    paint,
    painted,
    share_of_paper,
    text_masker,
    whole_pixels,
)
from taxakey.dataset.preprocess import decode
from taxakey.errors import BadInput, MissingExtra
from taxakey.records.sample import INSTITUTIONS, Collection, SampleOptions
from taxakey.records.sample.options import stream
from taxakey.records.sample.sheet import mount

Picture = NDArray[np.uint8]
EDGE = 768
"""Enough for letters of this size, and four times faster than the default."""
LINES = ("HERBARIUM OF NOWHERE", "Bellis perennis L.", "leg. A. Nobody 1901")


@pytest.fixture(scope="module")
def masker() -> TextMasker:
    return text_masker(MaskOptions(edge=EDGE))


def drawn_sheet() -> tuple[Picture, Picture]:
    """A sheet with three lines of text and a leaf, and the same without the text."""
    bare = np.full((750, 500, 3), (244, 240, 226), np.uint8)
    cv2.ellipse(bare, (200, 300), (90, 200), 20, 0, 360, (60, 90, 40), -1, cv2.LINE_AA)
    cv2.line(bare, (200, 320), (190, 640), (90, 80, 40), 6, cv2.LINE_AA)
    written = bare.copy()
    for number, line in enumerate(LINES):
        cv2.putText(written, line, (255, 620 + 28 * number), cv2.FONT_HERSHEY_DUPLEX, 0.5, (30, 30, 30), 1, cv2.LINE_AA)
    return written, bare


# ---- what is masked ----


def test_written_lines_are_covered_and_the_leaf_is_not(masker: TextMasker) -> None:
    written, bare = drawn_sheet()
    found = masker(written, written, seed=1)
    assert found is not None
    masked, boxes_N42 = found
    covered_HW = painted(boxes_N42, written.shape[:2])
    letters_HW = (written != bare).any(axis=-1)
    assert covered_HW[letters_HW].mean() > 0.98
    assert not covered_HW[:590].any()
    assert np.array_equal(masked[~covered_HW], written[~covered_HW])
    assert covered_HW.mean() < 0.06
    assert not len(masker.find_text(masked))


def test_what_was_written_does_not_shine_through(masker: TextMasker) -> None:
    # The fill comes from the seed and what lies outside the boxes: whatever is written inside them, it is the same.
    written, bare = drawn_sheet()
    _, boxes_N42 = masker(written, written, seed=1) or (None, np.empty(0))
    covered_HW = painted(boxes_N42, bare.shape[:2])
    letters_HW = (written != bare).any(axis=-1)
    emptied = np.where((letters_HW & covered_HW)[..., None], bare, written)
    assert (emptied != written).any()
    assert np.array_equal(paint(written, boxes_N42, 0.004, 1), paint(emptied, boxes_N42, 0.004, 1))


def test_the_seed_decides_the_noise(masker: TextMasker) -> None:
    written, _ = drawn_sheet()
    first, again, other = (masker(written, written, seed=seed) for seed in (1, 1, 2))
    assert first is not None
    assert again is not None
    assert other is not None
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])


def test_text_is_found_in_full_detail_and_painted_on_the_smaller_picture(masker: TextMasker) -> None:
    written, bare = drawn_sheet()
    large = cv2.resize(written, (1000, 1500), interpolation=cv2.INTER_CUBIC)
    small = cv2.resize(written, (200, 300), interpolation=cv2.INTER_AREA)
    masked, boxes_N42 = masker(large, small, seed=1) or (small, np.empty(0))
    letters_HW = cv2.resize((written != bare).any(axis=-1).astype(np.float32), (200, 300), interpolation=cv2.INTER_AREA) > 0.2
    assert masked.shape == small.shape
    assert painted(boxes_N42, (300, 200))[letters_HW].mean() > 0.98


class Scripted(TextMasker):
    """Finds what the script says, look by look."""

    def __init__(self, script: list[list[tuple[int, int, int, int]]], **options: int) -> None:
        self.options = MaskOptions(**options)  # type: ignore[arg-type]
        self.script = script
        self.looks = 0

    def find_text(self, image_HW3: Picture) -> NDArray[np.float32]:
        frames = self.script[self.looks]
        self.looks += 1
        return np.reshape([[(a, b), (c, b), (c, d), (a, d)] for a, b, c, d in frames], (-1, 4, 2)).astype(np.float32)


def test_a_later_look_adds_what_touches_the_text_and_is_no_larger() -> None:
    _, bare = drawn_sheet()
    beside, apart, whole = (199, 600, 230, 620), (50, 50, 60, 60), (90, 590, 260, 640)
    masker = Scripted([[(100, 600, 200, 620)], [beside, apart, whole], []], rounds=5)
    found = masker(bare, bare, seed=0)
    assert found is not None
    assert [(*box[0].tolist(), *box[2].tolist()) for box in found[1]] == [(100, 600, 200, 620), beside]
    assert masker.looks == 3
    masker = Scripted([[(100, 600, 200, 620)], [beside], [beside]], rounds=2)
    assert masker(bare, bare, seed=0) is not None
    assert masker.looks == 2


def test_where_nothing_was_found_nobody_looks_again() -> None:
    _, bare = drawn_sheet()
    masker = Scripted([[]], rounds=3)
    found = masker(bare, bare, seed=0)
    assert found is not None
    assert np.array_equal(found[0], bare)


def test_boxes_that_are_too_large_or_too_doubtful_are_left() -> None:
    written, _ = drawn_sheet()
    assert not len(TextMasker(MaskOptions(edge=EDGE, largest_box=0.001)).find(written))
    assert not len(TextMasker(MaskOptions(edge=EDGE, score=0.999)).find(written))


@pytest.mark.parametrize("number", range(3))
def test_labels_of_the_simulated_herbarium(masker: TextMasker, number: int) -> None:
    collection = Collection(SampleOptions(sheets=60, size=750, seed=5))
    specimen = collection.specimen(number)
    institution = INSTITUTIONS[specimen.institution]
    sheet = mount(collection.flora.species[specimen.species], specimen, institution, 750, stream(0, "plant", number))
    masked, boxes_N42 = masker(sheet, sheet, seed=0) or (sheet, np.empty((0, 4, 2), np.int32))
    covered_HW = painted(boxes_N42, sheet.shape[:2])
    left, top, right, bottom = (round(edge * sheet.shape[1]) for edge in institution.label)
    label = sheet[top:bottom, left:right].astype(int)
    inner_HW = np.zeros(label.shape[:2], bool)
    inner_HW[12:-12, 12:-12] = True  # without the frame
    ink_HW = inner_HW & (label.sum(axis=-1) < 240)
    assert ink_HW.sum() > 100
    assert covered_HW[top:bottom, left:right][ink_HW].mean() > 0.9
    assert np.array_equal(masked[~covered_HW], sheet[~covered_HW])
    assert covered_HW.mean() < 0.12


# ---- whole labels ----


def test_labels_take_the_block_of_lines_and_the_stamp_with_its_outline() -> None:
    sheet, _ = drawn_sheet()
    cv2.ellipse(sheet, (400, 90), (70, 45), 0, 0, 360, (110, 30, 30), 3, cv2.LINE_AA)
    cv2.putText(sheet, "MUSEUM", (358, 98), cv2.FONT_HERSHEY_DUPLEX, 0.7, (110, 30, 30), 1, cv2.LINE_AA)
    masker = TextMasker(MaskOptions(edge=EDGE, what="labels"))
    covered_HW = painted(masker.find(sheet), sheet.shape[:2])
    lines_HW = painted(TextMasker(MaskOptions(edge=EDGE)).find(sheet), sheet.shape[:2])
    assert covered_HW[48:133, 332:469].mean() > 0.98  # all of the oval's rectangle
    assert not lines_HW[48:60, 390:410].any()
    assert covered_HW[lines_HW].all()
    between = covered_HW[610:680, 260:400]
    assert between.all()
    assert not lines_HW[610:680, 260:400].all()
    assert not covered_HW[140:590].any()


def test_without_text_there_are_no_regions() -> None:
    _, bare = drawn_sheet()
    assert find_regions(bare, np.empty((0, 4, 2), np.float32)).shape == (0, 4, 2)


# ---- what is left alone ----


@pytest.mark.parametrize(
    ("basis", "expected"),
    [("PRESERVED_SPECIMEN", True), ("PreservedSpecimen", True), (None, True), ("", True), ("HUMAN_OBSERVATION", False)],
)
def test_the_record_says_whether_it_may_be_a_sheet(basis: str | None, expected: bool) -> None:
    assert may_be_sheet(basis) is expected


def test_paper_is_plain_light_and_hardly_coloured() -> None:
    def filled(*colour: int) -> Picture:
        return np.full((60, 40, 3), colour, np.uint8)

    for paper in ((250, 250, 250), (222, 206, 172), (230, 240, 225)):
        assert share_of_paper(filled(*paper)) == 1
    for other in ((20, 20, 20), (110, 110, 110), (255, 200, 0), (250, 90, 160)):
        assert share_of_paper(filled(*other)) == 0
    half = filled(240, 240, 230)
    half[:30] = 10
    assert share_of_paper(half) == pytest.approx(0.5)


def test_a_picture_without_paper_is_left_alone(masker: TextMasker) -> None:
    photo = np.full((400, 300, 3), (40, 80, 40), np.uint8)
    cv2.putText(photo, "Bellis perennis", (20, 200), cv2.FONT_HERSHEY_DUPLEX, 0.5, (255, 255, 255), 1)
    assert len(masker.find(photo))  # it would find something
    assert masker(photo, photo, seed=0) is None


def test_photographs_of_flowers_are_left_alone(masker: TextMasker, shared_data: Path) -> None:
    files = sorted((shared_data / "images/flowers102").rglob("*.jpg"))[::200]
    found = [masker(image, image, seed=0) for image in map(decode, files)]
    shares = [0.0 if result is None else painted(result[1], result[0].shape[:2]).mean() for result in found]
    assert sum(result is not None for result in found) <= 0.1 * len(files)
    assert np.mean(shares) < 0.001


def test_text_on_real_sheets(shared_data: Path) -> None:
    masker = TextMasker(MaskOptions(rounds=1))
    files = sorted((shared_data / "herbarium/sheets_huh_500x750").rglob("*.jpg"))[::58]
    assert len(files) == 3
    for file in files:
        sheet = decode(file)
        found = masker(sheet, sheet, seed=0)
        assert found is not None
        masked, boxes_N42 = found
        covered_HW = painted(boxes_N42, sheet.shape[:2])
        assert len(boxes_N42) >= 5
        assert 0.005 < covered_HW.mean() < 0.12
        assert np.array_equal(masked[~covered_HW], sheet[~covered_HW])


# ---- boxes, options, the extra ----


def test_boxes_by_hand() -> None:
    box = np.array([[[1, 1], [3, 1], [3, 2], [1, 2]]], np.int32)
    assert np.argwhere(painted(box, (4, 5))).tolist() == [[1, 1], [1, 2], [1, 3], [2, 1], [2, 2], [2, 3]]
    assert whole_pixels(box, 0.5, (4, 5))[0].tolist() == [[0, 0], [2, 0], [2, 1], [0, 1]]
    assert whole_pixels(10 * box, 1.0, (4, 5))[0].tolist() == [[4, 3], [4, 3], [4, 3], [4, 3]]


def test_nothing_to_paint_changes_nothing() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    assert np.array_equal(paint(image, np.empty((0, 4, 2), np.int32), 0.1, 0), image)


@pytest.mark.parametrize(
    "wrong", [{"what": "plants"}, {"edge": 8}, {"score": 0}, {"largest_box": 1.5}, {"rounds": 0}, {"paper": 0}, {"growth": 0}]
)
def test_options_that_make_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        MaskOptions(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("package", ["rapidocr", "onnxruntime"])
def test_without_the_extra_the_error_names_it(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taxakey.dataset.masking.find_spec", lambda name: None if name == package else sys)
    with pytest.raises(MissingExtra, match=rf"'{package}' isn't installed; run: pip install 'taxakey\[mask\]'"):
        check_installed()
    with pytest.raises(MissingExtra):
        TextMasker()


def test_flags_of_one_masker_do_not_reach_another() -> None:
    written, _ = drawn_sheet()
    before = TextMasker(MaskOptions(edge=EDGE))
    first = before.find(written)
    TextMasker(MaskOptions(edge=EDGE, score=0.99)).find(written)
    assert np.array_equal(before.find(written), first)
