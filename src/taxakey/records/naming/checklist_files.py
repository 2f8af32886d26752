"""Files of a checklist -> its columns as delivered, under Darwin Core names. The format is recognised from the header.

Known are WCVP (https://doi.org/10.34885/rvc3-4d77), Darwin Core taxon files, GBIF's backbone among them, and a plain list with a
column scientificName; each as a file, or in a zip or folder, beside other files.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Literal

import pyarrow as pa

from taxakey.errors import BadRecords
from taxakey.records.reading.delimited import Dialect, look_at, plain, read_delimited

Format = Literal["WCVP", "Darwin Core", "plain list"]
Open = Callable[[], IO[bytes]]

_SUFFIXES = (".csv", ".tsv", ".txt", ".tab")
_MAX_FILE = 8 * 2**30
"""Bytes of a file in a zip; GBIF's backbone, the largest that is known, has about 2.5 GB."""

# Our column -> names it goes by, in lower case and without a prefix such as "dwc:"; the first that is there counts.
_DARWIN_CORE = {
    "taxonID": ("taxonid", "id", "coreid", "taxonkey"),
    "scientificName": ("scientificname", "scientific_name"),
    "scientificNameAuthorship": ("scientificnameauthorship", "authorship", "authors", "author"),
    "taxonRank": ("taxonrank", "rank"),
    "taxonomicStatus": ("taxonomicstatus", "taxonstatus", "status"),
    "acceptedNameUsageID": ("acceptednameusageid", "acceptedtaxonid", "acceptedtaxonkey"),
    "parentNameUsageID": ("parentnameusageid", "highertaxonid"),
    "kingdom": ("kingdom",),
    "family": ("family",),
    "genus": ("genus",),
    "genericName": ("genericname",),
    "specificEpithet": ("specificepithet",),
    "infraspecificEpithet": ("infraspecificepithet",),
}
_WCVP = {
    "taxonID": ("plant_name_id",),
    "scientificName": ("taxon_name",),
    "scientificNameAuthorship": ("taxon_authors",),
    "taxonRank": ("taxon_rank",),
    "taxonomicStatus": ("taxon_status",),
    "acceptedNameUsageID": ("accepted_plant_name_id",),
    "parentNameUsageID": ("parent_plant_name_id",),
    "family": ("family",),
    "genus_hybrid": ("genus_hybrid",),
    "genus": ("genus",),
    "species_hybrid": ("species_hybrid",),
    "specificEpithet": ("species",),
    "infraspecific_rank": ("infraspecific_rank",),
    "infraspecificEpithet": ("infraspecies",),
}
_NEEDED_OF_WCVP = ("taxonID", "taxonomicStatus", "acceptedNameUsageID", "genus", "specificEpithet")
_ORDER: tuple[str | None, ...] = ("WCVP", "Darwin Core", "plain list")
_OF_A_TAXON = ("taxonID", "taxonRank", "taxonomicStatus", "acceptedNameUsageID", "parentNameUsageID")


@dataclass(frozen=True)
class Delivered:
    """`names`: strings under Darwin Core names, one row a name; `too_long`: lines with more columns than the header."""

    format: Format
    names: pa.Table
    too_long: int


@dataclass(frozen=True)
class _Table:
    """A file whose header was read. `columns`: ours -> position."""

    name: str
    open: Open
    dialect: Dialect
    header: list[str]
    format: Format | None
    columns: dict[str, int]

    def read(self) -> tuple[pa.Table, int]:
        found = read_delimited(self.open, self.dialect, {ours: [place] for ours, place in self.columns.items()}, self.name)
        return pa.table({ours: plain(found.table[ours]) for ours in self.columns}), len(found.too_long)


def read_checklist_files(path: Path | str) -> Delivered:
    """Read a checklist's columns; raises BadRecords, with the columns found, where it isn't one that is known."""
    path = Path(path)
    with _files(path) as files:
        tables = [_recognise(name, open_file) for name, open_file in files.items()]
        chosen = _chosen(path, tables)
        names, too_long = chosen.read()
    if not names.num_rows:
        raise BadRecords(f"{chosen.name}: a header and no names; name a checklist with rows")
    return Delivered(chosen.format, names, too_long)  # type: ignore[arg-type]


def _chosen(path: Path, tables: Sequence[_Table]) -> _Table:
    """The list among the tables: WCVP before Darwin Core before a plain one, a file called taxon or taxa before others."""

    def preference(table: _Table) -> tuple[int, bool]:
        return _ORDER.index(table.format), "tax" not in PurePosixPath(table.name).name.lower()

    lists = sorted((table for table in tables if table.format in _ORDER), key=preference)
    if not lists:
        raise _unknown(path, tables)
    if equal := [table.name for table in lists[1:] if preference(table) == preference(lists[0])]:
        raise BadRecords(f"{path}: {lists[0].name} and {equal[0]} could both be the checklist; name one of them")
    return lists[0]


# ---- where the files are ----


@contextmanager
def _files(path: Path) -> Iterator[dict[str, Open]]:
    """Tables at `path` by the name that messages call them: one file, those of a folder, or those of a zip."""
    if path.is_dir():
        yield {str(file): _opener(file) for file in sorted(path.iterdir()) if file.suffix.lower() in _SUFFIXES}
    elif not path.is_file():
        raise BadRecords(f"{path}: no such file; name a checklist (CSV, TSV, or a zip or folder with one)")
    elif path.suffix.lower() != ".zip":
        yield {str(path): _opener(path)}
    else:
        try:
            with zipfile.ZipFile(path) as archive:
                yield {f"{path}: {info.filename}": partial(archive.open, info) for info in _tables_of(archive, path)}
        except (zipfile.BadZipFile, EOFError) as error:
            raise BadRecords(f"{path}: not a zip file, or a damaged one ({error}); download it again") from None


def _opener(path: Path) -> Open:
    return lambda: open(path, "rb")


def _tables_of(archive: zipfile.ZipFile, path: Path) -> list[zipfile.ZipInfo]:
    inside = [info for info in archive.infolist() if PurePosixPath(info.filename).suffix.lower() in _SUFFIXES]
    inside = [info for info in inside if not info.filename.startswith("__MACOSX/")]
    for info in inside:
        if info.file_size > _MAX_FILE:
            raise BadRecords(f"{path}: {info.filename} would have {info.file_size:,} bytes; unpack it yourself if that is meant")
    return inside


# ---- what they are ----


def _recognise(name: str, open_file: Open) -> _Table:
    dialect, header = sniff(name, open_file)
    lower = [column.lower().rpartition("/")[2].rpartition(":")[2] for column in header]
    wcvp, darwin_core = _positions(lower, _WCVP), _positions(lower, _DARWIN_CORE)
    if all(column in wcvp for column in _NEEDED_OF_WCVP):
        return _Table(name, open_file, dialect, header, "WCVP", wcvp)
    if "scientificName" in darwin_core:
        format: Format = "Darwin Core" if any(column in darwin_core for column in _OF_A_TAXON) else "plain list"
        return _Table(name, open_file, dialect, header, format, darwin_core)
    return _Table(name, open_file, dialect, header, None, {})


def _positions(header: Sequence[str], known: Mapping[str, Sequence[str]]) -> dict[str, int]:
    found = {ours: next((name for name in names if name in header), None) for ours, names in known.items()}
    return {ours: header.index(name) for ours, name in found.items() if name is not None}


def sniff(name: str, open_file: Open) -> tuple[Dialect, list[str]]:
    """How a table is written, and the names of its columns."""
    with open_file() as file:
        start = file.read(2**20)
    line = next((line for line in start.removeprefix(b"\xef\xbb\xbf").splitlines() if line.strip()), b"")
    delimiter = max(",|\t;", key=lambda mark: line.count(mark.encode()))  # a comma where there is none of them
    # Lists with | or tabs hold quotation marks as ordinary characters, unless their header is in such marks itself.
    dialect = Dialect(delimiter, '"' if delimiter in ",;" or line.startswith(b'"') else "")
    return dialect, look_at(io.BytesIO(line), dialect, name).header if line else []


def _unknown(path: Path, tables: Sequence[_Table]) -> BadRecords:
    headers = "; ".join(f"{table.name} has {', '.join(table.header[:12]) or 'none'}" for table in tables[:3]) or "no tables there"
    return BadRecords(
        f"{path}: not a checklist of a known format. Needed are the columns scientificName (Darwin Core or a plain list), or "
        f"plant_name_id, taxon_status, accepted_plant_name_id, genus, species (WCVP). Found: {headers}"
    )
