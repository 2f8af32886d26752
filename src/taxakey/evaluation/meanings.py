"""What each figure means, in a sentence for somebody who knows plants better than statistics; its formula, and its source.

Letters of the formulas: O observations, C the species that occur in the part, O_c the observations of species c, y the true
species, ŷ the first answer, p a probability, [·] 1 where true and 0 where not.
"""

from __future__ import annotations

from dataclasses import dataclass

from taxakey.metrics.saturation import BELOW, BEYOND, LEAST_SPECIES


@dataclass(frozen=True)
class Definition:
    """A figure's name for people, its meaning, how it is computed, and who defined it so."""

    title: str
    meaning: str
    formula: str
    source: str


METRICS = {
    "top_1": Definition(
        "Top-1",
        "Of all observations, the share whose first name is right; common species weigh more.",
        "Σ [ŷ = y] / O",
        "Micro-averaged accuracy",
    ),
    "top_5": Definition(
        "Top-5",
        "The share whose right name is among the first five.",
        "Σ [rank of y ≤ 5] / O",
        "Russakovsky et al. 2015 (ImageNet)",
    ),
    "macro_top_1": Definition(
        "Macro top-1",
        "Top-1 worked out for each species (genus, family) alone, then averaged: a rare one weighs as much as a common one.",
        "1/C · Σ_c ( Σ [ŷ = c] / O_c )",
        "Macro-averaged recall; Garcin et al. 2021 (Pl@ntNet-300K)",
    ),
    "macro_top_5": Definition(
        "Macro top-5",
        "The same average for the first five names.",
        "1/C · Σ_c ( Σ [rank of c ≤ 5] / O_c )",
        "Garcin et al. 2021 (Pl@ntNet-300K)",
    ),
    "macro_f1": Definition(
        "Macro F1",
        "For each species (genus, family) a balance of two questions, how many of its observations were found and how many of "
        "the answers that name it are right; averaged over all that occur as a truth or as an answer.",
        "mean of 2·TP / (2·TP + FP + FN) over the species true or answered",
        "scikit-learn's f1_score(average='macro'); Park et al. 2024 (NAFlora-1M)",
    ),
    "ma_mrr": Definition(
        "MA-MRR",
        "How high the right name stands: first counts 1, second 1/2, third 1/3 … and nothing beyond the 30th; averaged for each "
        "species (genus, family), then over them (macro-averaged mean reciprocal rank).",
        "1/C · Σ_c ( Σ 1/rank of c, 0 beyond 30 ) / O_c",
        "Goëau et al. 2022 (PlantCLEF)",
    ),
}
"""The figures of every rank, in the order in which they are shown."""

OTHERS = {
    "interval": Definition(
        "Interval",
        "How far a figure could have come out otherwise, had other observations been photographed.",
        "the middle of the figure's values over resamples of the observations, drawn with replacement",
        "Percentile bootstrap; Efron 1979; Efron & Tibshirani 1993",
    ),
    "difference": Definition(
        "Difference",
        "One figure minus another on the same observations. It is spoken of as a difference only where its interval leaves out "
        "zero.",
        "the middle of the differences over resamples that are drawn once for both figures",
        "Paired bootstrap; Efron & Tibshirani 1993",
    ),
    "p_value": Definition(
        "p",
        "How often chance alone would bring so much; below 0.05 is usually called significant.",
        "for differences 2·(resamples on the rarer side of 0 + 1) / (resamples + 1); for F its distribution's upper tail",
        "Davison & Hinkley 1997; Fisher 1925",
    ),
    "holm": Definition(
        "Corrected p",
        "p made larger for having asked many groups at once: below 0.05 all groups together err in one case of twenty at most.",
        "rising from the smallest: p·(number of groups still to come); p is the larger of the paired bootstrap's and of Fisher's "
        "exact test's, which also knows chance where a small group was named rightly throughout",
        "Holm 1979; Fisher 1935",
    ),
    "observations": Definition(
        "Observations", "What was judged; several photographs of one plant count once.", "O", "Darwin Core"
    ),
    "species": Definition("Species", "Those that occur among the observations of this part.", "C", ""),
    "share": Definition(
        "Share", "Of the observations of the true species or genus, those taken for the other.", "count / O_c", ""
    ),
    "train_images": Definition(
        "Training photographs", "Photographs of the species in the dataset's training part.", "N_c", ""
    ),
    "mean_confidence": Definition(
        "Mean probability", "What the first answers promise on average.", "Σ p(ŷ) / O", "Guo et al. 2017"
    ),
    "expected_calibration_error": Definition(
        "Expected calibration error",
        "How far promise and truth lie apart, over groups of answers of similar probability.",
        "Σ_m (O_m / O) · |right in m − mean p in m|, groups of equal size",
        "Nixon et al. 2019 (equal-mass bins)",
    ),
    "error_by_chance": Definition(
        "Calibration error by chance",
        "What the expected calibration error would come to, in groups of this size, had the model kept every promise.",
        "Σ_m (O_m / O) · mean deviation of a binomial share of O_m draws at mean p in m",
        "Diaconis & Zabell 1991 (mean deviation); Roelofs et al. 2022 (bias)",
    ),
    "probability": Definition(
        "Probability", "How sure the model is of a name; the probabilities of all its species add up to 100 %.", "p", ""
    ),
    "loss": Definition(
        "Loss", "What training lowers, epoch by epoch; which one it was stands in the run's recipe below.", "recipe: loss", ""
    ),
    "commonest": Definition(
        "Commonest taxon", "Share of the observations whose genus (family) is known that belong to the commonest genus (family).",
        "max_g O_g / Σ_g O_g", "Majority-class rule",
    ),
    "together_minus_single": Definition(
        "Together minus single",
        "Top-1 from all photographs of an observation together minus the share of its photographs that are named rightly alone, "
        "over the observations with several.",
        "mean over them of [ŷ = y] − (right photographs / photographs)", "Paired bootstrap; Efron & Tibshirani 1993",
    ),
    "negative_log_likelihood": Definition(
        "Negative log-likelihood",
        "How surprised the model was by the right name; 0 is never surprised.",
        "−1/O · Σ log p(y), over the species that the model holds",
        "Good 1952",
    ),
    "unsure_answered": Definition(
        "Answered", "Share of observations whose first answer reaches the threshold set on validation.", "Σ [p(ŷ) ≥ θ] / O",
        "Chow 1970",
    ),
    "unsure_precision": Definition(
        "Right among the answered", "Share of right names among the answers that reach it.", "Σ [p(ŷ) ≥ θ, ŷ = y] / Σ [p(ŷ) ≥ θ]",
        "Chow 1970",
    ),
    "bin_mean": Definition(
        "Top-1, mean of the species",
        "Mean over the species with so many training photographs of the share of their observations named rightly.",
        "mean of the species' top-1",
        "Park et al. 2024 (NAFlora-1M)",
    ),
    "standard_error": Definition(
        "Standard error",
        "How far such a mean strays by the choice of the species; about two of them on each side cover it.",
        "standard deviation of the species' top-1 (divisor n − 1) / √n",
        "Student 1908",
    ),
    "third": Definition(
        "Head, middle, tail",
        "The model's species in three groups of about equally many, by number of training photographs: most, middling, fewest.",
        "macro top-1 of each third",
        "after Liu et al. 2019 (many, medium, few shots)",
    ),
    "saturation": Definition(
        "Saturation point",
        "The number of training photographs from which on more of them bring nothing more: there the line through the species' "
        "top-1 stops rising.",
        "n0 of top-1 = a + b·min(log n, log n0), least squares, each species weighing the same; bootstrap over species; reached "
        f"only if the interval ends below the numbers seen; at least {LEAST_SPECIES} species, {BEYOND:.0%} of them beyond n0 and "
        f"{BELOW:.0%} below",
        "Broken-stick regression; Muggeo 2003",
    ),
    "per_doubling": Definition(
        "Gain per doubling",
        "By how much top-1 rises when a species has twice as many training photographs: below the saturation point where there "
        "is one.",
        "b·log 2 of the same line, or of a straight one where no saturation is reached",
        "Muggeo 2003",
    ),
    "images_by_percent": Definition(
        "Training photographs by top-1",
        "How many training photographs the species have that are named rightly in so many per cent, on average.",
        "mean of N_c over the species with floor(100·top-1) = that per cent",
        "Examination of Pl@ntNet-300K",
    ),
    "above_90": Definition(
        "Species above 90 %", "Species of which more than nine in ten observations were named rightly.", "Σ_c [top-1 of c > 0.9]",
        "Examination of Pl@ntNet-300K",
    ),
    "gap_80_90_minus_5_10": Definition(
        "Gap from [80, 90) to [5, 10)",
        "Macro top-1 of the species with 80 to 89 training photographs minus that of those with 5 to 9.",
        "difference of two macro top-1",
        "Park et al. 2024 (NAFlora-1M)",
    ),
    "head_minus_tail": Definition(
        "Head minus tail", "Macro top-1 of the third with most training photographs minus that with fewest.",
        "difference of two macro top-1", "Liu et al. 2019",
    ),
    "genus_minus_species": Definition(
        "Genus minus species", "Top-1 at genus minus top-1 at species, where both names are known.", "difference of two top-1", ""
    ),
    "family_minus_genus": Definition(
        "Family minus genus", "Top-1 at family minus top-1 at genus, where both names are known.", "difference of two top-1", ""
    ),
    "confidence_minus_top_1": Definition(
        "Promise minus truth", "Mean probability of the first answers minus the share that was right.", "Σ p(ŷ)/O − Σ [ŷ = y]/O",
        "Guo et al. 2017",
    ),
    "f": Definition(
        "F", "Spread between the groups over spread within them; about 1 where the groups don't matter.",
        "(SSB / (G − 1)) / (SSW / (N − G)), a value for each of N species, G groups", "Fisher 1925",
    ),
    "eta_squared": Definition(
        "η²",
        "Share of the spread of the species' top-1 that lies between the groups; many small groups raise it by chance alone.",
        "SSB / SST", "Pearson 1905; Cohen 1988",
    ),
    "omega_squared": Definition(
        "ω²", "The same share, freed of what chance alone brings; 0 or less: no more than chance.",
        "(SSB − (G − 1)·MSW) / (SST + MSW), MSW = SSW / (N − G)", "Hays 1963",
    ),
    "family_top_1": Definition(
        "Top-1 of a family", "Mean over the family's species of their top-1.", "mean of the species' top-1 "
        "(families with 3 species or more are ranked)", "Park et al. 2024 (NAFlora-1M)",
    ),
    "taxonomic_distance": Definition(
        "Mean taxonomic distance",
        "How many ranks lie, for a wrong answer, up to the taxon that truth and answer share: 1 is another species of the genus, "
        "2 another genus of the family. A parent that isn't known is shared with nobody.",
        "mean height of the last common ancestor over the errors",
        "Deng et al. 2010 (hierarchical cost)",
    ),
    "group_top_1": Definition(
        "Top-1 of a group",
        "Share of its observations (for organs: of its photographs) named rightly. Groups hold different species, so a "
        "difference may be theirs. Groups with fewer than 10 aren't shown.",
        "Σ [ŷ = y] / O within the group; drawn by observation", "",
    ),
    "from_rest": Definition(
        "From all others", "Top-1 of the group minus top-1 of all other groups of this kind together, in points.",
        "difference of two top-1 on the same resamples", "Efron & Tibshirani 1993",
    ),
    "poison_accuracy": Definition(
        "Poisonous or not, told right", "Share of observations in which truth and answer are both poisonous or both not.",
        "Σ [poisonous(ŷ) = poisonous(y)] / O", "FungiCLEF",
    ),
    "poison_confusion": Definition(
        "Poisonous taken for harmless", "Share of the poisonous whose answer isn't poisonous.",
        "Σ [y in P, ŷ not in P] / Σ [y in P]", "FungiCLEF 2023 (PSC)",
    ),
    "edible_confusion": Definition(
        "Harmless taken for poisonous", "Share of what isn't poisonous whose answer is.",
        "Σ [y not in P, ŷ in P] / Σ [y not in P]",
        "FungiCLEF 2023 (ESC)",
    ),
    "track1": Definition("Track 1", "Share of wrong answers.", "Σ [ŷ ≠ y] / O", "FungiCLEF 2023–24"),
    "track2": Definition(
        "Track 2",
        "Mean cost of confusing poisonous with harmless: a poisonous species missed costs 100, a harmless one accused 1.",
        "(100·#(y in P, ŷ not) + #(y not in P, ŷ in P)) / O", "FungiCLEF 2023–24",
    ),
    "track3": Definition("Track 3", "Tracks 1 and 2 together.", "Track 1 + Track 2", "FungiCLEF 2023–24"),
    "track4": Definition(
        "Track 4",
        "Mean cost where unknown species count: one that is given a name costs 10, a known one called unknown 0.1, other errors "
        "1. The first answer is always a name here.",
        "(errors among the known + 10·#(y unknown, ŷ known) + 0.1·#(y known, ŷ unknown)) / O", "FungiCLEF 2023",
    ),
    "average_k": Definition(
        "Average-k accuracy",
        "Share of observations whose right name is in an answer set that may be larger for hard pictures and holds k species on "
        "average; the threshold was set on validation.",
        "Σ [p(y) ≥ λ_k] / O", "Lorieul, Joly & Shasha 2021",
    ),
    "macro_average_k": Definition(
        "Macro average-k", "The same for each species alone, then averaged.", "1/C · Σ_c Σ [p(c) ≥ λ_k] / O_c",
        "Garcin et al. 2021 (Pl@ntNet-300K)",
    ),
    "set_size": Definition("Size reached", "Species in such a set in this part, on average.", "Σ |{c: p_c ≥ λ_k}| / O", ""),
}  # fmt: skip
"""Everything else that a report shows."""

DEFINITIONS: dict[str, Definition] = METRICS | OTHERS


def how_intervals_were_made(resamples: int, level: float, seed: int) -> str:
    """The paragraph that stands below the figures."""
    middle = f"{level * 100:.3g}\u00a0%"
    return (
        f"The ranges are {middle} bootstrap intervals: {resamples:,} times as many observations as there are were drawn from "
        f"them with replacement (seed {seed}) and every figure was computed again; the range holds the middle {middle} of the "
        "results. For means over species every species stays in every draw, and those with one observation, which says nothing "
        "of its own chance, are drawn together; such ranges are rather too wide than too narrow. For macro F1 "
        "the range is moved onto the figure, because the F1 of rare species comes out too low in such draws. "
        "Where a figure is 0 or 100\u00a0% the range shrinks to it, though as many as 3 in n further observations may still come "
        "out otherwise. The ranges say how much chance lies in the choice of the observations, not how the model would do on "
        "photographs of another kind."
    )
