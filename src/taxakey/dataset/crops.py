"""Several crops of one picture at prediction. Shapes: K crops, h, w of the network's input, I images, C classes.

The picture is decoded once and fitted by the evaluation's own rules, so that a crop is `MARGIN` of its edge or less; where the
network's own margin is smaller (crop_pct 1), crops would all be the same. Each is then standardised as in evaluation.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from functools import cached_property
from random import Random

import numpy as np
from numpy.typing import NDArray

from taxakey.dataset.preprocess import Preprocess, decode
from taxakey.errors import BadInput

MARGIN = 0.875
MOST = 1000


@dataclass(frozen=True)
class CropOptions:
    """`count`: 5 for the four corners and the centre, else that many at random places, the same for the same picture.

    `five`: whether 5 means those five. `top`: only the most probable classes of each crop count (competitors of NAFlora-1M summed
    the best five of a hundred crops); None: the mean of all probabilities.
    """

    count: int
    five: bool = False
    top: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MOST or (self.five and self.count != 5):
            raise BadInput(f"{self.count} crops; choose `five`, or 1 to {MOST} at random places")
        if self.top is not None and self.top < 1:
            raise BadInput(f"the {self.top} most probable classes of a crop; choose 1 or more")

    @classmethod
    def named(cls, name: str, top: int | None = None) -> CropOptions:
        """From the command line's word: `five` or a number."""
        if name == "five":
            return cls(5, five=True, top=top)
        if not name.isdecimal():
            raise BadInput(f"--crops {name}: `five`, or a number of crops at random places")
        return cls(int(name), top=top)

    def combined(self, probabilities_IKC: NDArray[np.float64]) -> NDArray[np.float64]:
        """The crops' answers as one, [I, C]; each row sums to 1."""
        if self.top is not None and self.top < probabilities_IKC.shape[2]:
            order_IKC = np.argsort(-probabilities_IKC, axis=2, kind="stable")
            probabilities_IKC = probabilities_IKC.copy()
            np.put_along_axis(probabilities_IKC, order_IKC[:, :, self.top :], 0.0, axis=2)
        mean_IC = probabilities_IKC.mean(1)
        return mean_IC / mean_IC.sum(1, keepdims=True)


@dataclass(frozen=True)
class Crops:
    """Loads the crops of a picture, as `Preprocess.load` loads its centre."""

    options: CropOptions
    preprocess: Preprocess

    @cached_property
    def fitting(self) -> Preprocess:
        """The evaluation transform with a margin to cut from."""
        return replace(self.preprocess, crop_pct=min(self.preprocess.crop_pct, MARGIN))

    def load(self, data: bytes) -> NDArray[np.float32]:
        """Encoded picture -> float32 [K, 3, h, w]; raises BadImage."""
        fitted = self.fitting.fitted(decode(data, target_edge=self.fitting.decoded_edge))
        places = self._places(fitted.shape[0], fitted.shape[1], zlib.crc32(data))
        return np.stack([self.fitting.standardise(self.fitting.cut(fitted, *place)) for place in places])

    def _places(self, height: int, width: int, seed: int) -> list[tuple[int, int]]:
        """Upper left corner of each crop in a fitted picture."""
        low, right = height - self.preprocess.input_size[1], width - self.preprocess.input_size[2]
        if self.options.five:
            return [(0, 0), (0, right), (low, 0), (low, right), (round(low / 2), round(right / 2))]
        random = Random(seed)
        return [(random.randrange(low + 1), random.randrange(right + 1)) for _ in range(self.options.count)]
