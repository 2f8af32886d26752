"""Heads started from the mean features of their classes: linear discriminant analysis with means that know their relatives.

Shapes: C classes, D features, d directions kept, B vectors of a block, U units of a level (classes, genera, families), G groups.

Where images scatter about their species alike for all species, the best scores are linear: w = Σ⁻¹μ and b = -½ μᵀΣ⁻¹μ (Fisher,
1936). A rare species' mean is uncertain, though, and lies near those of its genus. So every mean is drawn towards that of its
genus, and that one towards its family's, the more the fewer pictures there are: the posterior of nested Gaussians whose variances
are estimated from the means themselves (empirical Bayes; Efron and Morris, 1975). A good head without a gradient step, and steps
can go on from it. All species have equal priors, since a macro average counts them alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from taxakey.models.heads import Bottleneck, BottleneckHead, Head, LinearHead
from taxakey.models.trees import TreeHead

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

_LEAST_VARIANCE = 1e-4  # in units of the variance within a class; keeps a level of identical means from dividing by zero


@dataclass(frozen=True, eq=False)
class FeatureStatistics:
    """Training vectors in three sums: `counts_C`, `means_CD` (0 for a class without vectors), pooled covariance `within_DD`."""

    counts_C: Ints
    means_CD: NDArray[np.float32]
    within_DD: Doubles

    @classmethod
    def of(cls, blocks: Iterable[tuple[NDArray[np.floating], Ints]], classes: int) -> FeatureStatistics:
        """From blocks of vectors [B, D] and labels [B], read once. Raises ValueError where no class has two vectors."""
        counts_C = np.zeros(classes, dtype=np.int64)
        sums_CD = products_DD = None
        for vectors_BD, labels_B in blocks:
            vectors_BD = np.asarray(vectors_BD, dtype=np.float32)
            if sums_CD is None:
                sums_CD = np.zeros((classes, vectors_BD.shape[1]))
                products_DD = np.zeros((vectors_BD.shape[1],) * 2)
            order = np.argsort(labels_B, kind="stable")
            starts = np.flatnonzero(np.diff(labels_B[order], prepend=-1))
            sums_CD[labels_B[order[starts]]] += np.add.reduceat(vectors_BD[order], starts, dtype=np.float64)
            products_DD += vectors_BD.T.astype(np.float64) @ vectors_BD
            counts_C += np.bincount(labels_B, minlength=classes)
        free = int(counts_C.sum() - (counts_C > 0).sum())
        if sums_CD is None or products_DD is None or free < 1:
            raise ValueError("no class has two training vectors: how they scatter can't be told")
        means_CD = sums_CD / np.maximum(counts_C, 1)[:, None]
        within_DD = (products_DD - means_CD.T @ sums_CD) / free
        return cls(counts_C, means_CD.astype(np.float32), within_DD)


def oracle_shrinkage(statistics: FeatureStatistics) -> float:
    """Share of the identity to mix into the covariance, from 0 to 1 (Chen and others, 2010: oracle approximating shrinkage)."""
    S, D = statistics.within_DD, len(statistics.within_DD)
    free = int(statistics.counts_C.sum() - (statistics.counts_C > 0).sum())
    squares, trace = float((S**2).sum()), float(np.trace(S))
    share = ((1 - 2 / D) * squares + trace**2) / ((free + 1 - 2 / D) * (squares - trace**2 / D))
    return float(min(1.0, share))


@dataclass(frozen=True, eq=False)
class Discriminants:
    """The directions that tell classes apart best, scaled so that classes scatter by 1 along each: z = axes·(x - centre)."""

    axes_dD: Doubles
    centre_D: Doubles

    @classmethod
    def of(cls, statistics: FeatureStatistics, width: int, shrinkage: float | None = None) -> Discriminants:
        """The first `width` generalised eigenvectors of scatter between against within classes."""
        shrinkage = oracle_shrinkage(statistics) if shrinkage is None else shrinkage
        within_DD, D = statistics.within_DD, len(statistics.within_DD)
        within_DD = (1 - shrinkage) * within_DD + shrinkage * np.trace(within_DD) / D * np.eye(D)
        known = statistics.counts_C > 0
        means_CD = statistics.means_CD[known].astype(np.float64)
        centre_D = np.average(means_CD, axis=0, weights=statistics.counts_C[known])
        spread_CD = means_CD - centre_D
        whitening_DD = np.linalg.inv(np.linalg.cholesky(within_DD))
        # The means' own uncertainty adds the same to every whitened direction, so it doesn't change which are best.
        between_DD = spread_CD.T @ spread_CD / known.sum()
        _, vectors_DD = np.linalg.eigh(whitening_DD @ between_DD @ whitening_DD.T)
        return cls(vectors_DD[:, ::-1][:, :width].T @ whitening_DD, centre_D)

    def means(self, statistics: FeatureStatistics) -> Doubles:
        """The classes' means along the directions [C, d]; 0, the middle, for a class without vectors."""
        means_Cd = (statistics.means_CD - self.centre_D) @ self.axes_dD.T
        means_Cd[statistics.counts_C == 0] = 0
        return means_Cd


def related_means(means_Cd: Doubles, counts_C: Ints, groups: Sequence[Ints]) -> Doubles:
    """Each class's mean drawn towards its relatives' [C, d], along directions in which a class scatters by 1.

    `groups`: codes [C] of the group of each class, coarsest first (families, genera); -1 is a group of its own. A mean of n
    vectors has variance 1/n about the truth; the variance of a level's units about their group's mean is estimated per direction
    by moments. Upwards every group's mean is estimated from its units, downwards every unit takes its share of its group's.
    """
    values, noise = means_Cd, np.repeat(1 / np.maximum(counts_C, 1e-6)[:, None], means_Cd.shape[1], axis=1)
    unit_of_C, levels = np.arange(len(means_Cd)), []
    for codes_C in [*reversed(groups), np.zeros(len(means_Cd), dtype=np.int64)]:
        group_U = _group_of_units(unit_of_C, codes_C)
        spread_d = _spread(values, noise, group_U)
        levels.append((values, noise, group_U, spread_d))
        precision = 1 / (noise + spread_d)
        noise = 1 / _sums(precision, group_U)
        values = _sums(values * precision, group_U) * noise
        unit_of_C = group_U[unit_of_C]
    for own, noise, group_U, spread_d in reversed(levels):
        share = spread_d / (spread_d + noise)
        values = values[group_U] + share * (own - values[group_U])
    return values


def _group_of_units(unit_of_C: Ints, codes_C: Ints) -> Ints:
    """Number of the group of each unit [U]. Units of unknown parent stay alone; one in two groups goes to its first class's."""
    codes_U = np.empty(unit_of_C.max() + 1, dtype=np.int64)
    codes_U[unit_of_C[::-1]] = codes_C[::-1]
    unknown = codes_U < 0
    codes_U[unknown] = codes_U.max(initial=0) + 1 + np.arange(unknown.sum())
    return np.unique(codes_U, return_inverse=True)[1].reshape(-1)


def _spread(values_Ud: Doubles, noise_Ud: Doubles, group_U: Ints) -> Doubles:
    """Variance [d] of units about the mean of their group beyond their noise, by moments, over groups of two and more."""
    size_U = np.bincount(group_U)[group_U]
    share_U = (1 - 1 / size_U)[:, None]
    if not share_U.any():
        return np.full(values_Ud.shape[1], _LEAST_VARIANCE)
    centre_Gd = _sums(values_Ud, group_U) / np.bincount(group_U)[:, None]
    # A unit that nothing is known of says nothing of the spread.
    seen_U = (noise_Ud[:, :1] < 1e3) & (share_U > 0)
    excess_d = (((values_Ud - centre_Gd[group_U]) ** 2 - noise_Ud * share_U) * seen_U).sum(0)
    return np.maximum(excess_d / max((share_U * seen_U).sum(), 1e-9), _LEAST_VARIANCE)


def _sums(values_Ud: Doubles, group_U: Ints) -> Doubles:
    order = np.argsort(group_U, kind="stable")
    starts = np.flatnonzero(np.diff(group_U[order], prepend=-1))
    return np.add.reduceat(values_Ud[order], starts)


@torch.no_grad()
def start_from_means(
    head: Head, statistics: FeatureStatistics, groups: Sequence[Ints] = (), shrinkage: float | None = None
) -> None:
    """Set a head's weights from its classes' means; `groups` as for `related_means`.

    Linear, bottleneck (without activation) and tree heads; any other raises ValueError. `shrinkage` of the covariance towards a
    multiple of the identity, by default `oracle_shrinkage`. A head on all features keeps all directions.
    """
    bottleneck = getattr(head, "bottleneck", None)
    if not isinstance(head, LinearHead | BottleneckHead | TreeHead) or isinstance(
        getattr(bottleneck, "activation", None), nn.ReLU
    ):
        raise ValueError(f"a {type(head).__name__} can't be started from class means: its scores must be linear in the features")
    width = bottleneck.projection.out_features if isinstance(bottleneck, Bottleneck) else head.in_features
    found = Discriminants.of(statistics, width, shrinkage)
    means_Cd = related_means(found.means(statistics), statistics.counts_C, groups)
    if isinstance(head, TreeHead):
        weight, bias = _tree_scores(head, means_Cd, statistics.counts_C)
    else:
        weight, bias = means_Cd, -(means_Cd**2).sum(1) / 2
    if isinstance(bottleneck, Bottleneck):
        _set(bottleneck.projection.weight, found.axes_dD)
        _set(bottleneck.projection.bias, -(found.axes_dD @ found.centre_D))
    else:
        weight = weight @ found.axes_dD
        bias = bias - weight @ found.centre_D
    if isinstance(head, TreeHead):
        for parameter, values in zip(
            (head.top_weight_Td, head.lower_weight_Ed, head.top_bias_T, head.lower_bias_E),
            (weight[: head.top], weight[head.top :], bias[: head.top], bias[head.top :]),
            strict=True,
        ):
            _set(parameter, values)
    else:
        _set(head.linear.weight, weight)
        _set(head.linear.bias, bias)


def _set(parameter: Tensor, values: Doubles) -> None:
    parameter.copy_(torch.from_numpy(np.ascontiguousarray(values)))


def _tree_scores(head: TreeHead, means_Cd: Doubles, counts_C: Ints) -> tuple[Doubles, Doubles]:
    """Weight and bias of every edge [E, d], [E]: a group is a Gaussian too, wider by the scatter of its classes."""
    hierarchy = head.hierarchy
    weight_Ed, bias_E = np.empty((hierarchy.edges, means_Cd.shape[1])), np.empty(hierarchy.edges)
    start = 0
    for end, edge_C in zip(hierarchy.level_ends, hierarchy.path_CL.T, strict=True):
        here = edge_C >= 0
        edge_M, means_Md = edge_C[here] - start, means_Cd[here]
        species_E = np.bincount(edge_M, minlength=end - start)
        centre_Ed = _sums(means_Md, edge_M) / species_E[:, None]
        apart_Md = means_Md - centre_Ed[edge_M]
        inverse_dd = np.linalg.inv(np.eye(means_Cd.shape[1]) + apart_Md.T @ apart_Md / len(apart_Md))
        leaf_E = hierarchy.target_E[start:end] < 0
        weight_Ed[start:end] = np.where(leaf_E[:, None], centre_Ed, centre_Ed @ inverse_dd)
        # Equal chances for species, so a group's are as large as it is.
        bias_E[start:end] = np.log(species_E) - (weight_Ed[start:end] * centre_Ed).sum(1) / 2
        start = end
    return weight_Ed, bias_E
