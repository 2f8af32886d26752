"""Taxakey: from records and photographs of organisms to a model that names new photographs.

>>> import taxakey
>>> model = taxakey.load("run/")                               # doctest: +SKIP
>>> model.identify(["a.jpg", ["b1.jpg", "b2.jpg"]])[0].species[0].scientific_name   # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Predictions", "Taxonomy", "__version__", "load"]

if TYPE_CHECKING:
    from taxakey.predictions import Predictions
    from taxakey.serving.identifier import load
    from taxakey.taxonomy import Taxonomy

_HOMES = {"Predictions": "taxakey.predictions", "Taxonomy": "taxakey.taxonomy", "load": "taxakey.serving.identifier"}


def __getattr__(name: str) -> Any:
    """Import the few public names when they are first used, so that `import taxakey` costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'taxakey' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
