"""The analyses of a report as Markdown: rare species, families, groups of photographs, poisonous species, answer sets."""

from __future__ import annotations

from collections.abc import Sequence

from taxakey.evaluation.analyses import Analyses, CountBin, Grouping, TaxonFigure
from taxakey.evaluation.content import Report
from taxakey.report.summary import families, groups, saturation
from taxakey.report.tables import escape, italic, table
from taxakey.report.wording import percent, signed, with_span

_MONEY = ("track2", "track3", "track4")
"""Mean costs, not shares."""


def analyses_parts(report: Report) -> list[str]:
    """Paragraphs and tables in the order of the page."""
    found = report.analyses
    return [*_rarity(found), *_families(found), *_errors(found), *_groups(found), *_costs(report), *_answer_sets(found)]


def _rarity(found: Analyses) -> list[str]:
    if found.rarity is None:
        return []
    thirds = [
        [each.name.capitalize(), each.label, f"{each.species:,}", with_span(each.top_1)] for each in reversed(found.rarity.thirds)
    ]
    header = ["Third", "Training photographs", "Species", "Top-1, mean of the species"]
    gap = found.differences.get("gap_80_90_minus_5_10")
    return [
        *(["### Head, middle, tail", table(header, thirds)] if len(thirds) > 1 else []),
        saturation(found.rarity),
        f"Species above 90\u00a0%: {found.rarity.above_90:,}."
        + (f" Gap from [80, 90) to [5, 10) training photographs: {signed(gap)}." if gap else ""),
        *_bins("As in NAFlora-1M", found.rarity.tens),
        *_bins("About equally many species in each", found.rarity.quantiles),
    ]


def _bins(title: str, bins: Sequence[CountBin]) -> list[str]:
    if not bins:
        return []
    rows = [[each.label, f"{each.species:,}", _with_error(each.mean, each.standard_error)] for each in bins]
    return [f"{title}; ± is the standard error over the species, in points.", table(["Photographs", "Species", "Top-1"], rows)]


def _with_error(mean: float, error: float | None) -> str:
    return percent(mean) if error is None else f"{percent(mean)} ± {error * 100:.1f}"


def _families(found: Analyses) -> list[str]:
    words = {"family": ("family", "families"), "genus": ("genus", "genera")}
    parts = [families(each, *words[rank]) for rank, each in found.variance.items()]
    if found.variance:
        rows = [
            [words[rank][1].capitalize(), f"{each.values:,}", f"{each.groups:,}", f"{each.f:.2f}",
             f"{each.p_value:.3g}", f"{each.eta_squared:.2f}", f"{each.omega_squared:.2f}"]
            for rank, each in found.variance.items()
        ]  # fmt: skip
        parts.append(table(["Top-1 of the species, over", "Species", "Groups", "F", "p", "η²", "ω²"], rows))
    if found.families is not None:
        ranked = f"families with at least {found.families.least_species} species"
        parts += [f"Named best, of {found.families.ranked:,} {ranked}:", _ranked(found.families.best)]
        parts += ["Named worst:", _ranked(found.families.worst)]
    return ["## Families and genera", *parts] if parts else []


def _ranked(rows: Sequence[TaxonFigure]) -> str:
    cells = [
        [escape(row.name), f"{row.species:,}", f"{row.observations:,}", _with_error(row.top_1, row.standard_error)]
        for row in rows
    ]
    return table(["Family", "Species", "Observations", "Top-1"], cells)


def _errors(found: Analyses) -> list[str]:
    parts = []
    if found.distance is not None:
        rows = [
            [f"same {step.rank}" if step.rank else "none known", f"{step.errors:,}", percent(step.share)]
            for step in found.distance.steps
        ]
        mean = found.distance.mean
        parts += [
            f"Mean taxonomic distance: {mean.value:.2f} ({mean.low:.2f}–{mean.high:.2f}).",
            table(["Truth and answer", "Errors", "Share"], rows),
        ]
    if found.confused_genera:
        pairs = [
            [italic(each.true_name), italic(each.predicted_name), f"{each.count:,} of {each.observations:,}", percent(each.share)]
            for each in found.confused_genera
        ]
        parts.append(table(["Genus", "was taken for", "Observations", "Share"], pairs))
    return ["## How far off the errors are", *parts] if parts else []


def _groups(found: Analyses) -> list[str]:
    if not found.groupings:
        return []
    return ["## Where and when the photographs were made", *(part for each in found.groupings for part in _grouping(each))]


def _grouping(found: Grouping) -> list[str]:
    rows = [
        [
            escape(each.name),
            f"{each.rows:,}",
            f"{each.species:,}",
            with_span(each.top_1),
            "" if each.from_rest is None else signed(each.from_rest),
            "" if each.corrected_p_value is None else f"{each.corrected_p_value:.3f}",
        ]
        for each in found.groups
    ]
    what = "Photographs" if found.by == "organ" else "Observations"
    header = [found.by.capitalize(), what, "Species", "Top-1", "From all others", "Corrected p"]
    return [escape(groups(found)), *([table(header, rows)] if rows else [])]


def _costs(report: Report) -> list[str]:
    found = report.analyses.costs
    if found is None:
        return []
    rows = []
    for name, figure in found.figures.items():
        said = f"{figure.value:.3f} ({figure.low:.3f}–{figure.high:.3f})" if name in _MONEY else with_span(figure)
        rows.append([report.definitions[name].title, said])
    return [
        "## Poisonous species",
        f"{found.poisonous_species:,} species of the model are marked poisonous, {found.poisonous_observations:,} observations "
        "are of one.",
        table(["Of the first answers", "Figure"], rows),
    ]


def _answer_sets(found: Analyses) -> list[str]:
    if not found.answer_sets:
        return []
    rows = [
        [str(each.k), f"{each.set_size:.2f}", with_span(each.average_k), with_span(each.macro_average_k)]
        for each in found.answer_sets
    ]
    header = ["Species in a set, aimed at", "Size reached", "Average-k accuracy", "Macro"]
    return ["## Answers of several species", table(header, rows)]
