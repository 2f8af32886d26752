"""Lets torchvision be imported beside a CPU build of torch. Import this before timm, Lightning, torchmetrics or torchvision.

The registry's torchvision wheel is compiled for CUDA. Beside a CPU torch its compiled part doesn't load, and then its own
Python part fails with "operator torchvision::nms does not exist", because it registers shape functions for two operators whose
schemas only the compiled part defines. Defining those two schemas is enough: transforms and models need neither operator.
Where the compiled part loads, nothing is done.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
from pathlib import Path

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_kept_alive: list[torch.library.Library] = []  # the definitions vanish with the Library object


def _compiled_part_loads() -> bool:
    spec = importlib.util.find_spec("torchvision")  # finds the folder without importing the package
    if spec is None or spec.origin is None:
        return True  # no torchvision: nothing to guard
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        library = Path(spec.origin).parent / f"_C{suffix}"
        if library.exists():
            try:
                torch.ops.load_library(str(library))
            except OSError:
                return False
            return True
    return False


def _define_missing_schemas() -> None:
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _SCHEMAS:
        library.define(schema)
    _kept_alive.append(library)


if not _compiled_part_loads():
    _define_missing_schemas()
