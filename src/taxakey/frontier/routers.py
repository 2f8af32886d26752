"""Routers against single models and means: accuracy against mean cost, fitted on validation, judged once on test.

Shapes: N observations, M experts, F features of the gate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taxakey.dataset.preprocess import Preprocess
from taxakey.dataset.reader import Dataset
from taxakey.dataset.vectors import Vectors
from taxakey.errors import BadInput
from taxakey.evaluation.ensembles import judged_figures, labels
from taxakey.evaluation.rarity import thirds_of
from taxakey.frontier.measuring import PICTURES, ROUNDS, multiply_adds, speeds_of
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
    Costs,
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
from taxakey.training.checkpoint import Model

MEAN = "mean of all"
BUDGETS = (1.3, 2.0, 3.0)


@dataclass(frozen=True)
class Row:
    """One way of answering. `cost`: mean multiply-adds of a picture; `shares`: each expert's weight, on average over test.

    `pictures_per_second`: of the experts that are run, from their mean seconds; None where they weren't timed.
    """

    name: str
    figures: Mapping[str, Interval]
    over_best: Mapping[str, Interval]
    over_mean: Mapping[str, Interval]
    cost: float
    shares: tuple[float, ...]
    by_third: Mapping[str, Interval]
    """Macro top-1 of the species with the fewest training pictures, of a middle third and of the most; {}: counts unknown."""
    pictures_per_second: float | None = None


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
    """What the gate looks at: a frozen backbone's vectors, else one expert's answers.

    `expert`: the one that answers, or whose backbone gives the vectors; it costs nothing more where the gate then chooses it.
    `cost`: multiply-adds of a picture for vectors that no expert has.
    """

    words: str
    cost: float = 0.0
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


def expert_costs(members: Sequence[Member]) -> Costs:
    """Multiply-adds of a picture. Raises BadInput where a model isn't where it was."""
    models, backbone_M = _models(members)
    all_M = np.array([multiply_adds(model) for model in models], dtype=np.float64)
    backbones_B = np.zeros(len(models))
    for model, number in zip(models, backbone_M, strict=True):
        if _backbone(model) is not None and isinstance(model, Model):
            backbones_B[number] = multiply_adds(model, model.network.backbone)
    return Costs(all_M - backbones_B[backbone_M], backbones_B, backbone_M)


def expert_seconds(members: Sequence[Member], *, pictures: int = PICTURES, rounds: int = ROUNDS) -> Costs:
    """Seconds of a picture on this machine, decoding included, as `taxakey frontier` measures them.

    What experts of one backbone share takes as long as the fastest of them.
    """
    backbone_M = _models(members)[1]
    speeds = speeds_of({str(number): member.folder for number, member in enumerate(members)}, pictures=pictures, rounds=rounds)
    seconds_M = np.array([1 / speeds[str(number)] for number in range(len(members))])
    backbones_B = np.zeros(len(members))
    for number in np.unique(backbone_M):
        backbones_B[number] = seconds_M[backbone_M == number].min()
    return Costs(seconds_M - backbones_B[backbone_M], backbones_B, backbone_M, "seconds")


def _models(members: Sequence[Member]) -> tuple[list[Model | Bundle], NDArray[np.int64]]:
    """The members' models, and the number of the backbone of each [M]: the same of those that a `Namer` runs in one pass."""
    models = []
    for member in members:
        folder = Path(member.manifest.recipe.get("model") or "-")
        if not folder.is_dir():
            raise BadInput(f"{member.folder}: its model isn't where it was, so what it costs can't be counted; predict again")
        models.append(open_model(folder))
    keys = [_backbone(model) or number for number, model in enumerate(models)]
    return models, np.array([keys.index(key) for key in keys])


def _backbone(model: Model | Bundle) -> tuple[str, Preprocess] | None:
    """None of a bundle and of a model that is told more than the picture: these are run alone."""
    if isinstance(model, Bundle) or model.metadata is not None:
        return None
    return state_hash(model.network.backbone), model.preprocess


def training_counts(member: Member, pool: Pool) -> NDArray[np.int64] | None:
    """Training pictures [C] of the pool's classes; None where the dataset isn't where it was, or has other classes."""
    folder = Path(member.manifest.recipe.get("dataset") or "-")
    if not folder.is_dir():
        return None
    dataset = Dataset.open(folder)
    return dataset.train_counts() if dataset.taxonomy.fingerprint == pool.taxonomy.fingerprint else None


def gates_of(members: Sequence[Member], costs: Costs, vectors: Sequence[Path], cost: float | None) -> list[Features]:
    """A gate on what the cheapest expert answers, and one on each of these vectors.

    `cost`: of vectors whose backbone no expert has; BadInput where they have none.
    """
    cheapest = int(costs.alone_M.argmin())
    gates = [Features(f"what {members[cheapest].name} answered", expert=cheapest)]
    models = _models(members)[0] if vectors else []
    backbones = [
        None if isinstance(model, Bundle) else (state_hash(model.network.backbone), model.preprocess) for model in models
    ]
    for folder in vectors:
        stored = Vectors(folder)
        expert = next((number for number, backbone in enumerate(backbones) if backbone and stored.come_from(*backbone)), None)
        if expert is not None:
            gates.append(Features(f"vectors of {members[expert].name}", vectors=folder, expert=expert))
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
    costs: Costs,
    gates: Sequence[Features],
    *,
    options: GateOptions | None = None,
    counts_C: NDArray[np.int64] | None = None,
    budgets: Sequence[float] = BUDGETS,
    seconds: Costs | None = None,
    at_least: Sequence[float] = (),
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> RouterReport:
    """Fit a gate on each kind of features, and cascades, on one pool; judge everything on the other.

    `budgets`: what a cascade may cost on average, in the cheapest expert's cost; one cascade for each. `seconds`: of the same
    experts, and `at_least`: pictures a second that a cascade keeps to by them, one for each. `counts_C`: training pictures of the
    pool's classes, for figures by rarity.
    """
    if at_least and seconds is None:
        raise BadInput("pictures a second are kept to by seconds that were measured; none were")
    if len({features.words for features in gates}) < len(gates) or not gates:
        raise BadInput("each gate looks at something of its own, and at least one is needed; name each set of vectors once")
    pool, members = fitted_on
    known_N = np.flatnonzero(pool.true_O >= 0)
    true_p_MN = true_probabilities(pool)
    fitted = [
        fit_gate(features.of(pool, members)[known_N], true_p_MN[:, known_N], options or GateOptions()) for features in gates
    ]
    cheapest = costs.alone_M.min()
    cascades = {f"cascade, at most {b:g} × the cheapest": fit_cascade(pool, costs, b * cheapest) for b in budgets}
    if seconds is not None:
        cascades |= {f"cascade, at least {speed:g} pictures/s": fit_cascade(pool, seconds, 1 / speed) for speed in at_least}
    best = int(np.log(np.maximum(true_p_MN[:, known_N], 1e-12)).mean(axis=1).argmax())
    likely_M = by_likelihood(true_p_MN[:, known_N])
    test, of_test = replace(judged_on[0], names=pool.names), judged_on[1]  # whatever their folders are called
    routed = _ungated(test, costs, likely_M)
    for gate, features in zip(fitted, gates, strict=True):
        which = f" ({features.words})" if len(gates) > 1 else ""
        shares_NM = gate.shares(features.of(test, of_test))
        routed |= {f"{name}{which}": found for name, found in _gated(test, costs, gate, features, shares_NM).items()}
    for name, cascade in cascades.items():
        first_p_N = first_probabilities(test, cascade.first)
        routed[name] = route(test, cascade.weights(first_p_N, len(test.names)), costs)
    answers, others = {name: found.answers for name, found in routed.items()}, (test.names[best], MEAN)
    figures = judged_figures(answers, labels(test), others, resamples=resamples, seed=seed)
    by_third = _by_third(answers, labels(test), counts_C, resamples=resamples, seed=seed)
    rows = tuple(_row(name, figures[name], found, by_third[name], seconds) for name, found in routed.items())
    in_words = {name: _in_words(cascade, pool) for name, cascade in cascades.items()}
    experts = tuple(costs.alone_M.tolist())
    stopped = {features.words: gate.epochs for gate, features in zip(fitted, gates, strict=True)}
    return RouterReport(pool.names, experts, rows, pool.names[best], stopped, in_words, len(test))


def _row(
    name: str, figures: Sequence[dict[str, Interval]], found: Routed, by_third: Mapping[str, Interval], seconds: Costs | None
) -> Row:
    own, over_best, over_mean = figures
    speed = None if seconds is None else float(1 / seconds.of(found.run_NM).mean())
    return Row(name, own, over_best, over_mean, found.cost, tuple(found.shares_M.tolist()), by_third, speed)


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


def _ungated(test: Pool, costs: Costs, likely_M: NDArray[np.float64]) -> dict[str, Routed]:
    """Single experts, means, and the controls: chance and the oracle."""
    rows, experts = len(test), len(test.names)
    found = {name: route(test, np.tile(np.eye(experts)[m], (rows, 1)), costs) for m, name in enumerate(test.names)}
    found[MEAN] = route(test, uniform(rows, experts), costs)
    found["weighted mean"] = route(test, np.tile(likely_M, (rows, 1)), costs)
    found["one by hash (control)"] = route(test, hashed(test.ids, experts), costs)
    found["oracle (bound)"] = route(test, oracle(true_probabilities(test)), costs)
    return found


def _gated(test: Pool, costs: Costs, gate: Gate, features: Features, shares_NM: NDArray[np.float64]) -> dict[str, Routed]:
    """By the gate; the expert that it looks at has run in any case, and is paid for once."""
    extra = gate.multiply_adds + features.cost
    found = {"router, all experts": route(test, shares_NM, costs, extra, features.expert)}
    for k in range(1, min(2, len(test.names) - 1) + 1):
        found[f"router, top {k}"] = route(test, sparse(shares_NM, k), costs, extra, features.expert)
    return found
