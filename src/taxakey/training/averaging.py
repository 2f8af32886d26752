"""Which weights of a run are kept: the last ones, or an average over training (averaged_weights.py makes it)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # Lightning takes seconds to load, and whoever reads a recipe doesn't need it
    from taxakey.training.averaged_weights import Averaging


@dataclass(frozen=True)
class AveragingOptions:
    """ema: an exponential moving average after every step (`decay`); swa: the mean of the weights at the end of each epoch
    (Izmailov et al., 2018), for which the BatchNorms' statistics are computed anew by a pass over the training pictures.

    `start`: share of the run after which averaging begins, null for 0 (ema) and 0.75 (swa). Only an epoch after that can be the
    best one.
    """

    kind: Literal["none", "ema", "swa"] = "none"
    decay: float = 0.999
    start: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.decay < 1:
            raise ValueError("decay must lie between 0 and 1")
        if self.start is not None and not 0 <= self.start < 1:
            raise ValueError("start must lie in [0, 1), or be null")

    def build(self) -> Averaging | None:
        """The callback, or None where nothing is averaged."""
        if self.kind == "none":
            return None
        from taxakey.training.averaged_weights import Averaging

        return Averaging(self)
