"""Scientific names as delivered -> the canonical name of a class, without its author, and its genus."""

from __future__ import annotations

from functools import cache

import pyarrow as pa

from taxakey.records.table import NOT_TO_SPECIES

Columns = dict[str, pa.ChunkedArray]
"""Column -> strings, all of one length; missing text is null."""

PARTS = ("species", "genericName", "specificEpithet", "infraspecificEpithet", "acceptedScientificName")
"""Columns beside those of the table that help to find the name."""

_HYBRID = ("×", "x", "X")


@cache
def canonical_name(
    delivered: str | None,
    author: str | None = None,
    genus: str | None = None,
    epithet: str | None = None,
    below: str | None = None,
) -> str | None:
    """A scientific name without its author; `below` is the infraspecific epithet.

    >>> canonical_name("Amblyomma americanum (Linnaeus, 1758)", author="(Linnaeus, 1758)")
    'Amblyomma americanum'
    >>> canonical_name("Poa annua L.", genus="Poa", epithet="annua")
    'Poa annua'
    """
    if not delivered:
        return None
    if author and delivered.endswith(f" {author}"):
        return delivered.removesuffix(author).strip()
    if genus and epithet:
        return " ".join(part for part in (genus, epithet, below) if part)
    return delivered


def name_rows(columns: Columns, rows: int) -> list[str | None]:
    """Put the canonical name into scientificName, in place; returns for each row why it has none, or None.

    `species`, GBIF's accepted name, goes before scientificName where any row has it, and a row without it is known to genus
    or above only. The name as delivered, the author and the genus are filled in where the source has no columns for them.
    """
    delivered = _cells(columns, "scientificName", rows)
    species = _cells(columns, "species", rows)
    reasons: list[str | None] = [None] * rows
    if any(species):
        names, reasons = species, [None if name else NOT_TO_SPECIES for name in species]
    else:
        generic = "genericName" if "genericName" in columns else "genus"
        parts = ("scientificNameAuthorship", generic, "specificEpithet", "infraspecificEpithet")
        names = [canonical_name(*row) for row in zip(delivered, *(_cells(columns, part, rows) for part in parts), strict=True)]
    columns["scientificName"] = _strings(names)
    columns.setdefault("verbatimScientificName", _strings(delivered))
    if "scientificNameAuthorship" not in columns:
        whole = _cells(columns, "acceptedScientificName", rows) if "acceptedScientificName" in columns else delivered
        ranks = _cells(columns, "taxonRank", rows)
        columns["scientificNameAuthorship"] = _strings([author_behind(*row) for row in zip(names, whole, ranks, strict=True)])
    if "genus" not in columns:
        columns["genus"] = _strings([genus_of(name) for name in names])
    return reasons


def author_behind(name: str | None, whole: str | None, rank: str | None) -> str | None:
    """What stands behind the name, where the record says that it names a species: else it could be an epithet."""
    if not name or not whole or (rank or "").lower() != "species" or not whole.startswith(f"{name} "):
        return None
    return whole.removeprefix(name).strip()


def genus_of(name: str | None) -> str | None:
    """First word of a name of two or more, without a hybrid sign.

    >>> genus_of("× Triticosecale rimpaui"), genus_of("Phildelphus")
    ('Triticosecale', None)
    """
    words = [word for word in (name or "").split() if word not in _HYBRID]
    return words[0].removeprefix("×") if len(words) > 1 else None


def _cells(columns: Columns, name: str, rows: int) -> list[str | None]:
    return columns[name].to_pylist() if name in columns else [None] * rows


def _strings(values: list[str | None]) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, pa.string())])
