"""What may be said of a specimen, beside its ranked names: one answer at the rank that may be believed, a set of species, flags.

Shapes: S specimens, C classes, R ranks from the finest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from taxakey.calibration.decisions import Decisions
from taxakey.calibration.roll_up import roll_up
from taxakey.errors import BadInput
from taxakey.prediction.decide import least_cost, least_track3
from taxakey.serving.cost_list import CostList
from taxakey.taxonomy import Taxonomy

Rule = Literal["argmax", "roll-up", "least-cost"]
Costs = Literal["poison"] | CostList
LARGEST_SET = 10
"""Names of a set of species that are written out; how many there are is always said."""
First = Mapping[str, tuple[NDArray[np.int64], NDArray[np.floating]]]
"""For each rank the first taxon [S] and its summed probability [S]."""


@dataclass(frozen=True)
class Decision:
    """`rank`: species, genus or family; "": nothing may be said with the promised precision, and `name` is "" too.

    `possible`: the species of the set that holds the truth in the share `coverage` of cases, the most probable first, at most
    LARGEST_SET of its `possible_count`. `unknown`: it may be a species outside the model; `organism`: it looks like a picture
    of some organism. None: the model has no measured threshold for it.
    """

    rule: Rule
    rank: str
    name: str
    probability: float | None
    possible: tuple[str, ...] = ()
    possible_count: int | None = None
    coverage: float | None = None
    unknown: bool | None = None
    organism: bool | None = None

    @property
    def sentence(self) -> str:
        """For people, without the probability."""
        if self.organism is False:
            return "No organism that this model knows can be made out."
        if self.rule == "least-cost":
            return f"The answer that is expected to cost least: {self.name}."
        perhaps = "Perhaps a species that this model doesn't know. " if self.unknown else ""
        return (
            perhaps
            + {
                "species": f"This looks like {self.name}.",
                "genus": f"This is {_article(self.name)} {self.name}; which one can't be said.",
                "family": f"This is one of the {self.name}; which genus can't be said.",
                "": "What it is can't be said, not even its family.",
            }[self.rank]
        )


def _article(name: str) -> str:
    return "an" if name[:1] in "AEIOU" else "a"


@dataclass(frozen=True)
class Deciding:
    """What a user asked for. `rule` None: roll-up for a model that has decisions, and no decision for one that hasn't."""

    rule: Rule | None = None
    costs: Costs | None = None

    def __post_init__(self) -> None:
        if (self.rule == "least-cost") != (self.costs is not None):
            raise BadInput("costs and the rule least-cost go together: --decide least-cost --costs poison, or --costs FILE.csv")

    def bind(self, taxonomy: Taxonomy, decisions: Decisions | None) -> Decider | None:
        """The same for the classes of a model, or for some of them; None where nothing is decided."""
        rule = self.rule or ("roll-up" if decisions else None)
        if rule == "roll-up" and decisions is None:
            raise BadInput(
                "this model has no decisions.json to roll up by; run `taxakey calibrate` on its run, then export again"
            )
        return None if rule is None else Decider(rule, self.costs, taxonomy, decisions)


class Decider:
    """Decides on probabilities over the classes of one taxonomy."""

    def __init__(self, rule: Rule, costs: Costs | None, taxonomy: Taxonomy, decisions: Decisions | None) -> None:
        self.rule, self.taxonomy, self.decisions = rule, taxonomy, decisions
        self._poisonous_C = _poisonous(taxonomy) if costs == "poison" else None
        self._costs = costs.bind(taxonomy) if isinstance(costs, CostList) else None
        self._rules = decisions.rules(taxonomy) if decisions else {}
        self._sets = decisions.sets(taxonomy) if decisions else None

    def flags(
        self, probabilities_SC: NDArray[np.floating], raw_S2: NDArray[np.floating]
    ) -> tuple[list[bool | None], list[bool | None]]:
        """Unknown, and organism, of each specimen; `raw_S2`: by `raw_signs`, means over its photographs.

        They look at all classes of the model, whatever it is restricted to.
        """
        found: list[list[bool | None]] = []
        for rejection in (self.decisions.unknown, self.decisions.organism) if self.decisions else (None, None):
            flags_S = None if rejection is None else rejection.flags(probabilities_SC, *raw_S2.T)
            found.append([None] * len(probabilities_SC) if flags_S is None else flags_S.tolist())
        unknown, none_there = found
        return unknown, [None if flag is None else not flag for flag in none_there]

    def decide(
        self, probabilities_SC: NDArray[np.floating], first: First, unknown: list[bool | None], organism: list[bool | None]
    ) -> list[Decision]:
        """One decision per row of [S, C]; `first`: see `First`."""
        ranks, taxon_S = self._answered(probabilities_SC, first, np.array([flag is True for flag in unknown]))
        found = []
        for s, (rank, taxon) in enumerate(zip(ranks, taxon_S.tolist(), strict=True)):
            name = self.taxonomy.taxa(rank)[taxon] if rank else ""
            probability = float(probabilities_SC[s, taxon]) if rank == "species" else float(first[rank][1][s]) if rank else None
            decided = (self.rule, rank, name, probability)
            found.append(Decision(*decided, *self._possible(probabilities_SC[s]), unknown[s], organism[s]))
        return found

    def _answered(
        self, probabilities_SC: NDArray[np.floating], first: First, unknown_S: NDArray[np.bool_]
    ) -> tuple[list[str], NDArray[np.int64]]:
        """Rank and taxon of each answer."""
        if self.rule != "roll-up":
            return ["species"] * len(probabilities_SC), self._one_species(probabilities_SC, first)
        assert self.decisions is not None
        ranks = [rank for rank in self.decisions.ranks if rank in first]  # of a few species perhaps no family is known
        taxon_RS, probability_RS = zip(*(first[rank] for rank in ranks), strict=True)
        # What may be an unknown species isn't named to the species; its genus may be right (fitted so, see `validation`).
        species_S = np.where(unknown_S, -1.0, probability_RS[0])
        rank_S, taxon_S = roll_up([self._rules[rank] for rank in ranks], taxon_RS, [species_S, *probability_RS[1:]])
        return [ranks[place] if place >= 0 else "" for place in rank_S.tolist()], taxon_S

    def _one_species(self, probabilities_SC: NDArray[np.floating], first: First) -> NDArray[np.int64]:
        if self._costs is not None:
            return least_cost(probabilities_SC, self._costs)
        return first["species"][0] if self._poisonous_C is None else least_track3(probabilities_SC, self._poisonous_C)

    def _possible(self, probabilities_C: NDArray[np.floating]) -> tuple[tuple[str, ...], int | None, float | None]:
        if self._sets is None:
            return (), None, None
        inside = np.flatnonzero(self._sets.contains(probabilities_C))
        order = inside[np.argsort(-probabilities_C[inside], kind="stable")]
        names = self.taxonomy.names
        return tuple(names[index] for index in order[:LARGEST_SET]), len(inside), self._sets.coverage


def _poisonous(taxonomy: Taxonomy) -> NDArray[np.bool_]:
    poisonous_C = taxonomy.poisonous()
    if poisonous_C is None:
        raise BadInput("--costs poison: this model's names don't say which species are poisonous; give a file of costs instead")
    return poisonous_C
