"""What a CSV says of photographs besides what they show: a line for each, columns in Darwin Core's terms."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path, PurePath

from taxakey.errors import BadInput
from taxakey.metadata.encoder import MetadataEncoder
from taxakey.metadata.observation import Known, encoded, strange_words, terms

NAME = "file_name"
"""The column that names the photograph, or the folder of a specimen: its path, or the last part of it."""


class KnownFile:
    """A CSV that was read whole and checked. `notes`: what of it can't be used, in sentences for the person who gave it."""

    def __init__(self, file: Path, encoder: MetadataEncoder | None) -> None:
        """Raises BadInput with the line where a value can't be right, for a file that is none, and for one that says nothing that
        the model takes. A word that the model wasn't trained with counts as unknown."""
        columns, rows = _read(file)
        taken = [name for name in terms(encoder) if name in columns]
        if encoder is None or not taken:
            raise BadInput(f"{file}: the model takes {', '.join(terms(encoder)) or 'no metadata'}, and no column is called so")
        self._rows: dict[str, Known] = {}
        self._used: set[str] = set()
        self.notes: list[str] = []
        known = [{name: row[name] for name in taken} for row in rows]
        self._forget_strange_words(encoder, known)
        for line, (row, told) in enumerate(zip(rows, known, strict=True), start=2):
            try:
                encoded(encoder, [told])
            except BadInput as error:
                raise BadInput(f"{file}, line {line}: {error}") from None
            if self._rows.setdefault(row[NAME], told) is not told:
                raise BadInput(f"{file}, line {line}: {row[NAME]!r} stands there twice")

    def _forget_strange_words(self, encoder: MetadataEncoder, known: Sequence[dict[str, str]]) -> None:
        for column, words in strange_words(encoder, known).items():
            strange = set(words)
            for told in known:
                if told.get(column) in strange:
                    told[column] = ""
            self.notes.append(
                f"{len(words):,} words of {column} (first: {words[0]!r}) aren't among those that the model was trained with and "
                "count as unknown"
            )

    def of(self, names: Sequence[str]) -> list[Known]:
        """What is known of each photograph; nothing of those that the file doesn't name."""
        return [self._row(name) for name in names]

    def _row(self, name: str) -> Known:
        for called in (name, PurePath(name).name):
            if called in self._rows:
                self._used.add(called)
                return self._rows[called]
        return {}

    def unused(self) -> list[str]:
        """Names of the file that no photograph had, after `of`."""
        return [name for name in self._rows if name not in self._used]


def _read(file: Path) -> tuple[list[str], list[dict[str, str]]]:
    try:
        with open(file, newline="", encoding="utf-8-sig") as opened:
            reader = csv.DictReader(opened, restval="")
            rows = [{key: value or "" for key, value in row.items() if key is not None} for row in reader]
            columns = list(reader.fieldnames or [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{file}: can't be read as a CSV in UTF-8 ({error})") from None
    if NAME not in columns:
        raise BadInput(f"{file}: lacks the column {NAME}, which says of which photograph a line speaks")
    return columns, rows
