"""How well, how fast and how large: an exported file beside the network that it was made from.

Shapes: B pictures, C classes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from taxakey.calibration import BoundCalibration
from taxakey.cpu_memory import keep_freed_memory
from taxakey.errors import ExportMismatch
from taxakey.export.onnx_file import difference_of
from taxakey.export.pictures import Given, Pictures
from taxakey.export.runtimes import runtime_of, scorer_of
from taxakey.prediction.scorers import Scorer, TorchScorer

if TYPE_CHECKING:
    from torch import nn

_ROUNDS = 5


@dataclass(frozen=True)
class Measured:
    """`agreement`: share of `pictures` whose best class is that of torch; `largest_difference`: of a calibrated probability.

    Images a second are medians of rounds that took turns, with the same number of processor `threads` for both.
    """

    pictures: int
    on: str
    agreement: float
    largest_difference: float
    bytes: int
    images_per_second: float
    torch_images_per_second: float
    threads: int
    runtime: str

    @property
    def notes(self) -> tuple[str, ...]:
        """In sentences for people."""
        return (
            f"{self.agreement:.2%} of {self.on} get the trained network's best class; a probability differs by at most "
            f"{self.largest_difference:.2g}",
            f"{self.bytes / 1e6:.1f} MB; {self.images_per_second:.1f} images a second with {self.runtime}, "
            f"{self.torch_images_per_second:.1f} with eager torch (this processor, {self.threads} "
            f"thread{'s' if self.threads > 1 else ''})",
        )


def verify(
    network: nn.Module, file: Path, pictures: Pictures, calibration: BoundCalibration, *, agreement: float | None
) -> Measured:
    """Measure `file` against `network` on these pictures.

    Raises ExportMismatch where fewer than the share `agreement` get the same best class; None asks for the same
    log-probabilities, as `onnx_file.check` does.
    """
    import torch

    threads = torch.get_num_threads()
    keep_freed_memory()  # eager torch as `taxakey predict` runs it: four times as fast as without these two
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    scorers: tuple[Scorer, Scorer] = (TorchScorer(network), scorer_of(file, threads=threads))
    same, largest = 0, 0.0
    for given in pictures.batches():
        expected_BC, found_BC = (scorer.scores(*given.values()) for scorer in scorers)
        if not np.isfinite(found_BC).all():
            raise ExportMismatch("some scores of the smaller model aren't finite; export it in another precision")
        if agreement is None:
            difference_of(expected_BC, found_BC, len(expected_BC), expected_BC.shape[1])
        one_BC, other_BC = calibration.probabilities(expected_BC), calibration.probabilities(found_BC)
        same += int(_first_alike(one_BC, other_BC).sum())
        largest = max(largest, float(np.abs(one_BC - other_BC).max()))
    share = same / len(pictures)
    if agreement is not None and share < agreement:
        raise ExportMismatch(
            f"only {share:.2%} of {pictures.words} get the trained network's best class, {agreement:.2%} are asked for (a "
            f"probability differs by up to {largest:.2g}); nothing was kept: export in another precision, or lower --agreement"
        )
    torch_speed, speed = _speeds(scorers, next(iter(pictures.batches())))
    return Measured(len(pictures), pictures.words, share, largest, bytes_of(file), speed, torch_speed, threads, runtime_of(file))


def _first_alike(one_BC: NDArray[np.floating], other_BC: NDArray[np.floating]) -> NDArray[np.bool_]:
    return one_BC.argmax(axis=1) == other_BC.argmax(axis=1)


def bytes_of(file: Path) -> int:
    """Of an exported file and of the weights beside it."""
    return sum(part.stat().st_size for part in file.parent.glob(f"{file.name}*"))


def _speeds(scorers: tuple[Scorer, Scorer], given: Given) -> list[float]:
    """Images a second of each."""
    seconds: list[list[float]] = [[], []]
    for _ in range(_ROUNDS):
        for times, scorer in zip(seconds, scorers, strict=True):
            times.append(_seconds(scorer, given))
    return [len(given["pixels"]) / float(np.median(times)) for times in seconds]


def _seconds(scorer: Scorer, given: Given) -> float:
    before = time.perf_counter()
    scorer.scores(*given.values())
    return time.perf_counter() - before
