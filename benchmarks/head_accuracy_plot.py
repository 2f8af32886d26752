"""What benchmarks/head_accuracy.py measured, for people: tables for the docs, plots, and one row less another.

    python benchmarks/head_accuracy_plot.py benchmarks/results/heads-simulated-8000.jsonl --plot docs/images/heads-8000.png
    python benchmarks/head_accuracy_plot.py benchmarks/results/heads-flowers102.jsonl benchmarks/results/heads-leaf99.jsonl
    python benchmarks/head_accuracy_plot.py --species FOLDER --compare ROW ROW

Of several files the rows that all have, side by side. A comparison needs the folder of `head_accuracy.py --species`.
"""

from __future__ import annotations

import argparse
import math
import re
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from head_accuracy import results, rows, species_file


@dataclass(frozen=True)
class Summary:
    """A row over its seeds: means, and the lowest and highest MA-MRR@30."""

    name: str
    seeds: int
    mean: dict[str, float]
    low: float
    high: float
    step_ms: float | None


def summaries(file: Path) -> list[Summary]:
    found: dict[str, list[dict[str, Any]]] = {}
    steps: dict[str, float] = {}
    for line in results(file):
        if "step_ms" in line:
            steps[line["row"]] = line["step_ms"]
        else:
            found.setdefault(line["row"], []).append(line)
    order = list(rows(found[next(iter(found))][0]["classes"], found[next(iter(found))][0]["features"]))
    summed = []
    for name in sorted(found, key=lambda name: order.index(name) if name in order else len(order)):
        seeds = found[name]
        mean = {key: statistics.fmean(line[key] for line in seeds) for key in seeds[0] if isinstance(seeds[0][key], float | int)}
        scores = [line["ma_mrr_30"] for line in seeds]
        summed.append(Summary(name, len(seeds), mean, min(scores), max(scores), steps.get(name)))
    return summed


def table(file: Path) -> str:
    """Markdown: the mean over seeds of each row, its range, and its costs."""
    lines = [
        "| head | MA-MRR@30 (seeds: range) | top-1 | macro top-1 | rare third | common third | parameters | MB | ms a step |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in summaries(file):
        mean = row.mean
        lines.append(
            f"| {row.name} | {mean['ma_mrr_30']:.3f} ({row.seeds}: {row.low:.3f} … {row.high:.3f}) | {mean['top_1']:.3f} "
            f"| {mean['macro_top_1']:.3f} | {mean['macro_top_1_rare']:.3f} | {mean['macro_top_1_common']:.3f} "
            f"| {mean['parameters']:,.0f} | {mean['bytes'] / 1e6:.2f} | {'' if row.step_ms is None else f'{row.step_ms:.1f}'} |"
        )
    return "\n".join(lines)


def side_by_side(files: list[Path]) -> str:
    """Markdown: the accuracy of rows that all files have, a group of columns a file."""
    found = [{row.name: row for row in summaries(file)} for file in files]
    names = [file.stem.removeprefix("heads-") for file in files]
    lines = [
        "| head | " + " | ".join(f"{name}: MA-MRR@30 (seeds: range) | top-1 | macro top-1" for name in names) + " |",
        "|---" * (1 + 3 * len(files)) + "|",
    ]
    for name in found[0]:
        if all(name in rows_of for rows_of in found):
            lines.append(f"| {name} | " + " | ".join(_accuracy(rows_of[name]) for rows_of in found) + " |")
    return "\n".join(lines)


def _accuracy(row: Summary) -> str:
    mean = row.mean
    seeds = f"{row.seeds}: {row.low:.3f} … {row.high:.3f}"
    return f"{mean['ma_mrr_30']:.3f} ({seeds}) | {mean['top_1']:.3f} | {mean['macro_top_1']:.3f}"


def plot(file: Path, image: Path) -> None:
    """MA-MRR@30 against bytes of the stored head, and of the trained rows against milliseconds a step; one point a row.

    Rows that would only crowd others are left to the table.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    kinds = {"flat": ("o", "#1f6f8b"), "tree": ("^", "#3a7d34"), "": ("s", "#8a6d3b")}
    figure, axes = plt.subplots(1, 2, figsize=(13, 6), sharey=True, layout="constrained")
    labels: list[list[tuple[float, float, str]]] = [[], []]
    for row in summaries(file):
        if re.search("rule|dense|ReLU|192|2 bits|128.*bits|one pass|three even", row.name):
            continue
        marker, colour = kinds[next(kind for kind in kinds if row.name.startswith(kind))]
        filled = colour if "class means" in row.name else "white"
        short = row.name.replace(", class means", "").replace("family-genus-species", "taxa").replace("all features", "all")
        for axis, x, named in zip(axes, (row.mean["bytes"] / 1e6, row.step_ms), labels, strict=True):
            if x is not None:
                axis.plot(x, row.mean["ma_mrr_30"], marker, color=colour, mfc=filled, ms=8)
                named.append((x, row.mean["ma_mrr_30"], short))
    for axis, named in zip(axes, labels, strict=True):
        if named:
            _label(axis, named)
    axes[0].set(xscale="log", xlabel="megabytes of the stored head", ylabel="MA-MRR@30 on test vectors")
    axes[1].set(xscale="log", xlabel="milliseconds of a training step of 64 vectors (trained rows)")
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_title("○ trained from a random start   ● computed from class means   △ tree   □ other", fontsize=10, loc="left")
    figure.savefig(image, dpi=130)


def _label(axis: Any, named: list[tuple[float, float, str]]) -> None:
    """Names beside points; points that lie nearly together share a label, one name to a line."""
    spread = max(y for _, y, _ in named) - min(y for _, y, _ in named)
    wide = max(1e-9, math.log(max(x for x, _, _ in named) / min(x for x, _, _ in named)))
    groups: list[list[tuple[float, float, str]]] = []
    for x, y, name in sorted(named, key=lambda point: -point[1]):
        near = [g for g in groups if abs(math.log(g[0][0] / x)) < 0.1 * wide and abs(g[0][1] - y) < 0.05 * spread]
        near[0].append((x, y, name)) if near else groups.append([(x, y, name)])
    for group in groups:
        lines = "\n".join(name for _, _, name in group)
        place = max(x for x, _, _ in group), sum(y for _, y, _ in group) / len(group)
        axis.annotate(lines, place, fontsize=6.5, xytext=(7, 0), textcoords="offset points", va="center", color="#444444")


def compare(pair: list[str], folder: Path, *, draws: int = 2000) -> str:
    """MA-MRR@30 of one row less another's, over all seeds that both have, with a 95 % interval from species drawn again."""
    seeds = [seed for seed in range(100) if all(species_file(folder, row, seed).is_file() for row in pair)]
    if not seeds:
        raise SystemExit(f"{folder} has no seed of both rows; run them with --species {folder}")
    rng = np.random.default_rng(0)
    means, drawn = [], np.zeros(draws)
    for seed in seeds:
        first_C, second_C = (np.load(species_file(folder, row, seed), allow_pickle=False).astype(np.float64) for row in pair)
        difference_C = (first_C - second_C)[~np.isnan(first_C)]
        means.append(float(difference_C.mean()))
        for draw in range(draws):
            drawn[draw] += difference_C[rng.integers(len(difference_C), size=len(difference_C))].mean() / len(seeds)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return (
        f"{pair[0]} less {pair[1]}: {statistics.fmean(means):+.4f} [{low:+.4f}, {high:+.4f}] over {len(seeds)} seeds "
        f"({', '.join(f'{mean:+.4f}' for mean in means)})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path, nargs="*", help="files that benchmarks/head_accuracy.py wrote")
    parser.add_argument("--plot", type=Path, help="of one file: draw it as well")
    parser.add_argument("--species", type=Path, help="folder of each species' mean reciprocal rank")
    parser.add_argument("--compare", nargs=2, metavar="ROW", help="MA-MRR@30 of the first row less the second's")
    options = parser.parse_args()
    if bool(options.compare) != bool(options.species) or bool(options.result) == bool(options.compare):
        parser.error("name files of results, or --species FOLDER with --compare ROW ROW")
    if options.plot and len(options.result) != 1:
        parser.error("--plot draws one file")
    if options.compare:
        print(compare(options.compare, options.species))
    else:
        print(table(options.result[0]) if len(options.result) == 1 else side_by_side(options.result))
    if options.plot:
        plot(options.result[0], options.plot)


if __name__ == "__main__":
    main()
