"""The charts of an exploration, each described once and drawn twice: by plotly in the page, by matplotlib as a PNG.

The page gets plain JSON and draws it itself; names from records stay text on the whole way (`exploration.html` escapes them).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from taxakey.report.coastlines import coastlines
from taxakey.report.exploration import Exploration, Group, Histogram, Places
from taxakey.report.plots import GREEN, GREY, STYLE
from taxakey.report.wording import counted

_MOST_BARS = 25
_MOST_POINTS = 800
_FIRST_YEAR = 1600
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
SCALE = ("#dcebe2", "#8fc3a6", "#3f8f6d", "#1b6b50", "#0b3326")
"""Colours of the map, from few pictures to many."""


@dataclass(frozen=True)
class Chart:
    """One chart. `kind`: "line" (both axes logarithmic), "columns", "bars" (lying, first at the top) or "map".

    `x`, `y`: for a map the south-west corners of its cells, whose pictures are `z` and whose size is `degrees`. `labels`: what
    stands in the note of each mark, besides its number. `coast`: lines behind a map. `of_species`: bars name families, by which
    the species can be searched.
    """

    name: str
    kind: Literal["line", "columns", "bars", "map"]
    x: Sequence[Any]
    y: Sequence[Any]
    x_title: str
    y_title: str
    said: str
    labels: Sequence[str] = ()
    z: Sequence[int] = ()
    degrees: float = 0.0
    coast: Sequence[Sequence[tuple[float, float]]] = ()
    of_species: bool = False

    def as_json(self) -> dict[str, Any]:
        """What the page's script draws from."""
        return asdict(self)


def charts(found: Exploration) -> dict[str, Chart]:
    """The charts that these records allow, by name, in the order of the page."""
    made = [
        _sorted_counts(found),
        _tenths(found),
        _bars("families", found.families, "family", of_species=True),
        _bars("institutions", found.institutions, "institution"),
        _years(found),
        _months(found),
        _map(found.places) if found.places else None,
        _bars("countries", found.countries, "country"),
        _histogram("longest-edge", found.longest_edge, "Longest edge in pixels"),
        _histogram("aspect", found.aspect, "Width divided by height"),
        _bars("licences", found.licences, "licence"),
        _missing(found),
    ]
    return {chart.name: chart for chart in made if chart is not None}


def _sorted_counts(found: Exploration) -> Chart:
    """Of many classes only some hundred points, evenly spread on the logarithmic axis, first and last among them."""
    images = np.array(found.classes["images"])
    ranks = np.arange(1, len(images) + 1)
    if len(images) > _MOST_POINTS:
        ranks = np.unique(np.geomspace(1, len(images), _MOST_POINTS).round().astype(np.int64))
    names = [found.classes["scientificName"][rank - 1] for rank in ranks]
    said = f"Pictures of each species, most first: from {images[0]:,} to {images[-1]:,}, median {np.median(images):,.0f}."
    return Chart("counts", "line", ranks.tolist(), images[ranks - 1].tolist(), "Place of the species", "Pictures", said, names)


def _tenths(found: Exploration) -> Chart:
    percents = [f"{tenth.percent} %" for tenth in found.tenths]
    classes = [tenth.classes for tenth in found.tenths]
    said = "Species needed: " + ", ".join(f"{number:,} for {share}" for share, number in zip(percents, classes, strict=True))
    return Chart("tenths", "columns", percents, classes, "Share of all pictures", "Species", f"{said}.")


def _bars(name: str, groups: Sequence[Group], one: str, *, of_species: bool = False) -> Chart | None:
    """The largest groups; what isn't given and the rest are counted in the text beside the chart, not drawn as if it were one."""
    named = [group for group in groups if group.name is not None][:_MOST_BARS]
    if not named:
        return None
    labels = [counted(group.species, "species", "species") for group in named]
    said = f"Pictures by {one}: " + ", ".join(f"{group.name} {group.images:,}" for group in named[:5])
    return Chart(
        name, "bars", [group.images for group in named], [group.name for group in named], "Pictures", "", f"{said}.", labels,
        of_species=of_species,
    )  # fmt: skip


def _years(found: Exploration) -> Chart | None:
    years = {year: images for year, images in found.years.items() if _FIRST_YEAR <= year <= datetime.now(UTC).year}
    if not years:
        return None
    said = f"Pictures by year, {min(years)} to {max(years)}."
    return Chart("years", "columns", list(years), list(years.values()), "Year", "Pictures", said)


def odd_years(found: Exploration) -> int:
    """Pictures with a year that the chart leaves out because it can hardly be meant."""
    return sum(images for year, images in found.years.items() if not _FIRST_YEAR <= year <= datetime.now(UTC).year)


def _months(found: Exploration) -> Chart | None:
    if not any(found.months):
        return None
    said = "Pictures by month: " + ", ".join(f"{month} {n:,}" for month, n in zip(_MONTHS, found.months, strict=True))
    return Chart("months", "columns", _MONTHS, found.months, "Month", "Pictures", f"{said}.")


def _map(places: Places) -> Chart:
    said = f"Pictures in cells of {places.degrees:g} degrees, {places.located:,} in {len(places.images):,} cells."
    size = places.degrees
    window = min(places.west) - size, max(places.west) + 2 * size, min(places.south) - size, max(places.south) + 2 * size
    coast = [[(float(x), float(y)) for x, y in line] for line in coastlines(*window)]
    corners = places.west, places.south
    return Chart("map", "map", *corners, "Longitude", "Latitude", said, z=places.images, degrees=size, coast=coast)


def _histogram(name: str, histogram: Histogram | None, title: str) -> Chart | None:
    if histogram is None or len(histogram.labels) == 1:  # a single bar says less than a sentence, and the page has one
        return None
    return Chart(name, "columns", histogram.labels, histogram.images, title, "Pictures", f"Pictures by {title.lower()}.")


def _missing(found: Exploration) -> Chart | None:
    """Columns that some pictures have and others lack, in per cent; those that are empty or full throughout are told in words."""
    total = found.counts["images"]
    lacking = sorted(
        ((name, number) for name, number in found.missing.items() if 0 < number < total), key=lambda pair: (-pair[1], pair[0])
    )
    if not lacking:
        return None
    labels = [f"{counted(number, 'picture')} without" for _, number in lacking]
    shares = [round(100 * number / total, 2) for _, number in lacking]
    said = "Missing in per cent: " + ", ".join(f"{name} {share:g}" for (name, _), share in zip(lacking, shares, strict=True))
    return Chart("missing", "bars", shares, [name for name, _ in lacking], "Pictures without it, in %", "", f"{said}.", labels)


# ---- as PNG ----


def to_png(chart: Chart) -> bytes:
    """Draw it on white, 1,040 pixels wide. Dollar signs in names are no formulas."""
    height = {"bars": 0.9 + 0.24 * len(chart.y), "map": 3.6}.get(chart.kind, 3.4)
    with rc_context({**STYLE, "figure.facecolor": "white", "text.parse_math": False}):
        figure = Figure(figsize=(6.5, height), layout="constrained", dpi=160)
        axes = figure.add_subplot()
        _DRAWN_BY[chart.kind](axes, chart)
        axes.set_xlabel(chart.x_title)
        axes.set_ylabel(chart.y_title)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _draw_line(axes: Axes, chart: Chart) -> None:
    axes.loglog(chart.x, chart.y, color=GREEN, linewidth=1.8, marker="o" if len(chart.x) < 40 else "", markersize=3.5)
    axes.set_ylim(bottom=0.8)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(_PLAIN)
        axis.set_minor_formatter(NullFormatter())


def _draw_columns(axes: Axes, chart: Chart) -> None:
    numbers = all(isinstance(value, (int, float)) for value in chart.x)
    steps = np.diff(np.array(chart.x, dtype=float)) if numbers and len(chart.x) > 1 else np.array([1.0])
    axes.bar(chart.x, chart.y, color=GREEN, width=0.86 * steps.min())
    axes.grid(visible=False, axis="x")


def _draw_bars(axes: Axes, chart: Chart) -> None:
    axes.barh(range(len(chart.y)), chart.x, color=GREEN, height=0.74)
    axes.set_yticks(range(len(chart.y)), [_short(str(name)) for name in chart.y])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")


def _draw_map(axes: Axes, chart: Chart) -> None:
    west, south, size = np.array(chart.x), np.array(chart.y), chart.degrees
    column, row = (np.round((values - values.min()) / size).astype(int) for values in (west, south))
    grid = np.full((row.max() + 1, column.max() + 1), np.nan)
    grid[row, column] = chart.z
    extent = (west.min(), west.max() + size, south.min(), south.max() + size)
    colours = LinearSegmentedColormap.from_list("pictures", SCALE)
    image = axes.imshow(
        grid, extent=extent, origin="lower", cmap=colours, norm=LogNorm(1, max(2, max(chart.z))), interpolation="nearest",
        aspect=1 / max(0.2, np.cos(np.radians((extent[2] + extent[3]) / 2))),
    )  # fmt: skip
    for line in chart.coast:
        axes.plot(*zip(*line, strict=True), color=GREY, linewidth=0.6)
    axes.set(xlim=extent[:2], ylim=extent[2:])
    axes.grid(visible=False)
    bar = axes.figure.colorbar(image, ax=axes, label="Pictures", shrink=0.7, format=_PLAIN)
    bar.ax.yaxis.set_minor_formatter(_PLAIN if max(chart.z) < 10 else NullFormatter())  # below ten only minor marks have room


_PLAIN = FuncFormatter(lambda number, _: f"{number:,.0f}")  # matplotlib's own powers of ten are formulas, which are switched off
_DRAWN_BY = {"line": _draw_line, "columns": _draw_columns, "bars": _draw_bars, "map": _draw_map}


def _short(name: str) -> str:
    return name if len(name) <= 40 else name[:39] + "…"
