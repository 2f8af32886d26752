"""Options of the simulated herbarium, and the random streams that follow from its seed."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from taxakey.errors import BadInput

LEAKS = ("exact duplicate", "near duplicate", "same specimen", "same observation", "other label")
"""The very bytes in another record; a brighter, smaller, re-encoded copy in another record; the specimen photographed again
under a second occurrenceID; one occurrenceID delivered twice with two splits; the very bytes under the name of another
species."""


@dataclass(frozen=True)
class Dirt:
    """Shares of specimens whose record has a fault that real downloads have."""

    synonym: float = 0.10
    """Named by a synonym, where the species has one."""
    misspelled: float = 0.04
    """Misspelled on the label; a quarter of them so badly that only the genus could be matched."""
    no_coordinates: float = 0.12
    zero_coordinates: float = 0.01
    no_date: float = 0.05
    year_only: float = 0.08
    no_licence: float = 0.05


@dataclass(frozen=True)
class SampleOptions:
    """What the simulated herbarium holds; equal options give the same bytes.

    The sheets of unknown species, of the shift and of the duplicates come on top of `sheets` and leave those as they are.
    """

    sheets: int = 1500
    """Photographs of specimens of the known species; a specimen has one to three."""
    species: int | None = None
    """Known species; by default the square root of `sheets`."""
    size: int = 256
    """Longest edge in pixels; sheets are portrait, two to three."""
    seed: int = 0
    unknown_species: int = 0
    """Species that stand in no checklist and appear in validation and test only."""
    shift: float = 0.0
    """Further sheets, as a share of `sheets`, that go to test and in which the rare species are the common ones."""
    wrong_labels: float = 0.0
    """Share of specimens that bear the name of another species."""
    duplicates: float = 0.0
    """Share of specimens of which one picture appears again, byte for byte, under another occurrenceID."""
    leaks: int = 0
    """Specimens that appear a second time so that a careless split would leak, this many for each kind of `LEAKS`."""
    web: int = 0
    """Pictures of a second, noisy collection: plants photographed where they grew."""
    address: str = "{path}"
    """How pictures are addressed: {path} within the folder; {institution}, its code; {number}, its number from 1.
    "http://127.0.0.{number}:8000/{path}" makes each institution a host of its own."""
    idigbio: float = 0.0
    """Share of specimens that a second portal delivers as well, in idigbio.zip."""
    dirt: Dirt = Dirt()

    def __post_init__(self) -> None:
        _require(20 <= self.sheets <= 10_000_000, f"{self.sheets} sheets; from 20 up to 10,000,000 can be drawn")
        _require(64 <= self.size <= 4000, f"a longest edge of {self.size} pixels; choose 64 to 4000")
        _require(
            2 <= self.known_species <= self.sheets // 4, f"{self.known_species} species; 2 to a quarter of {self.sheets} sheets"
        )
        _require(self.seed >= 0, f"the seed {self.seed} is negative")
        _require(min(self.unknown_species, self.web) >= 0, "unknown species and web pictures are counted from 0")
        _require(0 <= self.leaks * len(LEAKS) <= self.sheets // 8, f"{self.leaks} leaks of each kind among {self.sheets} sheets")
        _require(0 <= self.shift <= 10, f"a shift of {self.shift}; choose 0 to 10 times the sheets")
        _require(_fits(self.address), f"the address {self.address!r}; it needs {{path}} and may have {{institution}}, {{number}}")
        shares = {"idigbio": self.idigbio, "wrong_labels": self.wrong_labels, "duplicates": self.duplicates}
        shares |= {field.name: getattr(self.dirt, field.name) for field in fields(self.dirt)}
        for name, share in shares.items():
            _require(0 <= share <= 1, f"the share {name} is {share}; choose 0 to 1")

    @property
    def known_species(self) -> int:
        """Number of species in the checklist."""
        return max(2, round(self.sheets**0.5)) if self.species is None else self.species


def _fits(address: str) -> bool:
    try:
        return "picture" in address.format(path="picture", institution="xbra", number=1)
    except (KeyError, IndexError, ValueError):
        return False


def _require(holds: bool, fact: str) -> None:
    if not holds:
        raise BadInput(f"simulated herbarium: {fact}")


# A new purpose is appended, never inserted: the position is part of the seed.
_PURPOSES = ("flora", "unknown", "web flora", "institutions", "specimens", "specimen", "plant", "photograph", "record", "web")


def stream(seed: int, purpose: str, *numbers: int) -> np.random.Generator:
    """Independent random numbers for one purpose and, say, one specimen: any of them can be drawn again alone."""
    return np.random.default_rng([seed, _PURPOSES.index(purpose), *numbers])
