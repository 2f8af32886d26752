"""Scientific names as delivered -> the canonical name of a class, without its author, and its genus."""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc

from taxakey.records.reading.delimited import plain
from taxakey.records.reading.distinct import by_distinct
from taxakey.records.table import NOT_TO_SPECIES

Columns = dict[str, pa.ChunkedArray]
"""Column -> strings or dictionaries of them, all of one length; missing text is null."""

PARTS = ("species", "genericName", "specificEpithet", "infraspecificEpithet", "acceptedScientificName")
"""Columns beside those of the table that help to find the name."""

_HYBRID = ("×", "x", "X")
_GROUPS = ("kingdom", "phylum", "class", "order", "family", "genus")


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


def name_rows(columns: Columns, rows: int) -> pa.ChunkedArray:
    """Put the canonical name into scientificName, in place; returns for each row why it has none, or null [N].

    `species`, GBIF's accepted name, goes before scientificName where any row has it, and a row without it is known to genus
    or above only. The name as delivered, the author and the genus are filled in where the source has no columns for them. Names
    that begin with a small letter, as iDigBio's do, get a capital.
    """
    nothing = pa.chunked_array([pa.nulls(rows, pa.string())])
    delivered = columns.get("scientificName", nothing)
    species = columns.get("species", nothing)
    reasons = nothing
    if species.null_count < rows:
        names = by_distinct(_capitalised, species)
        reasons = pc.if_else(pc.is_valid(species), None, NOT_TO_SPECIES)
    else:
        generic = "genericName" if "genericName" in columns else "genus"
        parts = ("scientificNameAuthorship", generic, "specificEpithet", "infraspecificEpithet")
        names = by_distinct(_canonical, delivered, *(columns.get(part, nothing) for part in parts))
    columns["scientificName"] = names
    columns.setdefault("verbatimScientificName", delivered)
    if "scientificNameAuthorship" not in columns:
        whole = columns.get("acceptedScientificName", delivered)
        columns["scientificNameAuthorship"] = by_distinct(author_behind, names, whole, columns.get("taxonRank", nothing))
    columns.setdefault("genus", by_distinct(genus_of, names))
    for group in _GROUPS:
        if group in columns and pc.any(pc.match_substring_regex(plain(columns[group]), "^[a-z]")).as_py():
            columns[group] = by_distinct(_capitalised, columns[group])
    return reasons


def _canonical(
    delivered: str | None, author: str | None, genus: str | None, epithet: str | None, below: str | None
) -> str | None:
    return _capitalised(canonical_name(delivered, author, genus, epithet, below))


def _capitalised(name: str | None) -> str | None:
    return name[0].upper() + name[1:] if name and name[0].islower() and not name.startswith("x ") else name


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


_RANK_WORDS = ("subsp.", "ssp.", "var.", "subvar.", "f.", "fo.", "forma", "nothosubsp.", "nothovar.")
_EPITHET = re.compile(r"[×]?[a-zà-öø-ÿ][a-zà-öø-ÿ-]+")


def without_author(name: str | None) -> str | None:
    """A name whose author stands behind it in the same text, cut to genus, epithet and infraspecific epithets.

    >>> without_author("Mentha × piperita L."), without_author("Poa annua L. var. supina Link")
    ('Mentha × piperita', 'Poa annua var. supina')
    """
    words = (name or "").split()
    kept = words[: _length_of_species(words)]
    for at in range(len(kept), len(words) - 1):
        if words[at] in _RANK_WORDS and _EPITHET.fullmatch(words[at + 1]):
            kept += words[at : at + 2]
    return " ".join(kept) or None


def author_of(name: str | None) -> str | None:
    """What stands behind the name of a species; None behind an infraspecific one, whose authors stand in two places.

    >>> author_of("Lactuca virosa L."), author_of("Poa annua L. var. supina Link")
    ('L.', None)
    """
    return author_behind(without_author(name), name, "species")


def _length_of_species(words: list[str]) -> int:
    """How many of the first words are hybrid signs, the genus and the epithet."""
    at = 1 if words and words[0] in _HYBRID else 0
    at += 1
    if at < len(words) and words[at] in _HYBRID:
        at += 1
    return at + 1 if at < len(words) and _EPITHET.fullmatch(words[at]) else at
