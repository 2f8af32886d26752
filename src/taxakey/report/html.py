"""The report as one self-contained page: style, plots and pictures inside, nothing fetched from anywhere."""

from __future__ import annotations

import json
from typing import Any

from markupsafe import Markup
from plotly.offline import get_plotlyjs

from taxakey import __version__
from taxakey.evaluation.content import Report
from taxakey.evaluation.meanings import METRICS, Definition
from taxakey.report import plots, wording
from taxakey.report.summary import families, groups, promise, saturation, saturation_figures, sentences
from taxakey.report.templates import embedded, formula, jpeg_address, policy, template

MOST_SPECIES = 1000
"""Rows of the table of species in the page; the JSON has all. A thousand rows are about 0.3 MB."""

MOST_POINTS = 5000
"""Species in the interactive plot, those with most observations; 5,000 are about 0.6 MB beside plotly's own 5."""
_RANK_WORDS = {"family": ("family", "families"), "genus": ("genus", "genera")}


def to_html(report: Report) -> str:
    """Render the page. Everything that comes from data is escaped; only our own plots are trusted as markup."""
    used: dict[str, Definition] = {}

    def meaning(name: str) -> Definition:
        """Of a figure; the page ends with a list of those that it asked for."""
        return used.setdefault(name, report.definitions[name])

    page = template(
        "report.html",
        meaning=meaning,
        percent=wording.percent,
        span=wording.span,
        with_span=wording.with_span,
        picture=lambda image_id: _picture(report, image_id),
        signed=wording.signed,
        in_points=wording.in_points,
        formula=formula,
        embedded=embedded,
        recipe=lambda recipe: json.dumps(recipe, indent=1, ensure_ascii=False),
    )
    analyses, interactive = report.analyses, _points(report)
    # Markup stands only round our own SVG, whose one text from data (its label) is escaped, and round plotly's own script.
    return page.render(
        report=report,
        metrics=METRICS,
        used=used,
        analyses=analyses,
        summary=list(sentences(report)),
        promise=promise(report),
        saturation=saturation(analyses.rarity) if analyses.rarity else None,
        saturation_figures=saturation_figures(analyses.rarity) if analyses.rarity else (),
        command=report.command.split(" "),
        variance=[families(found, *_RANK_WORDS[rank]) for rank, found in analyses.variance.items()],
        groups=groups,
        policy=policy,
        version=__version__,
        interactive=interactive,
        plotly=Markup(get_plotlyjs()) if interactive else None,
        distance_plot=Markup(plots.error_distance(analyses.distance)) if analyses.distance else None,
        percent_plot=Markup(plots.images_by_percent(analyses.rarity)) if analyses.rarity else None,
        subtitle=wording.subtitle(report),
        single_photographs=wording.single_photographs(report),
        calibration=wording.calibration(report),
        unsure=wording.unsure(report),
        figures_plot=Markup(plots.figures_by_rank(report)),
        train_images_plot=Markup(plots.train_images(report)) if report.by_train_images else None,
        reliability_plot=Markup(plots.reliability(report)),
        curves=[Markup(plot) for plot in plots.learning_curves(report)],
        species=sorted(report.species, key=lambda row: -row.observations)[:MOST_SPECIES],
    )


def _points(report: Report) -> dict[str, Any] | None:
    """What the interactive plot draws; None where the training photographs aren't known."""
    rows = [row for row in report.species if row.train_images is not None]
    if not rows or not report.by_train_images:
        return None
    rows = sorted(rows, key=lambda row: -row.observations)[:MOST_POINTS]
    counts = [row.train_images or 0 for row in rows]
    groups = [
        {
            "label": each.label,
            "x": plots.middle_of(each, counts),
            "y": each.top_1.value,
            "above": max(each.top_1.high - each.top_1.value, 0),
            "below": max(each.top_1.value - each.top_1.low, 0),
        }
        for each in report.by_train_images
    ]
    columns = {"names": "scientific_name", "vernacular": "vernacular_name", "families": "family", "images": "train_images",
               "top_1": "top_1", "observations": "observations", "taken_for": "taken_for"}  # fmt: skip
    found = {name: [getattr(row, field) for row in rows] for name, field in columns.items()}
    return found | {"groups": groups, "ticks": plots.count_ticks(counts)}


def _picture(report: Report, image_id: str | None) -> str | None:
    """A data: URI, or None where the picture isn't at hand."""
    data = report.thumbnails.get(image_id) if image_id is not None else None
    return jpeg_address(data) if data else None
