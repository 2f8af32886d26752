"""Suspected labels as files: suspects.html with pictures for people, suspects.csv for a spreadsheet, suspects.parquet and
suspects.json for programs."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict
from pathlib import Path
from typing import Any

from taxakey.artifacts import write_json, write_parquet, write_text
from taxakey.dataset.reader import Dataset
from taxakey.evaluation.examples import thumbnail
from taxakey.evaluation.suspects import Suspects
from taxakey.report.templates import jpeg_address, template
from taxakey.report.wording import counted, percent, span, with_span

MOST_SHOWN = 60
"""Suspects with pictures in the page, 3 MB or so; the other files have all."""

_EDGE, _REFERENCE_EDGE = 300, 170


def write_suspects(found: Suspects, dataset_folder: Path | str, out: Path | str) -> Path:
    """Write the four files into a folder and return the path of the page. What stands there already is replaced."""
    out = Path(out)
    write_parquet(out / "suspects.parquet", found.table)
    write_text(out / "suspects.csv", _csv(found))
    write_json(out / "suspects.json", as_json(found))
    write_text(out / "suspects.html", to_html(found, Dataset.open(dataset_folder)))
    return out / "suspects.html"


def as_json(found: Suspects) -> dict[str, Any]:
    """The figures and the list as plain JSON values."""
    return {
        "inputs": dict(found.inputs),
        "part": found.part,
        "judged": found.judged,
        "classless": found.classless,
        "share_of_wrong_labels": asdict(found.share_among_surest),
        "share_contested": asdict(found.share),
        "by_institution": {
            code: {"judged": judged, "suspects": suspects} for code, (judged, suspects) in found.by_institution.items()
        },
        "notes": list(found.notes),
        "suspects": found.table.to_pylist(),
    }


def verdict(found: Suspects) -> str:
    """What was found, in words."""
    judged = f"Of {counted(found.judged, 'observation')} of the {found.part.replace('+', ' and ')} part"
    if not len(found.table):
        return f"{judged}, none looks more like another species than like the one it is named."
    return (
        f"{judged}, {counted(len(found.table), 'looks', 'look')} more like another species than like the one named. "
        f"About {with_span(found.share_among_surest)} of the names are wrong: so many does the model contradict among the third "
        f"of the observations of which it is surest. Confident learning contests {with_span(found.share)}, but counts what the "
        "model confuses too."
    )


def _csv(found: Suspects) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, found.table.column_names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(found.table.to_pylist())
    return text.getvalue()


def to_html(found: Suspects, dataset: Dataset) -> str:
    """Render the page: the likeliest suspects beside pictures of both species."""
    shown = found.table.slice(0, MOST_SHOWN).to_pylist()
    pictures = _pictures(found, shown, dataset)
    vernacular = dict(zip(dataset.taxonomy.names, dataset.taxonomy.column("vernacularName"), strict=True))
    page = template("suspects.html", percent=percent, picture=lambda image: jpeg_address(pictures[image]))
    return page.render(
        found=found,
        verdict=verdict(found),
        shares=[(percent(share.value), span(share)) for share in (found.share_among_surest, found.share)],
        shown=shown,
        vernacular=vernacular,
        institutions=[(code, *numbers) for code, numbers in found.by_institution.items()],
    )


def _pictures(found: Suspects, shown: list[dict[str, Any]], dataset: Dataset) -> dict[str, bytes]:
    """image_id -> small JPEG of what the page shows."""
    edges = {
        image: _REFERENCE_EDGE
        for row in shown
        for name in (row["scientificName"], row["suspected"])
        for image in found.references[name]
    }
    edges |= {row["image_id"]: _EDGE for row in shown}
    small: dict[str, bytes] = {}
    for name in ("train", "validation", "test"):
        part = dataset.part(name)
        for row, image in enumerate(part.image_ids):
            if image in edges:
                small[image] = thumbnail(part.image_bytes(row), edges[image])
    return small
