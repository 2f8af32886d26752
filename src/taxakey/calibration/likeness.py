"""How like a picture's raw scores are to those of training pictures: what tells noise, text and walls from organisms.

Shapes: I images, C classes, G taxa of a rank, K of them with training pictures.

The probabilities of a classifier are sure of much that it has never seen; its raw scores still lie elsewhere. Measured is the
Mahalanobis distance to the nearest mean of a taxon, with one covariance for all (Lee, Lee, Lee and Shin, 2018, there of
features; raw scores are what every bundle gives). It is learnt from TRAINING pictures, of which there are many; the threshold
is learnt on validation.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from taxakey.errors import BadInput
from taxakey.taxonomy import RANKS, Taxonomy

Integers = NDArray[np.integer]
Floats = NDArray[np.float64]
MOST_TAXA = 512
"""With more, the taxa of the next higher rank take the place of species: the two tables hold at most 2 MB, whatever C is."""
MOST_IMAGES = 5_000
_FEWEST_FREE = 30
"""Images beyond one a taxon, below which a covariance is chance."""
_SCORES_AT_ONCE = 20_000_000


@dataclass(frozen=True)
class Likeness:
    """`rank`: of whose taxa mean scores are taken; `whitening` [G, G] and `centres` [K, G] (whitened) as float32 in base64, so
    that they can stand in a JSON; `images`: from how many it was learnt."""

    rank: str
    taxa: int
    images: int
    whitening: str
    centres: str

    def __post_init__(self) -> None:
        if self.rank not in RANKS or self.taxa < 1:
            raise BadInput(f"likeness to {self.taxa} taxa of the rank {self.rank!r}; ranks are {', '.join(RANKS)}")
        self._whitening_GG  # noqa: B018 - damaged numbers are to be found when the file is read
        self._centres_KG  # noqa: B018

    def of(self, scores_IC: NDArray[np.floating], taxonomy: Taxonomy) -> Floats:
        """Minus the squared distance [I] to the nearest mean, divided by G: near −1 for what looks like training pictures.

        Of all classes of the model's taxonomy. Scores that aren't finite are like nothing: −inf.
        """
        given_IG = taxon_means(scores_IC, taxonomy, self.rank)
        if given_IG.shape[1] != self.taxa:
            raise BadInput(f"likeness to {self.taxa} taxa, where the taxonomy has {given_IG.shape[1]} of the rank {self.rank}")
        finite_I = np.asarray(np.isfinite(given_IG).all(axis=1))
        white_IG = np.where(finite_I[:, None], given_IG, 0) @ self._whitening_GG
        cross_IK = white_IG @ self._centres_KG.T
        squared_IK = (white_IG**2).sum(axis=1)[:, None] - 2 * cross_IK + (self._centres_KG**2).sum(axis=1)
        return np.where(finite_I, -np.maximum(squared_IK.min(axis=1), 0) / self.taxa, -np.inf)

    @cached_property
    def _whitening_GG(self) -> Floats:
        return _unpacked(self.whitening, self.taxa)

    @cached_property
    def _centres_KG(self) -> Floats:
        return _unpacked(self.centres, self.taxa)


def taxon_means(scores_IC: NDArray[np.floating], taxonomy: Taxonomy, rank: str) -> Floats:
    """Mean raw score of the classes of each taxon [I, G]; of the rank species the scores themselves."""
    exact_IC: Floats = np.asarray(scores_IC, dtype=np.float64)
    if rank == "species":
        return exact_IC
    codes_C = taxonomy.codes(rank)
    sums_IG = np.asarray(taxonomy.sum_over(rank, exact_IC), dtype=np.float64)
    return np.asarray(sums_IG / np.bincount(codes_C[codes_C >= 0]), dtype=np.float64)


def learn_likeness(
    score: Callable[[NDArray[np.int64]], NDArray[np.floating]], class_I: Integers, taxonomy: Taxonomy
) -> Likeness | None:
    """From training pictures, at most MOST_IMAGES of them, even over the classes; `score` gives raw scores of some rows [·, C].

    None where there are too few pictures for any rank (beyond one a taxon fewer than taxa, or than 30), or a score isn't finite.
    """
    rows = _even_draw(np.asarray(class_I))
    rank = _rank_for(rows, class_I, taxonomy)
    if rank is None:
        return None
    size = max(1, _SCORES_AT_ONCE // len(taxonomy))
    given_IG = np.concatenate(
        [taxon_means(score(rows[start : start + size]), taxonomy, rank) for start in range(0, len(rows), size)]
    )
    taxon_I = taxonomy.codes(rank)[class_I[rows]]
    placed_I = taxon_I >= 0
    return fit_likeness(given_IG[placed_I], taxon_I[placed_I], rank)


def fit_likeness(given_IG: Floats, taxon_I: Integers, rank: str) -> Likeness | None:
    """From mean scores of the taxa and the true taxon of each picture; None where a score isn't finite."""
    if not np.isfinite(given_IG).all():
        return None
    _, taxon_I, count_K = np.unique(taxon_I, return_inverse=True, return_counts=True)
    centres_KG = np.zeros((len(count_K), given_IG.shape[1]))
    np.add.at(centres_KG, taxon_I, given_IG)
    centres_KG /= count_K[:, None]
    covariance_GG = shrunk_covariance(given_IG - centres_KG[taxon_I]) * len(given_IG) / (len(given_IG) - len(count_K))
    variance_G, axes_GG = np.linalg.eigh(covariance_GG)
    # A direction without any spread (scores that sum to a constant) would make every later distance infinite.
    whitening_GG = axes_GG / np.sqrt(np.maximum(variance_G, 1e-6 * variance_G.max() + 1e-30))
    return Likeness(rank, given_IG.shape[1], len(given_IG), _packed(whitening_GG), _packed(centres_KG @ whitening_GG))


def shrunk_covariance(residual_IG: Floats) -> Floats:
    """Covariance [G, G] of rows around zero, drawn towards a multiple of the identity as far as Ledoit and Wolf (2004) say.

    >>> shrunk_covariance(np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
    array([[0.5, 0. ],
           [0. , 0.5]])
    """
    images, width = residual_IG.shape
    raw_GG = residual_IG.T @ residual_IG / images
    mean = np.trace(raw_GG) / width
    spread = ((raw_GG - mean * np.eye(width)) ** 2).sum()
    noise = (((residual_IG**2).sum(axis=1) ** 2).mean() - (raw_GG**2).sum()) / images
    share = 1.0 if spread <= noise or spread == 0 else max(noise, 0.0) / spread
    return (1 - share) * raw_GG + share * mean * np.eye(width)


def _even_draw(class_I: Integers) -> NDArray[np.int64]:
    """Rows of known classes, drawn by a fixed seed: the first of each class, then the second, and so on."""
    shuffled = np.random.default_rng(0).permutation(np.flatnonzero(class_I >= 0))
    order = shuffled[np.argsort(class_I[shuffled], kind="stable")]
    counts = np.unique(class_I[order], return_counts=True)[1]
    turn = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(order[np.lexsort((order, turn))][:MOST_IMAGES])


def _rank_for(rows: NDArray[np.int64], class_I: Integers, taxonomy: Taxonomy) -> str | None:
    """The finest rank of few enough taxa of which there are pictures enough."""
    for rank in RANKS:
        taxa, taxon_I = len(taxonomy.taxa(rank)), taxonomy.codes(rank)[class_I[rows]]
        present = taxon_I[taxon_I >= 0]
        if 0 < taxa <= MOST_TAXA and len(present) - len(np.unique(present)) >= max(taxa, _FEWEST_FREE):
            return rank
    return None


def _packed(numbers: Floats) -> str:
    return base64.b64encode(numbers.astype("<f4").tobytes()).decode("ascii")


def _unpacked(text: str, width: int) -> Floats:
    try:
        numbers = np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4").astype(np.float64)
    except (binascii.Error, ValueError, TypeError) as error:
        raise BadInput(f"likeness: its numbers can't be read ({error})") from None
    if not len(numbers) or len(numbers) % width or not np.isfinite(numbers).all():
        raise BadInput(f"likeness: {len(numbers)} numbers don't fit {width} taxa")
    return numbers.reshape(-1, width)
