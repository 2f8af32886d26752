"""The herbaria, each with a hand of its own: paper, board, stamp, label. A careless split lets a network live off these."""

from __future__ import annotations

from dataclasses import dataclass

Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]
"""left, top, right, bottom in units of the picture's width; a picture is 1 wide and 1.5 high."""


@dataclass(frozen=True)
class Institution:
    """A herbarium and the look of its sheets."""

    code: str
    name: str
    paper: Colour
    board: Colour
    """What lies under the sheet in the scanner."""
    sheet: Box
    """The paper within the picture; the rest is board."""
    ink: Colour
    """Of stamp and label frame."""
    stamp: str
    """round, oval or box"""
    stamp_at: tuple[float, float]
    label: Box
    label_paper: Colour
    framed: bool
    barcode: Box
    ruler: Box
    dark_ruler: bool
    chart: Box
    licence: str


INSTITUTIONS = (
    Institution(
        code="XBRA",
        name="Brannoch Museum",
        paper=(247, 243, 222),
        board=(42, 37, 36),
        sheet=(0.06, 0.13, 0.94, 1.44),
        ink=(96, 84, 30),
        stamp="oval",
        stamp_at=(0.83, 0.21),
        label=(0.52, 1.22, 0.91, 1.42),
        label_paper=(253, 250, 238),
        framed=False,
        barcode=(0.10, 1.36, 0.30, 1.42),
        ruler=(0.26, 0.055, 0.58, 0.105),
        dark_ruler=True,
        chart=(0.59, 0.055, 0.74, 0.105),
        licence="CC0_1_0",
    ),
    Institution(
        code="XOST",
        name="University of Ostmere",
        paper=(236, 238, 238),
        board=(24, 24, 27),
        sheet=(0.05, 0.05, 0.95, 1.40),
        ink=(38, 52, 120),
        stamp="round",
        stamp_at=(0.17, 0.17),
        label=(0.07, 1.17, 0.45, 1.38),
        label_paper=(244, 246, 248),
        framed=True,
        barcode=(0.70, 1.32, 0.92, 1.38),
        ruler=(0.30, 1.425, 0.70, 1.475),
        dark_ruler=False,
        chart=(0.72, 1.425, 0.92, 1.475),
        licence="CC_BY_4_0",
    ),
    Institution(
        code="XTAR",
        name="Tarn Botanic Garden",
        paper=(240, 230, 202),
        board=(240, 230, 202),
        sheet=(0.0, 0.0, 1.0, 1.5),
        ink=(138, 34, 34),
        stamp="box",
        stamp_at=(0.84, 0.13),
        label=(0.58, 1.26, 0.97, 1.47),
        label_paper=(250, 245, 228),
        framed=True,
        barcode=(0.04, 0.04, 0.26, 0.10),
        ruler=(0.04, 1.43, 0.40, 1.475),
        dark_ruler=False,
        chart=(0.42, 1.43, 0.56, 1.475),
        licence="CC_BY_4_0",
    ),
    Institution(
        code="XSUN",
        name="Herbarium of Sund",
        paper=(228, 226, 216),
        board=(96, 98, 102),
        sheet=(0.04, 0.04, 0.90, 1.46),
        ink=(30, 92, 60),
        stamp="round",
        stamp_at=(0.77, 0.15),
        label=(0.48, 1.25, 0.87, 1.44),
        label_paper=(238, 240, 228),
        framed=False,
        barcode=(0.08, 1.38, 0.28, 1.44),
        ruler=(0.92, 0.30, 0.975, 0.78),
        dark_ruler=True,
        chart=(0.92, 0.80, 0.975, 1.10),
        licence="CC_BY_NC_4_0",
    ),
    Institution(
        code="XKEL",
        name="Kelvarra Academy",
        paper=(243, 238, 228),
        board=(226, 224, 220),
        sheet=(0.03, 0.10, 0.97, 1.47),
        ink=(72, 40, 92),
        stamp="oval",
        stamp_at=(0.16, 0.22),
        label=(0.55, 1.23, 0.93, 1.44),
        label_paper=(252, 252, 252),
        framed=True,
        barcode=(0.06, 1.385, 0.30, 1.44),
        ruler=(0.05, 0.03, 0.50, 0.075),
        dark_ruler=False,
        chart=(0.54, 0.03, 0.86, 0.075),
        licence="CC0_1_0",
    ),
    Institution(
        code="XMIR",
        name="Port Mirren College",
        paper=(222, 206, 172),
        board=(60, 46, 34),
        sheet=(0.04, 0.04, 0.96, 1.46),
        ink=(52, 48, 44),
        stamp="box",
        stamp_at=(0.20, 0.13),
        label=(0.07, 1.24, 0.44, 1.43),
        label_paper=(240, 230, 204),
        framed=False,
        barcode=(0.68, 0.08, 0.92, 0.14),
        ruler=(0.52, 1.385, 0.80, 1.43),
        dark_ruler=True,
        chart=(0.82, 1.385, 0.93, 1.43),
        licence="CC_BY_NC_4_0",
    ),
)
