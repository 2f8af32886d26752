"""The plots of a report as inline SVG: text stays text, the same input gives the same bytes, and each says what it shows.

They are drawn small (4.6 inches), so that their letters are still readable when a telephone shrinks them to its width.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from taxakey.evaluation.analyses import ErrorDistance, Rarity
from taxakey.evaluation.content import Report, TrainImagesBin
from taxakey.report.wording import percent, span

GREEN, AMBER, BLUE, INK, GREY, FAINT = "#1b6b50", "#b3641b", "#2f5d8c", "#25322c", "#77827b", "#e3e2d9"
_WIDTH = 4.6
_NONE = 0.5  # where species without a training photograph stand on a logarithmic axis
_TICKS = (_NONE, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10_000)
_MOST_POINTS = 2000  # beyond, a scatter becomes one picture inside the SVG, or the page would take megabytes

STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "text.color": INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}
_SERIES = (("top_1", "Top-1", GREEN, "o"), ("top_5", "Top-5", BLUE, "s"), ("macro_f1", "Macro F1", AMBER, "D"))


def figures_by_rank(report: Report) -> str:
    """Top-1, top-5 and macro F1 at each rank: a dot for the figure, a whisker for its interval."""
    lowest = min(figures[name].low for figures in report.figures.values() for name, *_ in _SERIES)

    def draw(axes: Axes) -> None:
        for row, figures in enumerate(report.figures.values()):
            for number, (name, title, colour, marker) in enumerate(_SERIES):
                interval, y = figures[name], row + (number - 1) * 0.24
                axes.plot(
                    [interval.low, interval.high], [y, y], color=colour, linewidth=2.2, solid_capstyle="butt", clip_on=False
                )
                axes.plot(
                    interval.value, y, marker, color=colour, markersize=6, markeredgecolor="white", clip_on=False, zorder=3,
                    label=title if row == 0 else None,
                )  # fmt: skip
                axes.annotate(
                    percent(interval.value), (1, y), (8, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
                    va="center", fontsize=8.5, color=colour, annotation_clip=False,
                )  # fmt: skip
        axes.set_yticks(range(len(report.figures)), [rank.capitalize() for rank in report.figures])
        axes.set_ylim(len(report.figures) - 0.5, -0.5)
        axes.set_xlim(np.floor(max(lowest - 0.02, 0) * 20) / 20, 1.0)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_formatter(_PERCENT)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axes.figure.legend(loc="outside upper center", ncols=3, columnspacing=1.2, handletextpad=0.3)

    said = "; ".join(
        f"{rank}: " + ", ".join(f"{title} {percent(figures[name].value)}, {span(figures[name])}" for name, title, *_ in _SERIES)
        for rank, figures in report.figures.items()
    )
    return _svg("figures", f"Figures at each rank with intervals. {said}.", draw, height=0.8 + 0.78 * len(report.figures))


def train_images(report: Report) -> str:
    """Top-1 of each species against the number of its training photographs, and the mean of each group with its interval."""
    rows = [row for row in report.species if row.train_images is not None]

    def draw(axes: Axes) -> None:
        x = np.array([max(row.train_images or 0, 0.5) for row in rows])
        # Deterministic jitter, because many species share 0 %, 50 % and 100 %.
        y = np.array([row.top_1 for row in rows]) + 0.012 * np.sin(np.arange(len(rows)) * 2.4)
        size = np.array([6 + 3 * min(row.observations, 12) for row in rows])
        axes.scatter(x, y, s=size, color=GREEN, alpha=0.3, linewidths=0, rasterized=len(rows) > _MOST_POINTS, label="a species")
        counts = [row.train_images or 0 for row in rows]
        middles = [middle_of(each, counts) for each in report.by_train_images]
        shares = [each.top_1 for each in report.by_train_images]
        axes.errorbar(
            middles, [share.value for share in shares],
            yerr=[[share.value - min(share.low, share.value) for share in shares],
                  [max(share.high, share.value) - share.value for share in shares]],
            fmt="-D", color=AMBER, markersize=5.5, markeredgecolor="white", linewidth=1.6, elinewidth=2, label="mean of a group",
        )  # fmt: skip
        axes.set_xscale("log")
        ticks = count_ticks(counts)
        axes.set_xticks(ticks, ["0" if tick < 1 else f"{tick:,}" for tick in ticks])
        axes.minorticks_off()
        axes.set_ylim(-0.05, 1.05)
        axes.yaxis.set_major_formatter(_PERCENT)
        axes.set_xlabel("Training photographs of the species")
        axes.set_ylabel("Top-1")
        axes.figure.legend(loc="outside upper center", ncols=2, handletextpad=0.4)

    said = "; ".join(f"{each.label} photographs: {percent(each.top_1.value)}" for each in report.by_train_images)
    return _svg("train-images", f"Top-1 against the number of training photographs. {said}.", draw)


def middle_of(group: TrainImagesBin, counts: Sequence[int]) -> float:
    """Where a group of species stands on the logarithmic axis: amidst its own species; `counts`: those of all species."""
    high = max(counts) if group.high is None else group.high
    inside = [max(count, _NONE) for count in counts if group.low <= count <= high] or [max(group.low, _NONE)]
    return float(np.sqrt(min(inside) * max(inside)))


def count_ticks(counts: Sequence[int]) -> list[float]:
    """Ticks of the logarithmic axis; each count itself where there are few of them, 0.5 standing for none."""
    distinct = sorted({max(count, _NONE) for count in counts})
    if len(distinct) <= 3:
        return distinct
    return [tick for tick in _TICKS if distinct[0] * 0.7 <= tick <= distinct[-1] * 1.4]


def error_distance(found: ErrorDistance) -> str:
    """How many wrong answers share a genus, a family … with the truth."""
    names = [f"same {step.rank}" if step.rank else "none known" for step in found.steps]

    def draw(axes: Axes) -> None:
        axes.barh(names, [step.share for step in found.steps], color=GREEN, height=0.62)
        for row, step in enumerate(found.steps):
            axes.annotate(
                f"{percent(step.share)} ({step.errors:,})", (step.share, row), (4, 0), textcoords="offset points", va="center",
                fontsize=8.5,
            )  # fmt: skip
        axes.invert_yaxis()
        axes.set_xlim(0, min(1.0, max(step.share for step in found.steps)) * 1.32)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_formatter(_PERCENT)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axes.set_xlabel("Share of the wrong answers")

    said = "; ".join(f"{name} {percent(step.share)}" for name, step in zip(names, found.steps, strict=True))
    return _svg("distance", f"Wrong answers by what they share with the truth. {said}.", draw, height=0.9 + 0.36 * len(names))


def images_by_percent(found: Rarity) -> str:
    """Mean number of training photographs of the species of each whole per cent of top-1."""

    def draw(axes: Axes) -> None:
        axes.plot(list(found.images_by_percent), list(found.images_by_percent.values()), "o", color=GREEN, markersize=4)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda images, _: f"{images:,.0f}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_xlim(-2, 102)
        axes.set_xlabel("Top-1 in per cent")
        axes.set_ylabel("Training photographs, mean")

    return _svg("percent", "Mean number of training photographs of the species of each per cent of top-1.", draw)


def reliability(report: Report) -> str:
    """Promised against kept, group by group; on the diagonal the two agree."""
    points = report.calibration.points

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)), label="promise kept")
        confidence, accuracy = [point.confidence for point in points], [point.accuracy for point in points]
        axes.plot(
            confidence,
            accuracy,
            "-o",
            color=GREEN,
            markersize=5.5,
            markeredgecolor="white",
            linewidth=1.4,
            label="measured",
            clip_on=False,
        )
        if report.calibration.unsure is not None:
            threshold = report.calibration.unsure.threshold
            axes.axvline(threshold, color=AMBER, linewidth=1.4, linestyle=":", label=f"unsure below {threshold * 100:.0f} %")
        axes.set_xlim(0, 1.02)
        axes.set_ylim(0, 1.02)
        axes.xaxis.set_major_formatter(_PERCENT)
        axes.yaxis.set_major_formatter(_PERCENT)
        axes.set_xlabel("Probability of the first answer")
        axes.set_ylabel("Share that was right")
        axes.figure.legend(loc="outside upper center", ncols=3, columnspacing=1.1, handletextpad=0.4)

    said = "; ".join(f"promised {percent(point.confidence)}, right {percent(point.accuracy)}" for point in points)
    return _svg("reliability", f"Reliability of the probabilities. {said}.", draw)


def learning_curves(report: Report) -> list[str]:
    """Loss and, where a validation part was there to measure it, accuracy by epoch; none without curves."""
    if not report.curves:
        return []
    last = report.curves[-1]
    said = f"Loss after {len(report.curves)} epochs: {_or_none(last.train_loss)}, on validation {_or_none(last.validation_loss)}"
    accuracy = f"Top-1 on validation by epoch; at last {_or_none(last.validation_top_1)}"
    losses = (("train_loss", "training", GREY, "-"), ("validation_loss", "validation", GREEN, "-"))
    shares = (("validation_top_1", "top-1", GREEN, "-"), ("validation_macro_top_1", "macro top-1", AMBER, (0, (5, 2))))
    plots = [_curve(report, "loss", f"{said}.", "Loss", losses)]
    if any(epoch.validation_top_1 is not None for epoch in report.curves):
        plots.append(_curve(report, "accuracy", f"{accuracy}.", "On validation", shares))
    return plots


def _curve(report: Report, name: str, said: str, label: str, series: tuple[tuple[str, str, str, Any], ...]) -> str:
    def draw(axes: Axes) -> None:
        for column, title, colour, dashes in series:
            points = [(epoch.epoch, value) for epoch in report.curves if (value := getattr(epoch, column)) is not None]
            if points:
                marker = "o" if len(points) < 12 else ""
                axes.plot(*zip(*points, strict=True), color=colour, linestyle=dashes, marker=marker, markersize=4, label=title)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        if name == "accuracy":
            axes.yaxis.set_major_formatter(_PERCENT)
        else:
            axes.set_ylim(bottom=0)
        axes.set_xlabel("Epoch")
        axes.set_ylabel(label)
        if axes.lines:
            axes.figure.legend(loc="outside upper center", ncols=2)

    return _svg(name, said, draw, height=2.6)


_PERCENT = FuncFormatter(lambda share, _: f"{share * 100:.3g} %")


def _or_none(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3g}"


def _svg(name: str, description: str, draw: Callable[[Axes], None], *, height: float = 3.1) -> str:
    """Draw on one pair of axes -> an `<svg>` element that can stand in a page beside others."""
    with rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        draw(figure.add_subplot())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    element = buffer.getvalue()[buffer.getvalue().index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    element = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", element)  # matplotlib's group names repeat in every figure of a page
    return element.replace("<svg", f'<svg role="img" aria-label="{html.escape(description, quote=True)}"', 1)
