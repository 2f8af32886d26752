"""The report as one self-contained page: style, plots and pictures inside, nothing fetched from anywhere."""

from __future__ import annotations

import json

from markupsafe import Markup

from taxakey.evaluation.content import Report
from taxakey.evaluation.meanings import METRICS
from taxakey.report import plots, wording
from taxakey.report.templates import jpeg_address, template

MOST_SPECIES = 1000
"""Rows of the table of species in the page; the JSON has all. A thousand rows are about 0.3 MB."""


def to_html(report: Report) -> str:
    """Render the page. Everything that comes from data is escaped; only our own plots are trusted as markup."""
    page = template(
        "report.html",
        percent=wording.percent,
        span=wording.span,
        with_span=wording.with_span,
        picture=lambda image_id: _picture(report, image_id),
        recipe=lambda recipe: json.dumps(recipe, indent=1, ensure_ascii=False),
    )
    # Markup stands only round our own SVG, whose one text from data (its label) is escaped.
    return page.render(
        report=report,
        metrics=METRICS,
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


def _picture(report: Report, image_id: str | None) -> str | None:
    """A data: URI, or None where the picture isn't at hand."""
    data = report.thumbnails.get(image_id) if image_id is not None else None
    return jpeg_address(data) if data else None
