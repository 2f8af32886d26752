"""From how many training images on more of them no longer help: a bent line through the accuracies of the species.

Shapes: P species, R resamples, B candidate bends.

The model is a line in the logarithm of the number n of training images that stops rising at n0:

    accuracy = a + b · min(log n, log n0)

fitted by least squares, each species weighing the same (a "broken stick", e.g. Muggeo, 2003). n0, the saturation point, is
searched among the numbers of images that occur and leave enough species below and beyond them; "never" is a candidate as well,
the straight line. The interval is a bootstrap over species. A resample may choose "never"; the point counts as reached only if
the upper end of its interval is a number, and isn't asked for where the interval of the straight line's slope holds zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from taxakey.errors import BadInput
from taxakey.metrics.accuracy import Floats
from taxakey.metrics.intervals import LEVEL, RESAMPLES, resample

LEAST_SPECIES = 20
"""With fewer no bend is looked for."""
BEYOND = 0.05
"""Share of the species, three at least, that must have more images than a bend: else nothing shows that it is flat there."""
BELOW = 0.2
"""Share that must have fewer: else nothing shows that it rose before."""
_MOST_BENDS = 60

Outcome = Literal["reached", "not reached", "no rise"]


@dataclass(frozen=True)
class Saturation:
    """`images`, `low`, `high`: the point and its interval; None stands for "never among the numbers of images seen"."""

    outcome: Outcome
    images: float | None
    low: float | None
    high: float | None
    per_doubling: float
    """By how much accuracy rises when the number of images doubles: up to the bend if that is reached, else straight on."""
    per_doubling_low: float
    per_doubling_high: float
    plateau: float
    """Fitted accuracy of the species with most images."""
    most_images: int
    species: int
    level: float
    resamples: int


def saturation(
    accuracy_P: ArrayLike, images_P: ArrayLike, *, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0
) -> Saturation:
    """Fit the bent line; species without a training image are left out.

    Raises BadInput for fewer than `LEAST_SPECIES` species, or where all have the same number of images.

    >>> images = np.repeat([1, 2, 4, 8, 16, 32, 64, 128], 5)
    >>> found = saturation(np.minimum(np.log2(images), 4) / 5, images, resamples=50)
    >>> found.outcome, found.images, found.high, round(found.per_doubling, 6)
    ('reached', 16.0, 16.0, 0.2)
    """
    accuracy_P, images_P = np.asarray(accuracy_P, dtype=np.float64), np.asarray(images_P)
    accuracy_P, images_P = accuracy_P[images_P > 0], images_P[images_P > 0]
    if len(images_P) < LEAST_SPECIES or len(np.unique(images_P)) < 2:
        raise BadInput(
            f"{len(images_P)} species with {len(np.unique(images_P))} different numbers of training images: a saturation point "
            f"needs {LEAST_SPECIES} species and two numbers"
        )
    line = _BentLine(accuracy_P, images_P)
    statistics = {name: lambda weights_RP, column=column: line.fit(weights_RP)[column] for column, name in enumerate(_FITTED)}
    values, drawn = resample(statistics, len(images_P), resamples=resamples, level=level, seed=seed)
    low, high = _ends(drawn["bend"], level)
    rises, reached = _ends(drawn["straight"], level)[0] > 0, bool(np.isfinite(high))
    which = "slope" if reached else "straight"
    slope_low, slope_high = _ends(drawn[which], level)
    return Saturation(
        outcome="no rise" if not rises else "reached" if reached else "not reached",
        images=_or_none(values["bend"]),
        low=_or_none(low),
        high=_or_none(high),
        per_doubling=values[which] * math.log(2),
        per_doubling_low=slope_low * math.log(2),
        per_doubling_high=slope_high * math.log(2),
        plateau=values["plateau"],
        most_images=int(images_P.max()),
        species=len(images_P),
        level=level,
        resamples=resamples,
    )


_FITTED = ("bend", "slope", "plateau", "straight")


class _BentLine:
    """Least squares for many weights at once: for a given bend the line is an ordinary one."""

    def __init__(self, accuracy_P: Floats, images_P: NDArray) -> None:
        self.y_P = accuracy_P
        self.bends_B = np.append(_bends(images_P), np.inf)
        self.x_BP = np.log(np.minimum(images_P, self.bends_B[:, None]))
        self._last: tuple[NDArray[np.floating] | None, tuple[Floats, ...]] = (None, ())

    def fit(self, weights_RP: NDArray[np.floating]) -> tuple[Floats, ...]:
        """Bend (infinite: never), slope in the logarithm, plateau, slope of the straight line; each [R].

        Asked several times for the same weights, it fits once.
        """
        if self._last[0] is not weights_RP:
            self._last = (weights_RP, self._fit(np.asarray(weights_RP, dtype=np.float64)))
        return self._last[1]

    def _fit(self, w_RP: Floats) -> tuple[Floats, ...]:
        sum_R1 = w_RP.sum(axis=1, keepdims=True)
        mean_y_R1 = (w_RP @ self.y_P)[:, None] / sum_R1
        mean_x_RB = w_RP @ self.x_BP.T / sum_R1
        var_x_RB = w_RP @ (self.x_BP**2).T / sum_R1 - mean_x_RB**2
        cov_RB = w_RP @ (self.x_BP * self.y_P).T / sum_R1 - mean_x_RB * mean_y_R1
        flat_RB = var_x_RB < 1e-12  # all that were drawn lie beyond the bend: no line there
        slope_RB = np.where(flat_RB, 0.0, cov_RB / np.where(flat_RB, 1.0, var_x_RB))
        explained_RB = slope_RB * cov_RB
        # The latest of equally good bends: to claim an early one, it must fit better.
        best_R = explained_RB.shape[1] - 1 - np.argmax(explained_RB[:, ::-1] >= explained_RB.max(axis=1)[:, None] - 1e-12, axis=1)
        rows = np.arange(len(w_RP))
        slope_R = slope_RB[rows, best_R]
        plateau_R = mean_y_R1[:, 0] + slope_R * (self.x_BP.max(axis=1)[best_R] - mean_x_RB[rows, best_R])
        return self.bends_B[best_R], slope_R, plateau_R, slope_RB[:, -1]


def _bends(images_P: NDArray) -> Floats:
    """Candidates: numbers of images that occur, twice the least or more, with enough species on either side; not too many."""
    sorted_P = np.sort(images_P)
    beyond, below = (max(3, int(np.ceil(share * len(sorted_P)))) for share in (BEYOND, BELOW))
    numbers = np.unique(sorted_P).astype(np.float64)
    numbers = numbers[
        (numbers >= 2 * sorted_P[0]) & (numbers > sorted_P[below - 1]) & (numbers < sorted_P[len(sorted_P) - beyond])
    ]
    if len(numbers) > _MOST_BENDS:
        numbers = np.unique(numbers[np.linspace(0, len(numbers) - 1, _MOST_BENDS).round().astype(np.int64)])
    return numbers


def _ends(drawn_R: Floats, level: float) -> tuple[float, float]:
    """The middle `level`; an order statistic and no mean of two, because infinity stands among them."""
    low, high = np.quantile(drawn_R, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    return float(low), float(high)


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
