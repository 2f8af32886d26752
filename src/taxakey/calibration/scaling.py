"""Ways of making scores milder that keep the order of a row's sums: one temperature a rank, one temperature a confidence.

Shapes: I images, C classes, G genera, F families, M knots.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from taxakey.taxonomy import Taxonomy

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Nest:
    """Classes in an order in which genera and families stand together; a class without a known parent is its own."""

    order_C: NDArray[np.int64]
    genus_starts_G: NDArray[np.int64]
    """Where each genus begins among the ordered classes."""
    family_starts_F: NDArray[np.int64]
    """Where each family begins among the genera."""

    @classmethod
    def of(cls, taxonomy: Taxonomy) -> Nest:
        """Raises nothing: genera of an unknown family, and species of an unknown genus, stand alone."""
        family_C, genus_C = taxonomy.codes("family"), taxonomy.codes("genus")
        alone_C = -1 - np.arange(len(taxonomy))
        genus_C = np.where(genus_C >= 0, genus_C, alone_C)
        # A species of unknown genus is a genus of its own; its family may be known.
        first = np.unique(genus_C, return_index=True, return_inverse=True)
        family_C = np.where(family_C >= 0, family_C, alone_C[first[1]][first[2]])
        order_C = np.lexsort((genus_C, family_C))
        genus_C, family_C = genus_C[order_C], family_C[order_C]
        new_family_C = np.append(True, family_C[1:] != family_C[:-1])
        genus_starts_G = np.flatnonzero(new_family_C | np.append(True, genus_C[1:] != genus_C[:-1]))
        return cls(order_C, genus_starts_G, np.flatnonzero(new_family_C[genus_starts_G]))

    @property
    def genus_C(self) -> NDArray[np.int64]:
        """Genus of each class, in the classes' own order."""
        genus_C = np.empty(len(self.order_C), dtype=np.int64)
        genus_C[self.order_C] = np.repeat(np.arange(len(self.genus_starts_G)), _sizes(self.genus_starts_G, len(self.order_C)))
        return genus_C

    @property
    def family_G(self) -> NDArray[np.int64]:
        """Family of each genus."""
        genera = len(self.genus_starts_G)
        return np.repeat(np.arange(len(self.family_starts_F)), _sizes(self.family_starts_F, genera))


def nested_softmax(scores_IC: NDArray[np.floating], temperatures: tuple[float, float, float], nest: Nest) -> Floats:
    """p(family) · p(genus | family) · p(species | genus), each with a temperature of its own (family, genus, species).

    The nested logit (McFadden, 1978): a genus' score is T · log Σ exp(score / T) over its species with their T, and so on
    upwards. Three equal temperatures are one temperature over all classes.
    """
    family_t, genus_t, species_t = temperatures
    scores_IC = np.asarray(scores_IC, dtype=np.float64)[:, nest.order_C]
    species_IC, score_IG = _within(scores_IC, nest.genus_starts_G, species_t)
    genus_IG, score_IF = _within(score_IG, nest.family_starts_F, genus_t)
    log_family_IF = _within(score_IF, np.zeros(1, dtype=np.int64), family_t)[0]
    log_genus_IG = genus_IG + np.repeat(log_family_IF, _sizes(nest.family_starts_F, genus_IG.shape[1]), axis=1)
    log_IC = species_IC + np.repeat(log_genus_IG, _sizes(nest.genus_starts_G, scores_IC.shape[1]), axis=1)
    probabilities_IC = np.empty_like(log_IC)
    probabilities_IC[:, nest.order_C] = np.exp(log_IC)
    return probabilities_IC


def _within(scores: Floats, starts: NDArray[np.int64], temperature: float) -> tuple[Floats, Floats]:
    """Log-probability of each member within its group, and the score of each group."""
    sizes = _sizes(starts, scores.shape[1])
    scaled = scores / temperature
    top = np.maximum.reduceat(scaled, starts, axis=1)
    total = top + np.log(np.add.reduceat(np.exp(scaled - np.repeat(top, sizes, axis=1)), starts, axis=1))
    return scaled - np.repeat(total, sizes, axis=1), temperature * total


def _sizes(starts: NDArray[np.int64], members: int) -> NDArray[np.int64]:
    return np.diff(np.append(starts, members))


def binned_softmax(scores_IC: NDArray[np.floating], temperature: float, knots_M: Floats, factors_M: Floats) -> Floats:
    """softmax(scores / (temperature · factor)), the factor read off at the first answer's probability under `temperature`.

    The logarithm of the factor goes straight from knot to knot (bin-wise temperature scaling, Ji et al. 2019, without its
    jumps). Every row keeps its order.
    """
    scores_IC = np.asarray(scores_IC, dtype=np.float64)
    confidence_I = softmax(scores_IC / temperature, axis=1).max(axis=1)
    factor_I = np.exp(np.interp(confidence_I, knots_M, np.log(factors_M)))
    return softmax(scores_IC / (temperature * factor_I[:, None]), axis=1)
