"""Runs side by side as files: comparison.html and .md for people, two CSV for a spreadsheet, comparison.json for programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path

from taxakey.artifacts import write_json, write_text
from taxakey.evaluation.comparing import Comparison, Costs
from taxakey.evaluation.meanings import METRICS
from taxakey.metrics.intervals import Interval
from taxakey.report.comparison_page import comparison_page
from taxakey.report.tables import definitions, escape, points, table
from taxakey.report.winners import species_csv, tails_section, winners_section
from taxakey.report.wording import percent, span

_COSTS = {
    "trained_parameters": "Trained parameters", "parameters": "Parameters", "batch": "Batch",
    "seconds_per_epoch": "Seconds an epoch", "pictures_per_second": "Pictures a second", "peak_host_bytes": "Peak memory",
    "peak_device_bytes": "Peak device memory", "energy_joules": "Energy", "device": "Device",
}  # fmt: skip
_MACRO = ("macro_top_1", "macro_top_5", "macro_f1", "ma_mrr")
"""Figures in which a rare species weighs as much as a common one; the others are micro."""


def write_comparison(found: Comparison, out: Path | str) -> Path:
    """Write the files into a folder and return the path of `comparison.md`. What stands there already is replaced."""
    out = Path(out)
    write_json(out / "comparison.json", found.as_json())
    write_text(out / "comparison.csv", to_csv(found))
    if found.observations:
        write_text(out / "species.csv", species_csv(found))
        write_text(out / "comparison.html", comparison_page(found))
    write_text(out / "comparison.md", to_markdown(found) + _foot(found))
    return out / "comparison.md"


def to_markdown(found: Comparison) -> str:
    """The cost table and the ablation table."""
    parts = ["# Runs compared", *(f"> **Note:** {escape(note)}" for note in found.notes), "## What they cost", _cost_table(found)]
    if found.observations:
        level = f"{found.settings['level'] * 100:.3g}\u00a0%"
        parts += [
            f"## What they score at {found.rank}",
            f"On {found.observations:,} observations of the {found.part} part. Ranges are {level} bootstrap intervals over "
            f"observations ({found.settings['resamples']:,} resamples, seed {found.settings['seed']}). Differences are from "
            f"{escape(found.runs[0].name)}, in points, paired: both runs are judged on the same resamples. **Bold**: the range "
            "leaves out zero; among many differences one in twenty does so by chance.",
            "### Micro: every observation weighs the same",
            _score_table(found, [name for name in METRICS if name not in _MACRO]),
            "### Macro: every species weighs the same",
            _score_table(found, [name for name in METRICS if name in _MACRO]),
            *tails_section(found),
            *winners_section(found),
        ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _foot(found: Comparison) -> str:
    """What the figures mean, and how to make them again: in the file, not on the screen."""
    inputs = table(["Run", "SHA-256 of its manifest"], ([escape(name), f"`{digest}`"] for name, digest in found.inputs.items()))
    parts = ["## How this was made", f"    {found.command}", inputs]
    if found.observations:
        parts = [definitions(found.definitions.values()), *parts]
    return "\n" + "\n\n".join(parts) + "\n"


def _cost_table(found: Comparison) -> str:
    rows = [[escape(run.name), *(_cost(name, getattr(run.costs, name)) for name in _COSTS)] for run in found.runs]
    return table(["Run", *_COSTS.values()], rows)


def _cost(name: str, value: float | str | None) -> str:
    """A cell; empty where nothing was recorded."""
    if value is None:
        return ""
    if isinstance(value, str):
        return escape(value)
    if name.endswith("_bytes"):
        return f"{value / 2**30:.2f}\u00a0GiB" if value >= 2**30 else f"{value / 2**20:.0f}\u00a0MiB"
    if name == "energy_joules":
        return f"{value / 3600:.3g}\u00a0Wh"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def _score_table(found: Comparison, names: list[str]) -> str:
    rows = []
    for number, run in enumerate(found.runs):
        cells = [escape(run.name)]
        for name in names:
            figure, difference = run.figures.get(name), run.differences.get(name)
            cells.append("" if figure is None else f"{percent(figure.value)} ({span(figure)})")
            cells.append("" if difference is None or not number else points(difference))
        rows.append(cells)
    header = [text for name in names for text in (METRICS[name].title, "difference")]
    return table(["Run", *header], rows)


def to_csv(found: Comparison) -> str:
    """A row per run: its costs, then value, low and high of each figure and difference, also by number of training images."""
    text = io.StringIO()
    tails = dict.fromkeys(name for run in found.runs for name in run.tails)
    metrics = [
        f"{name}{kind}{bound}" for name in (*METRICS, *tails) for kind in ("", "_difference") for bound in ("", "_low", "_high")
    ]
    writer = csv.DictWriter(text, ["run", *(field.name for field in fields(Costs)), *metrics], lineterminator="\n")
    writer.writeheader()
    for run in found.runs:
        writer.writerow({"run": run.name, **asdict(run.costs), **_flat({**run.figures, **run.tails}, ""),
                         **_flat({**run.differences, **run.tail_differences}, "_difference")})  # fmt: skip
    return text.getvalue()


def _flat(figures: Mapping[str, Interval], kind: str) -> dict[str, float]:
    return {
        f"{name}{kind}{bound}": getattr(figure, field)
        for name, figure in figures.items()
        for bound, field in (("", "value"), ("_low", "low"), ("_high", "high"))
    }
