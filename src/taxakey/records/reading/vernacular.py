"""Vernacular names by language: the extension VernacularName of a checklist, or a plain table, -> names beside the species."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from taxakey.errors import BadRecords
from taxakey.records.reading.archives import TABLE_SUFFIXES, describe, read_described
from taxakey.records.reading.checking import look_up, whole
from taxakey.records.reading.containers import open_container
from taxakey.records.reading.delimited import plain, read_delimited
from taxakey.records.reading.distinct import by_distinct
from taxakey.records.reading.names import Columns, name_rows, without_author
from taxakey.records.reading.tables import open_table, sniff_table
from taxakey.records.table import SCHEMA, Observations

# ISO 639-1 and 639-2 (both forms), and the English name, of the languages in which floras are written most.
_LANGUAGES = (
    "ca cat catalan", "cs ces cze czech", "da dan danish", "de deu ger german", "en eng english", "es spa spanish",
    "fi fin finnish", "fr fra fre french", "it ita italian", "ja jpn japanese", "nb nob", "nl nld dut dutch", "no nor norwegian",
    "pl pol polish", "pt por portuguese", "ru rus russian", "sv swe swedish", "tr tur turkish", "zh zho chi chinese",
)  # fmt: skip
_CODES = {word: words.split()[0] for words in _LANGUAGES for word in words.split()}

_TAXON = {name: (name.lower(),) for name in ("scientificName", "scientificNameAuthorship", "genus", "specificEpithet")} | {
    "infraspecificEpithet": ("infraspecificepithet",),
    "canonicalName": ("canonicalname",),
}
_NAME = {"vernacularName": ("vernacularname",), "language": ("language",), "isPreferredName": ("ispreferredname", "preferred")}


def language_code(text: str | None) -> str | None:
    """The short code of a language.

    >>> language_code("eng"), language_code("English"), language_code("en-GB"), language_code("gsw")
    ('en', 'en', 'en', 'gsw')
    """
    word = (text or "").strip().lower().replace("_", "-").split("-")[0]
    return _CODES.get(word, word) or None


def read_vernacular(path: Path | str, language: str) -> pa.Table:
    """scientificName (canonical) and vernacularName in one language, one row a species: the preferred name, else the first.

    `path` is an archive with taxa as its core and the extension VernacularName, or a table with columns scientificName,
    vernacularName and language. Raises BadRecords where it is neither, or has no name in that language: it says which it has.
    """
    path = Path(path)
    rows = _of_table(path) if path.is_file() and path.suffix.lower() in TABLE_SUFFIXES else _of_archive(path)
    rows = rows.filter(pc.and_(pc.is_valid(rows["scientificName"]), pc.is_valid(rows["vernacularName"])))
    spoken = by_distinct(language_code, rows["language"])
    wanted = rows.filter(pc.equal(plain(spoken), language_code(language)))
    if not len(wanted):
        there = ", ".join(sorted({code for code in pc.unique(plain(spoken)).to_pylist() if code})) or "none"
        raise BadRecords(f"{path}: no vernacular names in {language!r}; its languages are {there}: name one with --language")
    preferred = pc.is_in(pc.utf8_lower(wanted["isPreferredName"]), pa.array(["true", "1", "yes"]))
    ordered = pa.concat_tables([wanted.filter(preferred), wanted.filter(pc.invert(preferred))])
    names = ordered.group_by("scientificName", use_threads=False).aggregate([("vernacularName", "first")])
    return names.rename_columns({"vernacularName_first": "vernacularName"})


def with_vernacular(observations: Observations, names: pa.Table) -> Observations:
    """The observations with vernacularName from `names`; a species that isn't among them keeps what it has."""
    table = observations.table
    found = look_up(table.select(["scientificName"]), "scientificName", names)["vernacularName"]
    at = SCHEMA.get_field_index("vernacularName")
    column = pc.coalesce(found, table["vernacularName"])
    return observations.replace(table.set_column(at, SCHEMA.field(at), column).combine_chunks())


def _of_archive(path: Path) -> pa.Table:
    with open_container(path) as container:
        if "meta.xml" not in container.names:
            raise BadRecords(f"{path}: no meta.xml in it, so no checklist with vernacular names; name an archive or a table")
        core, extensions = describe(container, ("vernacularname",))
        if core.kind != "taxon" or not extensions:
            lacking = "taxa as its core" if core.kind != "taxon" else "the extension VernacularName"
            raise BadRecords(f"{path}: an archive without {lacking}; name a checklist with vernacular names")
        taxa = read_described(container, core, _TAXON)
        names = pa.concat_tables([read_described(container, file, _NAME) for file in extensions], promote_options="permissive")
    columns: Columns = dict(zip(taxa.column_names, taxa.columns, strict=True))
    if "scientificName" not in columns and "canonicalName" not in columns:
        raise BadRecords(f"{path}: its taxa have no scientificName; name a checklist whose taxa have one")
    name_rows(columns, len(taxa))
    named = pa.table({"id": whole(columns["id"]), "scientificName": whole(_canonical(columns))})
    return _complete(look_up(names, "id", named))


def _of_table(path: Path) -> pa.Table:
    dialect, header = sniff_table(path)
    places = {name.lower(): (at,) for at, name in enumerate(header)}
    wanted = {name: places[name.lower()] for name in ("scientificName", *_NAME) if name.lower() in places}
    if lacking := [name for name in ("scientificName", "vernacularName") if name not in wanted]:
        raise BadRecords(f"{path}: no column {lacking[0]}; its columns are {', '.join(header)}")
    table = read_delimited(partial(open_table, path), dialect, wanted, str(path)).table
    columns: Columns = dict(zip(table.column_names, table.columns, strict=True))
    columns["scientificName"] = by_distinct(without_author, columns["scientificName"])
    return _complete(pa.table(columns))


def _canonical(columns: Columns) -> pa.ChunkedArray:
    return by_distinct(without_author, columns["canonicalName" if "canonicalName" in columns else "scientificName"])


def _complete(table: pa.Table) -> pa.Table:
    nothing = pa.nulls(len(table), pa.string())
    columns = {name: plain(table[name]) if name in table.column_names else nothing for name in ("scientificName", *_NAME)}
    return pa.table(columns)
