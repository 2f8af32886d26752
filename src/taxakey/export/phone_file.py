"""A network as an ExecuTorch program, which phones run. Shapes: M metadata inputs, C classes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from taxakey.artifacts import open_atomically
from taxakey.errors import needs_extra
from taxakey.export.onnx_file import quiet_exporter

if TYPE_CHECKING:
    from torch import nn


def write_pte(network: nn.Module, input_size: tuple[int, int, int], file: Path, *, metadata: int = 0) -> None:
    """Write `network` for one picture at a time, computed by XNNPACK (convolutions, products: what costs time on a phone's
    processor); the operations that XNNPACK hasn't are ExecuTorch's portable ones, which every build of it has.

    `metadata`: M of a network that takes metadata [1, M] besides, 0 for none.
    """
    import torch

    with quiet_exporter(), torch.no_grad():
        with needs_extra("phone"):
            from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
            from executorch.exir import to_edge_transform_and_lower
        examples = (torch.zeros(1, *input_size), *([torch.zeros(1, metadata)] if metadata else []))
        program = torch.export.export(network.float().cpu().eval(), examples)
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        written = lowered.to_executorch()
    with open_atomically(file) as out:
        written.write_to_file(out)
