"""Delimited text (CSV, TSV, the files of an archive) -> a table of strings, read as a stream, only the columns wanted.

Columns whose values repeat come as dictionaries (`pa.dictionary`), because a table of millions of rows has few families, ranks
and licences; `plain` makes strings of one. Shapes: N rows.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from taxakey.errors import BadRecords

_BLOCK = 4 * 2**20
"""Bytes read at a time; also the longest row that can be read."""
_PEEKED_ROWS = 100
_LONGEST_LINE = 2**20
_REPEATED_BELOW = 0.7
"""A column whose first block has fewer distinct values than this share of its rows is kept as a dictionary."""


@dataclass(frozen=True)
class Dialect:
    """How a file is written. `quote` "" means that quotation marks are ordinary characters."""

    delimiter: str = ","
    quote: str = '"'
    header_lines: int = 1
    encoding: str = "utf-8"


@dataclass(frozen=True)
class Start:
    """The beginning of a file: its last header line (empty where it has none), and up to a hundred rows after it.

    `unbalanced`: the header has an odd number of quotation marks, so they were taken as ordinary characters and removed.
    """

    header: list[str]
    rows: list[list[str]]
    unbalanced: bool = False


@dataclass(frozen=True)
class Delimited:
    """`table` [N]; `too_long`: lines with more columns than the file has; `unbalanced`: as of `Start`."""

    table: pa.Table
    too_long: list[str]
    unbalanced: bool = False


def check_encoding(encoding: str, name: str) -> str:
    """Python's name of an encoding; raises BadRecords where there is no such one."""
    try:
        return codecs.lookup(encoding.strip()).name
    except LookupError:
        raise BadRecords(f"{name}: the encoding {encoding!r} is unknown; save the file as UTF-8") from None


# ---- looking at a file ----


def sniff(file: IO[bytes], name: str) -> tuple[Dialect, list[str]]:
    """Dialect and header of a table whose dialect nobody tells: the separator that is most frequent in its first line.

    GBIF writes tab-separated text without quotation: there a quotation mark is an ordinary character, unless the header has some.
    """
    line = _first_line(file.read(_LONGEST_LINE), name)
    dialect = Dialect(max(",;\t", key=lambda mark: line.count(mark.encode())))
    if dialect.delimiter == "\t" and b'"' not in line and b"gbifid" in line.lower():
        dialect = replace(dialect, quote="")
    return dialect, look_at(io.BytesIO(line), dialect, name).header


def _first_line(start: bytes, name: str) -> bytes:
    if not start.strip():
        raise BadRecords(f"{name}: empty; name a table with records")
    return next(line for line in start.removeprefix(b"\xef\xbb\xbf").splitlines() if line.strip())


def look_at(file: IO[bytes], dialect: Dialect, name: str) -> Start:
    """Read the beginning of a file; raises BadRecords where it isn't text or can't be parsed."""
    text = io.TextIOWrapper(file, "utf-8-sig" if dialect.encoding == "utf-8" else dialect.encoding)
    rows: list[list[str]] = []
    try:
        lines = [text.readline(_LONGEST_LINE) for _ in range(dialect.header_lines)]
        header, unbalanced = _header(lines[-1], dialect) if lines else ([], False)
        rows.extend(itertools.islice((row for row in _parsed(text, dialect) if row), _PEEKED_ROWS))
    except UnicodeDecodeError as error:
        raise _not_text(name, dialect, error) from None
    except csv.Error as error:
        row = dialect.header_lines + len(rows) + 1
        raise BadRecords(f"{name}: row {row} can't be read ({error}); correct it or save the file anew") from None
    finally:
        text.detach()  # the caller closes the file
    return Start(header, rows, unbalanced)


def _header(line: str, dialect: Dialect) -> tuple[list[str], bool]:
    unbalanced = bool(dialect.quote) and line.count(dialect.quote) % 2 == 1
    cells = next(_parsed([line], replace(dialect, quote="") if unbalanced else dialect), [])
    return [cell.strip().strip(dialect.quote if unbalanced else None).strip() for cell in cells], unbalanced


def _parsed(lines: IO[str] | list[str], dialect: Dialect) -> Iterator[list[str]]:
    if not dialect.quote:
        return csv.reader(lines, delimiter=dialect.delimiter, quoting=csv.QUOTE_NONE)
    return csv.reader(lines, delimiter=dialect.delimiter, quotechar=dialect.quote)


def _not_text(name: str, dialect: Dialect, error: UnicodeDecodeError) -> BadRecords:
    byte = error.object[error.start]
    return BadRecords(f"{name}: not {dialect.encoding.upper()} (byte 0x{byte:02x} near the start); save it as UTF-8")


# ---- reading it ----


def read_delimited(
    open_file: Callable[[], IO[bytes]], dialect: Dialect, wanted: Mapping[str, Sequence[int]], name: str
) -> Delimited:
    """Read the columns `wanted` (name -> positions from 0, of which the first that isn't empty counts) as trimmed text.

    Empty cells are null. A row that is too short is filled up: many programs leave out empty columns at the end. `open_file` is
    called twice. Raises BadRecords with `name` where the text can't be decoded or parsed, or a position lies beyond the columns
    that are there.
    """
    with open_file() as file:
        start = look_at(file, dialect, name)
    empty = pa.table({column: pa.array([], pa.string()) for column in wanted})
    if not start.rows:
        return Delimited(empty, [], start.unbalanced)
    width = _width(start)
    for column, positions in wanted.items():
        if max(positions) >= width:
            raise BadRecords(
                f"{name}: has {width} columns, and {column!r} should be number {max(positions) + 1}; correct meta.xml"
            )
    long: list[str] = []
    compact = Compactor()
    with open_file() as file:
        tables = [compact(_chosen(cells, wanted)) for cells in _cells(file, dialect, width, wanted, long, name)]
    return Delimited(stack(tables) if tables else empty, long, start.unbalanced)


def _width(start: Start) -> int:
    """Number of columns: that of the header, unless most rows end in more separators than it."""
    if not start.header:
        return Counter(map(len, start.rows)).most_common(1)[0][0]
    width = len(start.header)
    wider = [row for row in start.rows if len(row) > width and not any(cell.strip() for cell in row[width:])]
    return max(map(len, wider)) if 2 * len(wider) > len(start.rows) else width


Cells = Mapping[str, Any]
"""Position as text -> column of strings."""


def _cells(
    file: IO[bytes], dialect: Dialect, width: int, wanted: Mapping[str, Sequence[int]], long: list[str], name: str
) -> Iterator[Cells]:
    """The columns at the wanted positions, block by block; the rows that are too short come after their block."""
    positions = sorted(set(itertools.chain(*wanted.values())))
    short: list[str] = []

    def judge(row: pyarrow.csv.InvalidRow) -> str:
        (short if row.actual_columns < row.expected_columns else long).append(row.text)
        return "skip"

    try:
        with _reader(file, dialect, width, positions, judge) as reader:
            for batch in reader:
                yield {column: batch.column(column) for column in batch.schema.names}
                if short:
                    yield _filled_up(short, dialect, width, positions)
        if short:
            yield _filled_up(short, dialect, width, positions)
    except pa.ArrowInvalid as error:
        if "invalid UTF8" in str(error):
            raise BadRecords(f"{name}: not UTF-8 ({error}); save it as UTF-8") from None
        raise BadRecords(f"{name}: can't be read as delimited text ({error}); correct it or save it anew") from None
    except UnicodeDecodeError as error:
        raise _not_text(name, dialect, error) from None


def _reader(file: IO[bytes], dialect: Dialect, width: int, positions: Sequence[int], judge: Any) -> Any:
    return pyarrow.csv.open_csv(
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


def _filled_up(short: list[str], dialect: Dialect, width: int, positions: Sequence[int]) -> Cells:
    texts = short[:]
    del short[: len(texts)]  # the reader's thread may have added more meanwhile
    rows = [(row + [""] * width)[:width] for row in _parsed(texts, dialect)]
    return {str(position): pa.array([row[position] for row in rows], pa.string()) for position in positions}


def _chosen(cells: Cells, wanted: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    trimmed = {position: _trimmed(column) for position, column in cells.items()}
    return {column: pc.coalesce(*(trimmed[str(at)] for at in positions)) for column, positions in wanted.items()}


def _trimmed(column: Any) -> Any:
    text = pc.utf8_trim_whitespace(column)
    return pc.if_else(pc.equal(text, ""), None, text)


# ---- tables of strings and dictionaries ----


class Compactor:
    """Turns the columns of each block into a table; those that repeat in the first block become dictionaries, in all blocks."""

    def __init__(self) -> None:
        self.repeated: set[str] | None = None

    def __call__(self, columns: Mapping[str, Any]) -> pa.Table:
        table = pa.table(dict(columns))
        if self.repeated is None:
            most = _REPEATED_BELOW * table.num_rows
            self.repeated = {name for name in table.column_names if pc.count_distinct(table[name]).as_py() <= most}
        return pa.table(
            {name: column.dictionary_encode() if name in self.repeated else column for name, column in _columns(table).items()}
        )


def stack(tables: Sequence[pa.Table]) -> pa.Table:
    """Tables one below the other; columns that some lack are null there, and dictionaries become one."""
    kinds: dict[str, set[pa.DataType]] = {}
    for table in tables:
        for field in table.schema:
            kinds.setdefault(field.name, set()).add(field.type)
    mixed = {name for name, types in kinds.items() if len(types) > 1}
    same = [
        pa.table({name: plain(column) if name in mixed else column for name, column in _columns(table).items()})
        for table in tables
    ]
    return pa.concat_tables(same, promote_options="default").unify_dictionaries()


def plain(column: Any) -> Any:
    """A column of strings, whether it is a dictionary or not."""
    return column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column


def _columns(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    return dict(zip(table.column_names, table.columns, strict=True))
