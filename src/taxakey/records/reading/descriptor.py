"""meta.xml, the description of a Darwin Core Archive: which tables there are, how they are written, what their columns mean.

The format: https://dwc.tdwg.org/text/ (terms, defaults and the meaning of each attribute).
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from xml.parsers import expat

from taxakey.errors import BadRecords
from taxakey.records.reading.delimited import Dialect, check_encoding

MAX_BYTES = 4 * 2**20
_LINE_ENDS = ("\n", "\r\n", "\r")


@dataclass(frozen=True)
class File:
    """One <core> or <extension>.

    `kind`: the last segment of its row type, such as "occurrence"; `locations`: its files, one table in several parts; `stated`:
    whether it names the separator, or leaves it to the default; `fields`: lower-case term -> positions; `defaults`: term ->
    value for its empty cells.

    A term is the last segment of its URI; several that share it (dc:type, dcterms:type) have a position each.
    """

    kind: str
    locations: tuple[str, ...]
    dialect: Dialect
    stated: bool
    key: int
    fields: Mapping[str, tuple[int, ...]]
    defaults: Mapping[str, str] = field(default_factory=dict)


def parse(content: bytes, kinds: Collection[str], name: str) -> tuple[File, list[File]]:
    """The core and the extensions of these kinds; raises BadRecords, which begins with `name`, where it isn't a meta.xml."""
    if len(content) > MAX_BYTES:
        raise BadRecords(f"{name}: more than {MAX_BYTES // 2**20} MiB, which no description of an archive is")
    _refuse_doctype(content, name)
    root = ET.fromstring(content)
    cores = [element for element in root if last_segment(element.tag) == "core"]
    if len(cores) != 1:
        raise BadRecords(f"{name}: has {len(cores)} elements <core>, one is needed; download the archive again")
    extensions = [element for element in root if last_segment(element.tag) == "extension" and _kind(element) in kinds]
    return _file(cores[0], "id", name), [_file(element, "coreid", name) for element in extensions]


def _kind(element: ET.Element) -> str:
    return last_segment(element.get("rowType", "")).lower()


def last_segment(term: str) -> str:
    """The last segment of a term's or a tag's URI or short form.

    >>> last_segment("http://rs.tdwg.org/dwc/terms/genus"), last_segment("dwc:genus"), last_segment("genus")
    ('genus', 'genus', 'genus')
    """
    term = term.strip().rstrip("/#")
    for mark in "}#:":
        term = term.replace(mark, "/")
    return term.rsplit("/", 1)[-1]


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


def _file(element: ET.Element, key_tag: str, name: str) -> File:
    kind = _kind(element)
    locations = tuple((found.text or "").strip() for found in element.iter() if last_segment(found.tag) == "location")
    keys = [child for child in element if last_segment(child.tag) == key_tag]
    if not locations or not keys:
        lacking = "<location>" if not locations else f"<{key_tag}>"
        raise BadRecords(f"{name}: the table {kind!r} has no {lacking}; download the archive again")
    fields: dict[str, tuple[int, ...]] = {}
    defaults: dict[str, str] = {}
    for child in element:
        if last_segment(child.tag) != "field":
            continue
        term = last_segment(child.get("term", "")).lower()
        if "index" in child.attrib:
            fields[term] = (*fields.get(term, ()), _position(child, name))
        if default := child.get("default"):
            defaults.setdefault(term, default)
    stated = "fieldsTerminatedBy" in element.attrib
    return File(kind, locations, _dialect(element, name), stated, _position(keys[0], name), fields, defaults)


def _position(element: ET.Element, name: str) -> int:
    text = element.get("index", "")
    if not text.strip().isdecimal():
        raise BadRecords(
            f"{name}: {last_segment(element.tag)} {element.get('term', '')} has the index {text!r}, not a number; correct it"
        )
    return int(text)


def _dialect(element: ET.Element, name: str) -> Dialect:
    delimiter = _unescape(element.get("fieldsTerminatedBy", ","))
    quote = _unescape(element.get("fieldsEnclosedBy", '"'))
    lines = _unescape(element.get("linesTerminatedBy", "\n"))
    header = element.get("ignoreHeaderLines", "0").strip() or "0"
    if not lines.strip(" "):
        lines = "\n"  # a line break written as itself: XML makes it a space
    if len(delimiter) != 1 or len(quote) > 1 or lines not in _LINE_ENDS or not header.isdecimal():
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
