"""An embedding map as files: map.html, one offline page with a picture for each point, and map.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup
from plotly.offline import get_plotlyjs

from taxakey.artifacts import write_json, write_text
from taxakey.evaluation.embedding_map import EmbeddingMap
from taxakey.evaluation.examples import thumbnail
from taxakey.metrics.differences import Difference
from taxakey.progress import track
from taxakey.report.templates import embedded, jpeg_address, policy, template
from taxakey.report.wording import percent, span

TITLES = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}
COLOURS = ("#1b6b50", "#b3641b", "#3b5b9a", "#8e3b6f", "#7a7a1e", "#2e8f9c", "#b23a3a", "#5f4b8b", "#4f772d", "#555555")
"""Told apart by most eyes that confuse red and green; species beyond the first four also differ in their mark."""

_EDGE = 150


def write_map(found: EmbeddingMap, out: Path | str, command: str) -> Path:
    """Write both files into a folder and return the path of the page, which names the command that makes it again.

    What stands there already is replaced.
    """
    out = Path(out)
    write_json(out / "map.json", found.as_json() | {"command": command})
    write_text(out / "map.html", to_html(found, command))
    return out / "map.html"


def to_html(found: EmbeddingMap, command: str) -> str:
    """Render the page: a panel for each backbone and method, the same colours in all."""
    page = template("map.html", percent=percent, span=span, embedded=embedded)
    return page.render(
        found=found,
        command=command,
        policy=policy,
        plotly=Markup(get_plotlyjs()),
        titles=TITLES,
        data=_data(found),
        says=says(found),
        pictures=len(found.part),
    )


def _data(found: EmbeddingMap) -> dict[str, Any]:
    """What the page's script draws from."""
    names = found.part.table["scientificName"].to_pylist()
    shown = track(range(len(found.part)), "small pictures", total=len(found.part))
    return {
        "species": list(found.species),
        "colours": list(COLOURS[: len(found.species)]),
        "label": [found.species.index(name) for name in names],
        "id": found.part.image_ids,
        "picture": [jpeg_address(thumbnail(found.part.image_bytes(row), _EDGE)) for row in shown],
        "panels": [
            {"id": f"panel-{number}-{method}", "x": places[:, 0].round(4).tolist(), "y": places[:, 1].round(4).tolist()}
            for number, each in enumerate(found.backbones)
            for method, places in each.places.items()
        ],
    }


def says(found: EmbeddingMap) -> tuple[str, ...]:
    """What the differences between two backbones support."""
    if not found.differences:
        return ()
    first, second = (each.name for each in found.backbones)
    probe, apart = found.differences["probe"], found.differences["silhouette"]
    return (
        _compared(
            probe, first, second, "pictures are named rightly by a linear layer more often", f"{_signed(probe, 100, 1)} points"
        ),
        _compared(apart, first, second, "species lie further apart by the silhouette", _signed(apart, 1, 3)),
    )


def _compared(found: Difference, first: str, second: str, what: str, figure: str) -> str:
    if not found.supported:
        return f"Whether {what} with {first} or with {second} isn't shown: {first} minus {second} is {figure}, which holds 0."
    better, worse = (first, second) if found.value > 0 else (second, first)
    return f"With {better} {what} than with {worse}: {first} minus {second} is {figure}."


def _signed(found: Difference, scale: int, digits: int) -> str:
    value, low, high = (f"{scale * number:+z.{digits}f}" for number in (found.value, found.low, found.high))
    return f"{value} ({low} to {high})".replace("-", "−")
