"""All that validation teaches at once: the calibration, and the decisions on top of it.

Shapes: I images, O observations, C classes, R ranks from the finest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from taxakey.calibration.bias_corrected import BiasCorrected, fit_bias_corrected
from taxakey.calibration.conformal import fit_conformal, mean_set_size
from taxakey.calibration.decisions import SURENESSES, Decisions, Rejection, Sureness, calibration_mark, sureness
from taxakey.calibration.fitting import best_calibration, fit_calibration, mean_by_observation
from taxakey.calibration.likeness import Likeness
from taxakey.calibration.roll_up import RankRule, fit_roll_up
from taxakey.calibration.stored import Calibration, Method
from taxakey.calibration.unknown import fit_unknown, keep_known
from taxakey.errors import BadInput
from taxakey.predictions import Truth
from taxakey.taxonomy import RANKS, Taxonomy

_FEWEST_UNKNOWN = 20
"""Observations of species outside the model, below which a threshold for them would be chance."""
_FEWEST_FITTED = 10
"""Pictures below which biases of classes would be chance."""
_NUMBERS_FITTED = 2_000_000
"""Scores that biases are fitted to: ten seconds at most, and 100 MB; so there are none for more than 1,414 classes."""
_SAME_ENERGY = 0.01
"""Standard deviation below which the log-sum-exp of the scores is a constant: the scores are log-probabilities already."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class DecisionOptions:
    """What decisions promise. `precision` of each rank of a roll-up, kept with `confidence`; `coverage` of the sets of species,
    with `by_species` for each species by itself; `kept`: share of validation that isn't taken for a picture of no organism;
    `known_kept`: share of known species that aren't flagged as unknown, None for the threshold that costs least in Track 4, which
    flags every second known observation where an unknown one named costs a hundred times a known one not named."""

    precision: float = 0.95
    confidence: float = 0.95
    coverage: float = 0.9
    by_species: bool = False
    kept: float = 0.99
    known_kept: float | None = 0.95

    def __post_init__(self) -> None:
        for name in ("precision", "confidence", "coverage", "kept", "known_kept"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1:
                raise BadInput(f"{name} is {value}; it lies between 0 and 1, 0.95 for instance")


def learn_from_validation(
    scores_IC: NDArray[np.floating],
    observation_ids: Sequence[str],
    truth_I: Truth,
    taxonomy: Taxonomy,
    *,
    method: Method | Literal["best"] = "temperature",
    options: DecisionOptions = DecisionOptions(),
    likeness: Likeness | None = None,
) -> tuple[Calibration, Decisions]:
    """Both, from the raw scores of validation's images; `truth_I`: of each image, equal within an observation.

    `likeness`: learnt from the training pictures (`likeness.learn_likeness`), for pictures of no organism. Raises BadInput where
    no observation belongs to a class of the model.
    """
    _, first_O, observation_I = np.unique(np.array(observation_ids), return_index=True, return_inverse=True)
    truth = Truth(*([names[image] for image in first_O] for names in (truth_I.species, truth_I.genus, truth_I.family)))
    true_O = taxonomy.index_of(truth.species)
    if method == "best":
        calibration = best_calibration(scores_IC, observation_I, true_O, taxonomy)
    else:
        calibration = fit_calibration(scores_IC, observation_I, true_O, method=method, taxonomy=taxonomy)
    probabilities_IC = calibration.bind(taxonomy).probabilities(scores_IC)
    probabilities_OC = mean_by_observation(probabilities_IC, observation_I, len(true_O))
    raw_I2 = raw_signs(scores_IC, taxonomy, likeness)
    energy_O, likeness_O = mean_by_observation(raw_I2, observation_I, len(true_O)).T
    decisions = fit_decisions(probabilities_OC, energy_O, truth, taxonomy, calibration, options, likeness, likeness_O=likeness_O)
    return calibration, replace(decisions, shares=_basis_of_shares(scores_IC, true_O[observation_I], observation_I))


def _basis_of_shares(
    scores_IC: NDArray[np.floating], true_I: NDArray[np.integer], observation_I: NDArray[np.integer]
) -> BiasCorrected | None:
    """What shares are estimated by, from pictures of known species, each observation counting once; None from fewer than classes.

    Of very many pictures as many as fit into the numbers allowed, evenly spread.
    """
    known_I = np.flatnonzero(true_I >= 0)
    most = _NUMBERS_FITTED // scores_IC.shape[1]
    chosen_I = known_I[np.linspace(0, len(known_I) - 1, min(most, len(known_I))).astype(np.int64)]
    if len(chosen_I) < max(_FEWEST_FITTED, scores_IC.shape[1]):
        return None  # of most classes it would know the prior alone
    weights_I = 1 / np.bincount(observation_I)[observation_I[chosen_I]]
    return fit_bias_corrected(scores_IC[chosen_I], true_I[chosen_I], weights_I)


def raw_signs(scores_IC: NDArray[np.floating], taxonomy: Taxonomy, likeness: Likeness | None) -> Floats:
    """What decisions ask of raw scores beside the probabilities [I, 2]: log-sum-exp and likeness, NaN without one."""
    energy_I = logsumexp(scores_IC, axis=1)
    like_I = np.full(len(energy_I), np.nan) if likeness is None else likeness.of(scores_IC, taxonomy)
    return np.stack([energy_I, like_I], axis=1)


def fit_decisions(
    probabilities_OC: Floats,
    logsumexp_O: Floats,
    truth: Truth,
    taxonomy: Taxonomy,
    calibration: Calibration,
    options: DecisionOptions = DecisionOptions(),
    likeness: Likeness | None = None,
    *,
    likeness_O: Floats | None = None,
) -> Decisions:
    """Thresholds from validation observations: calibrated probabilities, log-sum-exp of the raw scores (image means), names.

    `likeness_O`: by `likeness`, image means; both or none.

    Species outside the model count where they can: every answer to one is wrong at the species, and may be right at the genus.
    """
    true_O = taxonomy.index_of(truth.species)
    known_O = true_O >= 0
    found_by = _candidates(probabilities_OC, logsumexp_O, None if likeness is None else likeness_O)
    unknown = _unknown(found_by, probabilities_OC.argmax(axis=1), true_O, options.known_kept)
    flagged_O = found_by[unknown.sureness] < unknown.threshold if unknown else np.zeros(len(true_O), dtype=bool)
    found = _roll_up(probabilities_OC, flagged_O, truth, taxonomy, options)
    true_p_N = probabilities_OC[known_O, true_O[known_O]]
    classes = len(taxonomy) if options.by_species else None
    sets = fit_conformal(true_p_N, true_O[known_O], coverage=options.coverage, classes=classes)
    inside_NC = sets.contains(probabilities_OC[known_O])
    covered = float(inside_NC[np.arange(len(inside_NC)), true_O[known_O]].mean())
    by_species = None if sets.threshold_C is None else _named(sets.threshold_C, taxonomy)
    return Decisions(
        taxonomy=taxonomy.fingerprint,
        calibration=calibration_mark(calibration),
        precision=options.precision,
        confidence=options.confidence,
        observations=len(true_O),
        roll_up={rank: replace(rule, by_taxon={}) for rank, rule in found.items()},
        coverage=options.coverage,
        set_threshold=sets.threshold,
        set_by_species=by_species,
        by_taxon={rank: _by_name(rule, taxonomy.taxa(rank)) for rank, rule in found.items() if rule.by_taxon},
        unknown=unknown,
        organism=_organism(found_by, options.kept),
        likeness=likeness,
        measured={"sets": {"covered": covered, "mean_size": mean_set_size(inside_NC), "observations": int(known_O.sum())}},
    )


def first_of_rank(probabilities_OC: Floats, taxonomy: Taxonomy, rank: str) -> tuple[NDArray[np.int64], Floats]:
    """The first taxon [O] of a rank and its summed probability [O], ties by index."""
    sums_OG = taxonomy.sum_over(rank, probabilities_OC)
    return sums_OG.argmax(axis=1), sums_OG.max(axis=1)


def _roll_up(
    probabilities_OC: Floats, flagged_O: NDArray[np.bool_], truth: Truth, taxonomy: Taxonomy, options: DecisionOptions
) -> dict[str, RankRule]:
    """A rule for each rank of which the taxonomy knows a taxon."""
    ranks = [rank for rank in RANKS if taxonomy.taxa(rank)]
    taxon_RO, probability_RO = zip(*(first_of_rank(probabilities_OC, taxonomy, rank) for rank in ranks), strict=True)
    names = {"species": truth.species, "genus": truth.genus, "family": truth.family}
    right_RO = [taxon_O == taxonomy.index_of(names[rank], rank) for rank, taxon_O in zip(ranks, taxon_RO, strict=True)]
    without_flagged_O = np.where(flagged_O, -1.0, probability_RO[0])  # as they are answered: not at the species
    rules = fit_roll_up(
        taxon_RO,
        [without_flagged_O, *probability_RO[1:]],
        right_RO,
        precision=options.precision,
        confidence=options.confidence,
        per_taxon=True,
    )
    return dict(zip(ranks, rules, strict=True))


def _by_name(rule: RankRule, taxa: Sequence[str]) -> dict[str, float]:
    return {taxa[index]: threshold for index, threshold in rule.by_taxon.items()}


def _named(threshold_C: Floats, taxonomy: Taxonomy) -> dict[str, float]:
    return {name: threshold for name, threshold in zip(taxonomy.names, threshold_C.tolist(), strict=True) if threshold}


# ---- rejections ----


def _candidates(probabilities_OC: Floats, logsumexp_O: Floats, likeness_O: Floats | None) -> dict[Sureness, Floats]:
    """The surenesses that can say anything: the scores of a tree are log-probabilities, whose energy is always 0."""
    silent = {"energy"} if logsumexp_O.std() <= _SAME_ENERGY else set()
    silent |= {"likeness"} if likeness_O is None else set()
    kinds = [kind for kind in SURENESSES if kind not in silent]
    return {kind: sureness(kind, probabilities_OC, logsumexp_O, likeness_O) for kind in kinds}


def _unknown(
    found: dict[Sureness, Floats], answer_O: NDArray[np.int64], true_O: NDArray[np.int64], known_kept: float | None
) -> Rejection | None:
    """A threshold on the sureness that tells the unknown best; None with too few of them."""
    from taxakey.metrics.detection import auroc, fpr_at_tpr

    known_O = true_O >= 0
    if (~known_O).sum() < _FEWEST_UNKNOWN or not known_O.any():
        return None
    area = {kind: auroc(values_O, known_O) for kind, values_O in found.items()}
    best = max(area, key=lambda kind: area[kind])
    sureness_O = found[best]
    rule = fit_unknown(sureness_O, answer_O, true_O)
    if known_kept is not None:
        rule = keep_known(sureness_O, answer_O, true_O, known_kept)
    flagged_O = sureness_O < rule.threshold
    measured: dict[str, Any] = {
        "auroc": area,
        "fpr95": fpr_at_tpr(sureness_O, known_O),
        "track4": rule.track4,
        "track4_without": rule.track4_without,
        "known": int(known_O.sum()),
        "unknown": int((~known_O).sum()),
        "known_flagged": float(flagged_O[known_O].mean()),
        "unknown_flagged": float(flagged_O[~known_O].mean()),
    }
    return Rejection(best, rule.threshold, measured)


def _organism(found: dict[Sureness, Floats], kept: float) -> Rejection:
    """The threshold that the share `kept` of validation passes at least.

    On the likeness to training pictures, which flags nearly all noise and text; without one on the entropy, which lets noise
    pass (figures in docs/decisions.md).
    """
    kind: Sureness = "likeness" if "likeness" in found else "entropy"
    ordered_O = np.sort(found[kind])
    threshold = float(ordered_O[int(np.floor(len(ordered_O) * (1 - kept) + 1e-9))])
    return Rejection(kind, threshold, {"kept": float((ordered_O >= threshold).mean()), "observations": len(ordered_O)})
