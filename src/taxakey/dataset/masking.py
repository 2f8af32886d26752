"""Makes the text on pictures of herbarium sheets unreadable, so that a network must look at the plant.

The regions that a text detector finds are filled with uniform noise and blurred, as Park et al. (2024) did for NAFlora-1M; they
used CRAFT, this is the detector that travels in rapidocr's wheel (PP-OCR, a DB network: Liao et al., 2020), so nothing is
downloaded. It fires on petals and gravel too, hence it only sees pictures that are mostly plain, light paper and whose record
doesn't say that they show anything but a preserved specimen.

Shapes: H, W of the picture; N boxes. A box is a quadrilateral: x and y of its four corners in pixels, clockwise from top left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from taxakey.dataset.labels import find_regions
from taxakey.errors import BadInput, MissingExtra

Image = NDArray[np.uint8]
Boxes = NDArray[np.int32]

WHAT = ("text", "labels")
_STRIDE = 32
"""Edges that the network takes are multiples of it."""
_MOST_ENLARGED = 2.0
_CORE = 0.2
"""Least probability of a pixel that counts as text; at rapidocr's 0.3 lines lose their ends."""

# A sheet, seen at 160 pixels, where colours are those of areas: values of OpenCV's Lab, 0 to 255.
_LOOK_AT = 160
_LIGHT = 165
_LIGHTNESS_RANGE, _COLOUR_RANGE = 14, 8
_MOST_CHROMA = 40


@dataclass(frozen=True)
class MaskOptions:
    """What is masked, and how. The defaults were chosen on 50 sheets; docs/LOG.md has the figures of 50 others.

    `what`: "text", or "labels" for blocks of text, stamps, frames and scale bars as a whole (see `labels`).
    `edge`: the detector sees the picture with this longest edge in pixels, but enlarged twice at most; small print needs it.
    `score`: least mean probability of text in a box. `growth`: how far a box is grown beyond the letters' cores, as the ratio of
    area to perimeter (DB's unclip ratio). `largest_box`: a larger one, as a share of the picture, is taken for an error.
    `paper`: least share of plain, light paper in a picture that counts as a sheet. `blur`: sigma as a share of the longest edge;
    noise that is blurred less looks like text again. `rounds`: how often the detector runs at most, from the second time on over
    the masked picture; a second look doubles the time and made one of 139 characters illegible that the first had left. `share`:
    of the pictures, drawn by the hash of their bytes, so that both kinds can be compared.
    """

    what: str = "text"
    edge: int = 1504
    score: float = 0.4
    growth: float = 1.4
    largest_box: float = 0.02
    paper: float = 0.25
    blur: float = 0.004
    rounds: int = 1
    share: float = 1.0

    def __post_init__(self) -> None:
        if self.what not in WHAT:
            raise BadInput(f"what is {self.what!r}; one of {', '.join(WHAT)}")
        if self.edge < _STRIDE or self.rounds < 1 or self.growth <= 0:
            raise BadInput(
                f"edge is {self.edge} ({_STRIDE} or more), rounds {self.rounds} (1 or more) and growth {self.growth} (above 0)"
            )
        for name in ("score", "largest_box", "paper", "blur", "share"):
            if not 0 < getattr(self, name) <= 1:
                raise BadInput(f"{name} is {getattr(self, name)}; it must lie above 0 and not above 1")


# ---- what is looked at ----


def may_be_sheet(basis_of_record: str | None) -> bool:
    """Whether Darwin Core's basisOfRecord allows for a sheet: PRESERVED_SPECIMEN in any spelling, or nothing at all."""
    letters = "".join(filter(str.isalpha, basis_of_record or "")).lower()
    return letters in ("", "preservedspecimen")


def share_of_paper(image_HW3: Image) -> float:
    """Share of a picture that has the colour of its plain, light ground; 0 where that is dark or colourful.

    Of the pixels that are light, the commonest lightness and the median colour at it are the ground.

    >>> share_of_paper(np.full((30, 20, 3), 240, dtype=np.uint8))
    1.0
    """
    height, width = image_HW3.shape[:2]
    ratio = min(1.0, _LOOK_AT / max(height, width))
    size = max(1, round(width * ratio)), max(1, round(height * ratio))
    lab = (
        cv2.cvtColor(cv2.resize(image_HW3, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2LAB).reshape(-1, 3).astype(np.int32)
    )
    light = lab[lab[:, 0] > _LIGHT]
    if not len(light):
        return 0.0
    ground = np.convolve(np.bincount(light[:, 0], minlength=256), np.ones(9), "same").argmax()
    colour = np.median(light[np.abs(light[:, 0] - ground) <= _LIGHTNESS_RANGE / 2, 1:], axis=0)
    if np.hypot(*(colour - 128)) > _MOST_CHROMA:
        return 0.0
    same = (np.abs(lab[:, 0] - ground) <= _LIGHTNESS_RANGE) & (np.abs(lab[:, 1:] - colour) <= _COLOUR_RANGE).all(axis=1)
    return float(same.mean())


# ---- the detector ----


def check_installed() -> None:
    """Raises MissingExtra where the detector or what runs it isn't installed; imports neither."""
    for package in ("rapidocr", "onnxruntime"):
        if find_spec(package) is None:
            raise MissingExtra(f"the package {package!r} isn't installed; run: pip install 'taxakey[mask]'")


class TextMasker:
    """The detector with its options; one a process is enough (`text_masker`), it runs on one thread.

    Raises MissingExtra without rapidocr or onnxruntime.
    """

    def __init__(self, options: MaskOptions | None = None) -> None:
        check_installed()
        from rapidocr import RapidOCR

        self.options = options or MaskOptions()
        # Everything is said here and nothing at the call: rapidocr keeps what a call is given for all calls after it.
        self._detector = RapidOCR(params=_detector_settings(self.options))

    def find_text(self, image_HW3: Image) -> NDArray[np.float32]:
        """Boxes [N, 4, 2] in the pixels of the picture given, none below `score` or above `largest_box`.

        Without their scores: rapidocr 3.10 sorts its boxes and leaves the scores in another order.
        """
        height, width = image_HW3.shape[:2]
        ratio = min(_MOST_ENLARGED, self.options.edge / max(height, width))
        seen = [max(_STRIDE, round(edge * ratio / _STRIDE) * _STRIDE) for edge in (width, height)]
        flag = cv2.INTER_AREA if ratio < 1 else cv2.INTER_CUBIC
        found = self._detector(cv2.resize(image_HW3, seen, interpolation=flag)[:, :, ::-1])
        if found.boxes is None:
            return np.empty((0, 4, 2), np.float32)
        boxes_N42 = np.asarray(found.boxes, np.float32) * np.array([width / seen[0], height / seen[1]], np.float32)
        areas_N = np.array([cv2.contourArea(box) for box in boxes_N42])
        return boxes_N42[areas_N <= self.options.largest_box * width * height]

    def find(self, image_HW3: Image) -> Boxes:
        """Boxes [N, 4, 2] of all that `what` asks for, in whole pixels of the picture given."""
        boxes_N42 = self.find_text(image_HW3)
        if self.options.what == "labels":
            boxes_N42 = np.concatenate([boxes_N42, find_regions(image_HW3, boxes_N42)])
        return whole_pixels(boxes_N42, 1.0, image_HW3.shape[:2])

    def __call__(self, detailed_HW3: Image, stored_HW3: Image, seed: int) -> tuple[Image, Boxes] | None:
        """Mask a picture: it with noise in place of text and the boxes [N, 4, 2]; None where it doesn't look like a sheet.

        Text is found on `detailed_HW3` and painted over on `stored_HW3`, the same picture at the size wanted (or the very
        same); then the detector looks at the result, until it finds no more beside what is painted or `rounds` is reached.
        """
        if share_of_paper(stored_HW3) < self.options.paper:
            return None
        size = stored_HW3.shape[:2]
        boxes_N42 = whole_pixels(self.find(detailed_HW3), size[0] / detailed_HW3.shape[0], size)
        masked = paint(stored_HW3, boxes_N42, self.options.blur, seed)
        for _ in range(self.options.rounds - 1):
            missed_N42 = self._missed(masked, boxes_N42)
            if not len(missed_N42):
                break
            boxes_N42 = np.concatenate([boxes_N42, missed_N42])
            masked = paint(stored_HW3, boxes_N42, self.options.blur, seed)
        return masked, boxes_N42

    def _missed(self, masked_HW3: Image, boxes_N42: Boxes) -> Boxes:
        """What is found on a masked picture: ends of lines, and letters that stand beside what is painted.

        Where no text is left the detector turns to leaves and to the painted bars as a whole. So a box must touch what is
        painted and be no larger than the largest one so far.
        """
        if not len(boxes_N42):
            return boxes_N42
        size = masked_HW3.shape[:2]
        largest = max(cv2.contourArea(box) for box in boxes_N42)
        covered_HW = painted(boxes_N42, size)
        found_N42 = whole_pixels(self.find_text(masked_HW3), 1.0, size)
        keep_N = [cv2.contourArea(box) <= largest and covered_HW[painted(box[None], size)].any() for box in found_N42]
        return found_N42[np.array(keep_N, dtype=bool)]


def _detector_settings(options: MaskOptions) -> Mapping[str, Any]:
    return {
        "Global.log_level": "error",
        "Global.use_cls": False,
        "Global.use_rec": False,
        "Global.use_preprocess_img": False,  # the picture comes in the size that the network is to see
        "Global.use_vertical_padding": False,
        "Det.limit_type": "max",
        "Det.limit_side_len": 10 * options.edge,
        "Det.thresh": _CORE,
        "Det.box_thresh": options.score,
        "Det.unclip_ratio": options.growth,
        "EngineConfig.onnxruntime.intra_op_num_threads": 1,
        "EngineConfig.onnxruntime.inter_op_num_threads": 1,
    }


@cache
def text_masker(options: MaskOptions) -> TextMasker:
    """The masker of this process with these options, loaded at the first call."""
    return TextMasker(options)


# ---- painting ----


def whole_pixels(boxes_N42: NDArray[Any], scale: float, size: tuple[int, int]) -> Boxes:
    """Boxes multiplied by `scale` and rounded, within a picture of `size` (height, width)."""
    limits = np.array([size[1] - 1, size[0] - 1])
    return np.clip(np.rint(np.reshape(boxes_N42, (-1, 4, 2)) * scale), 0, limits).astype(np.int32)


def painted(boxes_N42: Boxes, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels [H, W] that boxes cover, their outlines included."""
    mask = np.zeros(size, np.uint8)
    for box in boxes_N42:
        cv2.fillPoly(mask, [box], 1)
    return mask > 0


def paint(image_HW3: Image, boxes_N42: Boxes, blur: float, seed: int) -> Image:
    """A copy with uniform noise, blurred by a Gaussian, in the boxes; not one pixel outside is changed.

    `blur` is its sigma as a share of the longest edge. The same picture, boxes and seed give the same noise.
    """
    sigma = blur * max(image_HW3.shape)
    covered_HW = painted(boxes_N42, image_HW3.shape[:2])
    noise_HW3 = np.random.default_rng(seed).integers(0, 256, image_HW3.shape, dtype=np.uint8)
    filled = np.where(covered_HW[..., None], noise_HW3, image_HW3)
    return np.where(covered_HW[..., None], cv2.GaussianBlur(filled, (0, 0), sigma), image_HW3)
