"""Smaller numbers in an ONNX file: weights in float16 or int8, or products in int8.

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

Precision = Literal["fp32", "fp16", "int8-weights", "int8-dynamic", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

_LARGEST_HALF = 65504.0
_SMALLEST_SCALE = 1e-30  # of an output whose weights are all 0
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
    widening = []
    for tensor in _floats(graph):
        values = numpy_helper.to_array(tensor)
        if values.size < 2 or np.abs(values).max() > _LARGEST_HALF:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        widening.append(
            onnx.helper.make_node("Cast", [f"{name}.half"], [name], name=f"{name}.widened", to=onnx.TensorProto.FLOAT)
        )
    _put_first(graph, widening)
    write_graph(graph, file)


def write_narrow_weights(source: Path, file: Path) -> None:
    """Weights of products in int8, computing in float32: a quarter of the bytes, and as quick, as `write_halved`."""
    graph = read_onnx(source)
    narrow_weights(graph)
    write_graph(graph, file)


def narrow_weights(graph: onnx.ModelProto) -> None:
    """Put each float weight of a product as whole numbers from -127 to 127 and a scale for each of its outputs.

    They are multiplied by nodes of their own and not by DequantizeLinear, which onnxruntime would do again at each call.
    """
    import onnx
    from onnx import numpy_helper

    axis_of = _output_axes(graph)
    widening = []
    for tensor in [tensor for tensor in _floats(graph) if tensor.name in axis_of]:
        name, values = tensor.name, numpy_helper.to_array(tensor)
        others = tuple(axis for axis in range(values.ndim) if axis != axis_of[name] % values.ndim)
        scale = np.maximum(np.abs(values).max(axis=others, keepdims=True) / 127, _SMALLEST_SCALE).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(np.round(values / scale).astype(np.int8), f"{name}.int8"))
        graph.graph.initializer.append(numpy_helper.from_array(scale, f"{name}.scale"))
        float32 = onnx.TensorProto.FLOAT
        widening.append(onnx.helper.make_node("Cast", [f"{name}.int8"], [f"{name}.whole"], name=f"{name}.whole", to=float32))
        widening.append(onnx.helper.make_node("Mul", [f"{name}.whole", f"{name}.scale"], [name], name=f"{name}.widened"))
    _put_first(graph, widening)


def _floats(graph: onnx.ModelProto) -> list[onnx.TensorProto]:
    import onnx

    return [tensor for tensor in graph.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]


def _output_axes(graph: onnx.ModelProto) -> dict[str, int]:
    """Name of each tensor that a product takes for its weights, and the axis that its outputs lie along."""
    found = {}
    for node in graph.graph.node:
        if node.op_type in ("Conv", *_PRODUCTS):
            turned = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
            found[node.input[1]] = 0 if node.op_type == "Conv" or turned else -1
    return found


def _put_first(graph: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> None:
    """Before all others: a graph's nodes stand in the order in which they are computed."""
    nodes = [*nodes, *graph.graph.node]
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)


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

    These compute in float32, and only their weights are int8: sparing a layer costs time where int8 is quick, but no bytes.
    `reader` hands over the pictures that ranges are taken from; `ranges` keeps these, and where it exists none is asked for.
    """
    import onnx
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
    if spared:
        graph = onnx.load(file)
        narrow_weights(graph)
        write_graph(graph, file)


@contextlib.contextmanager
def quiet_quantiser() -> Iterator[None]:
    """It advises through the root logger to do what was done."""
    before = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logging.root.setLevel(before)
