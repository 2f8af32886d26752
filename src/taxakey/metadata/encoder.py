"""Metadata of pictures as numbers: what a recipe asks for, learnt from the training part, stored with the model.

Shapes: N pictures, M inputs of all groups together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from taxakey.artifacts import read_json, write_json
from taxakey.errors import BadInput
from taxakey.metadata.categories import one_hot, vocabulary
from taxakey.metadata.dates import WIDTH as DATE_WIDTH
from taxakey.metadata.dates import cyclic_dates
from taxakey.metadata.places import PlaceEncoding, encoded_places, place_width

FILE = "metadata.json"
"""What the encoder is called in a model's folder and in a bundle."""
_FORMAT = 1


@dataclass(frozen=True)
class MetadataOptions:
    """Which columns of the dataset a model is told besides the picture, and how they become numbers.

    `date`: month and day. `place`: see `PlaceEncoding`; null for none. `categories`: columns of words, of each the
    `most_words` most frequent in training; further ones count as unknown. `flags`: an input that says "missing" for the date
    and one for the place. `hide`: share of training pictures from which a group (date, place, categories) is hidden, drawn
    anew at each step and for each group, so that a model knows what to do where at prediction something is missing.
    """

    date: bool = True
    place: PlaceEncoding | None = "geohash"
    categories: tuple[str, ...] = ("habitat", "substrate")
    most_words: int = 100
    flags: bool = True
    hide: float = 0.1

    def __post_init__(self) -> None:
        if not (self.date or self.place or self.categories):
            raise ValueError("metadata of nothing: name a date, a place or categories, or leave metadata out")
        if self.place not in (None, *get_args(PlaceEncoding)):
            raise ValueError(f"place is {self.place!r}; one of {', '.join(get_args(PlaceEncoding))}, or null")
        if not 0 <= self.hide < 1:
            raise ValueError("hide must be at least 0 and below 1")
        if len(set(self.categories)) < len(self.categories) or self.most_words < 1:
            raise ValueError("a category stands twice, or most_words is below 1")


PAPER = MetadataOptions(place="geohash_tail", categories=("substrate", "metasubstrate", "habitat"), flags=False, hide=0)
"""What DS@GT gave their heads (SPEC, section 4): 4, 7 and, on their data, 73 inputs."""


@dataclass(frozen=True)
class MetadataEncoder:
    """Options and the words that training held. Made by `fit` or `read`."""

    options: MetadataOptions
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def fit(cls, options: MetadataOptions, training: pa.Table) -> MetadataEncoder:
        """Learn the words from the training part, and from nothing else; raises BadInput for a column that isn't there."""
        for name in options.categories:
            _column(training, name)
        return cls(options, {name: vocabulary(training[name], options.most_words) for name in options.categories})

    @property
    def widths(self) -> tuple[int, ...]:
        """Inputs of each group, in their order: date, place, categories, as far as there are such."""
        options, flag = self.options, int(self.options.flags)
        widths = [DATE_WIDTH + flag] if options.date else []
        widths += [place_width(options.place) + flag] if options.place else []
        widths += [sum(len(self.words[name]) + 1 for name in options.categories)] if options.categories else []
        return tuple(widths)

    @property
    def width(self) -> int:
        """M."""
        return sum(self.widths)

    def encode(self, table: pa.Table) -> NDArray[np.float32]:
        """Rows of a dataset, or of anything with its columns, as [N, M]. Null is missing; raises BadInput for a column that isn't
        there."""
        parts = [self._dates(table)] if self.options.date else []
        parts += [self._places(table)] if self.options.place else []
        parts += [one_hot(_column(table, name), self.words[name]) for name in self.options.categories]
        return np.concatenate(parts, axis=1, dtype=np.float32)

    def nothing_known(self, rows: int) -> NDArray[np.float32]:
        """What is encoded where nothing is known, [rows, M]."""
        names = [*(["month", "day"] if self.options.date else []), *(_PLACE if self.options.place else [])]
        columns = {name: pa.nulls(rows, pa.float64()) for name in names}
        return self.encode(pa.table(columns | {name: pa.nulls(rows, pa.string()) for name in self.options.categories}))

    def _dates(self, table: pa.Table) -> NDArray[np.float64]:
        month_N, day_N = _numbers(table, "month"), _numbers(table, "day")
        return self._flagged(cyclic_dates(month_N, day_N), np.isnan(month_N))

    def _places(self, table: pa.Table) -> NDArray[np.float64]:
        latitude_N, longitude_N = (_numbers(table, name) for name in _PLACE)
        assert self.options.place is not None
        coded = encoded_places(latitude_N, longitude_N, self.options.place)
        return self._flagged(coded, np.isnan(latitude_N) | np.isnan(longitude_N))

    def _flagged(self, coded: NDArray[np.float64], missing_N: NDArray[np.bool_]) -> NDArray[np.float64]:
        return np.column_stack([coded, missing_N]) if self.options.flags else coded

    def write(self, folder: Path) -> None:
        """Write metadata.json."""
        content = {"format": _FORMAT, "options": asdict(self.options), "words": {name: list(w) for name, w in self.words.items()}}
        write_json(folder / FILE, content)

    @classmethod
    def read(cls, folder: Path) -> MetadataEncoder | None:
        """What `write` wrote, or None where a model takes no metadata; raises BadInput for a file that can't be right."""
        file = folder / FILE
        return cls.from_json(read_json(file), file) if file.is_file() else None

    @classmethod
    def from_json(cls, content: Any, origin: object) -> MetadataEncoder:
        """From the parsed file; `origin` names it in errors."""
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise BadInput(f"{origin}: not metadata of format {_FORMAT}; use the Taxakey that wrote it, or train again")
        try:
            stored = content["options"]
            options = MetadataOptions(**{**stored, "categories": tuple(stored["categories"])})
            words = {name: tuple(content["words"][name]) for name in options.categories}
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"{origin}: damaged ({error}); restore the model's folder or train again") from None
        if any(not isinstance(word, str) for listed in words.values() for word in listed):
            raise BadInput(f"{origin}: damaged (a word that is no text); restore the model's folder or train again")
        return cls(options, words)


def alike(one: MetadataEncoder | None, other: MetadataEncoder | None) -> bool:
    """Whether each input means the same in both; how they were learnt (`most_words`, `hide`) doesn't matter."""
    if one is None or other is None:
        return one is other
    facts = [(e.options.date, e.options.place, e.options.categories, e.options.flags, dict(e.words)) for e in (one, other)]
    return facts[0] == facts[1]


def merged(one: MetadataEncoder | None, other: MetadataEncoder | None) -> MetadataEncoder | None:
    """What takes all that either takes, so that observations can be checked for both at once (see `observation.as_table`)."""
    if one is None or other is None:
        return one or other
    options = replace(
        one.options,
        date=one.options.date or other.options.date,
        place=one.options.place or other.options.place,
        categories=tuple(dict.fromkeys([*one.options.categories, *other.options.categories])),
    )
    return MetadataEncoder(options, {**other.words, **one.words})


_PLACE = ("decimalLatitude", "decimalLongitude")


def _column(table: pa.Table, name: str) -> pa.ChunkedArray:
    if name not in table.column_names:
        raise BadInput(f"the model's metadata need the column {name!r}, and these records have none of that name")
    return table[name]


def _numbers(table: pa.Table, name: str) -> NDArray[np.float64]:
    """A column as floats, null as NaN."""
    return np.asarray(_column(table, name).cast(pa.float64()).to_numpy(), dtype=np.float64)
