"""A simulated flora for testing classification heads: embeddings of thousands of species whose genera and families lie together.

    python benchmarks/simulated_flora.py [--species 8000] [--sizes even|uneven] [--seed 0] [--out FOLDER] [--dtype float16]

Nested Gaussians: a family's mean ~ N(0, s_f² Λ), a genus' = its family's + N(0, s_g² Λ), a species' = its genus' + N(0, s_s² Λ),
an image's vector = its species' + N(0, s_x² Λ_x). Λ and Λ_x are diagonal with power-law spectra; then one random rotation turns
everything, so that no axis of the features is special. Training vectors a species have a long tail; test vectors have none, for
macro figures. A class's index says nothing about its taxonomy: a head that wants an order must be given one.

Because every covariance is known, so is the best possible classifier: `bayes_scores` gives what the best linear projection to a
width keeps, `learnt_scores` what the training vectors can teach someone who knows the covariances, but not the taxonomy.

Shapes: C species, G genera, F families, D features, d kept directions, N vectors of a part, B vectors of a block.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.special import ndtri

from taxakey.metrics.accuracy import class_mean
from taxakey.metrics.ranking import ma_mrr
from taxakey.taxonomy import Taxonomy

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = get_args(Part)
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

BLOCK = 2**16
"""Vectors drawn from one random stream. Part of the flora's definition: another value gives other vectors."""

SCORES_AT_ONCE = 2**25
"""Scores [B, C] held at once while ranking: 128 MiB."""

STREAMS = ("rotation", "sizes", "order", "names", "counts", "family", "genus", "species", *PARTS)
"""Random streams of a flora, each independent of how much the others draw. Only append: the position is part of the key."""


@dataclass(frozen=True)
class FloraOptions:
    """What flora to simulate; the defaults are the sizes of SPEC section 1's sketch, and about as hard.

    Measured at the defaults, seed 0 (top-1 / MA-MRR@30, macro; 10,000 test vectors; AdamW, one cycle of six epochs,
    learning rate at most 0.002, batch 512, weight decay 0.01): a flat softmax on all 256 features 0.557 / 0.689, on a linear
    bottleneck of 128 0.463 / 0.601; both are level from the third epoch.

    Width the classes need, top-1 on the best 32, 64, 128 and 256 directions (`bayes_scores`, then `learnt_scores`;
    of 80,000 species on 5,000 test vectors):

    ========================  =====  =====  =====  =====  =====  =====  =====  =====
    8,000 species             0.328  0.657  0.875  0.969  0.219  0.445  0.618  0.705
    8,000 species, uneven     0.242  0.499  0.749  0.913  0.155  0.317  0.478  0.592
    80,000 species            0.190  0.573  0.872  0.966  0.127  0.363  0.602  0.696
    ========================  =====  =====  =====  =====  =====  =====  =====  =====

    So 128 of 256 keep nine tenths (eight, uneven); ten times the species cost most below that.
    """

    species: int = 8_000
    """Number of classes."""
    sizes: Literal["even", "uneven"] = "even"
    """even: `species_per_genus` species in every genus (fewer in the last one, if need be); uneven: as in real floras."""
    species_per_genus: int = 10
    """Mean size of a genus."""
    genera_per_family: int = 10
    """Mean size of a family."""
    unevenness: float = 1.6
    """Uneven sizes only: deviation of the logarithm of a taxon's expected size. At 1.6 more than a fifth of
    800 genera have one species, and the largest 450."""
    features: int = 256
    """Width D of a vector."""
    family_spread: float = 0.42
    """s_f: deviation of family means per feature (root mean square over features), in the unit of `image_spread`."""
    genus_spread: float = 0.34
    """s_g: deviation of genus means around their family's."""
    species_spread: float = 0.25
    """s_s: deviation of species means around their genus'. The smallest of the three: congeners are what is hard."""
    image_spread: float = 1.0
    """s_x: deviation of images around their species' mean."""
    decay_between: float = 0.6
    """Exponent of Λ: the i-th direction has variance ∝ i^-decay, the mean over directions being 1."""
    decay_within: float = 0.3
    """Exponent of Λ_x. Smaller than `decay_between`: what tells species apart lies in fewer directions than the noise.
    Equal exponents would make every direction equally useful, and every narrower bottleneck equally harmful."""
    fewest: int = 5
    """Training vectors of the rarest species."""
    most: int = 100
    """Training vectors of the most common species."""
    tail: float = 1.35
    """Exponent a of the density ∝ n^-a of training counts between `fewest` and `most`; 1.35 gives a mean of 25."""
    validation: int = 2
    """Validation vectors of every species."""
    test: int = 5
    """Test vectors of every species: 40,000 of 8,000 species."""
    seed: int = 0
    """Fixes everything drawn."""

    def __post_init__(self) -> None:
        if self.sizes not in ("even", "uneven"):
            raise ValueError(f"sizes is {self.sizes!r}; one of even, uneven")
        for name in ("species", "species_per_genus", "genera_per_family", "features", "fewest", "validation", "test"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.image_spread <= 0:
            raise ValueError(f"image_spread is {self.image_spread}; it must be above 0")
        if self.most < self.fewest:
            raise ValueError(f"most is {self.most}, below fewest, {self.fewest}")


def build(options: FloraOptions) -> Flora:
    """Draw the taxonomy, the means and the training counts; vectors are drawn later, part by part."""
    genus_C, family_G = _taxonomy(options)
    genus_C = _stream(options, "order").permutation(genus_C)
    rotation_DD = _rotation(options)
    deviation_D = np.sqrt(spectrum(options.features, options.decay_between))
    means_FD = options.family_spread * deviation_D * _normal(options, "family", int(family_G.max()) + 1)
    means_GD = options.genus_spread * deviation_D * _normal(options, "genus", len(family_G)) + means_FD[family_G]
    means_CD = options.species_spread * deviation_D * _normal(options, "species", options.species) + means_GD[genus_C]
    return Flora(
        options=options,
        family_C=family_G[genus_C],
        genus_C=genus_C,
        counts_C=_training_counts(options),
        means_CD=(means_CD @ rotation_DD).astype(np.float32, copy=False),
        rotation_DD=rotation_DD,
    )


@dataclass(frozen=True, eq=False)
class Flora:
    """A drawn flora. Its vectors are drawn anew at each call of `vectors` or `blocks`, always the same."""

    options: FloraOptions
    family_C: Ints
    """Family of each species; the position in `taxonomy().taxa("family")`."""
    genus_C: Ints
    """Genus of each species; the position in `taxonomy().taxa("genus")`."""
    counts_C: Ints
    """Training vectors of each species."""
    means_CD: Floats
    """True mean of each species."""
    rotation_DD: Floats
    """Orthogonal. Row i is the direction of features with the i-th largest ratio of between- to within-species variance."""

    @cached_property
    def between_D(self) -> Floats:
        """Variance between species, all three levels together, along each row of `rotation_DD`."""
        options = self.options
        spread = options.family_spread**2 + options.genus_spread**2 + options.species_spread**2
        return np.float32(spread) * spectrum(options.features, options.decay_between)

    @cached_property
    def within_D(self) -> Floats:
        """Variance within a species along each row of `rotation_DD`."""
        return np.float32(self.options.image_spread**2) * spectrum(self.options.features, self.options.decay_within)

    def labels(self, part: Part) -> Ints:
        """Class of each vector of a part [N], in random order, so that any first rows are a fair sample."""
        fixed = {"validation": self.options.validation, "test": self.options.test}
        counts_C = self.counts_C if part == "train" else np.full(self.options.species, fixed[part])
        return _stream(self.options, part).permutation(np.repeat(np.arange(self.options.species), counts_C))

    def blocks(self, part: Part) -> Iterator[tuple[Floats, Ints]]:
        """The vectors [B, D] and labels [B] of a part, `BLOCK` rows at a time, for parts that are too big for memory."""
        labels_N, scale_D = self.labels(part), np.sqrt(self.within_D)
        for number, start in enumerate(range(0, len(labels_N), BLOCK)):
            labels_B = labels_N[start : start + BLOCK]
            noise_BD = _stream(self.options, part, number).standard_normal((len(labels_B), len(scale_D)), dtype=np.float32)
            noise_BD *= scale_D
            vectors_BD = noise_BD @ self.rotation_DD
            vectors_BD += self.means_CD[labels_B]
            yield vectors_BD, labels_B

    def vectors(self, part: Part) -> Floats:
        """All vectors of a part [N, D], in the order of `labels(part)`; 1 GB a million at 256 features."""
        count = int(self.counts_C.sum()) if part == "train" else len(self.labels(part))
        vectors_ND = np.empty((count, self.options.features), dtype=np.float32)
        for number, (vectors_BD, _) in enumerate(self.blocks(part)):
            vectors_ND[number * BLOCK :][: len(vectors_BD)] = vectors_BD
        return vectors_ND

    def training_means(self) -> Floats:
        """Mean training vector of each species [C, D]."""
        sums_CD = np.zeros(self.means_CD.shape, dtype=np.float32)
        for vectors_BD, labels_B in self.blocks("train"):
            order = np.argsort(labels_B, kind="stable")
            starts = np.flatnonzero(np.diff(labels_B[order], prepend=-1))
            sums_CD[labels_B[order[starts]]] += np.add.reduceat(vectors_BD[order], starts)
        sums_CD /= self.counts_C[:, None]
        return sums_CD

    def taxonomy(self) -> Taxonomy:
        """Species with invented names, in class order; the first letters of a name say nothing about its genus."""
        rng = _stream(self.options, "names")
        species = _names(rng, self.options.species)
        genera = _names(rng, int(self.genus_C.max()) + 1)
        families = [f"{name}aceae" for name in _names(rng, int(self.family_C.max()) + 1)]
        rows = zip(species, self.genus_C.tolist(), self.family_C.tolist(), strict=True)
        return Taxonomy.from_rows({"scientificName": name, "genus": genera[g], "family": families[f]} for name, g, f in rows)

    def save(self, folder: Path, *, dtype: str = "float32") -> None:
        """Write `<part>_vectors.npy` (for memory-mapping), `<part>_labels.npy`, and of the species: `taxonomy.parquet`,
        `family.npy`, `genus.npy`, `counts.npy`, `means.npy`.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for part in PARTS:
            labels_N = self.labels(part)
            np.save(folder / f"{part}_labels.npy", labels_N)
            shape = (len(labels_N), self.options.features)
            vectors_ND = np.lib.format.open_memmap(folder / f"{part}_vectors.npy", mode="w+", dtype=np.dtype(dtype), shape=shape)
            for number, (vectors_BD, _) in enumerate(self.blocks(part)):
                vectors_ND[number * BLOCK :][: len(vectors_BD)] = vectors_BD
            vectors_ND.flush()
        for name in ("family_C", "genus_C", "counts_C", "means_CD"):
            np.save(folder / f"{name.rpartition('_')[0]}.npy", getattr(self, name))
        pq.write_table(self.taxonomy().table, folder / "taxonomy.parquet")


# ---- drawing ----


def spectrum(features: int, decay: float) -> Floats:
    """Variances i^-decay of D directions, scaled to a mean of 1 [D]."""
    variance_D = np.arange(1, features + 1, dtype=np.float64) ** -decay
    return (variance_D / variance_D.mean()).astype(np.float32)


def _stream(options: FloraOptions, name: str, *block: int) -> np.random.Generator:
    """A stream of its own for each purpose and block: what SeedSequence.spawn would give, without spawning the ones before."""
    return np.random.default_rng(np.random.SeedSequence(options.seed, spawn_key=(STREAMS.index(name), *block)))


def _normal(options: FloraOptions, level: str, count: int) -> Floats:
    return _stream(options, level).standard_normal((count, options.features), dtype=np.float32)


def _rotation(options: FloraOptions) -> Floats:
    """A uniformly random orthogonal matrix: QR of a Gaussian one, with the signs of R's diagonal (Mezzadri, 2007)."""
    q_DD, r_DD = np.linalg.qr(_stream(options, "rotation").standard_normal((options.features, options.features)))
    return (q_DD * np.sign(np.diag(r_DD))).astype(np.float32)


def _taxonomy(options: FloraOptions) -> tuple[Ints, Ints]:
    """Genus of each species [C], family of each genus [G], both ascending."""
    rng = _stream(options, "sizes")
    genus_C = _group(options.species, options.species_per_genus, options, rng)
    return genus_C, _group(int(genus_C.max()) + 1, options.genera_per_family, options, rng)


def _group(members: int, mean_size: int, options: FloraOptions, rng: np.random.Generator) -> Ints:
    """Group of each member, ascending. Uneven: each group has one member, the others fall to groups by log-normal weights.

    The weights are even quantiles in random order. Drawn ones made the largest of 800 genera 200 species with one seed and 1,300
    with another, and no two seeds were equally hard.
    """
    if options.sizes == "even":
        return np.arange(members) // mean_size
    groups = -(-members // mean_size)
    weight_G = rng.permutation(np.exp(options.unevenness * ndtri((np.arange(groups) + 0.5) / groups)))
    sizes_G = 1 + rng.multinomial(members - groups, weight_G / weight_G.sum())
    return np.repeat(np.arange(groups), sizes_G)


def _training_counts(options: FloraOptions) -> Ints:
    """Even quantiles of a power law cut off at both ends, dealt to the species at random [C]: every seed has the same tail."""
    low, high, power = float(options.fewest), float(options.most), 1 - options.tail
    share_C = (np.arange(options.species) + 0.5) / options.species
    if power == 0:
        counts_C = low * (high / low) ** share_C
    else:
        counts_C = (low**power + share_C * (high**power - low**power)) ** (1 / power)
    return _stream(options, "counts").permutation(np.rint(counts_C).astype(np.int64))


def _names(rng: np.random.Generator, count: int) -> list[str]:
    """Distinct invented words of four syllables, sorted."""
    syllables = [consonant + vowel for consonant in "bcdfghklmnprstvz" for vowel in "aeiou"]
    base = len(syllables)
    codes = np.sort(rng.choice(base**4, size=count, replace=False))
    digits = np.stack([codes // base**place % base for place in (3, 2, 1, 0)], axis=1)
    return ["".join(syllables[digit] for digit in row).capitalize() for row in digits.tolist()]


# ---- what can be reached ----


@dataclass(frozen=True)
class Scores:
    """Figures of a classifier, means over species of its means over their test vectors."""

    top_1: float
    ma_mrr: float
    """Macro-averaged mean reciprocal rank, 0 beyond rank 30 (SPEC section 5)."""


def bayes_scores(flora: Flora, width: int, *, vectors: int = 40_000) -> Scores:
    """The best classifier that sees only the best linear projection to `width` features: true means, true covariance.

    The best projection is onto the generalised eigenvectors of between- against within-species covariance with the largest
    values: the first rows of `rotation_DD`, since both are diagonal there. Ranked are the first `vectors` test vectors.
    """
    axes_Dd = _whitening(flora, width)
    means_Cd = flora.means_CD @ axes_Dd
    offset_C = (means_Cd**2).sum(1) / 2
    return _scores(flora, lambda vectors_BD: vectors_BD @ axes_Dd @ means_Cd.T - offset_C, vectors)


def bayes_accuracy(flora: Flora, width: int) -> float:
    """Macro top-1 accuracy of `bayes_scores`."""
    return bayes_scores(flora, width).top_1


def learnt_scores(flora: Flora, width: int, training_means_CD: Floats | None = None, *, vectors: int = 40_000) -> Scores:
    """The best classifier learnt from the training vectors by someone who knows the covariances, but neither means nor taxonomy.

    A species' mean has the prior N(0, between); n vectors with mean x̄ make it normal again, and a new vector is judged by its
    predictive density (the common quadratic discriminant with shrunk means). A flat softmax has less to go by, and does worse.
    """
    means_CD = flora.training_means() if training_means_CD is None else training_means_CD
    axes_Dd = _whitening(flora, width)
    prior_d = (flora.between_D / flora.within_D)[:width]
    known_Cd = flora.counts_C[:, None].astype(np.float32) * prior_d
    means_Cd = means_CD @ axes_Dd * (known_Cd / (known_Cd + 1))
    precision_Cd = 1 / (1 + prior_d / (known_Cd + 1))
    slope_Cd = means_Cd * precision_Cd
    offset_C = (slope_Cd * means_Cd).sum(1) / 2 - np.log(precision_Cd).sum(1) / 2

    def score(vectors_BD: Floats) -> Floats:
        vectors_Bd = vectors_BD @ axes_Dd
        return vectors_Bd @ slope_Cd.T - (vectors_Bd**2 / 2) @ precision_Cd.T - offset_C

    return _scores(flora, score, vectors)


def _whitening(flora: Flora, width: int) -> Floats:
    """Projection [D, d] onto the directions that tell species apart best, with unit variance within a species."""
    if not 1 <= width <= flora.options.features:
        raise ValueError(f"width is {width}; it must be between 1 and the {flora.options.features} features")
    return (flora.rotation_DD / np.sqrt(flora.within_D)[:, None])[:width].T.astype(np.float32, copy=False)


def _scores(flora: Flora, score: Callable[[Floats], Floats], vectors: int) -> Scores:
    """Rank the true class of the first `vectors` test vectors by `score`, which makes [B, C] of [B, D]."""
    ranks, labels = [], []
    for vectors_BD, labels_B in _first(flora.blocks("test"), vectors, SCORES_AT_ONCE // flora.options.species + 1):
        scores_BC = score(vectors_BD)
        true_B1 = np.take_along_axis(scores_BC, labels_B[:, None], axis=1)
        ranks.append(1 + np.count_nonzero(scores_BC > true_B1, axis=1))
        labels.append(labels_B)
    rank_N, label_N = np.concatenate(ranks), np.concatenate(labels)
    return Scores(top_1=class_mean(rank_N == 1, label_N), ma_mrr=ma_mrr(rank_N, label_N))


def _first(blocks: Iterator[tuple[Floats, Ints]], vectors: int, rows: int) -> Iterator[tuple[Floats, Ints]]:
    """The first so many vectors of the blocks, in pieces of `rows`."""
    for vectors_BD, labels_B in blocks:
        for start in range(0, min(len(labels_B), vectors), rows):
            piece = slice(start, min(start + rows, vectors))
            yield vectors_BD[piece], labels_B[piece]
        vectors -= len(labels_B)
        if vectors <= 0:
            return


# ---- the command ----


def facts(flora: Flora, widths: tuple[int, ...] = (32, 64, 128), *, vectors: int = 40_000) -> str:
    """The flora in figures, as the command prints them: sizes, tail, what each width and all features can reach."""
    options, counts_C = flora.options, flora.counts_C
    genera, families = np.bincount(flora.genus_C), np.bincount(flora.family_C)
    between_D = np.cumsum(flora.between_D) / flora.between_D.sum()
    vectors_of = [f"{len(flora.labels(part)):,} for {part}" for part in PARTS]
    rarer_half = np.sort(counts_C)[: len(counts_C) // 2].sum() / counts_C.sum()
    lines = [
        f"{options.species:,} species, {len(genera):,} genera, {len(families):,} families; "
        f"{options.features} features, seed {options.seed}",
        f"species of a genus: {genera.min()} to {genera.max()}, {np.mean(genera == 1):.0%} of the genera have one; "
        f"of a family: {families.min()} to {families.max()}",
        f"vectors: {', '.join(vectors_of)}",
        f"training vectors a species: {counts_C.min()} to {counts_C.max()}, mean {counts_C.mean():.1f}, "
        f"median {np.median(counts_C):.0f}; the rarer half of the species has {rarer_half:.0%}",
        "",
        "width   variance between   known means: top-1  MA-MRR@30   kept   learnt means: top-1  MA-MRR@30",
    ]
    means_CD = flora.training_means()
    best = bayes_scores(flora, options.features, vectors=vectors)
    for width in [*(width for width in widths if width < options.features), options.features]:
        known = best if width == options.features else bayes_scores(flora, width, vectors=vectors)
        learnt = learnt_scores(flora, width, means_CD, vectors=vectors)
        lines.append(
            f"{width:5d}   {between_D[width - 1]:16.1%}   {known.top_1:18.3f}  {known.ma_mrr:9.3f}   "
            f"{known.top_1 / best.top_1:4.0%}   {learnt.top_1:19.3f}  {learnt.ma_mrr:9.3f}"
        )
    return "\n".join(lines)


def main() -> None:
    defaults = FloraOptions()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--species", type=int, default=defaults.species)
    parser.add_argument("--sizes", choices=("even", "uneven"), default=defaults.sizes)
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--vectors", type=int, default=40_000, help="test vectors that are ranked for the table")
    parser.add_argument("--out", type=Path, help="folder for .npy files and taxonomy.parquet")
    parser.add_argument("--dtype", choices=("float16", "float32"), default="float32", help="of the vectors written")
    arguments = parser.parse_args()
    started = time.perf_counter()
    flora = build(FloraOptions(species=arguments.species, sizes=arguments.sizes, seed=arguments.seed))
    print(facts(flora, vectors=arguments.vectors))
    print(f"\n{time.perf_counter() - started:.0f} s for this table")
    if arguments.out:
        started = time.perf_counter()
        flora.save(arguments.out, dtype=arguments.dtype)
        print(f"{time.perf_counter() - started:.0f} s to draw and write {arguments.out}")


if __name__ == "__main__":
    main()
