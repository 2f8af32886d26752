"""What each figure means, in a sentence for somebody who knows plants better than statistics."""

from __future__ import annotations

from typing import NamedTuple


class Metric(NamedTuple):
    """A figure's name for people and its meaning."""

    title: str
    meaning: str


METRICS = {
    "top_1": Metric("Top-1", "Of all observations, the share whose first name is right; common species weigh more."),
    "top_5": Metric("Top-5", "The share whose right name is among the first five."),
    "macro_top_1": Metric(
        "Macro top-1",
        "Top-1 worked out for each species (genus, family) alone, then averaged: a rare one weighs as much as a common one.",
    ),
    "macro_top_5": Metric("Macro top-5", "The same average for the first five names."),
    "macro_f1": Metric(
        "Macro F1",
        "For each species (genus, family) a balance of two questions, how many of its observations were found and how many of "
        "the answers that name it are right; averaged over all that occur as a truth or as an answer.",
    ),
    "ma_mrr": Metric(
        "MA-MRR",
        "How high the right name stands: first counts 1, second 1/2, third 1/3 … and nothing beyond the 30th; averaged for each "
        "species (genus, family), then over them (macro-averaged mean reciprocal rank).",
    ),
}
"""The figures in the order in which they are shown."""


def how_intervals_were_made(resamples: int, level: float, seed: int) -> str:
    """The paragraph that stands below the figures."""
    middle = f"{level * 100:.3g}\u00a0%"
    return (
        f"The ranges are {middle} bootstrap intervals: {resamples:,} times as many observations as there are were drawn from "
        f"them with replacement (seed {seed}) and every figure was computed again; the range holds the middle {middle} of the "
        "results. For macro F1 it is moved onto the figure, because the F1 of rare species comes out too low in such draws. The "
        "ranges say how much chance lies in the choice of the observations, not how the model would do on photographs of another "
        "kind."
    )
