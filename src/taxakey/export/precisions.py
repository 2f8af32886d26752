"""Smaller numbers in an ONNX file: weights in float16, or products in int8.

Two traps of onnxruntime's quantisation are met here. The shapes that torch's exporter writes into the graph contradict those
that quantisation infers, and it fails ("Inferred shape and existing shape differ"): they are emptied first. And where a processor
has no instructions for int8 (VNNI), sums of uint8 × int8 products overflow 16 bits, so that the answers depend on the machine:
all numbers are uint8, whose products are added up in 32 bits.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

if TYPE_CHECKING:
    import onnx

Precision = Literal["fp32", "fp16", "int8-dynamic", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

_LARGEST_HALF = 65504.0
_ONE_FILE = 1_500_000_000  # bytes; a file of 2 GB or more can't be written by protobuf
_PRODUCTS = ("MatMul", "Gemm")
_QUANTISED = ("Conv", *_PRODUCTS, "Add", "Mul", "GlobalAveragePool")


def read_onnx(file: Path) -> onnx.ModelProto:
    """The graph with its weights, without what it says of the shapes inside it; see the module."""
    import onnx

    graph = onnx.load(file)
    del graph.graph.value_info[:]
    return graph


def write_graph(graph: onnx.ModelProto, file: Path) -> None:
    """Write it in one file, or with `FILE.data` beside it where one can't hold it."""
    import onnx

    for old in file.parent.glob(f"{file.name}*"):
        old.unlink()
    apart = graph.ByteSize() > _ONE_FILE
    onnx.save_model(graph, file, save_as_external_data=apart, location=f"{file.name}.data" if apart else None)


def write_halved(source: Path, file: Path) -> None:
    """Weights in float16, computing in float32: half the bytes, and as quick, since they are widened once, when it is loaded.

    Halved computing is for GPUs; a processor would widen and narrow at each step. A tensor with numbers that float16 can't hold
    stays as it is.
    """
    import onnx
    from onnx import numpy_helper

    graph = read_onnx(source)
    casts = []
    for tensor in graph.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        if values.size < 2 or np.abs(values).max() > _LARGEST_HALF:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}.half"], [name], name=f"{name}.widened", to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.graph.node]
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    write_graph(graph, file)


def write_dynamic(source: Path, file: Path) -> None:
    """Matrix products in int8, with ranges found at each call: for transformers.

    Convolutions stay in float32: with ranges found at each call they are several times slower, and in networks for phones
    nothing was left of the answers (docs/LOG.md).
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with quiet_quantiser():
        graph = read_onnx(source)
        large = graph.ByteSize() > _ONE_FILE
        quantize_dynamic(
            graph,
            file,
            op_types_to_quantize=list(_PRODUCTS),
            per_channel=True,
            weight_type=QuantType.QUInt8,
            use_external_data_format=large,
        )


def quantisable(graph: onnx.ModelProto) -> list[str]:
    """Names of the nodes that `write_static` would quantise, from the input on."""
    return [node.name for node in graph.graph.node if node.op_type in _QUANTISED]


def write_static(source: Path, file: Path, reader: Any, ranges: Path, spared: list[str]) -> None:
    """Products, sums and means in int8, in QDQ form, weights per channel, but for the `spared` nodes.

    `reader` hands over the pictures that ranges are taken from; `ranges` keeps these, and where it exists none is asked for.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    with quiet_quantiser():
        graph = read_onnx(source)
        quantize_static(
            graph,
            file,
            None if ranges.is_file() else reader,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(_QUANTISED),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QUInt8,
            nodes_to_exclude=spared,
            use_external_data_format=graph.ByteSize() > _ONE_FILE,
            calibration_cache_path=ranges,
        )


@contextlib.contextmanager
def quiet_quantiser() -> Iterator[None]:
    """It advises through the root logger to do what was done."""
    before = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logging.root.setLevel(before)
