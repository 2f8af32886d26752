"""What the figures of a comparison mean that a report doesn't show; letters as in `meanings`."""

from __future__ import annotations

from taxakey.evaluation.meanings import METRICS, OTHERS, Definition
from taxakey.evaluation.tails import GAP, THIRDS_GAP

_OWN = {
    "difference": Definition(
        "Difference",
        "The run's figure minus the first run's, on the same observations, in points. Bold: its interval leaves out zero; among "
        "many differences one in twenty does so by chance.",
        "the middle of the differences over resamples that are drawn once for both runs",
        "Paired bootstrap; Efron & Tibshirani 1993",
    ),
    "images": Definition(
        "By number of training images",
        "Mean over the species (genera, families) with so many training images of the share of their observations named rightly.",
        "macro top-1 of the bin",
        "Park et al. 2024 (NAFlora-1M)",
    ),
    "third": OTHERS["third"],
    GAP: OTHERS["gap_80_90_minus_5_10"],
    THIRDS_GAP: OTHERS["head_minus_tail"],
    "train_images": OTHERS["train_images"],
    "observations": OTHERS["observations"],
    "before": Definition("Before", "Observations of the species that the first run names rightly.", "Σ [ŷ = c], first run", ""),
    "now": Definition("Now", "Observations of the species that this run names rightly.", "Σ [ŷ = c], this run", ""),
    "gained": Definition(
        "Gained", "Observations that this run names rightly and the first one doesn't.", "Σ [ŷ = y now, ŷ ≠ y before]", ""
    ),
    "lost": Definition(
        "Lost", "Observations that the first run names rightly and this one doesn't.", "Σ [ŷ ≠ y now, ŷ = y before]", ""
    ),
    "mcnemar": Definition(
        "p",
        "How often chance alone would split the changes as unevenly, if both runs were equally good.",
        "2·P(X ≤ min(gained, lost)), X binomial of gained + lost draws at 1/2, 1 at most",
        "McNemar 1947, exact",
    ),
    "sign": Definition(
        "Sign test",
        "How often chance alone would make as many species better and as few worse, if both runs were equally good.",
        "the same with species won and lost instead of observations gained and lost",
        "Arbuthnott 1710; Dixon & Mood 1946",
    ),
    "holm": Definition(
        "p (Holm)",
        "p made larger for having asked all species at once: below 0.05 all of them together err in one case of twenty at most.",
        "rising from the smallest: p·(number of species still to come)",
        "Holm 1979",
    ),
    "interval": OTHERS["interval"],
}
COMPARED: dict[str, Definition] = METRICS | _OWN


def meaning_of_tail(name: str) -> str:
    """Under which name a bin, a third or a gap is defined.

    >>> meaning_of_tail("images_10-19"), meaning_of_tail("third_tail"), meaning_of_tail("gap_head_tail")
    ('images', 'third', 'gap_head_tail')
    """
    return name if name in COMPARED else name.split("_")[0]
