"""What a person says of a photograph besides: Darwin Core terms and values, checked one by one, as a table to encode.

Shapes: S observations, M inputs of the model.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from taxakey.errors import BadInput
from taxakey.metadata.categories import plain_words
from taxakey.metadata.dates import month_and_day
from taxakey.metadata.encoder import MetadataEncoder

Known = Mapping[str, object]
"""What is known of one specimen: `eventDate` (2024-05-31), `decimalLatitude` and `decimalLongitude` (degrees), and the columns of
words that the model was trained with, such as `habitat`. What isn't known is left out, None or ""."""

_DATE = "eventDate"
_LIMITS = {"decimalLatitude": 90.0, "decimalLongitude": 180.0}
_SHOWN = 12


def terms(encoder: MetadataEncoder | None) -> tuple[str, ...]:
    """What the model can be told: the keys of `Known`."""
    if encoder is None:
        return ()
    options = encoder.options
    return (*([_DATE] if options.date else []), *(_LIMITS if options.place else []), *options.categories)


def encoded(encoder: MetadataEncoder, observations: Sequence[Known]) -> NDArray[np.float32]:
    """Observations as inputs [S, M]; raises BadInput as `as_table` does."""
    return encoder.encode(as_table(encoder, observations))


def as_table(encoder: MetadataEncoder, observations: Sequence[Known]) -> pa.Table:
    """Observations as rows with the columns that an encoder reads.

    Raises BadInput for a key that the model doesn't take, a date or a number that can't be right, half a place, and a word that
    the model wasn't trained with (`strange_words` finds those of a long list beforehand).
    """
    rows = [_row(encoder, known) for known in observations]
    if strange := strange_words(encoder, observations):
        name, found = next(iter(strange.items()))
        raise BadInput(f"{name} {found[0]!r}: not a word that the model was trained with; {_hint(found[0], encoder.words[name])}")
    columns = {name: pa.array([row.get(name) for row in rows], pa.float64()) for name in ("month", "day", *_LIMITS)}
    columns |= {name: pa.array([row.get(name) for row in rows], pa.string()) for name in encoder.options.categories}
    return pa.table(columns)


def strange_words(encoder: MetadataEncoder, observations: Sequence[Known]) -> dict[str, list[str]]:
    """Words of the observations that the model wasn't trained with, by column, each once."""
    strange: dict[str, list[str]] = {}
    for name in encoder.options.categories:
        given = [str(known[name]) for known in observations if not _missing(known.get(name))]
        plain = plain_words(pa.chunked_array([pa.array(given, pa.string())])).to_pylist()
        known_words = set(encoder.words[name])
        pairs = zip(given, plain, strict=True)
        if found := list(dict.fromkeys(text for text, word in pairs if word is not None and word not in known_words)):
            strange[name] = found
    return strange


def _row(encoder: MetadataEncoder, known: Known) -> dict[str, object]:
    allowed = terms(encoder)
    if foreign := [name for name in known if name not in allowed and not _missing(known[name])]:
        raise BadInput(f"the model takes no {foreign[0]}; it takes {', '.join(allowed)}")
    given = {name: value for name, value in known.items() if not _missing(value)}
    half = [name for name in _LIMITS if name in given]
    if len(half) == 1:
        raise BadInput(f"{half[0]} alone is no place; give both {' and '.join(_LIMITS)}, or neither")
    row: dict[str, object] = {name: str(given[name]) for name in encoder.options.categories if name in given}
    row |= {name: _degrees(name, given[name]) for name in half}
    if _DATE in given:
        row["month"], row["day"] = month_and_day(str(given[_DATE]))
    return row


def _missing(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _degrees(name: str, value: object) -> float:
    try:
        number = float(str(value))
    except ValueError:
        raise BadInput(f"{name} {str(value)[:40]!r}: not a number; write degrees such as 50.94") from None
    limit = _LIMITS[name]
    if not math.isfinite(number) or abs(number) > limit:
        raise BadInput(f"{name} {number:g}: outside -{limit:g} to {limit:g} degrees")
    return number


def _hint(word: str, words: Sequence[str]) -> str:
    if near := difflib.get_close_matches(word.lower(), words, n=3):
        return f"near it: {', '.join(near)}; or leave it out"
    shown = ", ".join(words[:_SHOWN])
    return f"leave it out, or take one of: {shown}{' …' if len(words) > _SHOWN else ''}" if words else "leave it out"
