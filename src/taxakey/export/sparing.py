"""Static int8, with the layers computing in float32 that it harms most: a bounded search. Shapes: N pictures, C classes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from taxakey.export.pictures import Given, Pictures
from taxakey.export.precisions import quantisable, read_onnx, write_static
from taxakey.prediction.scorers import OnnxScorer

BLOCKS = 8
"""Runs of neighbouring layers that are tried and spared together: at most 2 · BLOCKS files are tried."""
_TRIED_ON = 128
"""Pictures that files are compared on while searching, of those that the ranges are taken from."""

Floats = NDArray[np.float64]


def write_sparing(source: Path, file: Path, pictures: Pictures, agreement: float) -> list[str]:
    """Write `file` in int8 and give the names of the nodes that compute in float32.

    First none do. Where the best class is then the same for less than the share `agreement` of the pictures, each block of
    layers is quantised alone, and the blocks with the largest mean squared error of log-probabilities are spared, one more at a
    time, until it is reached. `pictures` must not be those that the file is judged on later.
    """
    nodes = quantisable(read_onnx(source))
    blocks = [part.tolist() for part in np.array_split(np.array(nodes, dtype=object), min(BLOCKS, len(nodes)))]
    with tempfile.TemporaryDirectory() as aside:
        search = _Search(source, Path(aside), pictures)
        if search.agreement(file, []) >= agreement:
            return []
        trial = Path(aside) / "trial.onnx"
        harm = [search.harm(trial, [n for n in nodes if n not in block]) for block in blocks]
        spared: list[str] = []
        for number in np.argsort(-np.array(harm), kind="stable")[:-1].tolist():
            spared += blocks[number]
            if search.agreement(file, spared) >= agreement:
                break
    return spared


class _Search:
    """Tries files in int8 against the one in float32."""

    def __init__(self, source: Path, aside: Path, pictures: Pictures) -> None:
        self._source, self._pictures, self._ranges = source, pictures, aside / "ranges.json"
        self._given = _first(pictures)
        self._expected_NC = self._log_p(source)

    def agreement(self, file: Path, spared: list[str]) -> float:
        found_NC = self._tried(file, spared)
        return float((found_NC.argmax(axis=1) == self._expected_NC.argmax(axis=1)).mean())

    def harm(self, file: Path, spared: list[str]) -> float:
        return float(np.square(self._tried(file, spared) - self._expected_NC).mean())

    def _tried(self, file: Path, spared: list[str]) -> Floats:
        write_static(self._source, file, _Reader(self._pictures.batches()), self._ranges, spared)
        return self._log_p(file)

    def _log_p(self, file: Path) -> Floats:
        scorer = OnnxScorer(file)
        scores_NC = np.concatenate([scorer.scores(*given.values()) for given in self._given])
        return log_softmax(scores_NC.astype(np.float64), axis=1)


def _first(pictures: Pictures) -> list[Given]:
    held: list[Given] = []
    for given in pictures.batches():
        held.append(given)
        if sum(len(one["pixels"]) for one in held) >= _TRIED_ON:
            break
    return held


class _Reader:
    """Batches in the way that onnxruntime's calibration asks for them."""

    def __init__(self, batches: Iterator[Given]) -> None:
        self._batches = batches

    def get_next(self) -> Given | None:
        return next(self._batches, None)

    def __iter__(self) -> Iterator[Given]:
        return self._batches
