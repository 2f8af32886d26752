"""Routers against single models and means: accuracy against mean cost, fitted on validation, judged once on test.

Shapes: N observations, M experts, F features of the gate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taxakey.dataset.reader import Dataset
from taxakey.dataset.vectors import Vectors
from taxakey.errors import BadInput
from taxakey.evaluation.ensembles import judged_figures, labels
from taxakey.evaluation.rarity import thirds_of
from taxakey.frontier.measuring import multiply_adds
from taxakey.metrics.bins import THIRDS
from taxakey.metrics.intervals import RESAMPLES, Interval
from taxakey.models.backbones import state_hash
from taxakey.prediction.bundle import Bundle
from taxakey.prediction.ensemble import Answered
from taxakey.prediction.gates import Gate, GateOptions, answer_features, fit_gate
from taxakey.prediction.member_weights import by_likelihood
from taxakey.prediction.members import Member, Pool
from taxakey.prediction.opened import open_model
from taxakey.prediction.routing import (
    Cascade,
    Routed,
    first_probabilities,
    fit_cascade,
    hashed,
    oracle,
    route,
    sparse,
    true_probabilities,
    uniform,
)

MEAN = "mean of all"
BUDGETS = (1.3, 2.0, 3.0)


@dataclass(frozen=True)
class Row:
    """One way of answering. `cost`: mean multiply-adds of a picture; `shares`: each expert's weight, on average over test."""

    name: str
    figures: Mapping[str, Interval]
    over_best: Mapping[str, Interval]
    over_mean: Mapping[str, Interval]
    cost: float
    shares: tuple[float, ...]
    by_third: Mapping[str, Interval]
    """Macro top-1 of the species with the fewest training pictures, of a middle third and of the most; {}: counts unknown."""


@dataclass(frozen=True)
class RouterReport:
    """`best_expert`: by validation; `gates`: what each looks at, and after how many epochs held-out validation stopped it."""

    experts: tuple[str, ...]
    expert_costs: tuple[float, ...]
    rows: tuple[Row, ...]
    best_expert: str
    gates: Mapping[str, int]
    cascades: Mapping[str, str]
    """Of each cascade, in words: whom it asks, and when."""
    observations: int


@dataclass(frozen=True, eq=False)
class Features:
    """What the gate looks at: a frozen backbone's vectors, else one expert's answers. `cost`: multiply-adds of a picture for it.

    `expert`: the one that answers, or whose backbone gives the vectors; it costs nothing more where the gate then chooses it.
    """

    words: str
    cost: float
    vectors: Path | None = None
    expert: int | None = None

    def of(self, pool: Pool, members: Sequence[Member]) -> NDArray[np.float32]:
        """[N, F]; of several pictures of an observation the mean."""
        if self.vectors is None:
            return np.concatenate(pool.each(lambda portion: answer_features(portion.p_MBC[self.expert or 0])))
        recipe = members[0].manifest.recipe
        part = Dataset.open(recipe["dataset"]).part(recipe["part"])
        vectors_ID = Vectors(self.vectors).part(part.name, part.image_ids)
        place = {name: row for row, name in enumerate(pool.ids)}
        row_I = np.array([place[name] for name in part.observation_ids])
        sums_ND = np.zeros((len(pool), vectors_ID.shape[1]), dtype=np.float64)
        np.add.at(sums_ND, row_I, vectors_ID)
        return (sums_ND / np.bincount(row_I, minlength=len(pool))[:, None]).astype(np.float32)


def expert_costs(members: Sequence[Member]) -> NDArray[np.float64]:
    """Multiply-adds of a picture [M]. Raises BadInput where a model isn't where it was."""
    costs = []
    for member in members:
        folder = Path(member.manifest.recipe.get("model") or "-")
        if not folder.is_dir():
            raise BadInput(f"{member.folder}: its model isn't where it was, so what it costs can't be counted; predict again")
        costs.append(multiply_adds(open_model(folder)))
    return np.array(costs, dtype=np.float64)


def training_counts(member: Member, pool: Pool) -> NDArray[np.int64] | None:
    """Training pictures [C] of the pool's classes; None where the dataset isn't where it was, or has other classes."""
    folder = Path(member.manifest.recipe.get("dataset") or "-")
    if not folder.is_dir():
        return None
    dataset = Dataset.open(folder)
    return dataset.train_counts() if dataset.taxonomy.fingerprint == pool.taxonomy.fingerprint else None


def gates_of(
    members: Sequence[Member], costs_M: NDArray[np.float64], vectors: Sequence[Path], cost: float | None
) -> list[Features]:
    """A gate on what the cheapest expert answers, and one on each of these vectors.

    `cost`: of vectors whose backbone no expert has; BadInput where they have none.
    """
    cheapest = int(costs_M.argmin())
    gates = [Features(f"what {members[cheapest].name} answered", float(costs_M[cheapest]), expert=cheapest)]
    models = [open_model(member.manifest.recipe["model"]) for member in members] if vectors else []
    backbones = [
        None if isinstance(model, Bundle) else (state_hash(model.network.backbone), model.preprocess) for model in models
    ]
    for folder in vectors:
        stored = Vectors(folder)
        expert = next((number for number, backbone in enumerate(backbones) if backbone and stored.come_from(*backbone)), None)
        if expert is not None:
            gates.append(Features(f"vectors of {members[expert].name}", float(costs_M[expert]), folder, expert))
        elif cost is not None:
            gates.append(Features(f"vectors in {folder.name}", cost, folder))
        else:
            raise BadInput(
                f"{folder}: no expert has the backbone of these vectors, so they cost something; say what (--vectors-cost)"
            )
    return gates


def compare_routers(
    fitted_on: tuple[Pool, Sequence[Member]],
    judged_on: tuple[Pool, Sequence[Member]],
    costs_M: NDArray[np.float64],
    gates: Sequence[Features],
    *,
    options: GateOptions | None = None,
    counts_C: NDArray[np.int64] | None = None,
    budgets: Sequence[float] = BUDGETS,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> RouterReport:
    """Fit a gate on each kind of features, and cascades, on one pool; judge everything on the other.

    `budgets`: what a cascade may cost on average, in the cheapest expert's cost; one cascade for each. `counts_C`: training
    pictures of the pool's classes, for figures by rarity.
    """
    if len({features.words for features in gates}) < len(gates) or not gates:
        raise BadInput("each gate looks at something of its own, and at least one is needed; name each set of vectors once")
    pool, members = fitted_on
    known_N = np.flatnonzero(pool.true_O >= 0)
    true_p_MN = true_probabilities(pool)
    fitted = [
        fit_gate(features.of(pool, members)[known_N], true_p_MN[:, known_N], options or GateOptions()) for features in gates
    ]
    cascades = {f"cascade, at most {b:g} × the cheapest": fit_cascade(pool, costs_M, b * costs_M.min()) for b in budgets}
    best = int(np.log(np.maximum(true_p_MN[:, known_N], 1e-12)).mean(axis=1).argmax())
    likely_M = by_likelihood(true_p_MN[:, known_N])
    test, of_test = replace(judged_on[0], names=pool.names), judged_on[1]  # whatever their folders are called
    routed = _ungated(test, costs_M, likely_M)
    for gate, features in zip(fitted, gates, strict=True):
        which = f" ({features.words})" if len(gates) > 1 else ""
        shares_NM = gate.shares(features.of(test, of_test))
        routed |= {f"{name}{which}": found for name, found in _gated(test, costs_M, gate, features, shares_NM).items()}
    for name, cascade in cascades.items():
        first_p_N = first_probabilities(test, cascade.first)
        routed[name] = route(test, cascade.weights(first_p_N, len(costs_M)), costs_M)
    answers, others = {name: found.answers for name, found in routed.items()}, (test.names[best], MEAN)
    figures = judged_figures(answers, labels(test), others, resamples=resamples, seed=seed)
    by_third = _by_third(answers, labels(test), counts_C, resamples=resamples, seed=seed)
    rows = tuple(_row(name, figures[name], found, by_third[name]) for name, found in routed.items())
    in_words = {name: _in_words(cascade, pool) for name, cascade in cascades.items()}
    experts = tuple(costs_M.tolist())
    stopped = {features.words: gate.epochs for gate, features in zip(fitted, gates, strict=True)}
    return RouterReport(pool.names, experts, rows, pool.names[best], stopped, in_words, len(test))


def _row(name: str, figures: Sequence[dict[str, Interval]], found: Routed, by_third: Mapping[str, Interval]) -> Row:
    own, over_best, over_mean = figures
    return Row(name, own, over_best, over_mean, found.cost, tuple(found.shares_M.tolist()), by_third)


def _by_third(
    answers: Mapping[str, Answered], label_O: NDArray[np.int64], counts_C: NDArray[np.int64] | None, *, resamples: int, seed: int
) -> dict[str, dict[str, Interval]]:
    """Macro top-1 by name and third of the species."""
    found: dict[str, dict[str, Interval]] = {name: {} for name in answers}
    third_C = np.zeros(0, dtype=np.int64) if counts_C is None else thirds_of(counts_C)
    for number, third in enumerate(THIRDS):
        inside_O = np.isin(label_O, np.flatnonzero(third_C == number))
        if inside_O.any():
            figures = judged_figures(answers, np.where(inside_O, label_O, -1), (), resamples=resamples, seed=seed)
            for name, (own,) in figures.items():
                found[name][third] = own["macro_top_1"]
    return found


def _in_words(cascade: Cascade, pool: Pool) -> str:
    return f"{pool.names[cascade.first]}; below {cascade.threshold:.3f} {pool.names[cascade.second]} too"


def _ungated(test: Pool, costs_M: NDArray[np.float64], likely_M: NDArray[np.float64]) -> dict[str, Routed]:
    """Single experts, means, and the controls: chance and the oracle."""
    rows, experts = len(test), len(costs_M)
    found = {name: route(test, np.tile(np.eye(experts)[m], (rows, 1)), costs_M) for m, name in enumerate(test.names)}
    found[MEAN] = route(test, uniform(rows, experts), costs_M)
    found["weighted mean"] = route(test, np.tile(likely_M, (rows, 1)), costs_M)
    found["one by hash (control)"] = route(test, hashed(test.ids, experts), costs_M)
    found["oracle (bound)"] = route(test, oracle(true_probabilities(test)), costs_M)
    return found


def _gated(
    test: Pool, costs_M: NDArray[np.float64], gate: Gate, features: Features, shares_NM: NDArray[np.float64]
) -> dict[str, Routed]:
    experts = len(costs_M)
    free = features.expert is not None  # the gate looks at an expert that has run in any case
    extra = gate.multiply_adds + features.cost

    def routed(weights_NM: NDArray[np.floating]) -> Routed:
        """By the gate; the expert that it looks at is paid for once."""
        if not free:
            return route(test, weights_NM, costs_M, extra)
        paid_M = costs_M.copy()
        paid_M[features.expert] = 0  # in `extra`
        return route(test, weights_NM, paid_M, extra)

    found = {"router, all experts": routed(shares_NM)}
    for k in range(1, min(2, experts - 1) + 1):
        found[f"router, top {k}"] = routed(sparse(shares_NM, k))
    return found
