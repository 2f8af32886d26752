"""Large JSON files -> tables of text, without ever holding the whole file: one object at a time, block by block.

iNaturalist's 2021 file is 1.3 GB with 2.7 million images; read at once it would take six times that as Python objects.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from taxakey.errors import BadRecords
from taxakey.records.reading.delimited import Compactor, stack

_CHUNK = 4 * 2**20
_LONGEST = 64 * 2**20
_BLOCK = 2**15


def read_arrays(path: Path, wanted: Mapping[str, Sequence[str]]) -> dict[str, pa.Table]:
    """The arrays of objects at the top of a JSON file: name -> table of the `wanted` members of its objects that are there.

    Arrays that aren't wanted are passed over. Raises BadRecords where the file isn't JSON or an array holds something else.
    """
    builders: dict[str, _Builder] = {}
    with open(path, encoding="utf-8-sig") as file:
        text = _Text(file, path)
        for name in text.members():
            if text.peek() != "[":
                text.value()
                continue
            builder = builders.setdefault(name, _Builder(wanted[name])) if name in wanted else None
            for element in text.elements():
                if builder is None:
                    continue
                if not isinstance(element, dict):
                    raise BadRecords(f"{path}: {name!r} holds {type(element).__name__}, not objects; name another file")
                builder.add(element)
    return {name: builder.table() for name, builder in builders.items()}


def read_members(path: Path, key: str, wanted: Sequence[str]) -> pa.Table:
    """A JSON file that is one object of objects: a row for each member, its name in the column `key`."""
    builder = _Builder([key, *wanted])
    with open(path, encoding="utf-8-sig") as file:
        text = _Text(file, path)
        for name in text.members():
            value = text.value()
            if not isinstance(value, dict):
                raise BadRecords(f"{path}: {name!r} is {type(value).__name__}, not an object; name another file")
            builder.add({**value, key: name})
    return builder.table()


def read_elements(path: Path, wanted: Sequence[str]) -> pa.Table:
    """A JSON file that is one array of objects."""
    builder = _Builder(wanted)
    with open(path, encoding="utf-8-sig") as file:
        for element in _Text(file, path).elements():
            if not isinstance(element, dict):
                raise BadRecords(f"{path}: holds {type(element).__name__}, not objects; name another file")
            builder.add(element)
    return builder.table()


class _Builder:
    """Gathers objects and makes a table of them block by block."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self.rows: list[Mapping[str, Any]] = []
        self.tables: list[pa.Table] = []
        self.compact = Compactor()

    def add(self, row: Mapping[str, Any]) -> None:
        self.rows.append(row)
        if len(self.rows) == _BLOCK:
            self._flush()

    def _flush(self) -> None:
        cells = {name: pa.array([_as_text(row.get(name)) for row in self.rows], pa.string()) for name in self.names}
        self.tables.append(self.compact(cells))
        self.rows = []

    def table(self) -> pa.Table:
        self._flush()
        table = stack(self.tables)
        return table.select([name for name in self.names if table[name].null_count < len(table)])


def _as_text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value or None
    return json.dumps(value, ensure_ascii=False)


class _Text:
    """A window on the text of a JSON file, moved on as its values are taken."""

    def __init__(self, file: Iterable[str], path: Path) -> None:
        self.file: Any = file
        self.path = path
        self.window = ""
        self.at = 0
        self.decoder = json.JSONDecoder()

    def members(self) -> Iterator[str]:
        """Names of the members of the object that begins here; the caller takes each value before it asks for the next."""
        yield from (str(name) for name in self._items("{", "}", named=True))

    def elements(self) -> Iterator[Any]:
        """Values of the array that begins here."""
        yield from self._items("[", "]", named=False)

    def _items(self, opening: str, closing: str, *, named: bool) -> Iterator[Any]:
        self._take(opening)
        if self.peek() == closing:
            return self._take(closing)
        while True:
            value = self.value()
            if named:
                self._take(":")
            yield value
            if self.peek() == closing:
                return self._take(closing)
            self._take(",")

    def peek(self) -> str:
        """The next character that is no space; "" at the end."""
        while True:
            while self.at < len(self.window) and self.window[self.at] in " \t\r\n":
                self.at += 1
            if self.at < len(self.window) or not self._more():
                return self.window[self.at : self.at + 1]

    def value(self) -> Any:
        """The whole value that begins here."""
        self.peek()
        while True:
            try:
                value, end = self.decoder.raw_decode(self.window, self.at)
            except json.JSONDecodeError as error:
                if len(self.window) - self.at > _LONGEST or not self._more():
                    raise BadRecords(f"{self.path}: not JSON, or cut off ({error.msg}); download it again") from None
                continue
            if end < len(self.window) or not self._more():  # a number could go on behind the window
                self.at = end
                return value

    def _take(self, character: str) -> None:
        found = self.peek()
        if found != character:
            raise BadRecords(f"{self.path}: not JSON, or cut off ({character!r} expected, {found!r} found); download it again")
        self.at += 1

    def _more(self) -> bool:
        try:
            chunk = self.file.read(_CHUNK)
        except UnicodeDecodeError as error:
            raise BadRecords(f"{self.path}: not UTF-8 ({error.reason}); save it as UTF-8") from None
        self.window, self.at = self.window[self.at :] + chunk, 0
        return bool(chunk)
