"""A challenge's file -> columns, every fault of its text with the number of its line.

Shapes: N rows, n of a block, b of its lines. The text is read in blocks and never held whole; columns are made by Arrow, not by a
loop over rows. csv readers of libraries skip or merge broken lines and then can't say where: here a line is a line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from taxakey.errors import BadInput
from taxakey.evaluation.challenges.faults import Faults
from taxakey.evaluation.challenges.formats import UNKNOWN, Format

_BLOCK = 2**24
_SEPARATORS = {";": "semicolons", ",": "commas", "\t": "tabs", "|": "bars", " ": "spaces"}
_WHOLE = r"^-?[0-9]{1,18}$"
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_MISSING = r"(?i)^(|nan|na|null|none)$"
_STARTS = {
    b"\x1f\x8b": "is compressed by gzip; unpack it first",
    b"PK\x03\x04": "is a zip archive; unpack it first",
    b"\xff\xfe": "is UTF-16 text, as Excel writes it; save it as CSV in UTF-8",
    b"\xfe\xff": "is UTF-16 text, as Excel writes it; save it as CSV in UTF-8",
}


@dataclass(frozen=True, eq=False)
class Submission:
    """Rows that have as many fields as they should; `probability_N` and `rank_N` are 0 where a format has none.

    `valid_N`: rows whose numbers are all numbers; what the others hold is 0 or NaN.
    """

    id_N: pa.ChunkedArray
    class_N: NDArray[np.int64]
    probability_N: NDArray[np.float64]
    rank_N: NDArray[np.int64]
    line_N: NDArray[np.int64]
    valid_N: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.line_N)


def read_submission(path: Path | str, format: Format, faults: Faults) -> Submission:
    """Read a file and add to `faults` what is wrong with its text; raises BadInput where there is none to read."""
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"{path}: no such file; name the file that would be sent")
    reader = _Reader(format, faults)
    parts = [part for first, block in _blocks(path, faults) if (part := reader.block(first, block)) is not None]
    reader.report()
    parts = parts or [reader.nothing()]
    if not sum(len(part) for part in parts) and not faults:
        faults.file("holds no row" + (" below its header" if format.header else ""))
    columns = [np.concatenate([getattr(part, name) for part in parts]) for name in _ARRAYS]
    return Submission(pa.chunked_array([chunk for part in parts for chunk in part.id_N.chunks], pa.large_string()), *columns)


_ARRAYS = ("class_N", "probability_N", "rank_N", "line_N", "valid_N")


def _blocks(path: Path, faults: Faults) -> Iterator[tuple[int, str]]:
    """The number of the first line, and lines that are whole, without the last line's end."""
    line, rest = 1, b""
    with open(path, "rb") as file:
        while piece := file.read(_BLOCK):
            if line == 1 and not rest:
                for start, text in _STARTS.items():
                    if piece.startswith(start):
                        faults.file(text)
                        return
                if piece.startswith(b"\xef\xbb\xbf"):
                    faults.file("begins with a byte-order mark, which becomes part of its first value; save it as UTF-8 without")
                    piece = piece[3:]
            whole, end, rest_of_piece = (rest + piece).rpartition(b"\n")
            if (lines := _text(whole if end else b"", line, faults)) is None:
                return
            if end:
                yield line, lines
                line += whole.count(b"\n") + 1
            rest = rest_of_piece
    if rest.strip(b"\r") and (lines := _text(rest, line, faults)) is not None:
        yield line, lines


def _text(lines: bytes, first: int, faults: Faults) -> str | None:
    """Decoded; None, and a fault, where that isn't possible."""
    if b"\0" in lines:
        faults.file(
            f"line {first + lines[: lines.index(0)].count(10):,}: holds a zero byte, so the file is no text; write it again"
        )
        return None
    try:
        return lines.decode()
    except UnicodeDecodeError as error:
        faults.file(f"line {first + lines[: error.start].count(10):,}: isn't UTF-8 text; save the file as UTF-8")
        return None


class _Reader:
    """Knows after the first line where the columns stand."""

    def __init__(self, format: Format, faults: Faults) -> None:
        self.format, self.faults = format, faults
        self.places: tuple[int, ...] | None = None
        self.width, self.heads = 0, int(format.header)
        self.marks: dict[tuple[str, bool], list[NDArray[np.int64]]] = {}

    def nothing(self) -> Submission:
        none, number = np.zeros(0, np.int64), np.zeros(0)
        return Submission(pa.chunked_array([pa.array([], pa.large_string())]), none, number, none, none, none.astype(bool))

    def block(self, first: int, text: str) -> Submission | None:
        """The rows of a block; None where the first line makes the rest unreadable."""
        lines_b = pc.split_pattern(pa.array([text], pa.large_string()), "\n").values
        lines_b = pc.utf8_rtrim(lines_b, characters="\r")
        line_b = first + np.arange(len(lines_b))
        if first == 1:
            head = lines_b[0].as_py()
            self._first_line(head, lines_b[1].as_py() if len(lines_b) > 1 else "")
            lines_b, line_b = lines_b[self.heads :], line_b[self.heads :]
        if self.places is None:
            return None
        fields_b = pc.split_pattern(lines_b, self.format.separator)
        width_b = pc.list_value_length(fields_b).to_numpy(zero_copy_only=False)
        empty_b = pc.equal(lines_b, "").to_numpy(zero_copy_only=False)
        whole_b = (width_b == self.width) & ~empty_b
        self._mark(line_b[empty_b], "is empty; readers leave it out", rejects=False)
        kind = _SEPARATORS[self.format.separator]
        self._mark(line_b[~whole_b & ~empty_b], f"must have {self.width} fields between {kind}, and has not")
        values = pc.list_flatten(fields_b.filter(pa.array(whole_b)))
        columns = [values.take(pa.array(np.arange(place, len(values), self.width))) for place in self.places]
        if '"' in text:
            columns = [pc.replace_substring_regex(column, r'^"(.*)"$', r"\1") for column in columns]
        return self._rows(columns, line_b[whole_b])

    # ---- the first line ----

    def _first_line(self, head: str, second: str) -> None:
        format = self.format
        names = [name.strip().strip('"') for name in head.split(format.separator)]
        if other := _other_separator(head, format):
            self.faults.file(
                f"its values stand between {_SEPARATORS[other]}, not {_SEPARATORS[format.separator]} ({format.example})"
            )
        elif not format.header:
            self._data_line(names, second.split(format.separator))
        elif all(name in names for name in format.columns):
            self.places, self.width = tuple(names.index(name) for name in format.columns), len(names)
            if len(names) > len(format.columns):
                others = ", ".join(repr(name) for name in names if name not in format.columns)
                self.faults.file(f"has columns besides {format.example}: {others}; leave them out", rejects=not format.others)
        elif _is_whole(names[-1]):
            self.faults.file(f"has no header; its first line must be {format.example}")
        else:
            same = {name.lower() for name in names} >= {name.lower() for name in format.columns}
            also = " (capitals count)" if same else ""
            self.faults.file(f"its header is {head[:80]!r}; it must be {format.example}{also}")

    def _data_line(self, names: list[str], second: list[str]) -> None:
        self.places, self.width = tuple(range(len(self.format.columns))), len(self.format.columns)
        if len(names) == self.width and not _is_whole(names[1]) and len(second) == self.width and _is_whole(second[1]):
            self.faults.file(f"line 1 is a header ({self.format.separator.join(names)[:60]}), and this file has none; delete it")
            self.heads = 1

    # ---- values ----

    def _rows(self, columns: list[pa.Array], line_n: NDArray[np.int64]) -> Submission:
        ids, number = columns[0], self.format.columns[1]
        if (odd_n := _matches(ids, r"^$|^\s|\s$")).any():
            empty_n = _matches(ids, r"^\s*$")
            self._mark(line_n[empty_n], f"has no {self.format.columns[0]}")
            self._mark(line_n[odd_n & ~empty_n], f"has a space beside its {self.format.columns[0]}")
        class_n, valid_n = self._whole(columns[1], line_n, number)
        lowest = UNKNOWN if self.format.unknown else 0
        only = f"only {UNKNOWN} says unknown" if self.format.unknown else "this challenge has no unknown species"
        self._mark(line_n[valid_n & (class_n < lowest)], f"has a negative {number}; {only}")
        probability_n, rank_n = np.zeros(len(line_n)), np.zeros(len(line_n), np.int64)
        if self.format.ranked:
            probability_n, sure_n = self._number(columns[2], line_n)
            rank_n, ranked_n = self._whole(columns[3], line_n, self.format.columns[3])
            valid_n = valid_n & sure_n & ranked_n
        return Submission(pa.chunked_array([ids.cast(pa.large_string())]), class_n, probability_n, rank_n, line_n, valid_n)

    def _whole(self, column: pa.Array, line_n: NDArray[np.int64], name: str) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        good_n = _matches(column, _WHOLE)
        if not good_n.all():
            missing_n, decimal_n = _matches(column, _MISSING), _matches(column, r"^-?[0-9]+\.0*$")
            self._mark(line_n[missing_n], f"has no {name}")
            self._mark(
                line_n[decimal_n], f"has its {name} with a decimal point (3.0), as pandas writes columns with gaps; write 3"
            )
            self._mark(line_n[~good_n & ~missing_n & ~decimal_n], f"has a {name} that isn't a whole number")
        return _filled(column, good_n).cast(pa.int64()).to_numpy(), good_n

    def _number(self, column: pa.Array, line_n: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        good_n, name = _matches(column, _NUMBER), self.format.columns[2]
        if not good_n.all():
            missing_n, comma_n = _matches(column, _MISSING), _matches(column, r"^[0-9]+,[0-9]+$")
            self._mark(line_n[missing_n], f"has no {name} (empty or NaN)")
            self._mark(line_n[comma_n], f"has a decimal comma in its {name}; write a point")
            self._mark(line_n[~good_n & ~missing_n & ~comma_n], f"has a {name} that isn't a finite number")
        return _filled(column, good_n).cast(pa.float64()).to_numpy(), good_n

    def _mark(self, lines: NDArray[np.int64], text: str, *, rejects: bool = True) -> None:
        if len(lines):
            self.marks.setdefault((text, rejects), []).append(lines)

    def report(self) -> None:
        """Give the marks of all blocks to the list of faults."""
        for (text, rejects), lines in self.marks.items():
            line_N = np.concatenate(lines)
            self.faults.rows(np.ones(len(line_N), bool), line_N, text, rejects=rejects)


def _other_separator(head: str, format: Format) -> str | None:
    """The separator that makes a good first line where the right one doesn't even cut it."""
    if format.separator in head:
        return None
    return next((other for other in _SEPARATORS if len(head.split(other)) >= len(format.columns)), None)


def _is_whole(text: str) -> bool:
    return text.strip().strip('"').lstrip("-").isdecimal()


def _matches(column: pa.Array, pattern: str) -> NDArray[np.bool_]:
    return pc.match_substring_regex(column, pattern).to_numpy(zero_copy_only=False).astype(bool)


def _filled(column: pa.Array, good_n: NDArray[np.bool_]) -> pa.Array:
    """The column with 0 where it holds no number."""
    return pc.if_else(pa.array(good_n), column, pa.scalar("0", column.type))
