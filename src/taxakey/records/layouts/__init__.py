"""The layouts of published datasets: recognised by their content, or named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from taxakey.errors import BadInput
from taxakey.records.layouts import coco, plantnet300k
from taxakey.records.layouts.columns import DANISH_FUNGI, NAFLORA_MINI, PLANTCLEF
from taxakey.records.table import Observations


class Reader(NamedTuple):
    """How a layout is recognised and read."""

    recognises: Callable[[Path], bool]
    read: Callable[[Path], Observations]


LAYOUTS = {
    "herbarium2022": Reader(coco.recognises, coco.read),
    "inaturalist": Reader(coco.recognises, coco.read),
    "plantnet300k": Reader(plantnet300k.recognises, plantnet300k.read),
    **{layout.name: Reader(layout.recognises, layout.read) for layout in (NAFLORA_MINI, DANISH_FUNGI, PLANTCLEF)},
}


def reader_named(name: str) -> Reader:
    """The layout of that name; raises BadInput with those there are."""
    if name not in LAYOUTS:
        raise BadInput(f"--layout {name}: unknown; one of {', '.join(LAYOUTS)}")
    return LAYOUTS[name]


def recognised(path: Path) -> Reader | None:
    """The layout that a file or folder has, or None."""
    return next((reader for reader in LAYOUTS.values() if reader.recognises(path)), None)
