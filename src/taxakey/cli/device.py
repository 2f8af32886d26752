"""Which device a command computes on."""

from __future__ import annotations

from taxakey.errors import BadInput


def resolve_device(wanted: str) -> str:
    """ "cpu" or "cuda"; "auto" takes the GPU where there is one. Raises BadInput for a device that isn't there."""
    import torch

    if wanted not in ("auto", "cpu", "cuda"):
        raise BadInput(f"--device {wanted}: one of auto, cpu, cuda")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise BadInput("--device cuda: torch sees no GPU here; use --device cpu")
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"
