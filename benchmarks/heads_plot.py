"""What benchmarks/heads.py measured, for people: tables for the docs and a plot.

python benchmarks/heads_plot.py benchmarks/results/heads-cpu-2026-11-21.json --plot docs/images/heads-cpu.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

Cell = dict[str, Any]

TITLES = {
    "flat": "flat, 1,792 features",
    "flat-slow": "flat, torch's default AdamW",
    "bottleneck": "flat, bottleneck 128",
    "bottleneck-slow": "bottleneck, torch's default AdamW",
    "factorised": "factorised, rank 64",
    "adaptive": "torch's adaptive softmax",
    "sampled": "sampled, a tenth of the classes",
    "hashed": "hashed, 4 hashes",
    "package": "hierarchicalsoftmax, its own layer",
    "package-linear": "hierarchicalsoftmax, nn.Linear",
    "tree-full": "tree on 1,792 features",
    "tree-dense": "tree, two levels, dense gradients",
    "tree-sparseadam": "tree, two levels, torch's SparseAdam",
    "tree": "tree, two levels",
    "tree-three": "tree, three levels",
}
DRAWN = {
    "flat": ("#1f6f8b", "o-"),
    "bottleneck": ("#4aa3c0", "o-"),
    "adaptive": ("#8a6d3b", "s-"),
    "sampled": ("#b9975b", "s--"),
    "hashed": ("#999999", "s:"),
    "package": ("#a33c3c", "v-"),
    "package-linear": ("#d08a8a", "v--"),
    "tree": ("#7bb661", "^-"),
    "tree-three": ("#2f6b2a", "^-"),
}


def value(cell: Cell, kind: str, batch: int, key: str = "median_s") -> float | None:
    return cell[kind].get(str(batch), {}).get(key)


def number(amount: float | None, cell: Cell) -> str:
    """Three digits; why there is none."""
    if amount is None:
        return "over 60 s" if cell["over"] else "too large" if cell["note"] else ""
    return f"{amount:,.0f}" if amount >= 100 else f"{amount:.3g}"


def table(cells: list[Cell], kind: str, batch: int, key: str = "median_s") -> str:
    """Markdown: a row a head, a column a number of classes."""
    factor = 1e-6 if key == "peak_bytes" else 1e3
    classes = sorted({cell["classes"] for cell in cells})
    lines = ["| | " + " | ".join(f"{count:,}" for count in classes) + " |", "|---" * (len(classes) + 1) + "|"]
    for head, title in TITLES.items():
        row = {cell["classes"]: cell for cell in cells if cell["head"] == head}
        amounts = {count: value(cell, kind, batch, key) for count, cell in row.items()}
        if any(amount is not None for amount in amounts.values()):
            shown = [number(amounts[c] and amounts[c] * factor, row[c]) if c in row else "" for c in classes]
            lines.append(f"| {title} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def plot(result: dict[str, Any], image: Path) -> None:
    """Milliseconds against classes: a training step at batch 64, and the five best classes of one image."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(12, 5.2), layout="constrained")
    for axis, kind, batch, title in (
        (axes[0], "step", 64, "A training step of 64 images (forward, backward, optimiser)"),
        (axes[1], "answer", 1, "The five best classes of one image"),
    ):
        ends = []
        for head, (colour, style) in DRAWN.items():
            points = [(c["classes"], 1e3 * s) for c in result["cells"] if c["head"] == head and (s := value(c, kind, batch))]
            if points:
                axis.plot(*zip(*points, strict=True), style, color=colour, ms=5, lw=1.6)
                ends.append((*points[-1], TITLES[head], colour))
        axis.set(xscale="log", yscale="log", xlabel="species", ylabel="milliseconds", xlim=(800, 1.3e7))
        axis.set_title(title, loc="left", fontsize=11)
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_xticks([1e3, 1e4, 1e5, 1e6])
        _label(axis, ends)
    machine = result["machine"]
    where = machine["gpu"] or f"{machine['processor']}, {result['threads']} threads"
    figure.supxlabel(f"{where}, float32, {result['date']}", fontsize=8)
    figure.savefig(image, dpi=130)


def _label(axis: Any, ends: list[tuple[float, float, str, str]]) -> None:
    """A name at the end of each line, moved up until no two overlap."""
    lowest = 0.0
    for x, y, title, colour in sorted(ends, key=lambda end: end[1]):
        lowest = max(y, lowest * 1.45)
        axis.annotate(title, (x, y), (max(x, 1.2e6), lowest), fontsize=8, color=colour, va="center")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path, help="a file that benchmarks/heads.py wrote")
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    result = json.loads(options.result.read_text(encoding="utf-8"))
    for title, kind, batch, key in (
        ("Milliseconds a training step, batch 64", "step", 64, "median_s"),
        ("Milliseconds a training step, batch 256", "step", 256, "median_s"),
        ("Peak MB, batch 64", "step", 64, "peak_bytes"),
        ("Milliseconds to the top 5 of one image", "answer", 1, "median_s"),
        ("Milliseconds to the top 5 of 256 images", "answer", 256, "median_s"),
    ):
        print(f"{title}\n\n{table(result['cells'], kind, batch, key)}\n")
    if options.plot:
        plot(result, options.plot)


if __name__ == "__main__":
    main()
