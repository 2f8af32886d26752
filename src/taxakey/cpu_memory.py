"""Keeps freed memory for the next layer instead of handing it back to the kernel.

glibc gives every block above 32 MB back at once and fetches it again, zeroed page by page, for the next layer's activations. On
two cores that took up to half of a forward pass (benchmarks/forward_pass.py, docs/LOG.md). `mallopt` is glibc's own door to this;
elsewhere (musl, macOS, Windows) there is no such function, nothing is done, and nothing is lost but that speed.
"""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_KEPT_BYTES = 1 << 30


def keep_freed_memory() -> bool:
    """Raise glibc's two thresholds for this process to 1 GiB; tells whether it could."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(option, _KEPT_BYTES) for option in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD))
