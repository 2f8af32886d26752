"""The report in words, made from its numbers. A difference is claimed only where its interval leaves out zero."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from taxakey.evaluation.analyses import ErrorDistance, Grouping, Rarity
from taxakey.evaluation.content import Report
from taxakey.evaluation.groups import LEAST_ROWS
from taxakey.metrics.variance import VarianceAnalysis
from taxakey.report.wording import counted, percent, points, signed, span, with_span

_SIGNIFICANT = 0.05
_FEW_SPECIES = 3
"""In a bin: fewer say nothing of others, however sure their own figure is."""
_LARGE = 0.5
"""Share of one genus or family from which on the summary says what naming it each time would bring."""
_FEW = 30
"""Observations below which the summary begins with a warning."""


class Sentence(NamedTuple):
    """`figures`: the names in `meanings.DEFINITIONS` of what it tells."""

    text: str
    figures: tuple[str, ...]


def summary(report: Report) -> list[str]:
    """What a reader should take away, a sentence or three each, in the order of the page."""
    return [sentence.text for sentence in sentences(report)]


def sentences(report: Report) -> Iterator[Sentence]:
    """Those of `summary`, each with its figures, so that a page can lead from them to their definitions."""
    if report.counts["observations"] < _FEW:
        few = counted(report.counts["observations"], "observation")
        text = f"Only {few} could be judged, so every figure here is rough: look at its range first."
        yield Sentence(text, ("observations", "interval"))
    yield Sentence(_how_often(report), ("top_1", "top_5", "macro_top_1"))
    yield from _higher_ranks(report)
    yield Sentence(promise(report), ("confidence_minus_top_1", "difference"))
    analyses = report.analyses
    if analyses.rarity is not None:
        yield from _rare(report, analyses.rarity)
    if "family" in analyses.variance:
        yield Sentence(families(analyses.variance["family"], "family", "families"), ("f", "p_value", "omega_squared"))
    if analyses.distance is not None:
        yield Sentence(_errors(analyses.distance), ("taxonomic_distance",))
    if analyses.costs is not None and "poison_confusion" in analyses.costs.figures:
        missed = analyses.costs.figures["poison_confusion"]
        text = (
            f"Of {counted(analyses.costs.poisonous_observations, 'observation')} of poisonous species {with_span(missed)} were "
            "taken for harmless ones: no answer of this model says that something may be eaten."
        )
        yield Sentence(text, ("poison_confusion",))
    yield from (Sentence(groups(each), ("from_rest", "holm")) for each in analyses.groupings if len(each.groups) > 1)


def _how_often(report: Report) -> str:
    figures = report.figures["species"]
    text = f"The first name was right for {with_span(figures['top_1'])} of the observations"
    top_5 = figures["top_5"]
    if report.counts["classes"] > 5:
        text += f", and the right name stood among the first five for {percent(top_5.value)} ({span(top_5)})"
    return f"{text}. With every species weighing the same, the first name was right for {with_span(figures['macro_top_1'])}."


def _higher_ranks(report: Report) -> Iterator[Sentence]:
    """Genus against species, family against genus; a rank of which the model knows one taxon only has nothing to tell."""
    for finer, coarser in (("species", "genus"), ("genus", "family")):
        difference = report.analyses.differences.get(f"{coarser}_minus_{finer}")
        if difference is None or coarser not in report.figures:
            continue
        if report.counts[f"{coarser}_taxa"] == 1:
            yield Sentence(f"The model knows one {coarser} only, so that figures at {coarser} tell nothing of it.", ("top_1",))
            continue
        text = f"The {coarser} was right for {with_span(report.figures[coarser]['top_1'])}"
        if difference.supported:
            more = "more" if difference.value > 0 else "less"
            text += f": {points(difference)} {more} often than the {finer}."
        else:
            text += f"; whether more often than the {finer}, chance doesn't let us tell."
        named = ("top_1", f"{coarser}_minus_{finer}", "difference")
        share = _commonest(report, coarser)
        if share < _LARGE:
            yield Sentence(text, named)
        else:
            text += f" Naming the commonest {coarser} each time would be right for {percent(share)}."
            yield Sentence(text, (*named, "commonest"))


def _commonest(report: Report, rank: str) -> float:
    """Share of the genus or family with most observations here, of those whose genus or family is known."""
    count: dict[str, int] = {}
    for row in report.species:
        if name := getattr(row, rank):
            count[name] = count.get(name, 0) + row.observations
    return max(count.values(), default=0) / max(sum(count.values()), 1)


def promise(report: Report) -> str:
    """Whether probabilities may be taken as they stand."""
    found = report.analyses.differences["confidence_minus_top_1"]
    if not found.supported:
        return (
            "On average the probabilities promise neither more nor less than they keep, as far as these observations can tell "
            f"({signed(found)})."
        )
    how, more = ("too sure of itself", "more") if found.value > 0 else ("less sure of itself than it might be", "less")
    return f"The model is {how}: on average its first answers promise {points(found)} {more} than they keep."


def _rare(report: Report, found: Rarity) -> Iterator[Sentence]:
    by_name = {third.name: third for third in found.thirds}
    difference = report.analyses.differences.get("head_minus_tail")
    if difference is not None and {"head", "tail"} <= by_name.keys():
        head, tail = by_name["head"], by_name["tail"]
        text = (
            f"Species with many training photographs ({head.low:,} or more) were named rightly in {with_span(head.top_1)}, those "
            f"with few (at most {tail.high:,}) in {with_span(tail.top_1)}"
        )
        if difference.supported:
            text += f": {points(difference)} {'more' if difference.value > 0 else 'less'} for the former."
        else:
            text += "; the difference can't be told from chance."
        yield Sentence(text, ("third", "macro_top_1", "head_minus_tail"))
    gap, species = report.analyses.differences.get("gap_80_90_minus_5_10"), {each.low: each.species for each in found.tens}
    if gap is not None and min(species[5], species[80]) >= _FEW_SPECIES:
        told = "" if gap.supported else ", which chance alone may explain"
        text = f"From 5–9 to 80–89 training photographs top-1 changes by {signed(gap)}{told}."
        yield Sentence(text, ("gap_80_90_minus_5_10",))
    yield Sentence(saturation(found), saturation_figures(found))


def saturation_figures(found: Rarity) -> tuple[str, ...]:
    """What the sentence on saturation tells."""
    rises = found.saturation is not None and found.saturation.outcome != "no rise"
    return ("saturation", "per_doubling") if rises else ("saturation",)


def saturation(found: Rarity) -> str:
    """What more training photographs bring."""
    point = found.saturation
    if point is None:
        return "Too few species, or too alike in their number of training photographs, to say from how many on more don't help."
    if point.outcome == "no rise":
        return (
            "Within the numbers of training photographs seen here, no rise of top-1 with more of them can be told from chance "
            f"({point.species:,} species with up to {point.most_images:,})."
        )
    rise = (
        f"Twice as many training photographs bring {point.per_doubling * 100:.1f} points of top-1 "
        f"({point.per_doubling_low * 100:.1f} to {point.per_doubling_high * 100:.1f})"
    )
    if point.outcome == "not reached" or point.images is None or point.low is None or point.high is None:
        return (
            f"{rise}; a number from which on more of them don't help isn't reached for sure "
            f"(the species have up to {point.most_images:,})."
        )
    return (
        f"{rise} up to about {point.images:,.0f} (between {point.low:,.0f} and {point.high:,.0f}); beyond, no further gain "
        f"shows, and top-1 stands at about {percent(min(max(point.plateau, 0), 1))}."
    )


def families(found: VarianceAnalysis, one: str, many: str) -> str:
    """Whether it matters to which family a species belongs."""
    p_value = "below 0.001" if found.p_value < 0.001 else f"= {found.p_value:.2g}"
    tested = f"F({found.degrees_between}, {found.degrees_within}) = {found.f:.2f}, p {p_value}"
    if found.p_value >= _SIGNIFICANT:
        return (
            f"That some {many} are named better than others can't be told from chance ({tested}; "
            f"{counted(found.values, 'species', 'species')} of {counted(found.groups, one, many)})."
        )
    share = max(found.omega_squared, 0)
    return (
        f"{many.capitalize()} differ in how well their species are named: the {one} accounts for about {percent(share)} of the "
        f"spread between species (ω²; {tested})."
    )


def _errors(found: ErrorDistance) -> str:
    """Where the wrong answers lie."""
    said = {"genus": "another species of the same genus", "family": "another genus of the same family"}
    near = [f"{percent(step.share)} named {said[step.rank]}" for step in found.steps if step.rank in said]
    if not near:
        return f"{counted(found.errors, 'answer was', 'answers were')} wrong."
    others = sum(step.errors for step in found.steps if step.rank not in said)
    widest = [step.rank for step in found.steps if step.rank in said][-1]
    further = f"; the others share no {widest} that is known" if others else ""
    return f"Of {counted(found.errors, 'wrong answer')} {' and '.join(near)}{further}."


def groups(found: Grouping) -> str:
    """Which groups differ from all others, after correction for having asked so many."""
    sure = [
        (group.name, group.from_rest)
        for group in found.groups
        if group.from_rest is not None and group.from_rest.supported and (group.corrected_p_value or 0) < _SIGNIFICANT
    ]
    several = {"institution": "institutions", "organ": "organs", "month": "months"}[found.by]
    if not found.groups:
        what = "photographs" if found.by == "organ" else "observations"
        return f"Every {found.by} has fewer than {LEAST_ROWS} {what}: too few to compare ({found.left_out} {several})."
    if sum(group.from_rest is not None for group in found.groups) == 0:
        return f"There is only one {found.by}, so that nothing can be compared."
    if not sure:
        return f"No {found.by} can be told from all other {several} by how often its first name was right."
    named = "; ".join(f"{name} {signed(difference)}" for name, difference in sure)
    return (
        f"By {found.by} top-1 differs from that of all other {several} beyond chance for: {named}. "
        "They hold different species, which may be the reason."
    )
