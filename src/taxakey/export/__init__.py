"""Export: a trained model -> a bundle without torch, for phones or smaller if asked for, refused where it answers otherwise."""

from __future__ import annotations

from taxakey.export.bundle import ExportOptions, Format, export
from taxakey.export.onnx_file import check, write_onnx
from taxakey.export.phone_file import write_pte
from taxakey.export.precisions import PRECISIONS, Precision

__all__ = ["PRECISIONS", "ExportOptions", "Format", "Precision", "check", "export", "write_onnx", "write_pte"]
