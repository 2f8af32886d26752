"""Dates as inputs of a network. Shapes: N pictures."""

from __future__ import annotations

import datetime
import re

import numpy as np
from numpy.typing import NDArray

from taxakey.errors import BadInput

WIDTH = 4
"""sin and cos of the month, sin and cos of the day."""

_ISO = re.compile(r"(\d{4})(?:-(\d{1,2})(?:-(\d{1,2}))?)?(?:[T ][\d:.,+Zz -]*)?")


def cyclic_dates(month_N: NDArray[np.float64], day_N: NDArray[np.float64]) -> NDArray[np.float64]:
    """sin and cos of 2π(month - 1)/12 and of 2π(day - 1)/31, [N, 4], so that December is next to January (SPEC, section 4).

    NaN is missing and gives zeros, which lie on neither circle: no date looks like it. Without a month the day says nothing.
    """
    month_N = 2 * np.pi * (month_N - 1) / 12
    day_N = np.where(np.isnan(month_N), np.nan, 2 * np.pi * (day_N - 1) / 31)
    circles_N4 = np.stack([np.sin(month_N), np.cos(month_N), np.sin(day_N), np.cos(day_N)], axis=1)
    return np.nan_to_num(circles_N4, nan=0.0)


def month_and_day(text: str) -> tuple[int | None, int | None]:
    """Of a date as Darwin Core's eventDate writes it: 2024-05-31, 2024-05 or 2024, with a time or without.

    Raises BadInput for anything else, and for a day that no calendar has.
    """
    found = _ISO.fullmatch(text.strip())
    if found is None:
        raise BadInput(f"the date {text.strip()[:40]!r} can't be read; write it as 2024-05-31, or 2024-05 without the day")
    year, month, day = (None if part is None else int(part) for part in found.groups())
    try:
        datetime.date(year or 1, month or 1, day or 1)
    except ValueError:
        raise BadInput(f"the date {text.strip()[:40]!r} isn't in the calendar; write it as year-month-day") from None
    return month, day
