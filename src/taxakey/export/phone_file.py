"""A network as an ExecuTorch program, which phones run. Shapes: M metadata inputs, C classes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from taxakey.artifacts import open_atomically
from taxakey.errors import BadInput, needs_extra
from taxakey.export.onnx_file import quiet_exporter

if TYPE_CHECKING:
    from torch import nn


def write_pte(network: nn.Module, input_size: tuple[int, int, int], file: Path, *, metadata: int = 0) -> None:
    """Write `network` for one picture at a time, computed by XNNPACK (convolutions, products: what costs time on a phone's
    processor); the operations that XNNPACK hasn't are ExecuTorch's portable ones, which every build of it has.

    `metadata`: M of a network that takes metadata [1, M] besides, 0 for none. Raises BadInput where neither has an operation.
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
    _require_kernels(written.executorch_program.execution_plan[0].operators)
    with open_atomically(file) as out:
        written.write_to_file(out)


def _require_kernels(operators: list[Any]) -> None:
    """The exporter writes operations that no runtime has, and a phone would be the first to say so."""
    from executorch.runtime import Runtime

    wanted = {f"{operator.name}.{operator.overload}".removesuffix(".") for operator in operators}
    if lacking := sorted(wanted - Runtime.get().operator_registry.operator_names):
        raise BadInput(
            f"ExecuTorch can't compute {', '.join(lacking)}, which this model needs (scatter_reduce: a tree whose nodes "
            "differ in their number of children); export it with --format onnx"
        )
