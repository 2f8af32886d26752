"""The plots of a search: search.html, one page that needs no network, and the same in short as search.png."""

from __future__ import annotations

import io
from html import escape
from pathlib import Path
from typing import Any

from taxakey.artifacts import open_atomically, write_text
from taxakey.training.search import open_study

_PLOTS = ("plot_optimization_history", "plot_intermediate_values", "plot_slice", "plot_parallel_coordinate")


def write_search_page(out: Path | str, figure: str) -> Path:
    """Write both files into a search's folder; `figure` names what was bettered. Returns the path of the page."""
    import optuna.visualization
    from plotly.offline import get_plotlyjs

    out, study = Path(out), open_study(out)
    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.value is not None]
    plots = []
    for name in _PLOTS:
        target = {"target_name": figure} if name != "plot_intermediate_values" else {}
        plot = getattr(optuna.visualization, name)(study, **target)
        plots.append(plot.to_html(full_html=False, include_plotlyjs=False))
    best = study.best_trial
    values = "".join(f"<li>{escape(key)}: {escape(str(value))}</li>" for key, value in best.params.items())
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Search</title>'
        "<style>body{font:16px system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}</style>"
        f"<script>{get_plotlyjs()}</script></head><body><h1>Search</h1>"
        f"<p>{len(trials):,} trials with a figure; the best, trial {best.number}, has {escape(figure)} {best.value:.4f}:</p>"
        f"<ul>{values}</ul>{''.join(plots)}</body></html>\n"
    )
    write_text(out / "search.html", page)
    with open_atomically(out / "search.png") as file:
        file.write(_png(trials, sorted(best.params), figure))
    return out / "search.html"


def _png(trials: list[Any], keys: list[str], figure: str) -> bytes:
    """The figure by trial, and against each key; pruned trials stand where they were given up, in grey."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(4 * (len(keys) + 1), 3.6), layout="constrained")
    axes = drawn.subplots(1, len(keys) + 1, sharey=True, squeeze=False)[0]
    colours = ["tab:blue" if trial.state.name == "COMPLETE" else "lightgrey" for trial in trials]
    for place, key in zip(axes, ["trial", *keys], strict=True):
        known = [number for number, trial in enumerate(trials) if key == "trial" or key in trial.params]
        across = [trials[number].number if key == "trial" else trials[number].params[key] for number in known]
        words = any(isinstance(value, str | bool | None) for value in across)
        place.scatter(
            [str(value)[:24] for value in across] if words else across,
            [trials[number].value for number in known],
            c=[colours[number] for number in known],
        )
        if not words and key != "trial" and min(across) > 0 and max(across) > 30 * min(across):
            place.set_xscale("log")
        place.set_xlabel(key)
    axes[0].set_ylabel(figure)
    buffer = io.BytesIO()
    drawn.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()
