"""A file of answers that grows while thousands of pictures are named, and that an interrupted run goes on with.

Lines are only ever appended. A process killed in the middle leaves a torn last line, or only some of a photograph's rows; both
are cut off on reopening, and that photograph is named again. What decides the answers (model, format, number of rows) lies in
`FILE.plan.json` beside it, so that answers of two models never end up in one file.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from taxakey.artifacts import open_atomically, read_json, write_json
from taxakey.errors import BadInput, PlanMismatch
from taxakey.serving.answers import Answer
from taxakey.serving.formats import Format


class AnswerFile:
    """Open `path` for the answers of one model, `rows_each` rows a photograph; `done` has the names it already holds.

    `asked` is whatever else decides the answers. Raises PlanMismatch when the file was begun with another model, format or
    number of rows or was asked otherwise, and BadInput when it is foreign.
    """

    def __init__(self, path: Path | str, format: Format, *, rows_each: int, fingerprint: str, asked: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.done: set[str] = set()
        self._format = format
        self._fingerprint = fingerprint
        rows_each = rows_each if format.columns else 1
        self._check_plan({"format": format.name, "model": fingerprint, "rows": rows_each, **asked})
        size = self._whole_answers(rows_each) if self.path.exists() else 0
        self._file = self._open(size)

    def _check_plan(self, plan: dict[str, Any]) -> None:
        plan_file = self.path.with_name(self.path.name + ".plan.json")
        if plan_file.exists():
            found = read_json(plan_file)
            for key, value in plan.items():
                if found.get(key) != value and self.path.exists():
                    raise PlanMismatch(
                        f"{self.path}: was begun with {key} {found.get(key)}, now it is {value}; name another file or delete it"
                    )
        elif self.path.exists() and self.path.stat().st_size:
            raise BadInput(f"{self.path}: exists and was not begun by `taxakey identify`; name another file")
        write_json(plan_file, plan)

    def _whole_answers(self, rows_each: int) -> int:
        """Fill `done`; return how many bytes of the file hold whole answers."""
        whole, name_before, rows = 0, None, 0
        with open(self.path, "rb") as file:
            for end, name in _records(file, self._format, self.path):
                if name is None:  # the header
                    whole = end
                    continue
                rows = rows + 1 if name == name_before else 1
                name_before = name
                if rows == rows_each:
                    self.done.add(name)
                    whole = end
        return whole

    def _open(self, size: int) -> IO[str]:
        with open(self.path, "ab") as file:
            file.truncate(size)
        opened = open(self.path, "a", encoding="utf-8", newline="")  # noqa: SIM115 - closed by __exit__
        if size == 0:
            opened.write(self._format.header())
        return opened

    def write(self, file_name: str, answer: Answer) -> None:
        """Append one answer; call `flush` now and then."""
        self._file.write(self._format.text(file_name, answer, self._fingerprint))

    def flush(self) -> None:
        """Hand what was written to the system: it then outlives this process."""
        self._file.flush()

    def __enter__(self) -> AnswerFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._file.close()


def _records(file: IO[bytes], format: Format, path: Path) -> Iterator[tuple[int, str | None]]:
    """End and photograph's name of each whole record; None for the header. Stops where the file is torn."""
    consumed = 0

    def lines() -> Iterator[str]:
        nonlocal consumed
        for line in file:
            if not line.endswith(b"\n"):
                return
            consumed += len(line)
            yield line.decode("utf-8", "replace")

    if not format.columns:
        for line in lines():
            try:
                yield consumed, json.loads(line)[format.name_column]
            except (ValueError, KeyError, TypeError):
                raise BadInput(f"{path}: a line before byte {consumed:,} isn't an answer; name another file") from None
        return
    reader = csv.reader(lines(), strict=True)
    position = format.columns.index(format.name_column)
    try:
        for number, row in enumerate(reader):
            if (number == 0 and tuple(row) != format.columns) or len(row) != len(format.columns):
                raise BadInput(f"{path}: the record before byte {consumed:,} isn't an answer; name another file")
            yield consumed, None if number == 0 else row[position]
    except csv.Error:
        return  # the file ends within quotes


def write_failures(out: Path, failures: Sequence[tuple[str, str]]) -> Path | None:
    """Write `OUT.failures.csv` (file_name, reason), or take an older one away when nothing failed."""
    file = out.with_name(out.name + ".failures.csv")
    if not failures:
        file.unlink(missing_ok=True)
        return None
    with open_atomically(file, "w") as opened:
        writer = csv.writer(opened, lineterminator="\n")
        writer.writerow(("file_name", "reason"))
        writer.writerows(failures)
    return file


def printable_name(path: Path) -> str:
    """The path as text that any file can hold: names that aren't UTF-8 are legal on Linux, and are escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
