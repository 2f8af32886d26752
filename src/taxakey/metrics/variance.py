"""One-way analysis of variance: how much of the spread of a figure lies between groups, e.g. of accuracy between families.

Shapes: N values (one a species), G groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import fdtrc

from taxakey.errors import BadInput
from taxakey.metrics.accuracy import Integers


@dataclass(frozen=True)
class VarianceAnalysis:
    """Groups against what is left within them."""

    groups: int
    values: int
    f: float
    """Variance between groups over variance within; infinite where the groups hold equal values and differ."""
    p_value: float
    """Chance of an F as large if all groups had one mean (values normal, alike in spread: a rough guide for accuracies)."""
    eta_squared: float
    """Share of the spread that lies between the groups of these very species; rises with the number of groups by chance alone."""
    omega_squared: float
    """The same share, freed of what chance alone brings (Hays, 1963); 0 or less: nothing that chance wouldn't do."""
    degrees_between: int
    degrees_within: int


def one_way(values_N: ArrayLike, group_N: Integers) -> VarianceAnalysis:
    """One-way analysis of variance (Fisher, 1925) with effect sizes; values with a negative group are left out.

    η² = SSB / SST and ω² = (SSB − (G − 1)·MSW) / (SST + MSW), where SSB and SSW are the sums of squares between and within the
    groups, MSW = SSW / (N − G) and F = SSB / (G − 1) / MSW. Raises BadInput for fewer than two groups, where no group has two
    values (nothing tells the spread within), and where all values are equal.

    >>> found = one_way([1.0, 2.0, 3.0, 4.0], [0, 0, 1, 1])
    >>> found.f, found.eta_squared, round(found.omega_squared, 6), round(found.p_value, 4)
    (8.0, 0.8, 0.636364, 0.1056)
    """
    values_N, group_N = np.asarray(values_N, dtype=np.float64), np.asarray(group_N)
    values_N, group_N = values_N[group_N >= 0], group_N[group_N >= 0]
    _, place_N, count_G = np.unique(group_N, return_inverse=True, return_counts=True)
    between, within = len(count_G) - 1, len(values_N) - len(count_G)
    if between < 1 or within < 1:
        raise BadInput(
            f"{len(values_N)} values in {len(count_G)} groups: an analysis of variance needs two groups and a group of two values"
        )
    mean_G = np.bincount(place_N, values_N) / count_G
    centred_N = values_N - values_N.mean()
    total = float(centred_N @ centred_N)
    inside = float(((values_N - mean_G[place_N]) ** 2).sum())
    if total <= 1e-12 * len(values_N):
        raise BadInput("all values are equal, so there is no spread to share out")
    explained, noise = max(total - inside, 0.0), inside / within
    f = explained / between / noise if noise > 1e-15 * total else float("inf")
    return VarianceAnalysis(
        groups=len(count_G),
        values=len(values_N),
        f=f,
        p_value=float(fdtrc(between, within, f)),
        eta_squared=explained / total,
        omega_squared=(explained - between * noise) / (total + noise),
        degrees_between=between,
        degrees_within=within,
    )
