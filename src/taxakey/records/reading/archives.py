"""Darwin Core archives -> tables of text: the occurrences and their pictures.

An archive has a meta.xml (see `descriptor`), or it hasn't, as iDigBio's older downloads and GBIF's simple ones: then its tables
are recognised by their headers. Only the columns named here are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePath
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc

from taxakey.errors import BadRecords
from taxakey.records.reading.containers import Container, open_container
from taxakey.records.reading.delimited import Dialect, plain, read_delimited, sniff, stack
from taxakey.records.reading.descriptor import MAX_BYTES, File, last_segment, parse
from taxakey.records.reading.names import PARTS as NAME_PARTS
from taxakey.records.reading.parquet import column_names, read_columns
from taxakey.records.table import SCHEMA

OCCURRENCES = ("occurrence", "darwincore", "simpledarwinrecord")
MEDIA = ("multimedia", "image")
TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".tab")

_NOT_OF_THE_CORE = ("identifier", "image_id", "path", "source", "creator")
"""Terms of other meaning in a core: dc:identifier of an occurrence is no picture."""
_CORE_NAMES = (*SCHEMA.names, *NAME_PARTS, "speciesKey", "taxonKey", "dynamicProperties", "associatedMedia", "geoPoint")
_MEDIA_NAMES = (
    "identifier", "accessURI", "bestQualityAccessURI", "goodQualityAccessURI", "type", "format", "license", "rightsHolder",
    "creator", "organ", "subjectPart",
)  # fmt: skip

Terms = Mapping[str, Sequence[str]]
"""Column -> the lower-case terms under which it is delivered; the first that isn't empty counts."""

CORE_TERMS: Terms = {name: (name.lower(),) for name in _CORE_NAMES if name not in _NOT_OF_THE_CORE} | {
    "countryCode": ("countrycode", "isocountrycode"),
    "license": ("license", "rights"),
}
MEDIA_TERMS: Terms = {name: (name.lower(),) for name in _MEDIA_NAMES} | {
    "license": ("license", "webstatement", "rights", "usageterms"),
    "rightsHolder": ("rightsholder", "owner"),
}


@dataclass(frozen=True)
class Archive:
    """What was read. `core` and `media` have a column `id`, the key that joins them, and those of their columns that are there.

    `folder`: where relative identifiers begin; `too_long`: lines with more columns than their file has; `unbalanced`: how many
    headers had a quotation mark too many.
    """

    folder: Path
    core: pa.Table
    media: pa.Table | None
    too_long: list[str] = field(default_factory=list)
    unbalanced: int = 0


def open_archive(path: Path) -> Archive:
    """Read an archive of occurrences: a folder, a zip, a gzipped tar file, or one table, with another of pictures beside it.

    Raises BadRecords, which names the file at fault, where it isn't one.
    """
    with _container(path) as container:
        described = "meta.xml" in container.names and path.name not in container.names
        core, media = _described(container) if described else _recognised(container, path)
        reader = _Reader(container)
        return Archive(
            container.folder, reader.read([core], CORE_TERMS), reader.read(media, MEDIA_TERMS) if media else None,
            reader.too_long, reader.unbalanced,
        )  # fmt: skip


def open_snapshot(path: Path) -> Archive:
    """Read a Parquet file of occurrences, or a folder of its parts, with a table of pictures beside it where there is one."""
    names = column_names(path)
    terms = _terms(names)
    key = _key(terms)
    assert key is not None, "is_occurrences has seen the header"
    wanted: dict[str, tuple[str, ...]] = {"id": (names[key],)}
    for column, known in CORE_TERMS.items():
        if found := tuple(names[at] for name in known for at in terms.get(name, ())):
            wanted[column] = found
    core = read_columns(path, wanted)
    with open_container(path if path.is_dir() else path.parent) as container:
        headers = _headers(container)
        media = _processed([name for name, (_, header) in headers.items() if _is_media(header)], path)
        reader = _Reader(container)
        pictures = reader.read([_by_header(media, *headers[media], path)], MEDIA_TERMS) if media else None
        return Archive(container.folder, core, pictures, reader.too_long, reader.unbalanced)


def holds_tables(folder: Path) -> bool:
    """Whether a folder is an archive: it has a meta.xml, or a table of occurrences or of their pictures."""
    with open_container(folder) as container:
        if "meta.xml" in container.names:
            return True
        return any(is_occurrences(header) or _is_media(header) for _, header in _headers(container).values())


@contextmanager
def _container(path: Path) -> Iterator[Container]:
    single = path.is_file() and path.suffix.lower() in TABLE_SUFFIXES
    with open_container(path.parent if single else path) as container:
        yield container


# ---- with a meta.xml ----


def _described(container: Container) -> tuple[File, list[File]]:
    core, extensions = describe(container, MEDIA)
    if core.kind == "taxon":
        raise BadRecords(f"{container.path}: its core holds 'taxon', not occurrences: a checklist; read it with `taxakey names`")
    if core.kind not in OCCURRENCES:
        raise BadRecords(
            f"{container.path}: its core holds {core.kind!r}, not occurrences; download its occurrences from GBIF as an archive"
        )
    return core, extensions


def describe(container: Container, kinds: Sequence[str]) -> tuple[File, list[File]]:
    """The core of an archive with a meta.xml, and its extensions of these kinds; raises BadRecords."""
    with container.open("meta.xml") as file:
        return parse(file.read(MAX_BYTES + 1), kinds, f"{container.path}: meta.xml")


# ---- without ----


def is_occurrences(header: Iterable[str]) -> bool:
    """Whether a header is that of a table of occurrences as GBIF, iDigBio or an archive writes it, without pictures.

    >>> is_occurrences(["gbifID", "species", "basisOfRecord"]), is_occurrences(["path", "species"])
    (True, False)
    """
    terms = _terms(header)
    marked = "gbifid" in terms or "coreid" in terms or any(name.strip().startswith("dwc:") for name in header)
    named = "scientificname" in terms or "species" in terms
    return marked and named and "basisofrecord" in terms and "accessuri" not in terms and _key(terms) is not None


def _is_media(header: Iterable[str]) -> bool:
    terms = _terms(header)
    keyed = "coreid" in terms or "gbifid" in terms
    return keyed and ("accessuri" in terms or "identifier" in terms) and "basisofrecord" not in terms


def _terms(header: Iterable[str]) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for position, name in enumerate(header):
        term = last_segment(name).lower()
        found[term] = (*found.get(term, ()), position)
    return found


def _key(terms: Mapping[str, tuple[int, ...]]) -> int | None:
    return next((terms[name][0] for name in ("coreid", "gbifid", "id", "uuid", "occurrenceid") if name in terms), None)


def _recognised(container: Container, path: Path) -> tuple[File, list[File]]:
    headers = _headers(container)
    cores = [name for name, (_, header) in headers.items() if is_occurrences(header)]
    media = [name for name, (_, header) in headers.items() if _is_media(header)]
    if path.name in headers:
        cores = [path.name]
    core = _processed(cores, path)
    if not core:
        pictures = f"; {media[0]} lists pictures, put its table of occurrences beside it" if media else ""
        raise BadRecords(
            f"{path}: no meta.xml in it, and no table of occurrences (one with basisOfRecord, a name and gbifID, coreid or dwc: "
            f"terms), so not a Darwin Core Archive{pictures or '; unpack it and name the table in it, if it has one'}"
        )
    tables = [core, *([_processed(media, path)] if media else [])]
    files = [_by_header(name, *headers[name], path) for name in tables]
    return files[0], files[1:]


def _processed(names: Sequence[str], path: Path) -> str:
    """Of tables that GBIF and iDigBio deliver both as they came (verbatim, raw) and as interpreted, the interpreted one."""
    clean = [name for name in names if not any(word in name.lower() for word in ("verbatim", "raw"))] or list(names)
    if len(clean) > 1:
        raise BadRecords(f"{path}: {len(clean)} tables could be the one ({', '.join(clean)}); put each in a folder of its own")
    return clean[0] if clean else ""


def _headers(container: Container) -> dict[str, tuple[Dialect, list[str]]]:
    return {name: _header(container, name) for name in container.names if PurePath(name).suffix.lower() in TABLE_SUFFIXES}


def _header(container: Container, name: str) -> tuple[Dialect, list[str]]:
    try:
        with container.open(name) as file:
            return sniff(file, f"{container.path}: {name}")
    except BadRecords:
        return Dialect(), []  # an empty or a foreign file; a table that is needed is read again and complained of


def _by_header(name: str, dialect: Dialect, header: Sequence[str], path: Path) -> File:
    terms = _terms(header)
    key = _key(terms)
    if key is None:
        raise BadRecords(f"{path}: {name} has no column coreid, gbifID, id or occurrenceID; its columns are {', '.join(header)}")
    return File("", (name,), dialect, True, key, terms)


# ---- tables ----


class _Reader:
    """Reads the tables of one container and remembers what was wrong with them."""

    def __init__(self, container: Container) -> None:
        self.container = container
        self.too_long: list[str] = []
        self.unbalanced = 0

    def read(self, files: Iterable[File], terms: Terms) -> pa.Table:
        return stack([self._read(file, terms) for file in files])

    def _read(self, file: File, terms: Terms) -> pa.Table:
        wanted: dict[str, tuple[int, ...]] = {"id": (file.key,)}
        for column, names in terms.items():
            if positions := tuple(at for name in names for at in file.fields.get(name, ())):
                wanted[column] = positions
        table = stack([self._part(file, location, wanted) for location in file.locations])
        for column, names in terms.items():
            if default := next((file.defaults[name] for name in names if name in file.defaults), None):
                table = _with_default(table, column, default)
        return table

    def _part(self, file: File, location: str, wanted: Mapping[str, Sequence[int]]) -> pa.Table:
        open_file: Callable[[], IO[bytes]] = partial(self.container.open, location)
        dialect = file.dialect if file.stated else _likely(file.dialect, open_file)
        found = read_delimited(open_file, dialect, wanted, f"{self.container.path}: {location}")
        self.too_long += found.too_long
        self.unbalanced += found.unbalanced
        return found.table


def _likely(dialect: Dialect, open_file: Callable[[], IO[bytes]]) -> Dialect:
    """The default comma is a tab where the first line has no comma: many writers leave the attribute out."""
    with open_file() as file:
        line = file.readline(2**20)
    return replace(dialect, delimiter="\t") if b"," not in line and b"\t" in line else dialect


def _with_default(table: pa.Table, column: str, default: str) -> pa.Table:
    if column not in table.column_names:
        return table.append_column(column, pa.repeat(default, len(table)).dictionary_encode())
    at = table.column_names.index(column)
    return table.set_column(at, column, pc.fill_null(plain(table[column]), default))


def read_described(container: Container, file: File, terms: Terms) -> pa.Table:
    """One table of an archive with a meta.xml, with the column `id` and those of `terms` that are there."""
    return _Reader(container).read([file], terms)
