"""Of a comparison: accuracy by number of training images, and the species that a run names better or worse, in words and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import asdict

from taxakey.evaluation.comparing import Compared, Comparison
from taxakey.evaluation.tails import GAP, THIRDS_GAP
from taxakey.evaluation.winners import Changes, SpeciesChange
from taxakey.report.tables import escape, italic, points, table
from taxakey.report.wording import counted, percent, span

_SHOWN = 10
"""Species of each side in comparison.md; species.csv has all."""
PLURALS = {"species": "species", "genus": "genera", "family": "families"}


def tail_title(name: str) -> str:
    """`10–19 images`, `rarest third`, `gap from 80–89 to 5–9`."""
    kind, *rest = name.replace("-", "–").split("_")
    if kind == "images":
        return f"{rest[0]} images"
    if kind == "third":
        return {"tail": "Rarest third", "middle": "Middle third", "head": "Commonest third"}[rest[0]]
    return "Gap from the commonest to the rarest third" if name == THIRDS_GAP else f"Gap from {rest[0]} to {rest[1]} images"


def tails_section(found: Comparison) -> list[str]:
    """A row for each bin, third and gap, with a column for each run and its difference."""
    names = list(dict.fromkeys(name for run in found.runs for name in run.tails))
    if not names:
        return []
    measured = [run for run in found.runs if run.figures]
    header = ["Training images", *(text for number, run in enumerate(measured) for text in
                                   (escape(run.name), *(["difference"] if number else [])))]  # fmt: skip
    rows = [[tail_title(name)] for name in names]
    for row, name in zip(rows, names, strict=True):
        row += [cell for number, run in enumerate(measured) for cell in _tail(run, name, number)]
    lines = [
        f"### By number of training images of the {found.rank}",
        f"Mean over the {PLURALS[found.rank]} of the share of their observations named rightly. A gap is the first group minus "
        "the second, in points: what rare ones lose by being rare.",
        table(header, rows),
    ]
    if GAP not in names:
        lines.append(f"{tail_title(GAP)}: not measured, one of the two bins has no {found.rank} in this part.")
    return lines


def _tail(run: Compared, name: str, number: int) -> Iterable[str]:
    figure, difference = run.tails.get(name), run.tail_differences.get(name)
    if name.startswith("gap"):
        yield "" if figure is None else points(figure).strip("*")  # bold is for differences between runs
    else:
        yield "" if figure is None else f"{percent(figure.value)} ({span(figure)})"
    if number:
        yield "" if difference is None else points(difference)


def winners_section(found: Comparison) -> list[str]:
    """For each run but the first: all observations and all species in a sentence each, then the species with most changes."""
    parts = []
    for run in found.runs:
        if run.changes is not None:
            parts += [f"## {escape(run.name)} against {escape(found.runs[0].name)}: which {PLURALS[found.rank]} won and lost"]
            parts += [sentence(run.changes, found.rank)]
            parts += [_species(run.changes, found.rank)] if run.changes.gained + run.changes.lost_observations else []
    return parts


def sentence(changes: Changes, rank: str) -> str:
    """What changed, and how sure that is; the same in Markdown and HTML."""
    many = PLURALS[rank]
    sure = sum(row.sure for row in changes.species)
    alone = f"{sure} of them for sure by itself" if sure else "none of them for sure by itself"
    return (
        f"It names {counted(changes.gained, 'observation')} rightly that the first run doesn't, and misses "
        f"{changes.lost_observations:,} that the first one names (McNemar's exact test: {p_text(changes.p_value)}). "
        f"{changes.won:,} {many} of {len(changes.species):,} have more named rightly than before and {changes.lost:,} fewer "
        f"(exact sign test: {p_text(changes.sign_p_value)}), {alone}: among {len(changes.species):,} {many}, Holm's correction "
        f"demands at least {changes.needed} changes of one, all the same way."
    )


def p_text(p_value: float) -> str:
    """`p = 0.012`, `p < 0.001`."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.2g}"


def _species(changes: Changes, rank: str) -> str:
    won = [row for row in changes.species if row.gained > row.lost][:_SHOWN]
    lost = [row for row in changes.species if row.gained < row.lost][-_SHOWN:]
    header = [
        rank.capitalize(),
        "Training images",
        "Observations",
        "Right before",
        "Right now",
        "Gained",
        "Lost",
        "p",
        "p (Holm)",
    ]
    return table(header, [_row(row) for row in (*won, *lost)])


def _row(row: SpeciesChange) -> list[str]:
    images = "" if row.train_images is None else f"{row.train_images:,}"
    numbers = [f"{number:,}" for number in (row.observations, row.before, row.after, row.gained, row.lost)]
    name = f"**{italic(row.name)}**" if row.sure else italic(row.name)
    return [name, images, *numbers, f"{row.p_value:.2g}", f"{row.p_holm:.2g}"]


def species_csv(found: Comparison) -> str:
    """A row for each run but the first and each taxon."""
    text = io.StringIO()
    names = [field for field in SpeciesChange.__dataclass_fields__ if field != "name"]
    writer = csv.DictWriter(text, ["run", found.rank, *names], lineterminator="\n")
    writer.writeheader()
    for run in found.runs:
        for row in () if run.changes is None else run.changes.species:
            values = asdict(row)
            writer.writerow({"run": run.name, found.rank: values.pop("name"), **values})
    return text.getvalue()
