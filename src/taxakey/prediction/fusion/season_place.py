"""What date and place say of a species: densities of its training records on the sphere and on the year. No torch.

Shapes: N training observations, X cells of records of one class, O observations, C classes, Q asked ones.

A kernel density is the small model here: it needs no training beyond two widths, and its ratio to the density of all records is
the very one of `words`, with neighbours counted by nearness instead of as equal or not. The kernels are exponentials of scalar
products of (sin, cos) of the day of the year (von Mises) and of unit vectors of places (von Mises-Fisher), so the year has no
end and the globe no seam.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import i0e

from taxakey.errors import BadInput
from taxakey.progress import track

Floats = NDArray[np.float64]
NAME = "place"
FLOOR = 0.01
"""Share of a class' records that may be anywhere at any time: no density is 0, and far from all records all ratios are 1."""
KILOMETRES = (25.0, 50.0, 100.0, 200.0, 400.0, 800.0, 1600.0)
DAYS = (7.0, 14.0, 28.0, 56.0, 112.0)
STRENGTHS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)

_EARTH = 6371.0
_YEAR = 365.25
_BEFORE_MONTH = np.array([0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334])
_DEGREES = 0.05  # records are kept in cells of this width, 5.5 km, and of a day
_MOST_RECORDS, _MOST_ASKED = 20_000, 1_000  # for the choice of the widths only
_NUMBERS_AT_ONCE = 10_000_000


@dataclass(frozen=True, eq=False)
class PlaceEvidence:
    """Records by cell and class, the kernels' widths, and `strength`: how many records like all others a class is lent."""

    classes: int
    kilometres: float
    days: float
    strength: float
    day_X: Floats
    latitude_X: Floats
    longitude_X: Floats
    class_X: NDArray[np.int64]
    count_X: NDArray[np.int64]

    @classmethod
    def fit(cls, training: pa.Table, class_N: NDArray[np.integer], classes: int, *, seed: int = 0) -> PlaceEvidence:
        """From one row a training observation; those without a month or a place are left out.

        Widths and strength are those under which the training records foretell each other's class best, each left out in its
        turn (of at most 20,000 drawn by the seed, 1,000 of them asked). Raises BadInput where nothing is known.
        """
        day_N, latitude_N, longitude_N = _columns(training)
        good = np.isfinite(day_N) & np.isfinite(latitude_N) & (np.asarray(class_N) >= 0)
        if not good.any():
            raise BadInput("no training observation has both a month and coordinates; leave `place` out")
        rows = np.column_stack([
            np.floor(day_N[good]), np.round(latitude_N[good] / _DEGREES), np.round(longitude_N[good] / _DEGREES),
            np.asarray(class_N)[good],
        ]).astype(np.int64)  # fmt: skip
        cells, count_X = np.unique(rows, axis=0, return_counts=True)
        drawn = np.random.default_rng(seed).permutation(len(rows))[:_MOST_RECORDS]
        kilometres, days, strength = _best_widths(rows[drawn], classes)
        return cls(classes, kilometres, days, strength, *_centres(cells), cells[:, 3], count_X)

    @property
    def name(self) -> str:
        return NAME

    def known(self, table: pa.Table) -> NDArray[np.bool_]:
        """Of which rows [O] it says anything: a month is known, or a place."""
        day_O, latitude_O, _ = _columns(table)
        return np.isfinite(day_O) | np.isfinite(latitude_O)

    def log_ratio(self, table: pa.Table) -> Floats:
        """log(p(class | date, place) / p(class)), [O, C]; a date or a place alone counts alone; 0 where neither is known."""
        day_O, latitude_O, longitude_O = _columns(table)
        ratio_OC = np.zeros((len(day_O), self.classes))
        kernel = _Kernel(self.day_X, self.latitude_X, self.longitude_X)
        of_class_XC = _by_class(self.class_X, self.count_X, self.classes)
        count_C = np.bincount(self.class_X, self.count_X, self.classes)
        rows = np.flatnonzero(np.isfinite(day_O) | np.isfinite(latitude_O))
        portion = max(1, _NUMBERS_AT_ONCE // max(len(self.day_X), self.classes))
        for some in (rows[first : first + portion] for first in range(0, len(rows), portion)):
            near_OX = kernel.season(day_O[some], self.days) * kernel.place(latitude_O[some], longitude_O[some], self.kilometres)
            ratio_OC[some] = np.log(_ratios(np.asarray(near_OX @ of_class_XC), count_C, self.strength))
        return ratio_OC

    def to_json(self) -> dict[str, Any]:
        cells = {"day_X": np.floor(self.day_X), "class_X": self.class_X, "count_X": self.count_X}
        cells |= {name: np.round(getattr(self, name) / _DEGREES) for name in ("latitude_X", "longitude_X")}
        content = {name: values.astype(np.int64).tolist() for name, values in cells.items()}
        return {"kilometres": self.kilometres, "days": self.days, "strength": self.strength, "degrees": _DEGREES, **content}

    @classmethod
    def from_json(cls, content: dict[str, Any], classes: int) -> PlaceEvidence:
        """Raises KeyError, TypeError or ValueError for what `to_json` can't have written."""
        names = ("day_X", "latitude_X", "longitude_X", "class_X", "count_X")
        day_X, north_X, east_X, class_X, count_X = (np.array(content[name], dtype=np.int64) for name in names)
        if len({len(values) for values in (day_X, north_X, east_X, class_X, count_X)}) != 1 or not len(day_X):
            raise ValueError("cells of unlike lengths, or none")
        kilometres, days, strength, degrees = (float(content[name]) for name in ("kilometres", "days", "strength", "degrees"))
        if not min(kilometres, days, strength) > 0 or degrees != _DEGREES:
            raise ValueError("a width that isn't above 0, or cells of another width")
        if class_X.min() < 0 or class_X.max() >= classes or count_X.min() < 1:
            raise ValueError("a record of a class that isn't there")
        cells = np.stack([day_X, north_X, east_X], axis=1)
        return cls(classes, kilometres, days, strength, *_centres(cells), class_X, count_X)


# ---- the kernels, as densities relative to the even one ----


class _Kernel:
    """Nearness of asked dates and places to the cells: 1 on average over the year and over the globe."""

    def __init__(self, day_X: Floats, latitude_X: Floats, longitude_X: Floats) -> None:
        self._season_X2, self._place_X3 = on_circle(day_X), on_sphere(latitude_X, longitude_X)

    def season(self, day_O: Floats, days: float) -> Floats:
        """Von Mises with a standard deviation of so many days, [O, X]; 1 where the day isn't known."""
        width = (_YEAR / (2 * np.pi * days)) ** 2
        near_OX = np.exp(width * (on_circle(np.nan_to_num(day_O)) @ self._season_X2.T - 1)) / i0e(width)
        return np.where(np.isfinite(day_O)[:, None], near_OX, 1.0)

    def place(self, latitude_O: Floats, longitude_O: Floats, kilometres: float) -> Floats:
        """Von Mises-Fisher with a standard deviation of so many kilometres each way, [O, X]; 1 where the place isn't known."""
        width = (_EARTH / kilometres) ** 2
        place_O3 = on_sphere(np.nan_to_num(latitude_O), np.nan_to_num(longitude_O))
        near_OX = 2 * width * np.exp(width * (place_O3 @ self._place_X3.T - 1)) / -np.expm1(-2 * width)
        return np.where(np.isfinite(latitude_O)[:, None], near_OX, 1.0)


def on_circle(day_N: Floats) -> Floats:
    """(sin, cos) of the day of the year, [N, 2]."""
    angle_N = 2 * np.pi * day_N / _YEAR
    return np.stack([np.sin(angle_N), np.cos(angle_N)], axis=1)


def on_sphere(latitude_N: Floats, longitude_N: Floats) -> Floats:
    """Unit vectors of places in degrees, [N, 3]."""
    north_N, east_N = np.radians(latitude_N), np.radians(longitude_N)
    return np.stack([np.cos(north_N) * np.cos(east_N), np.cos(north_N) * np.sin(east_N), np.sin(north_N)], axis=1)


def _ratios(near_OC: Floats, count_C: NDArray[np.integer] | Floats, strength: float) -> Floats:
    """Density of each class over that of all records, [O, C], from sums of kernels over a class' records."""
    sums_OC = (1 - FLOOR) * near_OC + FLOOR * count_C
    all_O = sums_OC.sum(axis=1, keepdims=True) / np.sum(count_C, axis=-1, keepdims=True)
    return np.asarray((sums_OC / all_O + strength) / (count_C + strength))


def _by_class(class_X: NDArray[np.integer], count_X: NDArray[np.integer], classes: int) -> sparse.csr_array:
    return sparse.csr_array((count_X.astype(np.float64), (np.arange(len(class_X)), class_X)), shape=(len(class_X), classes))


def _centres(cells: NDArray[np.int64]) -> tuple[Floats, Floats, Floats]:
    """Day, latitude and longitude of cells given by their numbers (day, north, east)."""
    day_X, north_X, east_X = cells[:, :3].T.astype(np.float64)
    return day_X + 0.5, north_X * _DEGREES, east_X * _DEGREES


def _best_widths(rows: NDArray[np.int64], classes: int) -> tuple[float, float, float]:
    """Kilometres, days and strength with the greatest leave-one-out likelihood of the classes of `rows` (day, cells, class)."""
    day_X, latitude_X, longitude_X = _centres(rows)
    kernel, asked = _Kernel(day_X, latitude_X, longitude_X), np.arange(min(len(rows), _MOST_ASKED))
    class_Q, one_Q = rows[asked, 3], np.arange(len(asked))
    of_class_XC = _by_class(rows[:, 3], np.ones(len(rows), dtype=np.int64), classes)
    count_QC = np.tile(np.bincount(rows[:, 3], minlength=classes), (len(asked), 1)).astype(np.float64)
    count_QC[one_Q, class_Q] -= 1
    seasons = {days: kernel.season(day_X[asked], days) for days in DAYS}
    found: dict[tuple[float, float, float], float] = {}
    for kilometres in track(KILOMETRES, "widths in space and time"):
        place_QX = kernel.place(latitude_X[asked], longitude_X[asked], kilometres)
        for days in DAYS:
            near_QX = place_QX * seasons[days]
            near_QX[one_Q, asked] = 0  # each record is left out in its turn
            near_QC = np.asarray(near_QX @ of_class_XC)
            for strength in STRENGTHS:
                found[kilometres, days, strength] = _foretold(near_QC, count_QC, class_Q, strength)
    return max(product(KILOMETRES, DAYS, STRENGTHS), key=lambda widths: found[widths])


def _foretold(near_QC: Floats, count_QC: Floats, class_Q: NDArray[np.integer], strength: float) -> float:
    """Mean log-probability of the classes asked for, of those that have another record."""
    p_QC = count_QC * _ratios(near_QC, count_QC, strength)
    true_Q = p_QC[np.arange(len(class_Q)), class_Q] / p_QC.sum(axis=1)
    return float(np.log(true_Q[true_Q > 0]).mean()) if (true_Q > 0).any() else 0.0


def _columns(table: pa.Table) -> tuple[Floats, Floats, Floats]:
    """Day of the year from 0, latitude and longitude, [N] each; NaN where not known. A month without a day is its middle."""
    month, day, latitude, longitude = (_numbers(table, name) for name in ("month", "day", "decimalLatitude", "decimalLongitude"))
    before = _BEFORE_MONTH[np.nan_to_num(month, nan=1).astype(np.int64) - 1]
    half = np.isnan(latitude) | np.isnan(longitude)
    days = np.where(np.isnan(month), np.nan, before + np.nan_to_num(day, nan=15.0) - 0.5)
    return days, np.where(half, np.nan, latitude), np.where(half, np.nan, longitude)


def _numbers(table: pa.Table, name: str) -> Floats:
    if name not in table.column_names:
        return np.full(table.num_rows, np.nan)
    return np.asarray(table[name].cast(pa.float64()).to_numpy(), dtype=np.float64)
