"""Delimited text (CSV, TSV, the files of an archive) -> a table of strings, read as a stream, only the columns wanted."""

from __future__ import annotations

import codecs
import csv
import io
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from taxakey.errors import BadRecords

_BLOCK = 16 * 2**20
"""Bytes read at a time; also the longest row that can be read."""
_PEEKED_ROWS = 100


@dataclass(frozen=True)
class Dialect:
    """How a file is written. `quote` "" means that quotation marks are ordinary characters."""

    delimiter: str = ","
    quote: str = '"'
    header_lines: int = 1
    encoding: str = "utf-8"


def check_encoding(encoding: str, name: str) -> str:
    """Python's name of an encoding; raises BadRecords where there is no such one."""
    try:
        return codecs.lookup(encoding.strip()).name
    except LookupError:
        raise BadRecords(f"{name}: the encoding {encoding!r} is unknown; save the file as UTF-8") from None


def first_rows(file: IO[bytes], dialect: Dialect, name: str) -> list[list[str]]:
    """The header lines and up to a hundred rows after them, for looking at names and numbers of columns."""
    text = io.TextIOWrapper(file, "utf-8-sig" if dialect.encoding == "utf-8" else dialect.encoding, newline="")
    rows: list[list[str]] = []
    try:
        for row in _parsed(text, dialect):
            rows.append(row)
            if len(rows) >= dialect.header_lines + _PEEKED_ROWS:
                break
    except UnicodeDecodeError as error:
        raise _not_text(name, dialect, error) from None
    except csv.Error as error:
        raise BadRecords(f"{name}: row {len(rows) + 1} can't be read ({error}); correct it or save the file anew") from None
    finally:
        text.detach()  # the caller closes the file
    return rows


def _parsed(lines: IO[str] | list[str], dialect: Dialect) -> Any:
    if not dialect.quote:
        return csv.reader(lines, delimiter=dialect.delimiter, quoting=csv.QUOTE_NONE)
    return csv.reader(lines, delimiter=dialect.delimiter, quotechar=dialect.quote)


def _not_text(name: str, dialect: Dialect, error: UnicodeDecodeError) -> BadRecords:
    byte = error.object[error.start]
    return BadRecords(f"{name}: not {dialect.encoding.upper()} (byte 0x{byte:02x} near the start); save it as UTF-8")


def read_delimited(
    open_file: Callable[[], IO[bytes]], dialect: Dialect, wanted: Mapping[str, int], name: str
) -> tuple[pa.Table, list[str]]:
    """Read the columns `wanted` (name -> position from 0) as trimmed strings, empty ones null; also the lines that were too long.

    A row that is too short is filled up: many programs leave out empty columns at the end. `open_file` is called twice.
    Raises BadRecords with `name` where the text can't be decoded or parsed, or a position lies beyond the columns that are there.
    """
    with open_file() as file:
        rows = first_rows(file, dialect, name)
    body = rows[dialect.header_lines :]
    schema = pa.schema([(column, pa.string()) for column in wanted])
    if not body:
        return schema.empty_table(), []
    width = len(rows[0]) if dialect.header_lines else Counter(map(len, body)).most_common(1)[0][0]
    if beyond := [column for column, position in wanted.items() if position >= width]:
        raise BadRecords(
            f"{name}: has {width} columns, and {beyond[0]!r} should be number {wanted[beyond[0]] + 1}; correct meta.xml"
        )
    short: list[str] = []
    long: list[str] = []

    def judge(row: pyarrow.csv.InvalidRow) -> str:
        (short if row.actual_columns < row.expected_columns else long).append(row.text)
        return "skip"

    with open_file() as file:
        table = _read(file, dialect, width, wanted, judge, name)
    if short:
        filled = [(row + [""] * width)[:width] for row in _parsed(short, dialect)]
        columns = [pa.array([row[position] for row in filled], pa.string()) for position in wanted.values()]
        table = pa.concat_tables([table, pa.table(columns, schema=schema)])
    return pa.table([_trimmed(column) for column in table.columns], schema=schema), long


def _trimmed(column: pa.ChunkedArray) -> pa.ChunkedArray:
    text = pc.utf8_trim_whitespace(column)
    return pc.if_else(pc.equal(text, ""), None, text)


def _read(
    file: IO[bytes],
    dialect: Dialect,
    width: int,
    wanted: Mapping[str, int],
    judge: Callable[[pyarrow.csv.InvalidRow], str],
    name: str,
) -> pa.Table:
    positions = sorted(set(wanted.values()))
    try:
        table = pyarrow.csv.read_csv(
            file,
            pyarrow.csv.ReadOptions(
                block_size=_BLOCK,
                skip_rows=dialect.header_lines,
                column_names=[str(position) for position in range(width)],
                encoding="utf8" if dialect.encoding == "utf-8" else dialect.encoding,
            ),
            pyarrow.csv.ParseOptions(
                delimiter=dialect.delimiter,
                quote_char=dialect.quote or False,
                newlines_in_values=bool(dialect.quote),
                invalid_row_handler=judge,
            ),
            pyarrow.csv.ConvertOptions(
                include_columns=[str(position) for position in positions],
                column_types={str(position): pa.string() for position in positions},
            ),
        )
    except pa.ArrowInvalid as error:
        if "invalid UTF8" in str(error):
            raise BadRecords(f"{name}: not UTF-8 ({error}); save it as UTF-8") from None
        raise BadRecords(f"{name}: can't be read as delimited text ({error}); correct it or save it anew") from None
    except UnicodeDecodeError as error:
        raise _not_text(name, dialect, error) from None
    return pa.table([table.column(str(position)) for position in wanted.values()], names=list(wanted))
