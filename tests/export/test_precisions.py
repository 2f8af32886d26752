"""Smaller numbers: what is in the file, onnxruntime's traps, and layers that int8 would harm."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnxruntime.quantization import quantize_dynamic
from torch import Tensor, nn

from taxakey.export import write_onnx
from taxakey.export.pictures import BATCH, DrawnPictures, Given
from taxakey.export.precisions import (
    quantisable,
    read_onnx,
    write_dynamic,
    write_halved,
    write_narrow_weights,
    write_static,
)
from taxakey.export.sparing import write_sparing
from taxakey.prediction.scorers import OnnxScorer

SIZE = (3, 16, 16)


class Small(nn.Module):
    """Two convolutions and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two = nn.Conv2d(3, 8, 3, stride=2), nn.Conv2d(8, 16, 3, stride=2)
        self.head = nn.Linear(16, 6)
        nn.init.normal_(self.head.weight)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.two(self.one(pixels).relu()).relu().mean((2, 3)))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    file = tmp_path_factory.mktemp("small") / "model.onnx"
    network = Small().eval()
    write_onnx(network, SIZE, file)
    return network, file


def initialisers(file: Path) -> dict[str, onnx.TensorProto]:
    return {tensor.name: tensor for tensor in onnx.load(file).graph.initializer}


def scored(network: nn.Module, file: Path, pictures: int = 24) -> tuple[np.ndarray, np.ndarray]:
    pixels = np.concatenate([given["pixels"] for given in DrawnPictures(SIZE, 0, pictures).batches()])
    with torch.no_grad():
        return network(torch.from_numpy(pixels)).numpy(), OnnxScorer(file).scores(pixels)


def test_fp16_halves_the_weights_and_computes_in_float32(small: tuple[nn.Module, Path], tmp_path: Path) -> None:
    network, whole = small
    write_halved(whole, tmp_path / "half.onnx")
    types = Counter(tensor.data_type for tensor in initialisers(tmp_path / "half.onnx").values() if np.prod(tensor.dims) > 8)
    assert types == {onnx.TensorProto.FLOAT16: 4}  # three weights and a bias
    onnx.checker.check_model(tmp_path / "half.onnx", full_check=True)
    expected, found = scored(network, tmp_path / "half.onnx")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=5e-3)
    assert np.abs(found - expected).max() > 1e-6  # it is another file


def test_what_float16_can_not_hold_stays_float32(tmp_path: Path) -> None:
    network = Small().eval()
    with torch.no_grad():
        network.one.weight.mul_(1e6)
        network.head.weight.mul_(1e-6)
    write_onnx(network, SIZE, tmp_path / "model.onnx")
    write_halved(tmp_path / "model.onnx", tmp_path / "half.onnx")
    kept = [name for name, tensor in initialisers(tmp_path / "half.onnx").items() if tensor.data_type == onnx.TensorProto.FLOAT]
    assert any("one.weight" in name for name in kept)
    assert np.isfinite(scored(network, tmp_path / "half.onnx")[1]).all()


class Products(nn.Module):
    """Each way that a product's weights lie in a file: a convolution, Gemm (transposed), MatMul; outputs of very unlike sizes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.conv, self.gemm = nn.Conv2d(3, 8, 4, stride=4), nn.Linear(8, 6)
        self.matmul = nn.Parameter(torch.randn(6, 5) * torch.tensor([1.0, 1e-3, 1e3, 1.0, 0.0]))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.gemm(self.conv(pixels).relu().mean((2, 3))).relu() @ self.matmul


def test_weights_in_int8_are_rounded_output_by_output_and_computed_with_in_float32(tmp_path: Path) -> None:
    network = Products().eval()
    write_onnx(network, SIZE, tmp_path / "model.onnx")
    write_narrow_weights(tmp_path / "model.onnx", tmp_path / "narrow.onnx")
    narrow = [tensor for tensor in initialisers(tmp_path / "narrow.onnx").values() if tensor.data_type == onnx.TensorProto.INT8]
    assert sorted(tuple(tensor.dims) for tensor in narrow) == [(6, 5), (6, 8), (8, 3, 4, 4)]
    onnx.checker.check_model(tmp_path / "narrow.onnx", full_check=True)
    # The same by hand: each output's weights in steps of a 127th of the largest.
    with torch.no_grad():
        for weights, outputs in ((network.conv.weight, 0), (network.gemm.weight, 0), (network.matmul, 1)):
            for number in range(weights.shape[outputs]):
                row = weights.select(outputs, number)
                if (step := row.abs().max() / 127) > 0:
                    row.copy_((row / step).round() * step)
    expected, found = scored(network, tmp_path / "narrow.onnx")
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_dynamic_int8_needs_the_exporters_shapes_emptied(small: tuple[nn.Module, Path], tmp_path: Path) -> None:
    network, whole = small
    # The trap itself: when onnxruntime no longer falls into it, `read_onnx` need not empty anything.
    assert onnx.load(whole).graph.value_info
    with pytest.raises(Exception, match="Inferred shape and existing shape differ"):
        quantize_dynamic(whole, tmp_path / "trap.onnx")
    assert not read_onnx(whole).graph.value_info
    write_dynamic(whole, tmp_path / "dynamic.onnx")
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "dynamic.onnx").graph.node)
    assert (kinds["MatMulInteger"], kinds["ConvInteger"], kinds["Conv"]) == (1, 0, 2)
    expected, found = scored(network, tmp_path / "dynamic.onnx")
    np.testing.assert_allclose(found, expected, atol=0.05)


@dataclass(frozen=True)
class Bright:
    """Pictures that are 1 everywhere but for one pixel: sums of products are as large as can be."""

    words: str = "bright pictures"

    def __len__(self) -> int:
        return 2 * BATCH

    def batches(self) -> Iterator[Given]:
        for _ in range(2):
            pixels = np.ones((BATCH, *SIZE), dtype=np.float32)
            pixels[:, :, 0, 0] = 0
            yield {"pixels": pixels}


def test_sums_of_products_do_not_overflow(tmp_path: Path) -> None:
    """uint8 × int8 does on processors without VNNI: 2 · 255 · 127 is more than 16 bits hold, and the answer halves."""
    network = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.Flatten(), nn.Linear(8 * 14 * 14, 4, bias=False)).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(0.5)
    write_onnx(network, SIZE, tmp_path / "model.onnx")
    assert write_sparing(tmp_path / "model.onnx", tmp_path / "int8.onnx", Bright(), 0.5) == []
    types = Counter(
        tensor.data_type for name, tensor in initialisers(tmp_path / "int8.onnx").items() if name.endswith("_quantized")
    )
    assert types == {onnx.TensorProto.UINT8: 2}
    given = next(Bright().batches())["pixels"]
    with torch.no_grad():
        expected = network(torch.from_numpy(given)).numpy()
    np.testing.assert_allclose(OnnxScorer(tmp_path / "int8.onnx").scores(given), expected, rtol=0.02)


class OneGuilty(nn.Module):
    """A product whose one huge output leaves no levels of int8 for the small ones, which alone tell what is in the picture."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.ModuleList([nn.Linear(12, 12, bias=False) for _ in range(6)])
        self.guilty, self.head = nn.Linear(12, 13, bias=True), nn.Linear(13, 5)
        for layer in self.layers:
            nn.init.orthogonal_(layer.weight)
        nn.init.normal_(self.head.weight, std=3)
        with torch.no_grad():
            self.guilty.bias[12] = 1000.0
            self.head.weight[:, 12] = 0

    def forward(self, pixels: Tensor) -> Tensor:
        x = pixels.unflatten(2, (2, 8)).unflatten(4, (2, 8)).mean((3, 5)).flatten(1)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.guilty(x))


@dataclass(frozen=True)
class Coarse:
    words: str = "coarse pictures"

    def __len__(self) -> int:
        return 16 * BATCH

    def batches(self) -> Iterator[Given]:
        generator = np.random.default_rng(0)
        for _ in range(16):
            coarse = generator.standard_normal((BATCH, 3, 2, 2)).astype(np.float32)
            yield {"pixels": coarse.repeat(8, axis=2).repeat(8, axis=3)}


def test_the_guilty_layer_is_found_and_spared(tmp_path: Path) -> None:
    network = OneGuilty().eval()
    write_onnx(network, SIZE, tmp_path / "model.onnx")
    nodes = quantisable(read_onnx(tmp_path / "model.onnx"))
    pixels = np.concatenate([given["pixels"] for given in Coarse().batches()])
    with torch.no_grad():
        best = network(torch.from_numpy(pixels)).numpy().argmax(1)

    def agreement(file: str) -> float:
        return float((OnnxScorer(tmp_path / file).scores(pixels).argmax(1) == best).mean())

    assert len(write_sparing(tmp_path / "model.onnx", tmp_path / "all.onnx", Coarse(), 0.01)) == 0
    assert agreement("all.onnx") < 0.7
    spared = write_sparing(tmp_path / "model.onnx", tmp_path / "int8.onnx", Coarse(), 0.95)
    assert agreement("int8.onnx") >= 0.95
    assert 1 <= len(spared) <= len(nodes) // 2
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "int8.onnx").graph.node)
    assert kinds["QuantizeLinear"] >= 4
    weights = [
        tensor for tensor in initialisers(tmp_path / "int8.onnx").values() if len(tensor.dims) == 2 and min(tensor.dims) > 1
    ]
    types = Counter(tensor.data_type for tensor in weights)
    assert types == {onnx.TensorProto.INT8: len(spared), onnx.TensorProto.UINT8: len(nodes) - len(spared)}
    assert not [file for file in tmp_path.iterdir() if "ranges" in file.name or "trial" in file.name]


def test_ranges_are_taken_once(small: tuple[nn.Module, Path], tmp_path: Path) -> None:
    _, whole = small

    class Reader:
        asked = 0

        def get_next(self) -> Given | None:
            Reader.asked += 1
            return None if Reader.asked > 2 else {"pixels": np.ones((2, *SIZE), dtype=np.float32)}

    for file in ("a.onnx", "b.onnx"):
        write_static(whole, tmp_path / file, Reader(), tmp_path / "ranges.json", [])
    assert Reader.asked == 3
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
