"""The same share in each of several groups of rows, with what all the other rows have, for intervals and differences.

Shapes: O observations, N rows (of an observation there may be several), R resamples, G groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from taxakey.metrics.accuracy import Floats, Integers
from taxakey.metrics.intervals import Statistic, SumsByClass


@dataclass(frozen=True)
class GroupShares:
    """`inside[g]`: the share in group g; `outside[g]`: in all other groups together; NaN where there is nothing."""

    inside: tuple[Statistic, ...]
    outside: tuple[Statistic, ...]


def shares_by_group(
    numerator_N: ArrayLike, denominator_N: ArrayLike, group_N: Integers, groups: int, *, observation_N: Integers | None = None
) -> GroupShares:
    """Sum of one column over the sum of another, in each group 0 … G-1; rows with a negative group are left out of both.

    `observation_N`: the observation of each row, with which it is drawn (None: row and observation are one). All groups of a
    resample are summed in one pass, so that fifty institutions cost little more than one.

    >>> shares = shares_by_group([1, 0, 1], [1, 1, 1], np.array([0, 0, 1]), 2)
    >>> ones = np.ones((1, 3))
    >>> [float(each(ones)[0]) for each in (*shares.inside, shares.outside[0])]
    [0.5, 1.0, 1.0]
    """
    sums = _Sums(numerator_N, denominator_N, group_N, groups, observation_N)
    numbers = range(groups)
    return GroupShares(
        tuple(partial(sums.share, group=group, inside=True) for group in numbers),
        tuple(partial(sums.share, group=group, inside=False) for group in numbers),
    )


class _Sums:
    """Keeps the sums of the last weights, because every group asks for the same ones in turn."""

    def __init__(
        self, numerator_N: ArrayLike, denominator_N: ArrayLike, group_N: Integers, groups: int, observation_N: Integers | None
    ) -> None:
        self.by_group = SumsByClass(group_N, np.arange(groups))
        self.columns = tuple(np.asarray(column, dtype=np.float64) for column in (numerator_N, denominator_N))
        self.observation_N = observation_N
        self._asked: NDArray[np.floating] | None = None
        self._sums: tuple[Floats, ...] = ()

    def share(self, weights_RO: NDArray[np.floating], *, group: int, inside: bool) -> Floats:
        if self._asked is not weights_RO:
            weights_RN = weights_RO if self.observation_N is None else weights_RO[:, self.observation_N]
            self._asked = weights_RO
            self._sums = tuple(self.by_group(weights_RN, column).astype(np.float64) for column in self.columns)
        of_group = [sums_RG[:, group] for sums_RG in self._sums]
        upper_R, lower_R = (
            of_group if inside else [sums_RG.sum(axis=1) - part_R for sums_RG, part_R in zip(self._sums, of_group, strict=True)]
        )
        return np.where(lower_R > 0, upper_R / np.where(lower_R > 0, lower_R, 1), np.nan)
