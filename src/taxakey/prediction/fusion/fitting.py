"""Which of the candidates gain on validation, one after the other, and the fusion that they make. No torch.

Shapes: N training observations, O validation observations, C classes, I validation images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from taxakey.prediction.fusion.exponents import Floats, fit_exponents, fused
from taxakey.prediction.fusion.judging import Judge, Judged
from taxakey.prediction.fusion.pictures import Pictures, Rule, RuleName, fit_rule
from taxakey.prediction.fusion.season_place import NAME as PLACE
from taxakey.prediction.fusion.season_place import PlaceEvidence
from taxakey.prediction.fusion.stored import Evidence
from taxakey.prediction.fusion.words import WordEvidence


@dataclass(frozen=True, eq=False)
class Training:
    """One row a training observation, and its class [N]; -1 where it has none."""

    table: pa.Table
    class_N: NDArray[np.integer]
    classes: int

    def evidence(self, name: str, seed: int = 0) -> Evidence:
        """`place` (with the season) or a column of words; BadInput where training says nothing of it."""
        if name == PLACE:
            return PlaceEvidence.fit(self.table, self.class_N, self.classes, seed=seed)
        return WordEvidence.fit(name, self.table, self.class_N, self.classes)


@dataclass(frozen=True, eq=False)
class Validation:
    """Pictures of the observations whose class the model holds, their classes [O], and what is known of them, a row each."""

    pictures: Pictures
    true_O: NDArray[np.integer]
    known: pa.Table

    def part(self, kept_O: NDArray[np.bool_]) -> Pictures:
        """The pictures of some observations, renumbered."""
        rows = np.flatnonzero(kept_O[self.pictures.observation_I])
        organs = self.pictures.organ_I
        return Pictures(
            self.pictures.probabilities_IC[rows],
            (np.cumsum(kept_O) - 1)[self.pictures.observation_I[rows]],
            [organs[int(row)] for row in rows] if len(organs) else (),
        )


def choose_rule(validation: Validation, names: Sequence[RuleName], judge: Judge) -> tuple[Rule, list[Judged]]:
    """Of the rules that gain over the plain mean the one that gains most; else the mean."""
    mean_OC = Rule().combined(validation.pictures)
    judged, fitted = [], {}
    for name in names:
        answers_OC = judge.without_own(lambda kept_O, name=name: _by_rule(name, validation, kept_O))  # type: ignore[misc]
        fitted[name] = fit_rule(name, validation.pictures, validation.true_O)
        judged.append(judge.compare(name, answers_OC, mean_OC, {"slopes": dict(fitted[name].slopes)}))
    chosen, judged = only_best(judged)
    return (fitted[chosen] if chosen else Rule()), judged  # type: ignore[index]


def _by_rule(name: RuleName, validation: Validation, kept_O: NDArray[np.bool_]) -> Floats:
    rule = fit_rule(name, validation.part(kept_O), validation.true_O[kept_O])
    return rule.combined(validation.pictures)


def only_best(judged: Sequence[Judged]) -> tuple[str | None, list[Judged]]:
    """Of several that exclude each other the one that gains most in likelihood, and all of them with that verdict."""
    passed = [found for found in judged if found.kept]
    best = max(passed, key=lambda found: found.log_likelihood.value).name if passed else None
    return best, [replace(found, kept=found.name == best) for found in judged]


def choose_evidence(
    answers_OC: Floats, validation: Validation, candidates: Mapping[str, Evidence], judge: Judge
) -> tuple[list[Evidence], list[float], list[Judged]]:
    """Add the candidate that gains most on top of what was added before, as long as it gains; each is judged in its turn.

    All exponents are fitted together, anew with every addition.
    """
    ratio = {name: evidence.log_ratio(validation.known) for name, evidence in candidates.items()}

    def answers(names: Sequence[str]) -> Floats:
        chosen = [ratio[name] for name in names]

        def answering(kept_O: NDArray[np.bool_]) -> Floats:
            exponents = fit_exponents(answers_OC[kept_O], [r[kept_O] for r in chosen], validation.true_O[kept_O])
            return fused(answers_OC, chosen, exponents)

        return judge.without_own(answering) if names else answers_OC

    kept: list[str] = []
    judged: list[Judged] = []
    left = list(candidates)
    while left:
        before_OC = answers(kept)
        found = [judge.compare(name, answers([*kept, name]), before_OC, _said(candidates[name], validation)) for name in left]
        best = max(found, key=lambda one: (one.kept, one.log_likelihood.value))
        if not best.kept:
            judged += found
            break
        judged.append(best)
        kept.append(best.name)
        left.remove(best.name)
    exponents = fit_exponents(answers_OC, [ratio[name] for name in kept], validation.true_O)
    return [candidates[name] for name in kept], exponents, judged


def _said(evidence: Evidence, validation: Validation) -> dict[str, float | int]:
    """What was learnt, and of how many validation observations it says anything."""
    said: dict[str, float | int] = {"known": int(evidence.known(validation.known).sum()), "strength": evidence.strength}
    if isinstance(evidence, PlaceEvidence):
        said |= {"kilometres": evidence.kilometres, "days": evidence.days}
    return said
