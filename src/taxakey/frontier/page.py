"""The frontier as files: frontier.md with a plot, frontier.csv and frontier.json."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from taxakey.artifacts import write_json, write_text
from taxakey.evaluation.ensemble_meanings import FRONTIER
from taxakey.frontier.points import COSTS, FIGURES, Limits, Point, as_json, best, non_dominated
from taxakey.report.plots import BLUE, GREY, STYLE
from taxakey.report.tables import definitions, escape, ranged, table

_PLOTTED = ("bytes", "multiply_adds", "pictures_per_second")


def write_frontier(points: Sequence[Point], observations: int, out: Path, command: str, limits: Limits, figure: str) -> Path:
    """Write the files into a folder and return the path of `frontier.md`. What stands there already is replaced."""
    write_json(out / "frontier.json", as_json(points, observations))
    write_text(out / "frontier.csv", _csv(points))
    _plot(points, figure, out / "frontier.png")
    text = to_markdown(points, observations, command, limits, figure)
    write_text(out / "frontier.md", f"{text}\n{definitions(FRONTIER.values())}\n")
    return out / "frontier.md"


def to_markdown(points: Sequence[Point], observations: int, command: str, limits: Limits, figure: str) -> str:
    """The table, its frontiers, and the answer to what was asked."""
    parts = [
        "# Accuracy against cost",
        *([_answer(points, limits, figure)] if limits.given else []),
        f"On {observations:,} observations; in per cent with 95 % bootstrap intervals. **Bold** costs: by this cost no other "
        f"model has a {FIGURES[figure]} as high for less. Neighbours whose intervals overlap may stand the other way round.",
        _table(points, figure),
        "![accuracy against cost](frontier.png)",
        "\n".join([f"* {cost.title}: {cost.meaning}" for cost in COSTS.values()] + _without_costs(points)),
        f"`{command}`",
    ]
    return "\n\n".join(parts) + "\n"


def _without_costs(points: Sequence[Point]) -> list[str]:
    lost = [escape(point.name) for point in points if all(value is None for value in point.costs.values())]
    return (
        [f"* no costs of {', '.join(lost)}: a model of it isn't where it was when it answered, or it mixes answers to crops"]
        if lost
        else []
    )


def _answer(points: Sequence[Point], limits: Limits, figure: str) -> str:
    asked = ", ".join(
        f"{COSTS[name].title} {'at least' if COSTS[name].more_is_better else 'at most'} {_short(value)}"
        for name, value in limits.given.items()
    )
    found = best(points, figure, limits)
    if found is None:
        return f"**No model here has {asked}.**"
    return f"**Best with {asked}: {escape(found.name)}**, {FIGURES[figure]} {ranged(found.figures[figure])}."


def _table(points: Sequence[Point], figure: str) -> str:
    on = {cost: {point.name for point in non_dominated(points, figure, cost)} for cost in COSTS}
    body = []
    for point in sorted(points, key=lambda point: -point.figures[figure].value):
        costs = [("" if (value := point.costs.get(cost)) is None else _short(value)) for cost in COSTS]
        marked = [f"**{text}**" if point.name in on[cost] else text for cost, text in zip(COSTS, costs, strict=True)]
        body.append([escape(point.name), *(ranged(point.figures[name]) for name in FIGURES), *marked])
    return table(["", *FIGURES.values(), *(cost.title for cost in COSTS.values())], body)


def _short(value: float) -> str:
    """With three digits: 3.51 M, 14.2 k."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g}"


def _csv(points: Sequence[Point]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("name", *(f"{name}{end}" for name in FIGURES for end in ("", "_low", "_high")), *COSTS))
    for point in points:
        figures = [f"{v:.6f}" for name in FIGURES for i in [point.figures[name]] for v in (i.value, i.low, i.high)]
        costs = ["" if (value := point.costs.get(name)) is None else f"{value:.6g}" for name in COSTS]
        writer.writerow((point.name, *figures, *costs))
    return text.getvalue()


def _plot(points: Sequence[Point], figure: str, path: Path) -> None:
    with rc_context(STYLE):
        drawn = Figure(figsize=(13, 4.6), facecolor="white", layout="constrained")
        plotted = [cost for cost in _PLOTTED if any(point.costs.get(cost) is not None for point in points)] or [_PLOTTED[0]]
        panels = drawn.subplots(1, len(plotted), sharey=True, squeeze=False)[0]
        for cost, axes in zip(plotted, panels, strict=True):
            known = [point for point in points if point.costs.get(cost) is not None]
            front = non_dominated(known, figure, cost)
            for point in known:
                of, x, on = point.figures[figure], point.costs[cost], point in front
                colour = BLUE if on else GREY
                axes.plot([x, x], [100 * of.low, 100 * of.high], color=colour, linewidth=1, alpha=0.6)
                axes.plot(x, 100 * of.value, "o", color=colour, markersize=6 if on else 4)
            axes.plot([point.costs[cost] for point in front], [100 * point.figures[figure].value for point in front], color=BLUE)
            for number, point in enumerate(front, 1):  # names beside neighbours would cover each other
                at = (point.costs[cost], 100 * point.figures[figure].value)
                axes.annotate(str(number), at, xytext=(5, 4), textcoords="offset points", fontsize=9, color=BLUE)
                axes.plot([], [], marker=f"${number}$", linestyle="", color=BLUE, markersize=6, label=point.name)
            axes.legend(loc="best", fontsize=8, handletextpad=0.2, frameon=True, framealpha=0.9)
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(EngFormatter())
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_xlabel(COSTS[cost].title)
        panels[0].set_ylabel(f"{FIGURES[figure]}, %")
        drawn.savefig(path, dpi=140)
