"""Export: a trained model -> a bundle that runs without torch, refused where its answers differ from the trained ones.

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

from taxakey.artifacts import Manifest, Plan, finish, hash_of, read_manifest, start, write_json, write_parquet, write_text
from taxakey.calibration.decisions import FILE as DECISIONS_FILE
from taxakey.errors import ExportMismatch, needs_extra
from taxakey.metadata.encoder import FILE as METADATA_FILE
from taxakey.metadata.observation import terms
from taxakey.prediction.fusion import FILE as FUSION_FILE
from taxakey.prediction.fusion import Fusion

if TYPE_CHECKING:
    from torch import nn

    from taxakey.training.checkpoint import Model

TOLERANCE = 1e-4
"""Largest allowed difference of log-probabilities; a relative 1e-5 is added for very improbable classes."""

CHECKED_BATCHES = (1, 3)
_EXAMPLE_BATCH = 2  # torch.export takes a batch of one for a constant
_OPSET = 20


def export(model_folder: Path | str, out: Path | str) -> Manifest:
    """Write the bundle of a run or of its model/ folder into `out`.

    model.onnx (input `pixels` float32 [B, 3, H, W], any B; output `scores` float32 [B, C], unnormalised log-probabilities; a
    model that takes metadata has a second input `metadata` float32 [B, M] and metadata.json, which says what it means),
    taxonomy.parquet, config.json, calibration.json and decisions.json (if the model has them), README.md, manifest.json.
    Raises ExportMismatch, and leaves nothing finished, when onnxruntime's answers aren't torch's.
    """
    with needs_extra("export"):
        import onnxruntime  # noqa: F401 - needed below; say so before the model is loaded
        import onnxscript  # noqa: F401 - needed by torch's exporter

        from taxakey.training.checkpoint import load_model
    out = Path(out)
    model = load_model(model_folder)
    plan = Plan("bundle", inputs=_input_hashes(model.folder), recipe={"opset": _OPSET, "tolerance": TOLERANCE})
    if start(out, plan) == "finished":
        return read_manifest(out, "bundle")
    size, told = model.preprocess.input_size, model.metadata.width if model.metadata else 0
    write_onnx(model.network, size, out / "model.onnx", metadata=told)
    try:
        difference = check(model.network, size, out / "model.onnx", classes=len(model.taxonomy), metadata=told)
    except ExportMismatch:
        _onnx_files_removed(out)
        raise
    return _finish(model, out, plan, difference)


def _input_hashes(model_folder: Path) -> dict[str, str]:
    files = {"weights": "model.safetensors", "config": "config.json", "calibration": "calibration.json"}
    files |= {"decisions": DECISIONS_FILE, "metadata": METADATA_FILE, "fusion": FUSION_FILE}
    return {name: hash_of(model_folder / file) for name, file in files.items() if (model_folder / file).is_file()}


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
    with _quiet_exporter(), torch.no_grad():
        torch.onnx.export(
            network.float().cpu().eval(),
            tuple(examples.values()),
            str(aside / file.name),
            input_names=list(examples),
            output_names=["scores"],
            dynamic_shapes=tuple({0: batch} for _ in examples),
            opset_version=_OPSET,
            dynamo=True,
            external_data=False,  # torch still writes them aside where one file can't hold them
            verbose=False,
        )
    for written in sorted(aside.iterdir(), reverse=True):  # the .data first: a model.onnx is never there without it
        written.replace(file.parent / written.name)
    aside.rmdir()


@contextlib.contextmanager
def _quiet_exporter() -> Any:
    """Keep the exporter's internals out of the user's terminal; its exceptions come through."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
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
    """Compare onnxruntime with torch on drawn pictures at several batch sizes; the largest difference of log-probabilities.

    Raises ExportMismatch when it is over TOLERANCE, the best class differs, or the shape isn't [B, classes].
    """
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    generator = np.random.default_rng(seed)
    largest = 0.0
    for batch in CHECKED_BATCHES:
        for pixels in (_noise(generator, batch, input_size), _patches(generator, batch, input_size)):
            given = {"pixels": pixels}
            if metadata:
                given["metadata"] = generator.uniform(-1, 1, (batch, metadata)).astype(np.float32)
            with torch.inference_mode():
                expected_BC = network(*map(torch.from_numpy, given.values())).float().numpy()
            largest = max(largest, _difference(expected_BC, session.run(["scores"], given)[0], batch, classes))
    return largest


def _noise(generator: np.random.Generator, batch: int, size: tuple[int, int, int]) -> NDArray[np.float32]:
    return generator.standard_normal((batch, *size), dtype=np.float32)


def _patches(generator: np.random.Generator, batch: int, size: tuple[int, int, int]) -> NDArray[np.float32]:
    """Pictures of 7 × 7 flat patches: like a photograph, and unlike noise, they drive deep layers far from zero."""
    channels, height, width = size
    coarse = generator.uniform(-2, 2, (batch, channels, 7, 7)).astype(np.float32)
    rows, columns = np.arange(height) * 7 // height, np.arange(width) * 7 // width
    return coarse[:, :, rows][:, :, :, columns]


def _difference(expected_BC: NDArray[np.float32], found_BC: NDArray[np.float32], batch: int, classes: int) -> float:
    again = "the bundle was not finished; report it with the model's config.json"
    if not (expected_BC.shape == found_BC.shape == (batch, classes)):
        raise ExportMismatch(
            f"for {batch} pictures torch gives {expected_BC.shape}, the ONNX model {found_BC.shape}, and the taxonomy has "
            f"{classes} classes; {again}"
        )
    expected, found = log_softmax(expected_BC.astype(np.float64), axis=1), log_softmax(found_BC.astype(np.float64), axis=1)
    if not (np.isfinite(expected).all() and np.isfinite(found).all()):
        raise ExportMismatch(f"at batch size {batch} some scores aren't finite; {again}")
    gap = np.abs(expected - found)
    if not (gap <= TOLERANCE + 1e-5 * np.abs(expected)).all():
        raise ExportMismatch(
            f"at batch size {batch} the ONNX model's log-probabilities differ from torch's by up to {gap.max():.2g}, "
            f"allowed is {TOLERANCE:g}; {again}"
        )
    best, best_found = expected.argmax(axis=1), found.argmax(axis=1)
    rows = np.arange(batch)
    # Two classes closer than the tolerance have no order worth comparing.
    if (expected[rows, best] - expected[rows, best_found] > TOLERANCE).any():
        raise ExportMismatch(f"at batch size {batch} the ONNX model puts another class first than torch; {again}")
    return float(gap.max())


def _onnx_files_removed(out: Path) -> None:
    for file in out.glob("model.onnx*"):
        file.unlink()


def _finish(model: Model, out: Path, plan: Plan, difference: float) -> Manifest:
    write_parquet(out / "taxonomy.parquet", model.taxonomy.table)
    write_json(out / "config.json", dict(model.config))
    if model.calibration is not None:
        model.calibration.write(out / "calibration.json")
    if model.decisions is not None:
        model.decisions.write(out / DECISIONS_FILE)
    if model.metadata is not None:
        model.metadata.write(out)
    if (fusion := Fusion.beside(model.folder, model.taxonomy.fingerprint)) is not None:
        fusion.write(out / FUSION_FILE)
    write_text(out / "README.md", _card(model, difference))
    note = f"log-probabilities of torch and onnxruntime differ by at most {difference:.2g}"
    counts = {"classes": len(model.taxonomy)}
    return finish(out, plan, counts=counts, taxonomy=model.taxonomy.fingerprint, notes=(note,))


def _scaling(model: Model) -> str:
    calibration = model.calibration
    if calibration is None or (calibration.method == "temperature" and not calibration.share_shift):
        return "Probabilities are softmax(scores / temperature), with the temperature of `calibration.json`."
    return "Probabilities are made of them as `calibration.json` says; `taxakey.calibration` documents its fields."


def _card(model: Model, difference: float) -> str:
    _, height, width = model.preprocess.input_size
    own = model.folder / "README.md"
    about = own.read_text(encoding="utf-8") if own.is_file() else ""
    told = ""
    if model.metadata is not None:
        told = (
            f"\nIts second input is `metadata` float32 [as many, {model.metadata.width}], encoded as `{METADATA_FILE}` says: "
            f"{', '.join(terms(model.metadata))}.\nWhat isn't known may be left out."
        )
    return (
        f"""# {model.config.get("architecture", "A model")}, {len(model.taxonomy):,} species, exported

`model.onnx` takes `pixels` float32 [any number, 3, {height}, {width}], prepared as `config.json` says (`pretrained_cfg`),
and gives `scores` float32 [as many, {len(model.taxonomy)}]: unnormalised log-probabilities in the order of
`taxonomy.parquet`. {_scaling(model)}{told}
It was compared with the trained network on drawn pictures: log-probabilities differ by at most {difference:.2g}.

    taxakey serve THIS_FOLDER
    taxakey identify THIS_FOLDER photographs/

A model's opinion, not an expert's; never eat by it.

{about}""".rstrip()
        + "\n"
    )
