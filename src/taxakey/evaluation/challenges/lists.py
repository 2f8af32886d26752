"""Lists that go with a challenge: which ids are expected, which classes there are, what a class of ours is called there.

A list is a CSV (commas, semicolons or tabs) with a column of one of the names that organisers use, a text file with one value a
line, or JSON: a list of objects (Herbarium 2022's test_metadata.json), a list of values, or an object whose `categories` or
`images` is such a list (train_metadata.json).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from taxakey.errors import BadInput
from taxakey.evaluation.challenges.formats import UNKNOWN, Format

NAMES = ("scientificname", "name", "species")
_IDS = ("obsid", "observationid", "occurrenceid", "id", "imageid")


def expected_ids(path: Path | str, format: Format) -> pa.Array:
    """The ids, each once, in the order of the list."""
    names = (*format.ids, format.columns[0], *_IDS)
    values = column(read_list(path, "images", names), names, path)
    return pa.array(dict.fromkeys(values), pa.large_string())


def class_ids(path: Path | str, format: Format) -> NDArray[np.int64]:
    """The classes, each once, rising."""
    return np.unique(whole(column(read_list(path, "categories", format.classes), format.classes, path), path))


def read_list(path: Path | str, array: str, known: Sequence[str]) -> dict[str, list[str]]:
    """Columns by their names in lower case without underscores. A list of one column whose first line is none of the `known`
    names has no header, and its column no name. `array`: which of an object's lists is meant.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file") from None
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise BadInput(f"{path}: not a list in UTF-8 text ({error}); name a CSV, a text file or JSON") from None
    if path.suffix.lower() == ".json":
        return _of_json(text, array, path)
    head = text.split("\n", 1)[0]
    separator = max(",;\t", key=head.count)
    rows = [row for row in csv.reader(text.splitlines(), delimiter=separator) if row]
    if not rows:
        raise BadInput(f"{path}: an empty list")
    names = [_plainly(name) for name in rows[0]]
    if len(names) == 1 and names[0] not in {_plainly(name) for name in known}:
        return {"": [row[0].strip() for row in rows]}
    if short := next((number for number, row in enumerate(rows, 1) if len(row) != len(names)), None):
        raise BadInput(f"{path}: row {short:,} has {len(rows[short - 1])} values, where the header has {len(names)}")
    if not rows[1:]:
        raise BadInput(f"{path}: a header and no row")
    return {name: list(values) for name, values in zip(names, zip(*rows[1:], strict=True), strict=True)}


def _of_json(text: str, array: str, path: Path) -> dict[str, list[str]]:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise BadInput(f"{path}: not JSON ({error})") from None
    found = content.get(array) if isinstance(content, dict) else content
    if not isinstance(found, list) or not found:
        raise BadInput(f"{path}: no list in it, nor an array {array!r}")
    if not isinstance(found[0], dict):
        return {"": [str(value) for value in found]}
    names = {name: None for row in found for name in row}
    return {_plainly(name): ["" if row.get(name) is None else str(row[name]) for row in found] for name in names}


def column(columns: Mapping[str, list[str]], names: Sequence[str], path: Path | str) -> list[str]:
    """The first of these columns, or the only one of a list without a header."""
    wanted = ["", *(_plainly(name) for name in names)]
    found = next((columns[name] for name in wanted if name in columns), None)
    if found is None:
        raise BadInput(f"{path}: no column {' or '.join(dict.fromkeys(wanted[1:]))}; it has {', '.join(columns)}")
    return found


def whole(values: Iterable[str], path: Path | str) -> NDArray[np.int64]:
    """Values as whole numbers; raises BadInput for the first that isn't one."""
    values = list(values)
    bad = next((value for value in values if not value.strip().removeprefix("-").isdecimal()), None)
    if bad is not None:
        raise BadInput(f"{path}: {bad!r} is no class number")
    return np.array([int(value) for value in values], np.int64)


def class_numbers(path: Path | str, format: Format) -> dict[str, int]:
    """scientificName -> the challenge's number of the class, from a list with both."""
    columns = read_list(path, "categories", NAMES)
    names, numbers = column(columns, NAMES, path), whole(column(columns, (*format.classes, "id"), path), path)
    found: dict[str, int] = {}
    for name, number in zip(names, numbers.tolist(), strict=True):
        if found.setdefault(name.strip(), number) != number:
            raise BadInput(f"{path}: {name.strip()!r} has two numbers, {found[name.strip()]} and {number}; leave one of them")
    return found


def numbers_of_classes(
    names: Sequence[str], taxon_ids: Sequence[str], format: Format, path: Path | str | None
) -> NDArray[np.int64]:
    """The challenge's number of each class [C]: from the list, or else the taxonID that its layout gave it.

    Raises BadInput where a class has none, or two have the same (but for -1, where the format knows it).
    """
    given: Sequence[Any]
    if path is None:
        given = [int(text) if text.removeprefix("-").isdecimal() else None for text in taxon_ids]
        advice = "name a list with scientificName and the challenge's number of each class (--classes)"
    else:
        numbers = class_numbers(path, format)
        given = [numbers.get(name) for name in names]
        advice = f"add them to {path}"
    if lacking := [name for name, number in zip(names, given, strict=True) if number is None]:
        raise BadInput(
            f"{len(lacking):,} of {len(names):,} classes have no number in the challenge (first: {lacking[0]!r}); {advice}"
        )
    number_C = np.array(given, np.int64)
    if (number_C < (UNKNOWN if format.unknown else 0)).any():
        raise BadInput(
            f"the class {names[int(number_C.argmin())]!r} has the number {number_C.min()}, which {format.name} doesn't take"
        )
    kinds, counts = np.unique(number_C[number_C != UNKNOWN], return_counts=True)
    if (counts > 1).any():
        raise BadInput(
            f"{int((counts > 1).sum()):,} numbers stand for two classes or more (first: {kinds[counts > 1][0]}); correct them"
        )
    return number_C


def _plainly(name: str) -> str:
    return name.strip().lower().replace("_", "").replace(" ", "")
