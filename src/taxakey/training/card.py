"""The model card: `model/README.md`, what a stranger must know before trusting the model."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from taxakey import __version__
from taxakey.artifacts import write_text
from taxakey.calibration import Calibration
from taxakey.taxonomy import Taxonomy
from taxakey.training.costs import read_costs
from taxakey.training.recipe import Recipe


def write_card(
    run: Path,
    recipe: Recipe,
    taxonomy: Taxonomy,
    counts: Mapping[str, int],
    calibration: Calibration | None,
    notes: tuple[str, ...],
) -> None:
    """Write the card from what was measured in the run; nothing in it is typed in by hand."""
    weights = {"none": "random weights, trained from scratch", "hub": "timm's pretrained weights"}.get(
        recipe.backbone.weights, f"weights from `{Path(recipe.backbone.weights).name}`"
    )
    frozen = "frozen; only the head was trained" if recipe.train == "head" else recipe.tuning.meaning
    besides = [*recipe.targets.ranks, *(["toxicity"] if recipe.targets.toxicity else [])]
    head = recipe.head.kind + (f", which learnt {', '.join(besides)} besides the species" if besides else "")
    lines = [
        f"# {recipe.name}",
        "",
        f"Names {len(taxonomy):,} species of {_counted(taxonomy, 'genus', 'genera')} and "
        f"{_counted(taxonomy, 'family', 'families')} from photographs.",
        "",
        *(f"**Note:** {note}\n" for note in notes),
        f"* Network: `{recipe.backbone.name}` from {weights}, {frozen}; head: {head}; {counts['parameters']:,} parameters.",
        f"* Trained on {counts['train']:,} photographs, chosen on {counts['validation']:,}; seed {recipe.seed}.",
        f"* Class list {taxonomy.fingerprint} (`taxonomy.parquet`), recipe in `recipe.yaml`, made by Taxakey {__version__}.",
        f"* {_best_epoch(run, recipe)}",
        *_cost(run),
        f"* {calibration.meaning if calibration else 'Probabilities are not calibrated (no validation pictures).'}",
        "",
        "`taxakey evaluate` measures the model on the test part, which neither trained nor chose it.",
        "A species outside the list is always named wrongly, and an answer is a model's opinion, not an expert's.",
        "",
    ]
    write_text(run / "model" / "README.md", "\n".join(lines))


def _counted(taxonomy: Taxonomy, rank: str, many: str) -> str:
    number = len(taxonomy.taxa(rank))
    return f"{number:,} {rank if number == 1 else many}"


def _cost(run: Path) -> list[str]:
    """Line of the cost; none where no step was taken."""
    costs = read_costs(run)
    if costs is None:
        return []
    energy = "energy not measured" if costs["energy_joules"] is None else f"{costs['energy_joules'] / 3.6e6:,.3f} kWh"
    device = "" if costs["peak_device_bytes"] is None else f" and {costs['peak_device_bytes'] / 2**30:,.1f} GiB of the device"
    return [
        f"* Cost: {costs['trained_parameters']:,} of {costs['parameters']:,} parameters trained, batch {costs['batch']:,}; "
        f"{costs['seconds_per_epoch']:,.1f} s an epoch, {costs['pictures_per_second'] or 0:,.0f} photographs a second; at most "
        f"{(costs['peak_host_bytes'] or 0) / 2**30:,.1f} GiB of memory{device}; {energy}; {costs['device']} (`costs.json`).",
    ]


def _best_epoch(run: Path, recipe: Recipe) -> str:
    if recipe.loop.epochs == 0:
        return "No gradient step was taken: the head was computed from the classes' mean features."
    with open(run / "curves.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["best"] == "1"]
    if not rows:
        return "No validation pictures: the last epoch was kept, unmeasured."
    best = rows[-1]
    return (
        f"Best epoch {int(best['epoch']) + 1} of {recipe.loop.epochs} by {recipe.loop.best_by}: on validation top-1 "
        f"{float(best['validation_top_1']):.3f}, macro top-1 {float(best['validation_macro_top_1']):.3f}."
    )
