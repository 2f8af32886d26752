"""Up to which rank an answer may be believed: "it is an Epilobium, which one can't be said".

Shapes: O observations, R ranks from the finest, G taxa of a rank.

At each rank the first taxon is answered where its summed probability reaches a threshold; the finest rank that reaches its own
is the answer. A threshold is the lowest above which validation answers were right in a share of at least `precision`, with
confidence: the lower Clopper-Pearson bound of that share reaches it, not the share alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from taxakey.errors import BadInput

Integers = NDArray[np.integer]
PRECISION = 0.95
CONFIDENCE = 0.95
_MOST_TRIES = 20
NEVER = 2.0
"""A threshold that no probability reaches."""


@dataclass(frozen=True)
class RankRule:
    """When the first taxon of a rank is answered, and what that was measured to mean on validation."""

    threshold: float
    """NEVER: no threshold could guarantee the precision, so nothing is answered at this rank."""
    precision: float | None
    precision_low: float | None
    """One-sided lower bound (Clopper and Pearson, 1934) of this threshold alone."""
    coverage: float
    """Share of validation observations at or above the threshold."""
    observations: int
    by_taxon: Mapping[int, float] = field(default_factory=dict)
    """Thresholds of taxa with validation answers enough for a guarantee of their own; the others obey `threshold`."""

    def reached(self, taxon_O: Integers, probability_O: ArrayLike) -> NDArray[np.bool_]:
        """Whether the first taxon [O] may be answered."""
        limit_O = np.full(len(np.asarray(taxon_O)), self.threshold)
        for taxon, threshold in self.by_taxon.items():
            limit_O[np.asarray(taxon_O) == taxon] = threshold
        return np.asarray(probability_O, dtype=np.float64) >= limit_O


def fit_rank(
    taxon_O: Integers,
    probability_O: ArrayLike,
    right_O: ArrayLike,
    *,
    precision: float = PRECISION,
    confidence: float = CONFIDENCE,
    per_taxon: bool = False,
) -> RankRule:
    """The rule of one rank from validation: first taxon, its summed probability, and whether it is the true one.

    At most 20 thresholds are tried, which part the observations evenly, and the lowest that passes is taken. Each is held to a
    confidence of 1 − (1 − confidence) / tries (Bonferroni), so that the choice among them costs none of what is promised.
    `per_taxon` tries the same for each taxon that was answered often enough for a bound to reach `precision` at all (59 right
    answers of 59 for 95 % and 95 %). A taxon for which none passes is NEVER answered where its answers at the common threshold
    are plainly worse than promised (upper bound below `precision`); else its data say too little, and it obeys the common one.
    """
    taxon_O, probability_O = np.asarray(taxon_O), np.asarray(probability_O, dtype=np.float64)
    right_O = np.asarray(right_O, dtype=bool)
    if not len(taxon_O) or not 0 < precision < 1 or not 0 < confidence < 1:
        raise BadInput(
            f"a rule from {len(taxon_O)} observations for a precision of {precision} with confidence {confidence}: it needs "
            "validation observations, and both shares lie between 0 and 1"
        )
    threshold = _lowest_threshold(probability_O, right_O, precision, confidence)
    by_taxon = {}
    for taxon, count in zip(*np.unique(taxon_O, return_counts=True), strict=True) if per_taxon else ():
        if count >= fewest_observations(precision, confidence):
            rows = taxon_O == taxon
            own = _lowest_threshold(probability_O[rows], right_O[rows], precision, confidence)
            if own < NEVER or _plainly_worse(right_O[rows & (probability_O >= threshold)], precision, confidence):
                by_taxon[int(taxon)] = own
    rule = RankRule(threshold, None, None, 0.0, len(taxon_O), by_taxon)
    answered_O = rule.reached(taxon_O, probability_O)
    n, hits = int(answered_O.sum()), int(right_O[answered_O].sum())
    if not n:
        return rule
    return RankRule(threshold, hits / n, lower_bound(hits, n, confidence), n / len(taxon_O), len(taxon_O), by_taxon)


def fit_roll_up(
    taxon_RO: Sequence[Integers],
    probability_RO: Sequence[ArrayLike],
    right_RO: Sequence[ArrayLike],
    *,
    precision: float = PRECISION,
    confidence: float = CONFIDENCE,
    per_taxon: bool = False,
) -> list[RankRule]:
    """The rules of all ranks from the finest, each fitted on the validation observations that no finer rank answers.

    Those are the hard ones: a threshold for genera that was fitted on all observations would be met by pictures whose species
    is sure anyway, and the genera that are really answered would be right less often than it says. A rank to which no
    observation is left is NEVER answered.
    """
    rules: list[RankRule] = []
    left_O = np.ones(len(np.asarray(taxon_RO[0])) if len(taxon_RO) else 0, dtype=bool)
    for taxon_O, probability_O, right_O in zip(taxon_RO, probability_RO, right_RO, strict=True):
        taxon_O, probability_O, right_O = (np.asarray(values) for values in (taxon_O, probability_O, right_O))
        if rules and not left_O.any():
            rules.append(RankRule(NEVER, None, None, 0.0, 0))
            continue
        given = {"precision": precision, "confidence": confidence}
        rules.append(fit_rank(taxon_O[left_O], probability_O[left_O], right_O[left_O], per_taxon=per_taxon, **given))
        left_O &= ~rules[-1].reached(taxon_O, probability_O)
    return rules


def _lowest_threshold(
    probability_O: NDArray[np.float64], right_O: NDArray[np.bool_], precision: float, confidence: float
) -> float:
    order = np.argsort(-probability_O, kind="stable")
    falling, right = probability_O[order], np.cumsum(right_O[order])
    tries = int(np.clip(len(falling) // fewest_observations(precision, confidence), 1, _MOST_TRIES))
    corrected = 1 - (1 - confidence) / tries
    # Equal probabilities are answered together: each cut moves on to the last of them.
    last_of_equal = np.flatnonzero(np.append(np.diff(falling) < 0, True))
    wanted = np.arange(1, tries + 1) * len(falling) // tries - 1
    for cut in last_of_equal[np.searchsorted(last_of_equal, wanted)][::-1]:
        if lower_bound(int(right[cut]), int(cut) + 1, corrected) >= precision:
            return float(falling[cut])
    return NEVER


def _plainly_worse(right_N: NDArray[np.bool_], precision: float, confidence: float) -> bool:
    return len(right_N) > 0 and 1 - lower_bound(int((~right_N).sum()), len(right_N), confidence) < precision


def lower_bound(hits: int, n: int, confidence: float = CONFIDENCE) -> float:
    """One-sided lower bound of a share of `hits` in `n` (Clopper and Pearson, 1934).

    >>> round(lower_bound(59, 59), 4)
    0.9505
    """
    from scipy.stats import beta

    return float(beta.ppf(1 - confidence, hits, n - hits + 1)) if hits else 0.0


def fewest_observations(precision: float = PRECISION, confidence: float = CONFIDENCE) -> int:
    """How many answers, all of them right, it takes until the bound reaches the precision.

    >>> fewest_observations()
    59
    """
    return int(np.ceil(np.log(1 - confidence) / np.log(precision)))


def roll_up(
    rules: Sequence[RankRule], taxon_RO: Sequence[Integers], probability_RO: Sequence[ArrayLike]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The finest rank [O] whose rule is reached (-1: none) and the taxon [O] answered there (-1: none).

    rules, taxon_RO, probability_RO: for each rank from the finest, its rule and the first taxa with their probabilities, as
    `Predictions.index(rank)[:, 0]` and `.probability(rank)[:, 0]` hold them.
    """
    if not len(rules) == len(taxon_RO) == len(probability_RO) or not rules:
        raise BadInput(f"{len(rules)} rules for {len(taxon_RO)} ranks of answers: each rank has its rule")
    rank_O = np.full(len(taxon_RO[0]), -1)
    taxon_O = np.full(len(rank_O), -1)
    for number, (rule, taxa, probabilities) in reversed(list(enumerate(zip(rules, taxon_RO, probability_RO, strict=True)))):
        reached_O = rule.reached(taxa, probabilities)
        rank_O[reached_O], taxon_O[reached_O] = number, np.asarray(taxa)[reached_O]
    return rank_O, taxon_O
