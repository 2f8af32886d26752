"""How several models' probabilities become one: every rule is its weights and one formula.

Shapes: M members, B rows, C classes, R ranks (family, genus, species).

`mean`: Σ_m w_m p_m. `geometric`: ∝ Π_m p_m^w_m, which is the softmax of the weighted mean of the members' logits. `per class`:
each class has weights of its own and rows are made to sum to 1 again. `per rank`: families, genera within the family and
species within the genus are mixed with weights of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from taxakey.calibration.scaling import Nest
from taxakey.errors import BadInput
from taxakey.prediction.members import FLOOR, Floats, logarithms
from taxakey.taxonomy import Taxonomy

Formula = Literal["mean", "geometric", "per class", "per rank"]
Weights = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Rule:
    """`weights`: [M]; per class [C, M]; per rank [R, M]."""

    formula: Formula
    weights: Weights
    nest: Nest | None = None

    def __post_init__(self) -> None:
        shape = 1 if self.formula in ("mean", "geometric") else 2
        if self.weights.ndim != shape or not np.isfinite(self.weights).all() or (self.weights < 0).any():
            raise BadInput(f"the rule {self.formula!r} with weights of the shape {self.weights.shape}: finite numbers from 0 on")
        if self.formula == "per rank" and self.nest is None:
            raise BadInput("weights per rank need to know which species belong to which genus")

    def mix(self, p_MBC: Floats, log_p_MBC: Floats | None = None) -> Floats:
        """[M, B, C] -> [B, C]; rows sum to 1. `log_p_MBC`: the logarithms, where they are at hand already."""
        if self.formula == "mean":
            used = np.flatnonzero(self.weights)
            return p_MBC[used[0]] if len(used) == 1 else _weighted(p_MBC, self.weights / self.weights.sum())
        if self.formula == "geometric":
            return geometric(logarithms(p_MBC) if log_p_MBC is None else log_p_MBC, self.weights)
        if self.formula == "per class":
            mixed_BC = np.zeros(p_MBC.shape[1:], dtype=np.float32)
            for p_BC, weights_C in zip(p_MBC, np.ascontiguousarray(self.weights.T, dtype=np.float32), strict=True):
                mixed_BC += p_BC * weights_C
            return mixed_BC / np.maximum(mixed_BC.sum(axis=1, keepdims=True), 1e-30)
        assert self.nest is not None
        return by_rank(p_MBC, self.weights, self.nest)

    def to_json(self, members: Sequence[str], taxonomy: Taxonomy) -> dict[str, Any]:
        """Weights by members' names; per class only of those that differ from the commonest."""

        def named(weights_M: Weights) -> dict[str, float]:
            return {name: round(float(weight), 6) for name, weight in zip(members, weights_M, strict=True)}

        if self.formula == "per class":
            rows = {name: named(weights) for name, weights in zip(taxonomy.names, self.weights, strict=True)}
            return {"formula": self.formula, "weights": rows}
        if self.formula == "per rank":
            ranks = ("family", "genus", "species")
            return {"formula": self.formula, "weights": {rank: named(w) for rank, w in zip(ranks, self.weights, strict=True)}}
        return {"formula": self.formula, "weights": named(self.weights)}


def geometric(log_p_MBC: Floats, weights_M: Weights) -> Floats:
    """∝ Π p^w; the weights need not sum to 1: less flattens, more sharpens."""
    z_BC = _weighted(log_p_MBC, weights_M)
    z_BC -= z_BC.max(axis=1, keepdims=True)
    np.exp(z_BC, out=z_BC)
    return z_BC / z_BC.sum(axis=1, keepdims=True)


def _weighted(values_MBC: Floats, weights_M: Weights) -> Floats:
    # Not by BLAS: portions are mixed in threads of ours, and with its own besides (two on two cores) it took twice the time.
    sum_BC = np.zeros(values_MBC.shape[1:], dtype=np.float32)
    for m in np.flatnonzero(weights_M):
        sum_BC += values_MBC[m] * np.float32(weights_M[m])
    return sum_BC


def by_rank(p_MBC: Floats, weights_RM: Weights, nest: Nest) -> Floats:
    """Mix p(family), p(genus | family) and p(species | genus), each with its own weights (rows: family, genus, species).

    Classes stand first here, rows behind: sums over a genus then run along rows that lie side by side. Where a member gives a
    genus or a family nothing, its children share alike: each is given that part of FLOOR besides.
    """
    genus_C, family_G = nest.genus_C, nest.family_G
    in_genus_GC, in_family_FG = _belonging(genus_C), _belonging(family_G)
    alike_C, alike_G = ((FLOOR / np.bincount(of))[of].astype(np.float32)[:, None] for of in (genus_C, family_G))
    family_FB = genus_GB = species_CB = np.zeros(1, dtype=np.float32)
    for weight_R, p_BC in zip((weights_RM / weights_RM.sum(axis=1, keepdims=True)).T.astype(np.float32), p_MBC, strict=True):
        own_CB = p_BC.T + alike_C
        own_GB = in_genus_GC @ own_CB
        own_FB = in_family_FG @ own_GB
        family_FB = family_FB + weight_R[0] * own_FB
        genus_GB = genus_GB + (own_GB + alike_G) * (weight_R[1] / (own_FB + FLOOR))[family_G]
        species_CB = species_CB + own_CB * (weight_R[2] / own_GB)[genus_C]
    mixed_CB = species_CB * (genus_GB * family_FB[family_G])[genus_C]
    return np.ascontiguousarray((mixed_CB / mixed_CB.sum(axis=0)).T, dtype=np.float32)


def _belonging(parent_K: NDArray[np.int64]) -> csr_array:
    """[P, K]: 1 where a child belongs to a parent."""
    children = len(parent_K)
    return csr_array((np.ones(children, dtype=np.float32), (parent_K, np.arange(children))))
