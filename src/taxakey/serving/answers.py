"""Answers: ranked taxa with their probabilities at species, genus and family. No torch.

Shapes: S specimens, C classes, G taxa of a rank, k answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taxakey.calibration import Calibration
from taxakey.predictions import top_k
from taxakey.serving.deciding import Decider, Decision
from taxakey.serving.restriction import Restriction
from taxakey.taxonomy import HIGHER_RANKS, RANKS, Taxonomy

UNSURE_BELOW_UNMEASURED = 0.5
"""Without a calibration no threshold was measured: an answer is then unsure unless it holds more than all others together."""


@dataclass(frozen=True)
class Taxon:
    """One possible name. A text that isn't known is ""; `scientific_name` is without its author."""

    scientific_name: str
    rank: str
    probability: float
    parents: Mapping[str, str]
    """kingdom, phylum, class, order, family, genus, as far as the rank has them (itself among them)."""
    authorship: str = ""
    vernacular_name: str = ""
    taxon_id: str = ""
    poisonous: bool | None = None

    @property
    def genus(self) -> str:
        return self.parents.get("genus", "")

    @property
    def family(self) -> str:
        return self.parents.get("family", "")


@dataclass(frozen=True)
class Answer:
    """What the model says of one specimen; the lists fall by probability, ties in the order of the classes."""

    species: list[Taxon]
    genera: list[Taxon]
    """Summed over ALL species of the model, not only the listed ones; so are the families."""
    families: list[Taxon]
    unsure: bool
    """The first species has less than the probability that was measured to be trustworthy."""
    poisonous_probability: float | None
    """Sum over the species marked poisonous; None where the model marks none. Says nothing about what may be eaten."""
    calibrated: bool
    """False: the model has no calibration.json, so its numbers are a plain softmax, usually too sure of themselves."""
    photographs: int = 1
    decision: Decision | None = None
    """What of it may be said; None for a model without decisions.json that wasn't asked to decide."""
    restriction: Restriction | None = None
    """The species that alone were considered, if not all; probabilities then sum to 1 over these."""
    inside: float | None = None
    """Of a restricted answer, how much of the probability lay on the species considered: little means that it is another."""
    shares: str | None = None
    """For which shares of species probabilities are corrected, in a sentence; None: they are those of training."""


def describe_threshold(calibration: Calibration | None) -> str:
    """One sentence for people: what it means that an answer is, or isn't, called unsure."""
    if calibration is None:
        return (
            f"This model is not calibrated: its probabilities were never compared with the truth. "
            f"Answers below {_percent(UNSURE_BELOW_UNMEASURED)} are called unsure."
        )
    return calibration.meaning


def _percent(share: float) -> str:
    return f"{100 * share:.0f}\u00a0%"


class Answers:
    """Turns full probabilities into answers of one taxonomy."""

    def __init__(
        self,
        taxonomy: Taxonomy,
        calibration: Calibration | None,
        *,
        decider: Decider | None = None,
        restriction: Restriction | None = None,
        shares: str | None = None,
    ) -> None:
        """`decider`: bound to the restriction's taxonomy where there is one."""
        self.taxonomy = restriction.taxonomy if restriction else taxonomy
        self.calibrated = calibration is not None
        self.unsure_below = UNSURE_BELOW_UNMEASURED if calibration is None else calibration.unsure_below
        self._decider, self._restriction, self._shares = decider, restriction, shares
        self._poisonous_C = self.taxonomy.poisonous()

    def from_probabilities(
        self,
        probabilities_SC: NDArray[np.floating],
        top: int,
        photographs: list[int],
        raw_S2: NDArray[np.floating] | None = None,
    ) -> list[Answer]:
        """One answer per row of [S, C], of ALL classes of the model; `photographs` says how many were averaged in each.

        `raw_S2`: by `validation.raw_signs`, the mean over the photographs; thresholds on the energy or the likeness need it.
        """
        whole_SC, inside_S = probabilities_SC, None
        if self._restriction is not None:
            probabilities_SC, inside_S = self._restriction.apply(probabilities_SC)
        sums = {rank: np.asarray(self.taxonomy.sum_over(rank, probabilities_SC)) for rank in RANKS}
        order = {rank: _order(sums_SG, top) for rank, sums_SG in sums.items()}
        ranked = {rank: self._ranked(rank, sums[rank], order[rank]) for rank in RANKS}
        decisions = self._decisions(whole_SC, raw_S2, probabilities_SC, sums, order)
        poisonous_S = None if self._poisonous_C is None else probabilities_SC[:, self._poisonous_C].sum(axis=1)
        return [
            Answer(
                species=ranked["species"][s],
                genera=ranked["genus"][s],
                families=ranked["family"][s],
                unsure=ranked["species"][s][0].probability < self.unsure_below,
                poisonous_probability=None if poisonous_S is None else float(poisonous_S[s]),
                calibrated=self.calibrated,
                photographs=photographs[s],
                decision=decisions[s],
                restriction=self._restriction,
                inside=None if inside_S is None else float(inside_S[s]),
                shares=self._shares,
            )
            for s in range(len(probabilities_SC))
        ]

    def _decisions(
        self,
        whole_SC: NDArray[np.floating],
        raw_S2: NDArray[np.floating] | None,
        probabilities_SC: NDArray[np.floating],
        sums: Mapping[str, NDArray[np.floating]],
        order: Mapping[str, NDArray[np.int64]],
    ) -> Sequence[Decision | None]:
        if self._decider is None:
            return [None] * len(whole_SC)
        raw_S2 = np.full((len(whole_SC), 2), np.nan) if raw_S2 is None else raw_S2
        first = {
            rank: (order_Sk[:, 0], np.take_along_axis(sums[rank], order_Sk[:, :1], axis=1)[:, 0])
            for rank, order_Sk in order.items()
            if order_Sk.shape[1]
        }
        return self._decider.decide(probabilities_SC, first, *self._decider.flags(whole_SC, raw_S2))

    def _ranked(self, rank: str, sums_SG: NDArray[np.floating], order_Sk: NDArray[np.int64]) -> list[list[Taxon]]:
        rows = self.taxonomy.table.take(self._member[rank][order_Sk.ravel()]).to_pylist()
        values = np.take_along_axis(sums_SG, order_Sk, axis=1).ravel().tolist()
        taxa = [_taxon(rank, row, value) for row, value in zip(rows, values, strict=True)]
        width = order_Sk.shape[1]
        return [taxa[s * width : (s + 1) * width] for s in range(len(sums_SG))]

    @cached_property
    def _member(self) -> dict[str, NDArray[np.int64]]:
        """For each taxon of a rank one of its classes, from whose row its parents are read."""
        members = {}
        for rank in RANKS:
            codes_C = self.taxonomy.codes(rank)
            codes, first = np.unique(codes_C, return_index=True)
            members[rank] = first[codes >= 0].astype(np.int64)
        return members


def _order(sums_SG: NDArray[np.floating], top: int) -> NDArray[np.int64]:
    """The first taxa [S, k]; none of a rank of which the taxonomy knows no taxon."""
    return top_k(sums_SG, min(top, sums_SG.shape[1])) if sums_SG.shape[1] else np.zeros((len(sums_SG), 0), np.int64)


def _taxon(rank: str, row: Mapping[str, Any], probability: float) -> Taxon:
    if rank == "species":
        return Taxon(
            scientific_name=row["scientificName"],
            rank=rank,
            probability=probability,
            parents={higher: row[higher] for higher in HIGHER_RANKS},
            authorship=row["scientificNameAuthorship"],
            vernacular_name=row["vernacularName"],
            taxon_id=row["taxonID"],
            poisonous=row["poisonous"],
        )
    above = HIGHER_RANKS[: HIGHER_RANKS.index(rank) + 1]
    return Taxon(scientific_name=row[rank], rank=rank, probability=probability, parents={higher: row[higher] for higher in above})
