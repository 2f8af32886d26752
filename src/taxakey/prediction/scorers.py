"""What computes scores from pixels: onnxruntime for a bundle, torch for a run.

Shapes: B pictures, H × W pixels, M metadata inputs, C classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from taxakey.errors import BadInput, MissingArtifact, needs_extra

if TYPE_CHECKING:
    from torch import nn


class Scorer(Protocol):
    """pixels [B, 3, H, W] float32 -> unnormalised log-probabilities [B, C] float32. May be called from several threads.

    `metadata_BM`: for a model that takes them, and only for it.
    """

    def scores(self, pixels_B3HW: NDArray[np.float32], metadata_BM: NDArray[np.float32] | None = None) -> NDArray[np.float32]: ...


class OnnxScorer:
    """Scores of an exported `model.onnx` with onnxruntime.

    `threads`: processor threads for one call; None leaves it to onnxruntime (all cores). `classes` and `picture` are what the
    file says of its output and input, None where it leaves a size open; `metadata` is M, 0 where it takes none.
    """

    def __init__(self, file: Path | str, *, device: str = "cpu", threads: int | None = None) -> None:
        with needs_extra("serve"):
            import onnxruntime
            from onnxruntime.capi import onnxruntime_pybind11_state as faults
        file = Path(file)
        if not file.is_file():
            raise MissingArtifact(f"{file}: no such file; run `taxakey export` again")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3  # errors only: the warnings about graphs are not for the user
        providers = _providers(device, onnxruntime.get_available_providers())
        try:
            self._session = onnxruntime.InferenceSession(str(file), options, providers=providers)
        except (faults.Fail, faults.InvalidProtobuf, faults.InvalidGraph, faults.InvalidArgument, faults.NoSuchFile) as error:
            reason = " ".join(str(error).split())[:200]
            raise BadInput(f"{file}: onnxruntime can't read it ({reason}); run `taxakey export` again") from None
        self._inputs = [given.name for given in self._session.get_inputs()]
        self.metadata = int(self._session.get_inputs()[1].shape[1]) if len(self._inputs) > 1 else 0
        sizes = self._session.get_outputs()[0].shape
        self.classes = sizes[1] if len(sizes) == 2 and isinstance(sizes[1], int) else None
        picture = self._session.get_inputs()[0].shape[1:]
        self.picture = tuple(picture) if all(isinstance(size, int) for size in picture) else None

    def scores(self, pixels_B3HW: NDArray[np.float32], metadata_BM: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        given = [part for part in (pixels_B3HW, metadata_BM) if part is not None]
        named = zip(self._inputs, given, strict=True)
        return self._session.run(None, {name: np.ascontiguousarray(part, dtype=np.float32) for name, part in named})[0]


def _providers(device: str, available: list[str]) -> list[str]:
    cuda = "CUDAExecutionProvider" in available
    if device == "cpu" or (device == "auto" and not cuda):
        return ["CPUExecutionProvider"]
    if device in ("auto", "cuda") and cuda:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]
    raise BadInput(
        f"this onnxruntime can't compute on {device!r} (it has {', '.join(available)}); "
        "use --device cpu, or install onnxruntime-gpu for cuda"
    )


def torch_device(wanted: str) -> str:
    """ "cpu" or "cuda"; "auto" takes the GPU where there is one. Raises BadInput for one that isn't there."""
    import torch

    there = torch.cuda.is_available()
    if wanted not in ("auto", "cpu", "cuda") or (wanted == "cuda" and not there):
        raise BadInput(f"torch can't compute on {wanted!r} here; use auto or cpu{' or cuda' if there else ''}")
    return "cuda" if there and wanted != "cpu" else "cpu"


class TorchScorer:
    """Scores of a trained network."""

    def __init__(self, network: nn.Module, *, device: str = "cpu") -> None:
        self._network = network.eval().to(device)
        self._device = device

    def scores(self, pixels_B3HW: NDArray[np.float32], metadata_BM: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        import torch

        given = [part for part in (pixels_B3HW, metadata_BM) if part is not None]
        with torch.inference_mode():
            moved = [torch.from_numpy(np.ascontiguousarray(part, dtype=np.float32)).to(self._device) for part in given]
            return self._network(*moved).float().cpu().numpy()
