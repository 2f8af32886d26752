"""A handful of records, worked out by hand, with names that try to break out of the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from taxakey.records.table import Observations

EVIL = '<script>document.body.dataset.broken = "yes"</script><img src=x onerror="document.body.dataset.broken = 1">$x_1$'

BOLD = "<b>X</b>"
"""Markup that plotly would obey."""


def rows() -> list[dict[str, Any]]:
    """Twelve pictures: 6 of Bellis perennis (two observations), 3 of the evil name, 2 of Acer campestre, 1 of Acer rubrum."""
    made = [_row(f"b{n}", "Bellis perennis", "Asteraceae", "KEW", split="train" if n < 4 else "test") for n in range(6)]
    made += [_row(f"e{n}", EVIL, f"Evilaceae {EVIL}", EVIL, split="train", countryCode=BOLD, license=EVIL) for n in range(3)]
    made += [_row("a0", "Acer campestre", "Sapindaceae", None, split="validation"), _row("a1", "Acer campestre", None, "KEW")]
    made += [_row("r0", "Acer rubrum", "Sapindaceae", "B", split="test", year=23, license="CC BY 4.0")]
    for number, row in enumerate(made[:6]):
        row |= {"occurrenceID": "first" if number < 4 else "second", "license": "http://creativecommons.org/licenses/by/4.0/"}
    places = [(51.2, 0.3), (51.9, 0.7), (-33.5, 151.1)]
    for row, (latitude, longitude) in zip(made, places, strict=False):
        row |= {"decimalLatitude": latitude, "decimalLongitude": longitude, "year": 1999, "month": 5}
    return made


def _row(image_id: str, name: str, family: str | None, institution: str | None, **more: Any) -> dict[str, Any]:
    row = {"occurrenceID": f"o-{image_id}", "image_id": image_id, "identifier": f"https://example.org/{image_id}.jpg"}
    return row | {"scientificName": name, "family": family, "institutionCode": institution, "split": "train"} | more


def observations(made: list[Mapping[str, Any]] | None = None) -> Observations:
    """The rows as records; nothing of them is refused."""
    made = made or rows()
    names = sorted({name for row in made for name in row})
    table = pa.table({name: pa.array([None if row.get(name) is None else str(row[name]) for row in made]) for name in names})
    found = Observations.from_table(table)
    assert not len(found.rejected), found.rejected.to_pylist()
    return found
