"""Writes an exploration: one offline page, `exploration.json` for programs, and the charts as PNG files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from markupsafe import Markup
from plotly.offline import get_plotlyjs

from taxakey.artifacts import Plan, finish, open_atomically, start, write_json, write_text
from taxakey.records.table import SPLITS
from taxakey.report.exploration import Exploration, Group, explore
from taxakey.report.exploration_charts import SCALE, Chart, charts, odd_years, to_png
from taxakey.report.exploration_sources import Explored, open_explored
from taxakey.report.templates import embedded, jpeg_address, security_policy, template
from taxakey.report.thumbnails import SampleOptions, Samples, draw_samples
from taxakey.report.wording import counted, percent


def write_exploration(
    source: Path | str, out: Path | str, columns: Mapping[str, str] | None = None, samples: SampleOptions | None = None
) -> Path:
    """Explore records, a dataset or a source; write the artifact "exploration" and return the path of its page.

    The same source may be explored again to the same folder (its files are replaced, each as a whole).
    """
    out, options = Path(out), samples or SampleOptions()
    explored = open_explored(source, columns)
    found = explore(explored.table, explored.refused)
    plan = Plan("exploration", {explored.kind: explored.digest}, {"samples": asdict(options), "columns": dict(columns or {})})
    start(out, plan)
    drawn = charts(found)
    write_json(out / "exploration.json", {"source": explored.facts, **found.as_json()})
    for name, chart in drawn.items():
        with open_atomically(out / f"{name}.png") as file:
            file.write(to_png(chart))
    pictures = draw_samples(explored.table, explored.load, options) if options.families else Samples({})
    write_text(out / "exploration.html", to_html(explored, found, drawn, pictures))
    finish(out, plan, counts=found.counts, taxonomy=explored.manifest.taxonomy if explored.manifest else None)
    return out / "exploration.html"


def to_html(explored: Explored, found: Exploration, drawn: Mapping[str, Chart], pictures: Samples) -> str:
    """Render the page. Text from records is escaped by jinja, or travels as JSON and is set as text by the page's script.

    The page's content security policy names its two scripts by hash and allows no other, nor any address.
    """
    page = template("exploration.html", percent=percent, number="{:,}".format, embedded=embedded, picture=jpeg_address)
    return page.render(
        policy=security_policy,
        explored=explored,
        found=found,
        charts=drawn,
        samples=pictures,
        data={"charts": [chart.as_json() for chart in drawn.values()], "tables": _tables(found), "scale": SCALE},
        with_parts="train" in found.classes,
        parts=[(split, found.counts[split]) for split in SPLITS if split in found.counts],
        plotly=Markup(get_plotlyjs()),
        subtitle=_subtitle(explored, found),
        notes=_notes(found, pictures),
        licences_without=_without_name(found.licences),
        institutions_without=_without_name(found.institutions),
        families_without=_without_name(found.families),
        empty=[name for name, images in found.missing.items() if images == found.counts["images"]],
        complete=[name for name, images in found.missing.items() if images == 0],
        undated=found.missing["year"],
        odd_years=odd_years(found),
    )


def _tables(found: Exploration) -> dict[str, list[dict[str, Any]]]:
    """The tables that the page sorts, searches and pages; columns as arrays, because as objects they are twice as large."""
    titles = {"scientificName": "Species", "family": "Family", "images": "Pictures", "observations": "Observations"}
    species = [_column(titles.get(name, name.capitalize()), name, values) for name, values in found.classes.items()]
    return {
        "species": species,
        "families": _group_columns("Family", found.families),
        "institutions": _group_columns("Institution", found.institutions),
        "licences": _group_columns("Licence", found.licences),
    }


def _column(title: str, name: str, values: list[Any]) -> dict[str, Any]:
    kind = "part" if name in SPLITS else {"scientificName": "taxon", "family": "text"}.get(name, "number")
    return {"title": title, "kind": kind, "values": values}


def _group_columns(title: str, groups: tuple[Group, ...]) -> list[dict[str, Any]]:
    return [
        {"title": title, "kind": "text", "values": [group.name for group in groups]},
        {"title": "Pictures", "kind": "number", "values": [group.images for group in groups]},
        {"title": "Species", "kind": "number", "values": [group.species for group in groups]},
    ]


# ---- words ----


def _subtitle(explored: Explored, found: Exploration) -> str:
    what = {"records": "Records", "dataset": "A dataset", "source": "A source, read as it was delivered"}[explored.kind]
    counts = found.counts
    return (
        f"{what}: {counted(counts['images'], 'picture')} of {counted(counts['observations'], 'observation')} of "
        f"{counted(counts['species'], 'species', 'species')} in {counted(counts['genera'], 'genus', 'genera')} and "
        f"{counted(counts['families'], 'family', 'families')}."
    )


def _notes(found: Exploration, pictures: Samples) -> list[str]:
    counts, notes = found.counts, []
    if "train" not in counts:
        notes.append("There is no split into train, validation and test yet; the command taxakey records makes one.")
    elif counts["without_split"]:
        notes.append(f"{counted(counts['without_split'], 'picture has', 'pictures have')} no split.")
    if "train" in counts and (untrained := sum(number == 0 for number in found.classes["train"])):
        notes.append(f"{counted(untrained, 'species has', 'species have')} no training picture and can't be learnt.")
    if pictures.unreadable and not pictures.families:
        notes.append("Not one picture could be read where the records say it lies, so there are no samples.")
    elif pictures.unreadable:
        notes.append(f"{counted(pictures.unreadable, 'sample picture', 'sample pictures')} couldn't be read and aren't shown.")
    notes += [f"{number:,} refused: {reason}." for reason, number in found.refused.items()]
    return notes


def _without_name(groups: tuple[Group, ...]) -> int:
    return next((group.images for group in groups if group.name is None), 0)
