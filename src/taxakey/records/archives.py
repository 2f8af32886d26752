"""Darwin Core archives: a zip or a folder with meta.xml -> tables of strings. The simple case: occurrences with pictures.

Only the columns that `WANTED` names are read. Files inside a zip are read as a stream and never unpacked.
The format: https://dwc.tdwg.org/text/ (terms, defaults and the meaning of each attribute of meta.xml).
"""

from __future__ import annotations

import posixpath
import xml.etree.ElementTree as ET
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, cast
from xml.parsers import expat

import pyarrow as pa
import pyarrow.compute as pc

from taxakey.errors import BadRecords
from taxakey.records.delimited import Dialect, check_encoding, read_delimited
from taxakey.records.names import PARTS as NAME_PARTS
from taxakey.records.table import SCHEMA

_MAX_META = 4 * 2**20
_CORES = ("occurrence", "darwincore", "simpledarwinrecord")
_MEDIA = ("multimedia", "image")

CORE_COLUMNS = (*SCHEMA.names, *NAME_PARTS, "speciesKey", "taxonKey", "dynamicProperties")
MEDIA_COLUMNS = ("identifier", "accessURI", "type", "license", "rightsHolder", "creator", "organ", "subjectPart")
_NOT_OF_THE_CORE = ("identifier", "image_id", "path", "source", "creator")  # dc:identifier of an occurrence is no picture


@dataclass(frozen=True)
class Archive:
    """What was read. `core` and `media` have a column `id`, the key that joins them, and those of their columns that are there.

    `folder`: where relative identifiers begin; `too_long`: lines with more columns than their file has.
    """

    folder: Path
    core: pa.Table
    media: pa.Table | None
    too_long: list[str]


@dataclass(frozen=True)
class _File:
    """One <core> or <extension> of meta.xml. `fields`: column -> position; `defaults`: column -> value for its empty cells."""

    kind: str
    locations: tuple[str, ...]
    dialect: Dialect
    key: int
    fields: dict[str, int]
    defaults: dict[str, str] = field(default_factory=dict)


def open_archive(path: Path) -> Archive:
    """Read an archive; raises BadRecords, which names the file at fault, where it isn't one or isn't the simple case."""
    if path.is_dir():
        return _read_archive(path, path, partial(_open_in_folder, path))
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_archive(path, path.parent, partial(_open_in_zip, archive, path, _inner_folder(archive, path)))
    except (zlib.error, EOFError) as error:
        raise BadRecords(f"{path}: damaged ({error}); download it again") from None
    except zipfile.BadZipFile as error:
        raise BadRecords(f"{path}: not a zip file ({error}); download it again") from None
    except (RuntimeError, NotImplementedError) as error:  # a password, an unknown compression
        raise BadRecords(f"{path}: can't be unpacked ({error}); unpack it yourself and name the folder") from None


def _open_in_folder(folder: Path, name: str) -> IO[bytes]:
    try:
        return open(folder / _inside(name, folder), "rb")
    except (FileNotFoundError, IsADirectoryError):
        raise BadRecords(f"{folder / name}: no such file, and the archive's description needs it") from None


def _open_in_zip(archive: zipfile.ZipFile, path: Path, inner: str, name: str) -> IO[bytes]:
    try:
        return archive.open(inner + _inside(name, path))
    except KeyError:
        raise BadRecords(f"{path}: holds no {inner + name}, and the archive's description needs it") from None


def _inside(name: str, archive: Path) -> str:
    """A file's name within the archive, normalised; one that leads outside is refused."""
    normal = posixpath.normpath(name.strip())
    if posixpath.isabs(normal) or normal.split("/")[0] == "..":
        raise BadRecords(f"{archive}: meta.xml names {name!r}, which lies outside the archive; correct it")
    return normal


def _inner_folder(archive: zipfile.ZipFile, path: Path) -> str:
    """Folder of meta.xml in a zip, "" or with a slash at its end: many zips wrap everything in one folder."""
    names = [name for name in archive.namelist() if posixpath.basename(name) == "meta.xml" and not name.startswith("__MACOSX/")]
    if not names:
        raise BadRecords(
            f"{path}: no meta.xml in it, so not a Darwin Core Archive; unpack it and name the table in it, if it has one"
        )
    return min(names, key=lambda name: (name.count("/"), name)).removesuffix("meta.xml")


# ---- meta.xml ----


def _read_archive(path: Path, folder: Path, open_file: Callable[[str], IO[bytes]]) -> Archive:
    with open_file("meta.xml") as file:
        content = file.read(_MAX_META + 1)
    core, extensions = _parse_meta(content, f"{path}: meta.xml")
    if core.kind not in _CORES:
        raise BadRecords(f"{path}: its core holds {core.kind!r}, not occurrences; only archives of occurrences can be read")
    table, too_long = _read_table(core, open_file, path)
    media = [_read_table(extension, open_file, path) for extension in extensions if extension.kind in _MEDIA]
    joined = pa.concat_tables([table for table, _ in media], promote_options="default") if media else None
    return Archive(folder.resolve(), table, joined, too_long + [line for _, lines in media for line in lines])


def _parse_meta(content: bytes, name: str) -> tuple[_File, list[_File]]:
    if len(content) > _MAX_META:
        raise BadRecords(f"{name}: more than {_MAX_META // 2**20} MiB, which no description of an archive is")
    _refuse_doctype(content, name)
    root = ET.fromstring(content)
    cores = [element for element in root if _last(element.tag) == "core"]
    if len(cores) != 1:
        raise BadRecords(f"{name}: has {len(cores)} elements <core>, one is needed; download the archive again")
    extensions = [element for element in root if _last(element.tag) == "extension"]
    wanted = [element for element in extensions if _last(element.get("rowType", "")).lower() in _MEDIA]
    return _file(cores[0], "id", CORE_COLUMNS, name), [_file(element, "coreid", MEDIA_COLUMNS, name) for element in wanted]


def _refuse_doctype(content: bytes, name: str) -> None:
    """A document type can make a small file expand without end or name files of this machine; meta.xml needs none."""

    def refuse(*_: object) -> None:
        raise BadRecords(f"{name}: has a document type (<!DOCTYPE>), which meta.xml must not have; remove it")

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(content, True)
    except (expat.ExpatError, LookupError, ValueError) as error:  # the last two: an encoding that nobody knows
        raise BadRecords(f"{name}: not well-formed XML ({error}); download the archive again") from None


def _last(term: str) -> str:
    """The last segment of a term's or a tag's URI: "http://rs.tdwg.org/dwc/terms/genus" -> "genus"."""
    return term.strip().rstrip("/#").replace("}", "/").replace("#", "/").rsplit("/", 1)[-1]


def _file(element: ET.Element, key_tag: str, columns: Iterable[str], name: str) -> _File:
    kind = _last(element.get("rowType", "")).lower()
    locations = tuple((found.text or "").strip() for found in element.iter() if _last(found.tag) == "location")
    keys = [child for child in element if _last(child.tag) == key_tag]
    if not locations or not keys:
        lacking = "<location>" if not locations else f"<{key_tag}>"
        raise BadRecords(f"{name}: the table {kind!r} has no {lacking}; download the archive again")
    proper = {column.lower(): column for column in columns if key_tag == "coreid" or column not in _NOT_OF_THE_CORE}
    fields: dict[str, int] = {}
    defaults: dict[str, str] = {}
    for child in element:
        column = proper.get(_last(child.get("term", "")).lower()) if _last(child.tag) == "field" else None
        if column is None:
            continue
        if "index" in child.attrib:  # the first of two terms with the same last segment counts
            fields.setdefault(column, _position(child, name))
        if child.get("default"):
            defaults.setdefault(column, cast(str, child.get("default")))
    return _File(kind, locations, _dialect(element, name), _position(keys[0], name), fields, defaults)


def _position(element: ET.Element, name: str) -> int:
    text = element.get("index", "")
    if not text.strip().isdecimal():
        raise BadRecords(
            f"{name}: {_last(element.tag)} {element.get('term', '')} has the index {text!r}, not a number; correct it"
        )
    return int(text)


def _dialect(element: ET.Element, name: str) -> Dialect:
    delimiter = _unescape(element.get("fieldsTerminatedBy", ","))
    quote = _unescape(element.get("fieldsEnclosedBy", '"'))
    lines = _unescape(element.get("linesTerminatedBy", "\n"))
    header = element.get("ignoreHeaderLines", "0").strip() or "0"
    if len(delimiter) != 1 or len(quote) > 1 or lines not in ("\n", "\r\n", "\r") or not header.isdecimal():
        raise BadRecords(
            f"{name}: fieldsTerminatedBy {delimiter!r}, fieldsEnclosedBy {quote!r}, linesTerminatedBy {lines!r} and "
            f"ignoreHeaderLines {header!r} can't be read; they must be one character, at most one, a line break, a number"
        )
    return Dialect(delimiter, quote, int(header), check_encoding(element.get("encoding") or "utf-8", name))


def _unescape(text: str) -> str:
    r"""meta.xml writes a tab as \t."""
    for written, meant in (("\\t", "\t"), ("\\n", "\n"), ("\\r", "\r"), ('\\"', '"')):
        text = text.replace(written, meant)
    return text


# ---- tables ----


def _read_table(file: _File, open_file: Callable[[str], IO[bytes]], path: Path) -> tuple[pa.Table, list[str]]:
    wanted = {"id": file.key, **file.fields}
    tables, too_long = [], []
    for location in file.locations:
        table, long = read_delimited(partial(open_file, location), file.dialect, wanted, f"{path}: {location}")
        tables.append(table)
        too_long += long
    table = pa.concat_tables(tables)
    columns = dict(zip(table.column_names, table.columns, strict=True))
    for column, default in file.defaults.items():
        cells = columns.get(column, pa.nulls(table.num_rows, pa.string()))
        columns[column] = pc.fill_null(cells, default)
    return pa.table(columns), too_long
