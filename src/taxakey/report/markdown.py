"""The report as Markdown: the figures and tables, for a repository or a terminal; the pictures are in the HTML."""

from __future__ import annotations

from taxakey.evaluation.content import Report
from taxakey.evaluation.meanings import METRICS
from taxakey.report import wording
from taxakey.report.markdown_analyses import analyses_parts
from taxakey.report.summary import promise, summary
from taxakey.report.tables import escape, italic, table
from taxakey.report.wording import percent, span, with_span


def to_markdown(report: Report) -> str:
    """The whole page as text; names are escaped, species and genera in italics."""
    parts = [
        f"# {escape(report.title)}",
        escape(wording.subtitle(report)),
        *(f"> **Note:** {escape(note)}" for note in report.notes),
        "## In short",
        "\n".join(f"* {escape(sentence)}" for sentence in summary(report)),
        "## Figures",
        _figures(report),
        *([single] if (single := wording.single_photographs(report)) else []),
        "\n".join(f"* **{metric.title}**: {metric.meaning}" for metric in METRICS.values()),
        report.intervals,
        "## Are the probabilities right?",
        promise(report),
        wording.calibration(report),
        *([unsure] if (unsure := wording.unsure(report)) else []),
        *_train_images(report),
        *analyses_parts(report),
        *_pairs(report),
        *_species(report),
        "## Definitions",
        _definitions(report),
        "## How this was made",
        f"    {report.command}",
        _sources(report),
        f"Created {report.created}.",
    ]
    return "\n\n".join(parts) + "\n"


def _figures(report: Report) -> str:
    rows = [
        [rank.capitalize(), *(f"{percent(figures[name].value)} ({span(figures[name])})" for name in METRICS)]
        for rank, figures in report.figures.items()
    ]
    return table(["Rank", *(metric.title for metric in METRICS.values())], rows)


def _train_images(report: Report) -> list[str]:
    if not report.by_train_images:
        return []
    rows = [[each.label, f"{each.species:,}", f"{each.observations:,}", with_span(each.top_1)] for each in report.by_train_images]
    return [
        "## Rare and common species",
        table(["Training photographs", "Species", "Observations", "Top-1, mean of the species"], rows),
    ]


def _pairs(report: Report) -> list[str]:
    if not report.confused:
        return []
    rows = [
        [
            italic(pair.true_name),
            italic(pair.predicted_name),
            f"{pair.count:,} of {pair.observations:,}",
            percent(pair.share),
            pair.kinship,
        ]
        for pair in report.confused
    ]
    return ["## Confused most", table(["Species", "was taken for", "Observations", "Share", "Kinship"], rows)]


def _species(report: Report) -> list[str]:
    rows = [
        [
            italic(row.scientific_name),
            escape(row.family),
            "" if row.train_images is None else f"{row.train_images:,}",
            f"{row.observations:,}",
            percent(row.top_1),
            percent(row.top_5),
            italic(row.taken_for) if row.taken_for else "",
        ]
        for row in report.species
    ]
    header = ["Species", "Family", "Training photographs", "Observations", "Top-1", "Top-5", "Most often taken for"]
    return ["## Every species", table(header, rows)]


def _definitions(report: Report) -> str:
    rows = [[meant.title, meant.meaning, escape(meant.formula), meant.source] for meant in report.definitions.values()]
    return table(["Figure", "Meaning", "Formula", "Source"], rows)


def _sources(report: Report) -> str:
    lines = []
    for facts in report.sources:
        packages = ", ".join(f"{name} {version}" for name, version in facts.packages.items())
        seed = f", seed {facts.seed}" if facts.seed is not None else ""
        lines.append(
            f"* **{facts.kind}** {escape(facts.name)}: {facts.created}, Taxakey {facts.taxakey}{seed}; "
            f"manifest {facts.digest}; recipe `{dict(facts.recipe)}`; {packages}"
        )
    return "\n".join(lines)
