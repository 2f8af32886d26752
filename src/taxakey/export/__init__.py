"""Export: a trained model -> a bundle that runs without torch, smaller if asked for, refused where its answers differ."""

from __future__ import annotations

from taxakey.export.bundle import ExportOptions, export
from taxakey.export.onnx_file import check, write_onnx
from taxakey.export.precisions import PRECISIONS, Precision

__all__ = ["PRECISIONS", "ExportOptions", "Precision", "check", "export", "write_onnx"]
