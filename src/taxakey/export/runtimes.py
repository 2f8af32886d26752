"""What runs an exported file: onnxruntime, or ExecuTorch, which is made for phones.

Shapes: B pictures, H × W pixels, M metadata inputs, C classes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taxakey.errors import BadInput, needs_extra
from taxakey.prediction.bundle import FILE as ONNX_FILE
from taxakey.prediction.scorers import OnnxScorer, Scorer

PHONE_FILE = "model.pte"
FILES = {"onnx": ONNX_FILE, "executorch": PHONE_FILE}
"""The name of each format's file."""


class PhoneScorer:
    """Scores of an exported `model.pte` with ExecuTorch's own runtime, one picture after the other as on a phone.

    `threads`: of ExecuTorch in this process, whichever file they run; None leaves them as they are.
    """

    def __init__(self, file: Path, *, threads: int | None = None) -> None:
        with needs_extra("phone"):
            from executorch.extension.pybindings import portable_lib
            from executorch.runtime import Runtime
        if threads is not None:
            portable_lib._unsafe_reset_threadpool(threads)  # unsafe only while another thread runs a model
        try:
            self._method = Runtime.get().load_program(file).load_method("forward")
        except RuntimeError as error:
            raise BadInput(f"{file}: ExecuTorch can't run it ({' '.join(str(error).split())[:200]})") from None

    def scores(self, pixels_B3HW: NDArray[np.float32], metadata_BM: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        import torch

        given = [torch.from_numpy(np.ascontiguousarray(part)) for part in (pixels_B3HW, metadata_BM) if part is not None]
        one_by_one = (self._method.execute([part[at : at + 1] for part in given])[0] for at in range(len(pixels_B3HW)))
        return np.concatenate([scores_1C.numpy() for scores_1C in one_by_one])


def scorer_of(file: Path, *, threads: int | None = None) -> Scorer:
    """What runs this file on the processor."""
    return PhoneScorer(file, threads=threads) if file.suffix == ".pte" else OnnxScorer(file, threads=threads)


def runtime_of(file: Path) -> str:
    """Its name, for people."""
    return "ExecuTorch" if file.suffix == ".pte" else "onnxruntime"
