"""A study's table as Markdown, CSV and JSON, and a plot of it; a paper's rows stand apart, since they are of other data."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from taxakey.artifacts import write_json, write_text
from taxakey.report.plots import BLUE, GREEN, GREY, STYLE
from taxakey.report.tables import escape, points, table
from taxakey.study.figures import COSTS, TITLES, Row
from taxakey.study.plan import Published, Study

_PLOTTED = ("top_1", "macro_top_1", "rare")
_COSTS_MEANING = (
    "Mean cost of an observation by FungiCLEF's tracks, less is better: 1 for a wrong name (Track 1); 100 for a poisonous "
    "species taken for a harmless one and 1 for a harmless one accused (Track 2); both (Track 3). No answer here is “unknown”, "
    "so species outside the model always cost. “Least cost”: the answer that is expected to cost least, not the most probable."
)


def write_tables(study: Study, rows: Sequence[Row], out: Path, command: str, notes: Sequence[str] = ()) -> Path:
    """Write study.json, study.csv, study.md and study.png; -> study.md, the page for people."""
    facts: dict[str, Any] = {"study": study.study, "title": study.title, "reference": study.first, "seeds": list(study.seeds)}
    published = asdict(study.published) if study.published else None
    write_json(out / "study.json", {**facts, "notes": list(notes), "rows": [asdict(row) for row in rows], "published": published})
    write_text(out / "study.csv", _csv(rows))
    _plot(study, rows, out / "study.png")
    write_text(out / "study.md", _markdown(study, rows, command, notes))
    return out / "study.md"


def _markdown(study: Study, rows: Sequence[Row], command: str, notes: Sequence[str]) -> str:
    costs = any(key in rows[0].mean for key in COSTS)
    seeds = f"mean of {len(study.seeds)} seeds, their range in brackets" if len(study.seeds) > 1 else f"seed {study.seeds[0]}"
    parts = [
        f"# {escape(study.title)}",
        *(f"> **Note:** {escape(note)}" for note in notes),
        f"In per cent; {seeds}. Thirds: macro top-1 of the species with fewest, middling and most training images.",
        figures_table(rows),
        *([_COSTS_MEANING, costs_table(rows)] if costs else []),
        f"![{escape(study.title)}](study.png)",
        f"## Differences from “{escape(study.first)}”",
        "In points, with 95 % intervals: paired bootstrap over the observations, means over seeds. **Bold**: the interval leaves "
        "out zero. That many comparisons are made at once isn't corrected for.",
        differences_table(rows, study.first),
        *(["Of the costs, not in points; less is better:", differences_table(rows, study.first, COSTS)] if costs else []),
        *(_published(study.published) if study.published else []),
        "## How this was made",
        f"`{command}`",
    ]
    return "\n\n".join(parts) + "\n"


def figures_table(rows: Sequence[Row]) -> str:
    """Every figure of every variant, as Markdown."""
    keys = [key for key in TITLES if any(key in row.mean for row in rows)]
    body = [
        [
            escape(row.name),
            *(_with_range([figures[key] for figures in row.by_seed.values()]) if key in row.mean else "" for key in keys),
            f"{row.above_90:.0f}",
            f"{row.counts.get('trained_parameters', 0):,}",
        ]
        for row in rows
    ]
    return table(["", *(TITLES[key] for key in keys), "species above 90 %", "trained parameters"], body)


def costs_table(rows: Sequence[Row]) -> str:
    """What an observation costs on average by each track of FungiCLEF, as Markdown."""
    keys = [key for key in COSTS if any(key in row.mean for row in rows)]
    body = [
        [
            escape(row.name),
            *(_with_range([of[key] for of in row.by_seed.values()], 1, 3) if key in row.mean else "" for key in keys),
        ]
        for row in rows
    ]
    return table(["", *(COSTS[key] for key in keys)], body)


def differences_table(rows: Sequence[Row], reference: str, titles: Mapping[str, str] = TITLES) -> str:
    """Differences from the reference as Markdown: in points, of the costs as they are."""
    others = [row for row in rows if row.name != reference]
    if not others:
        return "There is no other variant."
    scale, digits = (100, 1) if titles is TITLES else (1, 3)
    keys = [key for key in titles if key in others[0].difference]
    body = [[escape(row.name), *(points(row.difference[key], scale=scale, digits=digits) for key in keys)] for row in others]
    return table(["", *(titles[key] for key in keys)], body)


def _with_range(values: Sequence[float], scale: int = 100, digits: int = 1) -> str:
    mean, low, high = (f"{scale * value:.{digits}f}" for value in (sum(values) / len(values), min(values), max(values)))
    return mean if len(values) == 1 else f"{mean} ({low} … {high})"


def _published(published: Published) -> list[str]:
    columns = list(dict.fromkeys(column for row in published.rows.values() for column in row))
    body = [
        [escape(name), *("" if row.get(column) is None else str(row[column]) for column in columns)]
        for name, row in published.rows.items()
    ]
    return [
        "## What was published, on other data",
        f"{escape(published.source)}, measured on {escape(published.data)}: no row here may be compared with a row above.",
        table(["", *(escape(column) for column in columns)], body),
    ]


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("variant", "seed", "figure", "value"))
    for row in rows:
        for seed, figures in row.by_seed.items():
            writer.writerows((row.name, seed, key, f"{value:.6f}") for key, value in figures.items())
    return text.getvalue()


def _plot(study: Study, rows: Sequence[Row], path: Path) -> None:
    keys = [key for key in _PLOTTED if key in rows[0].mean]
    with rc_context(STYLE):
        figure = Figure(figsize=(2.6 * len(keys) + 2.4, 0.32 * len(rows) + 1.1), facecolor="white", layout="constrained")
        panels = figure.subplots(1, len(keys), sharey=True, squeeze=False)[0]
        for key, axes in zip(keys, panels, strict=True):
            for y, row in enumerate(rows):
                values = [100 * figures[key] for figures in row.by_seed.values() if key in figures]
                colour = BLUE if row.name == study.first else GREEN
                axes.plot(values, [y] * len(values), "o", color=colour, alpha=0.35, markersize=5)
                axes.plot(100 * row.mean[key], y, "D", color=colour, markersize=5)
            axes.axvline(100 * next(row for row in rows if row.name == study.first).mean[key], color=GREY, linewidth=0.8)
            axes.set_xlabel(f"{TITLES[key]}, %")
            axes.set_ylim(len(rows) - 0.5, -0.5)
        panels[0].set_yticks(range(len(rows)), [row.name for row in rows])
        figure.savefig(path, dpi=140)
