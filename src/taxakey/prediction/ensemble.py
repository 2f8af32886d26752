"""Ensembles: rules fitted on validation predictions, judged once on test, without running any model.

Shapes: M members, O rows of a part, B of them at once, C classes, N validation rows of known species.

Which rule is taken is decided by the negative log-likelihood of validation rows that it wasn't fitted on (cross-fitted); the
test part is looked at for the table alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from taxakey import artifacts
from taxakey.calibration.scaling import Nest
from taxakey.errors import BadInput
from taxakey.metrics.accuracy import hits
from taxakey.prediction.combining import Rule
from taxakey.prediction.ensemble_file import write_ensemble_file
from taxakey.prediction.member_weights import PRIOR, by_accuracy, by_class, by_likelihood, greedily, of_logits
from taxakey.prediction.members import Member, Pool, Portion, inputs_of, open_pool
from taxakey.predictions import Level, Predictions, Truth, rank_of
from taxakey.progress import track

RULES = ("mean", "geometric", "by accuracy", "by likelihood", "greedy", "logits fitted", "per class", "per rank")
MEAN = "mean"
_ROWS_FOR_LOGITS = 2000
_CLASSES_FOR_LOGITS = 256
"""Of a row, the likeliest by the plain geometric mean, and the true one. What all the others take hardly moves with the weights:
26 members, 1,081 classes, 200 of them: the same likelihood of all to 5e-5, where equal weights are 0.5 away."""
_ROWS_WRITTEN = 2000


@dataclass(frozen=True)
class EnsembleOptions:
    """`rule`: the one that is taken; None: the best on validation. `prior`: see `member_weights`; `folds` of the cross-fit."""

    rule: str | None = None
    rules: tuple[str, ...] = RULES
    prior: float = PRIOR
    folds: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        asked = {*self.rules, *filter(None, [self.rule])}
        if unknown := sorted(asked - set(RULES)):
            raise BadInput(f"unknown rule {unknown[0]!r}; one of {', '.join(RULES)}")
        if self.rule is not None and self.rule not in self.rules:
            raise BadInput(f"the rule {self.rule!r} isn't among those that are fitted: {', '.join(self.rules)}")
        if self.folds < 2 or self.prior < 0:
            raise BadInput(f"{self.folds} folds and a prior of {self.prior}; at least 2, and from 0 on")


@dataclass(frozen=True, eq=False)
class Answered:
    """What one rule or member says of the rows of a part: the true class' probability and rank (0: unknown), the first class."""

    true_p_O: NDArray[np.float64]
    true_rank_O: NDArray[np.int64]
    first_O: NDArray[np.int64]
    first_p_O: NDArray[np.float64]

    def nll(self, known_O: NDArray[np.bool_]) -> float:
        """Mean negative log-likelihood of the rows whose species the ensemble holds."""
        return float(-np.log(np.maximum(self.true_p_O[known_O], 1e-12)).mean())

    def top_1(self, known_O: NDArray[np.bool_]) -> float:
        """Share of right answers among them."""
        return float(hits(self.true_rank_O[known_O], 1).mean())


@dataclass(frozen=True, eq=False)
class Fitted:
    """Rules with their weights, what they and the members reached on validation, and the one that is taken."""

    members: tuple[str, ...]
    rules: Mapping[str, Rule]
    validation: Mapping[str, Answered]
    """By rule, cross-fitted, and by member."""
    known_O: NDArray[np.bool_]
    chosen: str
    best_member: str

    def nll(self, name: str) -> float:
        """Of a rule (cross-fitted) or member on validation."""
        return self.validation[name].nll(self.known_O)


def require_fair(validation: Sequence[Member], test: Sequence[Member]) -> None:
    """Raise BadInput where weights would come from what a model learned, from the judged part, or from another model."""
    for fitted_on, judged_on in zip(validation, test, strict=True):
        part, other = (str(member.manifest.recipe.get("part", "")) for member in (fitted_on, judged_on))
        if part == "train" or part == other:
            raise BadInput(
                f"{fitted_on.folder} holds answers to the part {part!r} and {judged_on.folder} to {other!r}: weights are fitted "
                "on pictures that the models didn't learn from and judged on others; predict validation and test"
            )
        if fitted_on.weights != judged_on.weights:
            raise BadInput(f"{fitted_on.folder} and {judged_on.folder} come from different models; predict both with one")
        if fitted_on.folds:
            raise BadInput(
                f"{fitted_on.folder}: its model learned from validation pictures too (fold {fitted_on.folds[0]}), so no "
                "weight can be fitted on them; let `taxakey predict` average the folder of folds, or train members on the "
                "training part alone"
            )


def fit(pool: Pool, options: EnsembleOptions = EnsembleOptions()) -> Fitted:
    """Fit every rule on the validation pool. Raises BadInput where no row's species is known to the members."""
    pool = replace(pool, names=tuple(f"member {name}" if name in RULES else name for name in pool.names))
    known_O = pool.true_O >= 0
    if known_O.sum() < 2 * options.folds:
        raise BadInput(f"{int(known_O.sum())} validation rows of known species: too few for {options.folds} folds")
    members = answered(pool, {name: single(number, len(pool.names)) for number, name in enumerate(pool.names)})
    given_RMO = given_the_rank_above(pool) if "per rank" in options.rules else None
    fold_O = np.random.default_rng(options.seed).permutation(len(pool)) % options.folds
    parts: dict[str, list[tuple[NDArray[np.int64], Answered]]] = {name: [] for name in options.rules}
    for fold in range(options.folds):
        rules = fit_rules(pool, members, given_RMO, np.flatnonzero((fold_O != fold) & known_O), options)
        rows = np.flatnonzero(fold_O == fold)
        for name, found in answered(pool, rules, rows).items():
            parts[name].append((rows, found))
    crossed = {name: _in_row_order(part) for name, part in parts.items()}
    rules = fit_rules(pool, members, given_RMO, np.flatnonzero(known_O), options)
    chosen = options.rule or min(crossed, key=lambda name: crossed[name].nll(known_O))
    best = max(members, key=lambda name: members[name].top_1(known_O))
    return Fitted(pool.names, rules, {**crossed, **members}, known_O, chosen, best)


def unfitted(pool: Pool, rule: str | None = None) -> Fitted:
    """Equal weights, for answers without labels. Raises BadInput for a rule that has something to fit."""
    rule = rule or MEAN
    if rule not in ("mean", "geometric"):
        raise BadInput(
            f"the rule {rule!r} is fitted on labelled answers to validation, which aren't given; take mean or geometric"
        )
    equal_M = np.full(len(pool.names), 1 / len(pool.names))
    made = Rule("mean" if rule == "mean" else "geometric", equal_M)
    return Fitted(pool.names, {rule: made}, {}, np.zeros(len(pool), dtype=bool), rule, pool.names[0])


def single(number: int, members: int) -> Rule:
    """One member alone."""
    return Rule("mean", np.eye(members)[number])


def fit_rules(
    pool: Pool,
    members: Mapping[str, Answered],
    given_RMO: NDArray[np.float32] | None,
    rows_N: NDArray[np.int64],
    options: EnsembleOptions,
) -> dict[str, Rule]:
    """The rules with weights from these rows of validation. `given_RMO`: see `given_the_rank_above`; for "per rank" alone."""
    true_p_MN = np.stack([members[name].true_p_O[rows_N] for name in pool.names])
    right_MN = np.stack([members[name].true_rank_O[rows_N] == 1 for name in pool.names])
    equal_M = np.full(len(pool.names), 1 / len(pool.names))
    likely_M = by_likelihood(true_p_MN, prior=options.prior)
    made: dict[str, Rule] = {}
    for name in options.rules:
        if name in ("mean", "geometric"):
            made[name] = Rule("mean" if name == "mean" else "geometric", equal_M)
        elif name == "by accuracy":
            made[name] = Rule("mean", by_accuracy(right_MN))
        elif name == "by likelihood":
            made[name] = Rule("mean", likely_M)
        elif name == "greedy":
            made[name] = Rule("mean", greedily(true_p_MN))
        elif name == "logits fitted":
            made[name] = Rule("geometric", _of_logits(pool, rows_N, options))
        elif name == "per class":
            made[name] = Rule("per class", by_class(true_p_MN, pool.true_O[rows_N], len(pool.taxonomy), likely_M))
        else:
            assert given_RMO is not None
            weights_RM = np.stack([by_likelihood(of_MO[:, rows_N], prior=options.prior) for of_MO in given_RMO])
            made[name] = Rule("per rank", weights_RM, Nest.of(pool.taxonomy))
    return made


def _of_logits(pool: Pool, rows_N: NDArray[np.int64], options: EnsembleOptions) -> NDArray[np.float64]:
    if len(rows_N) > _ROWS_FOR_LOGITS:
        rows_N = np.sort(np.random.default_rng(options.seed).choice(rows_N, _ROWS_FOR_LOGITS, replace=False))
    log_p, true = zip(*pool.each(_likeliest, rows_N), strict=True)
    return of_logits(np.concatenate(log_p, axis=1), np.concatenate(true), prior=options.prior)


def _likeliest(portion: Portion) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logarithms [M, B, K] of the classes that count in a row, and where the true one stands among them [B]."""
    sum_BC = portion.log_p_MBC.sum(axis=0)
    sum_BC[np.arange(len(sum_BC)), portion.true_B] = np.inf
    kept = min(_CLASSES_FOR_LOGITS, sum_BC.shape[1])
    classes_BK = np.argpartition(-sum_BC, kept - 1, axis=1)[:, :kept]
    log_p_MBK = np.stack([np.take_along_axis(log_p_BC, classes_BK, axis=1) for log_p_BC in portion.log_p_MBC])
    return log_p_MBK, (classes_BK == portion.true_B[:, None]).argmax(axis=1)


def given_the_rank_above(pool: Pool) -> NDArray[np.float32]:
    """p(family), p(genus | family) and p(species | genus) of the truth [R, M, O], by each member; unknown species: of class 0."""
    nest = Nest.of(pool.taxonomy)
    family_starts_F = nest.genus_starts_G[nest.family_starts_F]

    def given(portion: Portion) -> NDArray[np.float32]:
        true_B = np.maximum(portion.true_B, 0)
        species_MB = portion.p_MBC[:, np.arange(len(true_B)), true_B]
        genus_MB, family_MB = (
            _sums_beside(portion.p_MBC, true_B, nest.order_C, starts) for starts in (nest.genus_starts_G, family_starts_F)
        )
        return np.stack([family_MB, genus_MB / np.maximum(family_MB, 1e-12), species_MB / np.maximum(genus_MB, 1e-12)])

    return np.concatenate(pool.each(given), axis=2)


def _sums_beside(
    p_MBC: NDArray[np.float32], true_B: NDArray[np.int64], order_C: NDArray[np.int64], starts_G: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Probability [M, B] of the group that the true class is in. Only that group's classes are looked at: X of them in all."""
    sizes_G = np.diff(np.append(starts_G, len(order_C)))
    group_B = (np.searchsorted(starts_G, np.argsort(order_C), side="right") - 1)[true_B]
    begins_B = np.cumsum(sizes_G[group_B]) - sizes_G[group_B]
    row_X = np.repeat(np.arange(len(true_B)), sizes_G[group_B])
    class_X = order_C[np.arange(len(row_X)) + (starts_G[group_B] - begins_B)[row_X]]
    return np.add.reduceat(p_MBC[:, row_X, class_X], begins_B, axis=1)


def answered(pool: Pool, rules: Mapping[str, Rule], rows: NDArray[np.int64] | None = None) -> dict[str, Answered]:
    """What every rule says of the rows: one pass over the members' probabilities for all rules."""

    def said(portion: Portion) -> list[tuple[NDArray, ...]]:
        return [told(_mixed(rule, portion), portion.true_B) for rule in rules.values()]

    of_rules = zip(*pool.each(said, rows), strict=True)
    return {name: joined(parts) for name, parts in zip(rules, of_rules, strict=True)}


def _mixed(rule: Rule, portion: Portion) -> NDArray[np.float32]:
    return rule.mix(portion.p_MBC, portion.log_p_MBC if rule.formula == "geometric" else None)


def told(mixed_BC: NDArray[np.float32], true_B: NDArray[np.int64]) -> tuple[NDArray, ...]:
    """The columns of `Answered` of some rows."""
    rank_B, true_p_B = rank_of(mixed_BC, true_B)
    first_B = mixed_BC.argmax(axis=1)
    return true_p_B, rank_B, first_B, mixed_BC[np.arange(len(first_B)), first_B]


def joined(parts: Iterable[tuple[NDArray, ...]]) -> Answered:
    """The rows of several portions one after the other."""
    return Answered(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def _in_row_order(parts: Sequence[tuple[NDArray[np.int64], Answered]]) -> Answered:
    order = np.argsort(np.concatenate([rows for rows, _ in parts]))
    columns = ("true_p_O", "true_rank_O", "first_O", "first_p_O")
    return Answered(*(np.concatenate([getattr(found, name) for _, found in parts])[order] for name in columns))


# ---- files ----


def write_predictions(pool: Pool, rule: Rule, level: Level) -> Predictions:
    """The mixture's answers as a table of predictions, portion by portion."""
    parts = []
    for begin in track(range(0, len(pool), _ROWS_WRITTEN), f"mixing {level}s"):
        chosen = range(begin, min(begin + _ROWS_WRITTEN, len(pool)))
        mixed_BC = np.concatenate(pool.each(lambda portion: _mixed(rule, portion), np.array(chosen)))
        parts.append(
            Predictions.from_probabilities(
                mixed_BC.astype(np.float64),
                pool.taxonomy,
                observation_ids=[pool.observation_ids[row] for row in chosen],
                image_ids=[pool.ids[row] for row in chosen] if level == "image" else None,
                images=pool.images_O[chosen.start : chosen.stop].tolist(),
                truth=Truth(*([of[row] for row in chosen] for of in (pool.truth.species, pool.truth.genus, pool.truth.family))),
                level=level,
            )
        )
    return Predictions.concat(parts)


def write_ensemble(fitted: Fitted, members: Sequence[Member], out: Path | str, options: EnsembleOptions) -> artifacts.Manifest:
    """Write the members' answers to the judged part, mixed by the chosen rule, as a predictions artifact with `ensemble.json`."""
    out = Path(out)
    recipe = {
        "part": members[0].manifest.recipe.get("part", ""),
        "members": list(fitted.members),
        "dataset": members[0].manifest.recipe.get("dataset"),
        "rule": fitted.chosen,
        "prior": options.prior,
        "folds": options.folds,
    }
    plan = artifacts.Plan("predictions", inputs_of(members), recipe, options.seed)
    if artifacts.start(out, plan) == "finished":
        return artifacts.read_manifest(out, plan.kind)
    counts, rule, taxonomy = {}, fitted.rules[fitted.chosen], None
    for level in get_args(Level):
        pool = open_pool([replace(member, level=level) for member in members])
        write_predictions(pool, rule, level).write(out / f"{level}s.parquet")
        counts[f"{level}s"], taxonomy = len(pool), pool.taxonomy
    assert taxonomy is not None
    artifacts.write_parquet(out / "taxonomy.parquet", taxonomy.table)
    how = "fitted on validation" if fitted.validation else "unfitted: every member has the same weight"
    notes = [f"The members' answers mixed by the rule {fitted.chosen!r}, {how}"]
    notes += [f"{name} doesn't know {number:,} of the ensemble's classes" for name, number in pool.missing.items()]
    notes += _incomplete(members)
    models = [member.manifest.recipe.get("model") for member in members]
    crops = [name for name, member in zip(fitted.members, members, strict=True) if member.manifest.recipe.get("crops")]
    write_ensemble_file(out, rule, fitted.members, models, taxonomy, crops)
    return artifacts.finish(out, plan, counts=counts, taxonomy=taxonomy.fingerprint, notes=tuple(notes))


def _incomplete(members: Iterable[Member]) -> list[str]:
    names = [member.name for member in members if not member.complete]
    if not names:
        return []
    return [f"Of {', '.join(names)} only the first answers were kept; the rest is spread evenly (predict with --full)"]
