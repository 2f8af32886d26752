"""A network as ONNX, and an exported file compared with its network on drawn pictures.

Shapes: B pictures, M metadata inputs, C classes.
"""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from taxakey.errors import ExportMismatch
from taxakey.export.runtimes import scorer_of

if TYPE_CHECKING:
    import torch.onnx
    from torch import nn

TOLERANCE = 1e-4
"""Largest allowed difference of log-probabilities; a relative 1e-5 is added for very improbable classes."""

CHECKED_BATCHES = (1, 3)
OPSET = 20
_EXAMPLE_BATCH = 2  # torch.export takes a batch of one for a constant


def write_onnx(network: nn.Module, input_size: tuple[int, int, int], file: Path, *, metadata: int = 0) -> None:
    """Write `network` as ONNX with a batch of any size; weights beyond 1.5 GB go into `model.onnx.data` beside it.

    `metadata`: M of a network that takes metadata [B, M] besides, 0 for none.
    """
    import torch

    # The name of the file of large weights is written inside the other one, so both are made aside under their final names.
    aside = file.parent / ".partial"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    examples = {"pixels": torch.zeros(_EXAMPLE_BATCH, *input_size), "metadata": torch.zeros(_EXAMPLE_BATCH, metadata)}
    if not metadata:
        del examples["metadata"]
    batch = torch.export.Dim("batch", min=1)
    with quiet_exporter(), torch.no_grad():
        program = torch.onnx.export(
            network.float().cpu().eval(),
            tuple(examples.values()),
            input_names=list(examples),
            output_names=["scores"],
            dynamic_shapes=tuple({0: batch} for _ in examples),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
        assert program is not None  # dynamo always gives one
        _forget_origins(program)
        program.save(aside / file.name)  # weights go into a file beside it where one can't hold them
    for written in sorted(aside.iterdir(), reverse=True):  # the .data first: a model.onnx is never there without it
        written.replace(file.parent / written.name)
    aside.rmdir()


def _forget_origins(program: torch.onnx.ONNXProgram) -> None:
    """Each node tells which line of which file it came from: bytes for nothing, and folders of ours in a file for others."""
    program.model.graph.metadata_props.clear()
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()


@contextlib.contextmanager
def quiet_exporter() -> Any:
    """Keep an exporter's internals out of the user's terminal; its exceptions come through."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.utils._pytree", "torchao")]
    before = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, before, strict=True):
                logger.setLevel(level)


def check(
    network: nn.Module, input_size: tuple[int, int, int], file: Path, *, classes: int, metadata: int = 0, seed: int = 0
) -> float:
    """Compare the file with torch on drawn pictures at several batch sizes; the largest difference of log-probabilities.

    Raises ExportMismatch when it is over TOLERANCE, the best class differs, or the shape isn't [B, classes].
    """
    import torch

    scorer = scorer_of(file)
    generator = np.random.default_rng(seed)
    largest = 0.0
    for batch in CHECKED_BATCHES:
        for pixels in (noise(generator, batch, input_size), patches(generator, batch, input_size)):
            given = {"pixels": pixels}
            if metadata:
                given["metadata"] = generator.uniform(-1, 1, (batch, metadata)).astype(np.float32)
            with torch.inference_mode():
                expected_BC = network(*map(torch.from_numpy, given.values())).float().numpy()
            largest = max(largest, difference_of(expected_BC, scorer.scores(*given.values()), batch, classes))
    return largest


def noise(generator: np.random.Generator, batch: int, size: tuple[int, int, int]) -> NDArray[np.float32]:
    return generator.standard_normal((batch, *size), dtype=np.float32)


def patches(generator: np.random.Generator, batch: int, size: tuple[int, int, int]) -> NDArray[np.float32]:
    """Pictures of 7 × 7 flat patches: like a photograph, and unlike noise, they drive deep layers far from zero."""
    channels, height, width = size
    coarse = generator.uniform(-2, 2, (batch, channels, 7, 7)).astype(np.float32)
    rows, columns = np.arange(height) * 7 // height, np.arange(width) * 7 // width
    return coarse[:, :, rows][:, :, :, columns]


def difference_of(expected_BC: NDArray[np.float32], found_BC: NDArray[np.float32], batch: int, classes: int) -> float:
    """The largest difference of log-probabilities; raises ExportMismatch as `check` says."""
    again = "the bundle was not finished; report it with the model's config.json"
    if not (expected_BC.shape == found_BC.shape == (batch, classes)):
        raise ExportMismatch(
            f"for {batch} pictures torch gives {expected_BC.shape}, the exported model {found_BC.shape}, and the taxonomy has "
            f"{classes} classes; {again}"
        )
    expected, found = log_softmax(expected_BC.astype(np.float64), axis=1), log_softmax(found_BC.astype(np.float64), axis=1)
    if not (np.isfinite(expected).all() and np.isfinite(found).all()):
        raise ExportMismatch(f"at batch size {batch} some scores aren't finite; {again}")
    gap = np.abs(expected - found)
    if not (gap <= TOLERANCE + 1e-5 * np.abs(expected)).all():
        raise ExportMismatch(
            f"at batch size {batch} the exported model's log-probabilities differ from torch's by up to {gap.max():.2g}, "
            f"allowed is {TOLERANCE:g}; {again}"
        )
    best, best_found = expected.argmax(axis=1), found.argmax(axis=1)
    rows = np.arange(batch)
    # Two classes closer than the tolerance have no order worth comparing.
    if (expected[rows, best] - expected[rows, best_found] > TOLERANCE).any():
        raise ExportMismatch(f"at batch size {batch} the exported model puts another class first than torch; {again}")
    return float(gap.max())
