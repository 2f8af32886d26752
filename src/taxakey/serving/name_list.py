"""Lists of names that a restriction is made from: a checklist, a name a line, a table of countries and names. No torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc

from taxakey.errors import BadInput
from taxakey.records.naming.checklist import read_checklist
from taxakey.records.naming.checklist_files import sniff
from taxakey.records.naming.scientific_name import parse_names, words_of
from taxakey.records.reading.delimited import Dialect, plain, read_delimited

_NAME = ("scientificname", "scientific_name", "species", "taxon_name", "name", "accepted_species")
_REGION = ("country", "countrycode", "country_code", "region", "area", "location", "stateprovince", "state_province", "continent")
_LINKED = ("taxonomicstatus", "taxonid", "acceptednameusageid", "plant_name_id")
"""Columns of a checklist that knows synonyms."""
_SHOWN = 5


@dataclass(frozen=True)
class NameList:
    """`species`: for each species of the list its name, and the words of all names it goes by there, synonyms among them."""

    species: dict[str, set[str]]
    left_out: int
    """Rows that name no species: genera, "Poa sp.", doubtful ones."""


def read_name_list(file: Path, region: str | None = None) -> NameList:
    """Read a checklist (see `records.naming.checklist`), a table with a column of names, or a text with a name a line.

    `region`: only rows that have it in a column such as country, countryCode, region or area. Raises BadInput.
    """
    if file.is_dir() or file.suffix.lower() == ".zip":
        return _of_checklist(file, region)
    dialect, header = sniff(str(file), _opener(file))
    lower = [column.strip().lower().rpartition(":")[2] for column in header]
    if region is None and any(column in _LINKED for column in lower):
        return _of_checklist(file, region)
    name = next((lower.index(column) for column in _NAME if column in lower), None)
    if name is None and len(lower) == 1 and region is None:
        return _of_names(_lines(file))
    if name is None:
        raise BadInput(f"{file}: no column of names ({', '.join(_NAME)}); it has {', '.join(header) or 'none'}")
    return _of_names(_column(file, dialect, name, None) if region is None else _of_region(file, dialect, lower, name, region))


def _opener(file: Path) -> Callable[[], IO[bytes]]:
    return lambda: open(file, "rb")


def _column(file: Path, dialect: Dialect, name: int, region: int | None) -> pa.Table:
    wanted = {"name": [name]} | ({} if region is None else {"region": [region]})
    found = read_delimited(_opener(file), dialect, wanted, str(file)).table
    return pa.table({column: plain(found[column]) for column in wanted})


def _of_region(file: Path, dialect: Dialect, header: list[str], name: int, region: str) -> pa.Table:
    """The rows of a country or region, in whichever column it stands."""
    places = [header.index(column) for column in _REGION if column in header]
    if not places:
        raise BadInput(
            f"{file}: no column of countries or regions ({', '.join(_REGION)}), so {region!r} can't be looked up in it"
        )
    seen: list[str] = []
    for place in places:
        table = _column(file, dialect, name, place)
        wanted = pc.equal(pc.utf8_lower(table["region"]), region.strip().lower())
        if pc.any(wanted).as_py():
            return table.filter(wanted)
        seen += [text for text in pc.unique(table["region"]).to_pylist() if text]
    more = f" and {len(seen) - _SHOWN:,} more" if len(seen) > _SHOWN else ""
    raise BadInput(f"{file}: no row for {region!r}; there are {', '.join(seen[:_SHOWN]) or 'none'}{more}")


def _lines(file: Path) -> pa.Table:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise BadInput(f"{file}: not text in UTF-8 ({error})") from None
    if lines and lines[0].strip().lower() in _NAME:
        lines = lines[1:]
    return pa.table({"name": pa.array([line.strip() or None for line in lines], pa.string())})


def _of_names(table: pa.Table) -> NameList:
    names = table["name"].drop_null()
    parsed = parse_names(names)
    words = pc.if_else(pc.is_valid(parsed["problem"]), None, words_of(parsed, species=True)).to_pylist()
    species: dict[str, set[str]] = {}
    shown: dict[str, str] = {}
    for name, key in zip(names.to_pylist(), words, strict=True):
        if key is not None:
            species[shown.setdefault(key, name)] = {key}
    return NameList(species, sum(key is None for key in words))


def _of_checklist(file: Path, region: str | None) -> NameList:
    if region is not None:
        raise BadInput(f"{file}: {region!r} can be looked up in a single table, not in a folder or a zip; name the table")
    checklist = read_checklist(file)
    columns = {name: checklist.table[name].to_pylist() for name in ("scientificName", "words", "species")}
    species: dict[str, set[str]] = {}
    left_out = 0
    for words, leads_to in zip(columns["words"], columns["species"], strict=True):
        if leads_to < 0:
            left_out += 1
        else:
            species.setdefault(columns["scientificName"][leads_to], set()).add(words)
    return NameList(species, left_out)
