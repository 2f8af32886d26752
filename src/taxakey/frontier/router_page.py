"""Routers, means and single models side by side as files: router.md with a plot, router.json."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from taxakey.artifacts import write_json, write_text
from taxakey.evaluation.ensemble_meanings import ROUTED
from taxakey.evaluation.ensembles import FIGURES
from taxakey.frontier.routers import RouterReport, Row
from taxakey.metrics.bins import THIRDS
from taxakey.report.plots import BLUE, GREEN, GREY, STYLE
from taxakey.report.tables import definitions, escape, points, ranged, table


def write_router_report(found: RouterReport, out: Path, command: str) -> Path:
    """Write the files into a folder and return the path of `router.md`. What stands there already is replaced."""
    write_json(out / "router.json", asdict(found))
    _plot(found, out / "router.png")
    write_text(out / "router.md", f"{to_markdown(found, command)}\n{definitions(ROUTED.values())}\n")
    return out / "router.md"


def to_markdown(found: RouterReport, command: str) -> str:
    """The table of all ways of answering, their differences, and who did the work."""
    parts = [
        "# One answer from several models: who is asked?",
        f"A gate looks at {'; another at '.join(map(_stopped, found.gates.items()))}. Gates and cascades' thresholds were fitted "
        f"on validation. Judged once on {found.observations:,} test observations; in per cent with "
        "95 % bootstrap intervals. Cost: mean multiply-adds of a picture, beside the cheapest expert's; a backbone that several "
        f"experts share is counted once.{_speed_words(found)}",
        _table(found),
        "\n".join(f"* {name}: {escape(words)}" for name, words in found.cascades.items()),
        "![accuracy against cost, one point a row of the table](router.png)",
        "## Differences",
        "In points, paired. **Bold**: the interval leaves out zero.",
        _differences(found),
        *_by_third(found),
        "## Who did the work",
        "Mean weight of each expert over the test observations, in per cent.",
        _shares(found),
        f"`{command}`",
    ]
    if even := [words for words, epochs in found.gates.items() if epochs == 0]:
        said = f"nothing that the gate on {escape(', '.join(even))} learned held for held-out validation rows, so it stayed even."
        parts.insert(2, f"> **Note:** {said}")
    return "\n\n".join(parts) + "\n"


def _speed_words(found: RouterReport) -> str:
    if all(row.pictures_per_second is None for row in found.rows):
        return ""
    return (
        " Pictures a second: of the experts that are run, on the machine that made this table, from each one's median seconds, "
        "decoding included; the gates' own time is left out."
    )


def _stopped(gate: tuple[str, int]) -> str:
    return f"{escape(gate[0])} ({gate[1]} epochs)"


def _by_third(found: RouterReport) -> list[str]:
    """Rows by rarity; nothing where the training pictures weren't at hand."""
    if not any(row.by_third for row in found.rows):
        return []
    thirds = [third for third in THIRDS if third in found.rows[0].by_third]
    body = [[_label(row, found), *(ranged(row.by_third[third]) for third in thirds)] for row in found.rows]
    words = "Macro top-1 of the species with the fewest training pictures (tail), of a middle third, and of the most (head)."
    return ["## By rarity", words, table(["", *thirds], body)]


def _table(found: RouterReport) -> str:
    cheapest = min(found.expert_costs)
    body = [
        [
            f"{number} {_label(row, found)}",
            *(ranged(row.figures[name]) for name in FIGURES),
            f"{row.cost / 1e6:,.0f} M",
            f"{row.cost / cheapest:.2f}",
            *([] if row.pictures_per_second is None else [f"{row.pictures_per_second:.1f}"]),
        ]
        for number, row in enumerate(found.rows, 1)
    ]
    timed = any(row.pictures_per_second is not None for row in found.rows)
    return table(["", *FIGURES.values(), "multiply-adds", "× the cheapest", *(["pictures/s"] if timed else [])], body)


def _differences(found: RouterReport) -> str:
    rows = [row for row in found.rows if row.name not in found.experts]
    head = ["", *(f"{title}, less {other}" for other in ("the best expert", "the mean") for title in FIGURES.values())]
    body = [
        [escape(row.name), *(points(of[name], digits=2) for of in (row.over_best, row.over_mean) for name in FIGURES)]
        for row in rows
    ]
    return table(head, body)


def _shares(found: RouterReport) -> str:
    rows = [row for row in found.rows if row.name not in found.experts]
    body = [[escape(row.name), *(f"{100 * share:.0f}" for share in row.shares)] for row in rows]
    return table(["", *map(escape, found.experts)], body)


def _label(row: Row, found: RouterReport) -> str:
    return f"{escape(row.name)} (best expert)" if row.name == found.best_expert else escape(row.name)


def _plot(found: RouterReport, path: Path) -> None:
    with rc_context(STYLE):
        figure = Figure(figsize=(9, 5), facecolor="white", layout="constrained")
        axes = figure.subplots()
        for number, row in enumerate(found.rows, 1):  # the table says whose they are; names would lie on each other
            of, x = row.figures["macro_top_1"], row.cost / 1e6
            single, routed = row.name in found.experts, row.name.startswith(("router", "cascade"))
            colour = GREY if single else GREEN if routed else BLUE
            axes.plot([x, x], [100 * of.low, 100 * of.high], color=colour, linewidth=1, alpha=0.6)
            axes.plot(x, 100 * of.value, "D" if routed else "o", color=colour, markersize=5)
            axes.annotate(str(number), (x, 100 * of.value), xytext=(5, 4), textcoords="offset points", fontsize=8)
        axes.set_xscale("log")
        axes.set_xlabel("multiply-adds of a picture, millions")
        axes.set_ylabel(f"{FIGURES['macro_top_1']}, %")
        figure.savefig(path, dpi=140)
