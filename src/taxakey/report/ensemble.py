"""An ensemble's tables and plot: ensemble.md for people, ensemble.csv for a spreadsheet, report.json for programs.

Shapes: M members, O observations.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from taxakey.artifacts import write_json, write_text
from taxakey.evaluation.ensemble_meanings import MIXED
from taxakey.evaluation.ensembles import FIGURES, EnsembleReport, Judged
from taxakey.metrics.diversity import disagreement
from taxakey.metrics.intervals import Interval
from taxakey.report.plots import BLUE, GREEN, GREY, STYLE
from taxakey.report.tables import definitions, escape, points, ranged, table


def write_ensemble_report(found: EnsembleReport, out: Path | str, command: str) -> Path:
    """Write the files into a folder and return the path of `ensemble.md`. What stands there already is replaced."""
    out = Path(out)
    write_json(out / "report.json", found.as_json())
    write_text(out / "ensemble.csv", _csv(found))
    _plot(found, out / "ensemble.png")
    write_text(out / "ensemble.md", f"{to_markdown(found, command)}\n{definitions(MIXED.values())}\n")
    return out / "ensemble.md"


def write_disagreement(
    first: Mapping[str, NDArray[np.int64]], rule: str, out: Path | str, command: str, notes: Sequence[str] = ()
) -> Path:
    """Write `ensemble.md` of members for whom nothing was fitted. `first`: first answers [O] by name, the mixture's by `rule`."""
    out, names = Path(out), [name for name in first if name != rule]
    differ_MM = disagreement(np.stack([first[name] for name in (*names, rule)]))
    rows = len(first[rule])
    unanimous = float((np.stack([first[name] for name in names]) == first[names[0]]).all(axis=0).mean())
    head = ["", *(str(m + 1) for m in range(len(names))), f"the {rule}"]
    body = [[f"{m + 1} {escape(name)}", *(f"{100 * share:.1f}" for share in differ_MM[m])] for m, name in enumerate(names)]
    parts = [
        "# Many models, one answer",
        *(f"> **Note:** {escape(note)}" for note in notes),
        f"{len(names)} members, {rows:,} observations without labels: nothing is fitted and nothing judged. Which member is "
        "right, how their errors hang together and what any of them knows can't be said; predict validation and test for that.",
        f"For {100 * unanimous:.1f} % of the observations all members give the same answer. The share that two of them, and each "
        "of them and their mixture, name differently, in per cent:",
        table(head, body),
        "## How this was made",
        f"`{command}`",
    ]
    write_json(out / "disagreement.json", {"names": [*names, rule], "disagreement": differ_MM.tolist(), "unanimous": unanimous})
    write_text(out / "ensemble.md", "\n\n".join(parts) + "\n")
    return out / "ensemble.md"


def to_markdown(found: EnsembleReport, command: str) -> str:
    """The table of members and rules, the differences, and how unlike the members are."""
    level = f"{100 * found.settings['level']:.3g}\u00a0%"
    chosen = next(row for row in found.judged if row.name == found.chosen)
    parts = [
        "# Many models, one answer",
        *(f"> **Note:** {escape(note)}" for note in found.notes),
        _in_words(found, chosen),
        f"Weights come from {found.validation_observations:,} validation observations; rules are compared there by their "
        "negative log-likelihood (NLL) on observations that they weren't fitted on. The test part "
        f"({found.observations:,} observations) was looked at once, for this table. In per cent.",
        _figures(found),
        "![members and rules](ensemble.png)",
        "## Differences",
        f"In points, with {level} intervals: paired bootstrap over the test part's observations. **Bold**: the interval leaves "
        f"out zero. That {len(found.judged)} rows are looked at isn't corrected for.",
        _differences(found),
        "## How unlike the members are",
        f"At least one member is right for {100 * found.diversity.oracle:.1f} % of the observations: no choice among their "
        "answers can be better. Above the diagonal the share that two members name differently, below it the share that both "
        "name wrongly, on it a member's own errors; in per cent.",
        _pairs(found),
        "Correlation of being right (φ): 1 where two are right and wrong together, 0 where one says nothing of the other.",
        _correlations(found),
        "## How this was made",
        f"`{command}`",
    ]
    return "\n\n".join(parts) + "\n"


def _in_words(found: EnsembleReport, chosen: Judged) -> str:
    text = f"Validation chose **{chosen.name}**: top-1 {ranged(chosen.figures['top_1'])} on test"
    best, mean = chosen.over_best_member["top_1"], chosen.over_mean["top_1"]
    text += f", {points(best, digits=2)} points beside the best member ({escape(found.best_member)}); {_said(best)}"
    return f"{text}. Beside the plain mean it is {points(mean, digits=2)} points; {_said(mean)}."


def _said(gain: Interval) -> str:
    if gain.value == gain.low == gain.high == 0:
        return "the answers are the same"
    if gain.low > 0:
        return "that is a gain beyond chance"
    return "that is a loss beyond chance" if gain.high < 0 else "that may be chance"


def _figures(found: EnsembleReport) -> str:
    body = [
        [
            _label(row, found), f"{row.validation_nll:.3f}", f"{100 * row.validation_top_1:.1f}", f"{row.test_nll:.3f}",
            *(ranged(row.figures[name]) for name in FIGURES),
        ]
        for row in found.judged
    ]  # fmt: skip
    return table(["", "validation NLL", "validation top-1", "test NLL", *FIGURES.values()], body)


def _differences(found: EnsembleReport) -> str:
    rows = [row for row in found.judged if not row.is_member]
    head = ["", *(f"{title}, less the best member" for title in FIGURES.values())]
    head += [f"{title}, less the mean" for title in FIGURES.values()]
    body = [
        [_label(row, found), *(points(of[name], digits=2) for of in (row.over_best_member, row.over_mean) for name in FIGURES)]
        for row in rows
    ]
    return table(head, body)


def _pairs(found: EnsembleReport) -> str:
    diversity = found.diversity
    body = []
    for m, name in enumerate(diversity.names):
        values = [diversity.disagreement[m][n] if n > m else diversity.double_fault[m][n] for n in range(len(diversity.names))]
        body.append([f"{m + 1} {escape(name)}", *(f"{100 * value:.1f}" for value in values)])
    return table(["", *(str(m + 1) for m in range(len(diversity.names)))], body)


def _correlations(found: EnsembleReport) -> str:
    names, rows = found.diversity.names, found.diversity.error_correlation
    body = [
        [f"{m + 1} {escape(name)}", *("" if n >= m or value is None else f"{value:.2f}" for n, value in enumerate(rows[m]))]
        for m, name in enumerate(names)
    ]
    return table(["", *(str(m + 1) for m in range(len(names)))], body)


def _label(row: Judged, found: EnsembleReport) -> str:
    name = escape(row.name)
    if row.name == found.chosen:
        return f"**{name}** (chosen)"
    return f"{name} (best member)" if row.name == found.best_member else name


def _csv(found: EnsembleReport) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("name", "kind", "figure", "value", "low", "high", "over_best_low", "over_best_high"))
    for row in found.judged:
        for name, interval in row.figures.items():
            over = row.over_best_member[name]
            gain = (f"{over.low:.6f}", f"{over.high:.6f}")
            kind = "member" if row.is_member else "rule"
            writer.writerow((row.name, kind, name, *(f"{v:.6f}" for v in (interval.value, interval.low, interval.high)), *gain))
    return text.getvalue()


def _plot(found: EnsembleReport, path: Path) -> None:
    rows = found.judged
    with rc_context(STYLE):
        figure = Figure(figsize=(9, 0.32 * len(rows) + 1.1), facecolor="white", layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for metric, axes in zip(("top_1", "macro_top_1"), panels, strict=True):
            for y, row in enumerate(rows):
                of = row.figures[metric]
                colour = GREY if row.is_member else GREEN if row.name == found.chosen else BLUE
                axes.plot([100 * of.low, 100 * of.high], [y, y], color=colour, linewidth=2)
                axes.plot(100 * of.value, y, "D" if row.name == found.chosen else "o", color=colour, markersize=5)
            axes.set_xlabel(f"{FIGURES[metric]}, %")
            axes.set_ylim(len(rows) - 0.5, -0.5)
        panels[0].set_yticks(range(len(rows)), [row.name for row in rows])
        figure.savefig(path, dpi=140)
