"""A comparison as one page that needs no network: figures, accuracy by number of training images, species to look up."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from taxakey import __version__
from taxakey.evaluation.compared_meanings import meaning_of_tail
from taxakey.evaluation.comparing import Compared, Comparison
from taxakey.evaluation.meanings import METRICS, Definition
from taxakey.evaluation.tails import GAP
from taxakey.evaluation.winners import SpeciesChange
from taxakey.report.plots import AMBER, BLUE, FAINT, GREEN, GREY, _svg
from taxakey.report.templates import formula, template
from taxakey.report.winners import PLURALS, sentence, tail_title
from taxakey.report.wording import in_points, percent, span

MOST_SPECIES = 1000
"""Rows of a run's table of species in the page: those with most changes; species.csv has all."""
_COLOURS = (GREY, GREEN, AMBER, BLUE, "#7a4a8c", "#8c2f3d")


def comparison_page(found: Comparison) -> str:
    """Render the page; everything that comes from data is escaped, only our own plots are markup."""
    used: dict[str, Definition] = {}

    def meaning(name: str) -> Definition:
        """Of a figure; the page ends with a list of those that it asked for."""
        return used.setdefault(name, found.definitions[name])

    page = template("comparison.html", meaning=meaning, meaning_of_tail=meaning_of_tail, formula=formula, percent=percent,
                    span=span, in_points=in_points, tail_title=tail_title)  # fmt: skip
    measured = [run for run in found.runs if run.figures]
    return page.render(
        found=found,
        used=used,
        command=found.command.split(" "),
        version=__version__,
        measured=measured,
        metrics={name: METRICS[name] for name in METRICS if name in measured[0].figures},
        many=PLURALS[found.rank],
        gap=GAP,
        images_plot=Markup(_by_images(measured)) if measured[0].tails else None,
        changed=[(run, sentence(run.changes, found.rank), Markup(_changes(run)), _most_changed(run))
                 for run in measured if run.changes is not None],
    )  # fmt: skip


def _most_changed(run: Compared) -> list[SpeciesChange]:
    assert run.changes is not None
    return sorted(run.changes.species, key=lambda row: (-abs(row.gained - row.lost), row.name))[:MOST_SPECIES]


def _by_images(runs: list[Compared]) -> str:
    names = [name for name in runs[0].tails if name.startswith("images_")]

    def draw(axes: Axes) -> None:
        for number, run in enumerate(runs):
            known = [place for place, name in enumerate(names) if name in run.tails]
            figures = [run.tails[names[place]] for place in known]
            at = np.array(known) + 0.5 * (number - (len(runs) - 1) / 2) / len(runs)
            colour = _COLOURS[number % len(_COLOURS)]
            axes.vlines(at, [figure.low for figure in figures], [figure.high for figure in figures], color=colour, linewidth=1.6)
            axes.plot(at, [figure.value for figure in figures], "o", color=colour, markersize=4.5, label=run.name)
        axes.set_xticks(range(len(names)), [name.removeprefix("images_").replace("-", "–") for name in names])
        axes.set(xlabel="training images", ylim=(0, 1.02))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0%}"))
        axes.legend(loc="lower right", fontsize=8)

    return _svg("by_images", "Mean top-1 of the taxa by their number of training images, a colour for each run", draw)


def _changes(run: Compared) -> str:
    """A dot for each taxon: right before and now, of as many observations as the dot is large."""
    assert run.changes is not None
    rows = run.changes.species

    def draw(axes: Axes) -> None:
        observations = np.array([row.observations for row in rows])
        before, after = (np.array([getattr(row, side) for row in rows]) / observations for side in ("before", "after"))
        colours = [GREEN if row.gained > row.lost else AMBER if row.gained < row.lost else GREY for row in rows]
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1.4, zorder=0)
        axes.scatter(
            before, after, s=8 + 2 * np.sqrt(observations) * 3, c=colours, alpha=0.6, linewidths=0, rasterized=len(rows) > 2000
        )
        axes.set(
            xlabel="named rightly by the first run", ylabel="named rightly by this one", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03)
        )
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(5))
            axis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0%}"))

    return _svg(
        f"changes {run.name}", f"Share of each taxon's observations named rightly, before and by {run.name}", draw, height=3.6
    )
