"""Pictures with the organism painted over, to see what a model can tell from what is left: sheet, stamp, label, background.

Shapes: H, W of the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from taxakey.dataset.preprocess import decode
from taxakey.dataset.reader import Part
from taxakey.errors import BadInput

_LIGHT = 165
"""Mean of red, green and blue from which on a pixel may be paper, as `masking` takes lightness."""


@dataclass(frozen=True)
class BlankOptions:
    """What is painted over: left, top, right and bottom as shares of the picture. The default is the part of a herbarium sheet
    where the plant lies; look at the examples, because a plant that sticks out is no shortcut."""

    box: tuple[float, float, float, float] = (0.0, 0.05, 1.0, 0.87)

    def __post_init__(self) -> None:
        left, top, right, bottom = self.box
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1) or (right - left) * (bottom - top) == 1:
            raise BadInput(f"the box {self.box}: left, top, right and bottom, rising, from 0 to 1, and not the whole picture")

    @classmethod
    def parse(cls, text: str) -> BlankOptions:
        """From "0,0.05,1,0.87"; raises BadInput for anything else."""
        try:
            left, top, right, bottom = (float(number) for number in text.split(","))
        except ValueError:
            raise BadInput(f"the box {text!r}: four numbers with commas, such as 0,0.05,1,0.87") from None
        return cls((left, top, right, bottom))


def paint_over(image_HW3: NDArray[np.uint8], options: BlankOptions) -> NDArray[np.uint8]:
    """A copy whose box has one colour: the median of its light pixels, the paper, where a tenth or more of them are light, else
    the median of all. A stencil of paper hides the plant and leaves the paper's colour, which is part of an institution's look.
    """
    left, top, right, bottom = options.box
    height, width = image_HW3.shape[:2]
    rows, columns = slice(round(top * height), round(bottom * height)), slice(round(left * width), round(right * width))
    inside = image_HW3[rows, columns].reshape(-1, 3)
    light = inside[inside.mean(axis=1) > _LIGHT]
    painted = image_HW3.copy()
    painted[rows, columns] = np.median(light if len(light) >= 0.1 * len(inside) else inside, axis=0).astype(np.uint8)
    return painted


class Blanked(Part):
    """The pictures of a part painted over, each when it is asked for."""

    def __init__(self, source: Part, options: BlankOptions) -> None:
        self.__dict__.update(source.__dict__)
        self.source, self.options = source, options

    def only(self, rows_N: NDArray[np.int64]) -> Blanked:
        return Blanked(self.source.only(rows_N), self.options)

    def image_bytes(self, index: int) -> bytes:
        image_HW3 = paint_over(decode(self.source.image_bytes(index)), self.options)
        return simplejpeg.encode_jpeg(image_HW3, quality=95, colorspace="RGB", colorsubsampling="444")
