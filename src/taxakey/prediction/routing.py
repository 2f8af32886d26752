"""Routers: all experts weighted by a gate, only the one or two that it chooses, or a cascade that asks the next when unsure.

Shapes: N observations, M experts, C classes, B backbones. Costs are of a picture: multiply-adds, or seconds on a machine.

Controls stand beside: the mean of all (uniform), one expert by a hash of the observation's name, and the oracle that knows which
expert gives the truth most. Everything is fitted on a pool of validation answers; see `members.Pool` and `ensemble.require_fair`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from taxakey.errors import BadInput
from taxakey.prediction.ensemble import Answered, joined, told
from taxakey.prediction.members import Pool, Portion

Floats = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Costs:
    """What running some of the experts costs, a backbone that several of them share once.

    `own_M`: what each adds to its backbone; `backbones_B`, and which of these an expert has [M].
    """

    own_M: NDArray[np.float64]
    backbones_B: NDArray[np.float64]
    backbone_M: NDArray[np.int64]
    unit: str = "multiply-adds"

    @classmethod
    def apart(cls, costs_M: NDArray[np.float64], unit: str = "multiply-adds") -> Costs:
        """Of experts that share nothing."""
        return cls(np.zeros(len(costs_M)), costs_M, np.arange(len(costs_M)), unit)

    @property
    def alone_M(self) -> NDArray[np.float64]:
        """Of each expert by itself."""
        return self.own_M + self.backbones_B[self.backbone_M]

    def of(self, run_NM: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Of running these for each row [N]."""
        has_MB = self.backbone_M[:, None] == np.arange(len(self.backbones_B))
        return run_NM @ self.own_M + (run_NM.astype(np.int64) @ has_MB > 0) @ self.backbones_B


@dataclass(frozen=True, eq=False)
class Routed:
    """What a router answered, which share of the work each expert got, who was run, and what an observation cost on average."""

    answers: Answered
    shares_M: NDArray[np.float64]
    run_NM: NDArray[np.bool_]
    cost: float


def route(pool: Pool, weights_NM: Floats, costs: Costs, extra: float = 0.0, always: int | None = None) -> Routed:
    """Mix each row's experts with its own weights; an expert of weight 0 isn't run and costs nothing.

    `extra`: cost of the gate, paid for every row; `always`: the expert that it looks at, which is run in any case.
    """
    weights_NM = np.asarray(weights_NM, dtype=np.float32)
    if weights_NM.shape != (len(pool), len(pool.names)):
        raise BadInput(f"weights of the shape {weights_NM.shape} for {len(pool)} rows and {len(pool.names)} experts")

    def said(portion: Portion) -> tuple[NDArray, ...]:
        return told(np.einsum("bm,mbc->bc", weights_NM[portion.rows], portion.p_MBC), portion.true_B)

    run_NM = weights_NM > 0
    if always is not None:
        run_NM[:, always] = True
    shares_M = weights_NM.mean(axis=0, dtype=np.float64)
    return Routed(joined(pool.each(said)), shares_M, run_NM, float(costs.of(run_NM).mean() + extra))


# ---- which weights ----


def sparse(shares_NM: Floats, k: int) -> NDArray[np.float64]:
    """The k experts with the largest weight, made to sum to 1; ties go to the first."""
    if not 1 <= k <= shares_NM.shape[1]:
        raise BadInput(f"{k} of {shares_NM.shape[1]} experts")
    chosen = np.argsort(-shares_NM, axis=1, kind="stable")[:, :k]
    weights_NM = np.zeros(shares_NM.shape)
    np.put_along_axis(weights_NM, chosen, np.take_along_axis(shares_NM, chosen, axis=1), axis=1)
    return weights_NM / weights_NM.sum(axis=1, keepdims=True)


def uniform(rows: int, experts: int) -> NDArray[np.float64]:
    """The mean."""
    return np.full((rows, experts), 1 / experts)


def hashed(ids: Sequence[str], experts: int) -> NDArray[np.float64]:
    """One expert for each row, by the SHA-256 of its name: what routing without looking gains."""
    chosen = [int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % experts for name in ids]
    return np.eye(experts)[chosen]


def oracle(true_p_MN: Floats) -> NDArray[np.float64]:
    """The expert that gives the truth most: no router that runs one expert can name more rows rightly."""
    return np.eye(len(true_p_MN))[np.asarray(true_p_MN).argmax(axis=0)]


# ---- a cascade ----


@dataclass(frozen=True)
class Cascade:
    """Ask `first`; where its first answer is less probable than `threshold`, ask `second` too and take the mean of both."""

    first: int
    second: int
    threshold: float

    def weights(self, first_p_N: Floats, experts: int) -> NDArray[np.float64]:
        """[N, M] from the probability [N] of the first expert's first answer."""
        both_N = np.asarray(first_p_N) < self.threshold
        weights_NM = np.zeros((len(both_N), experts))
        weights_NM[:, self.first] = np.where(both_N, 0.5, 1.0)
        weights_NM[both_N, self.second] = 0.5
        return weights_NM


def true_probabilities(pool: Pool) -> Floats:
    """What each expert gives the truth [M, N]; rows of unknown species have that of class 0 and must be left out."""

    def true(portion: Portion) -> Floats:
        return portion.p_MBC[:, np.arange(len(portion.rows)), np.maximum(portion.true_B, 0)]

    return np.concatenate(pool.each(true), axis=1)


def first_probabilities(pool: Pool, expert: int) -> Floats:
    """Probability [N] of one expert's first answer."""
    return np.concatenate(pool.each(lambda portion: portion.p_MBC[expert].max(axis=1)))


def fit_cascade(pool: Pool, costs: Costs, budget: float, *, steps: int = 100) -> Cascade:
    """The cascade with the largest validation likelihood at a mean cost of at most `budget`.

    Every pair of experts is tried, and quantiles of the first answer's probability as thresholds; 0: the first one alone. Raises
    BadInput where not even the cheapest expert alone keeps to the budget.
    """
    costs_M, most = costs.alone_M, budget * (1 + 1e-9)
    if costs_M.min() > most:
        raise BadInput(
            f"a budget of {budget:.3g} {costs.unit} a picture, where the cheapest expert alone costs {costs_M.min():.3g}; "
            "allow more"
        )
    known_N, true_p_MN = pool.true_O >= 0, true_probabilities(pool)
    found = []
    for first in np.flatnonzero(costs_M <= most).tolist():
        first_p_N = first_probabilities(pool, first)
        tried = np.concatenate([[0.0], np.quantile(first_p_N, np.linspace(0, 1, steps)), [1.01]])
        for second in set(range(len(costs_M))) - {first}:
            both_N, both = (true_p_MN[first] + true_p_MN[second]) / 2, np.isin(np.arange(len(costs_M)), [first, second])
            more = costs.of(both[None])[0] - costs_M[first]
            for threshold in tried:
                going_N = first_p_N < threshold
                if costs_M[first] + going_N.mean() * more <= most:
                    p_N = np.where(going_N, both_N, true_p_MN[first])[known_N]
                    found.append((float(-np.log(np.maximum(p_N, 1e-12)).mean()), first, float(threshold), second))
    _, first, threshold, second = min(found)
    return Cascade(first, second, threshold)
