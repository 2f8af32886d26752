"""Gains without training: several pictures of one observation, and what is known besides, each kept if it gains on validation.

No torch: what is fitted here (`fitting`) lies in `fusion.json` and is applied by numpy.
"""

from __future__ import annotations

from taxakey.prediction.fusion.pictures import Pictures
from taxakey.prediction.fusion.stored import FILE, Fusion

__all__ = ["FILE", "Fusion", "Pictures"]
