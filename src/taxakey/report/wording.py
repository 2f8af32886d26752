"""Numbers and findings in words, the same in Markdown and HTML."""

from __future__ import annotations

from taxakey.evaluation.content import Report
from taxakey.metrics.differences import Difference
from taxakey.metrics.intervals import Interval


def percent(share: float) -> str:
    """`97.1 %`, with a space that doesn't break; what is neither none nor all isn't rounded to it."""
    if 0 < share < 0.0005:
        return "<\u00a00.1\u00a0%"
    return ">\u00a099.9\u00a0%" if 0.9995 <= share < 1 else f"{share * 100:.1f}\u00a0%"


def span(interval: Interval) -> str:
    """`96.0–98.1 %`: the interval alone."""
    return f"{interval.low * 100:.1f}–{interval.high * 100:.1f}\u00a0%"


def with_span(interval: Interval) -> str:
    """`97.1 % (96.0–98.1 %)`."""
    return f"{percent(interval.value)} ({span(interval)})"


def points(difference: Difference) -> str:
    """`5.8 points (4.1 to 7.5)`, without a sign; only for a difference that is supported."""
    sign = 1 if difference.value >= 0 else -1
    low, high = sorted((sign * difference.low, sign * difference.high))
    return f"{abs(difference.value) * 100:.1f} points ({low * 100:.1f} to {high * 100:.1f})"


def in_points(share: float) -> str:
    """`−0.3`: a share or a difference of shares, with a sign and a minus that isn't a hyphen."""
    return f"{share * 100:+z.1f}".replace("-", "−")


def signed(difference: Difference) -> str:
    """`+1.2 points (−0.3 to +2.7)`."""
    value, low, high = map(in_points, (difference.value, difference.low, difference.high))
    return f"{value} points ({low} to {high})"


def counted(number: int, one: str, many: str | None = None) -> str:
    """`1 observation`, `1,200 observations`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def subtitle(report: Report) -> str:
    """What was measured on what, in one line."""
    counts = report.counts
    of = next((f" of “{facts.name}”" for facts in report.sources if facts.kind == "dataset"), "")
    text = (
        f"Measured on the {report.part} part{of}: {counted(counts['observations'], 'observation')} "
        f"with {counted(counts['images'], 'photograph')} of {counted(counts['species'], 'species', 'species')}. The model knows "
        f"{counted(counts['classes'], 'species', 'species')}, {counted(counts['genus_taxa'], 'genus', 'genera')} and "
        f"{counted(counts['family_taxa'], 'family', 'families')}."
    )
    if outside := counts["observations_outside_model"]:
        text += (
            f" {counted(outside, 'observation is', 'observations are')} of "
            f"{counted(counts['species_outside_model'], 'species', 'species')} that it doesn't know; every species named "
            "for them counts as wrong."
        )
    for rank in ("genus", "family"):
        if rank in report.figures and counts[f"{rank}_observations"] < counts["observations"]:
            text += f" The {rank} of {counts[f'{rank}_observations']:,} observations is known; figures at {rank} are theirs."
    if unnamed := counts["unnamed_observations"]:
        text += (
            f" {counted(unnamed, 'further observation', 'further observations')} without a known species can't be judged there."
        )
    return text


def single_photographs(report: Report) -> str | None:
    """What several photographs of one specimen are worth; None where nobody had several."""
    difference = report.analyses.differences.get("together_minus_single")
    if report.single_photographs is None or difference is None:
        return None
    text = f"From one photograph at a time top-1 at species is {percent(report.single_photographs['top_1'])}. "
    if not difference.supported:
        return text + (
            "Whether observations with several photographs are named better from all of them together, chance doesn't let us "
            f"tell ({signed(difference)})."
        )
    more = "more" if difference.value > 0 else "less"
    return text + (
        f"Observations with several photographs are named rightly {points(difference)} {more} often from all of them together "
        "than from one at a time."
    )


def calibration(report: Report) -> str:
    """Whether probabilities may be believed."""
    found = report.calibration
    return (
        f"An answer given with a probability of 80\u00a0% should be right 80 times in 100. Here the first answers promised "
        f"{percent(found.mean_confidence)} on average and {percent(found.top_1)} were right. Over "
        f"{len(found.points)} groups of answers of similar probability, promise and truth lie "
        f"{found.expected_calibration_error * 100:.1f} points apart on average (expected calibration error, equal-mass groups); "
        f"had every promise been kept, chance alone would bring about {found.error_by_chance * 100:.1f}."
    )


def unsure(report: Report) -> str | None:
    """How the threshold did on this part; None where no calibration was at hand."""
    found = report.calibration.unsure
    if found is None:
        return None
    if found.precision is None:
        return f"Below a probability of {percent(found.threshold)} an answer is called unsure: here every answer was."
    text = (
        f"Below a probability of {percent(found.threshold)} an answer is called unsure. Here {with_span(found.answered)} of the "
        f"observations were answered, and {with_span(found.precision)} of those answers were right"
    )
    text += f"{_kept(found.precision, found.target_precision)}." if found.target_precision is not None else "."
    if found.outside_model:
        text += (
            f" Of {counted(found.outside_model, 'observation', 'observations')} of species that the model doesn't know, "
            f"{counted(found.outside_model_unsure, 'was', 'were')} called unsure, as they should be."
        )
    return text


def _kept(precision: Interval, target: float) -> str:
    promise = f"; the threshold was set on validation so that {target * 100:.3g}\u00a0% should be"
    if precision.high < target:
        return f"{promise}, and that promise was NOT kept here"
    return (
        f"{promise}, which was kept" if precision.value >= target else f"{promise}, and chance alone may explain the difference"
    )
