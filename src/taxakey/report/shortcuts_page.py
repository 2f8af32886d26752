"""The tests of shortcuts as files: shortcuts.html for people, shortcuts.json for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from taxakey.artifacts import write_json, write_text
from taxakey.dataset.blanking import Blanked
from taxakey.evaluation.examples import thumbnail
from taxakey.evaluation.shortcuts import Finding
from taxakey.metrics.differences import Difference
from taxakey.metrics.intervals import Interval
from taxakey.report.templates import jpeg_address, template
from taxakey.report.wording import percent, span

SAMPLES = 6
TITLES = {
    "seen": "Institution seen in training",
    "unseen": "Institution never seen",
    "unmasked": "Pictures as they are",
    "masked": "Text masked",
    "difference": "the first minus the second",
    "model": "Species, by the model, painted over",
    "whole pictures": "Species, by the model, whole",
    "linear layer": "Species, by a linear layer, painted over",
    "commonest species": "Species, always the commonest",
    "by institution": "Species, always the institution's commonest",
    "institution": "Institution, by a linear layer, painted over",
    "commonest institution": "Institution, always the commonest",
}
"""What the figures' names mean, for people."""

_SCALE = 100
"""Of the bars: per cent."""


@dataclass(frozen=True)
class Sample:
    """A test picture as it is and with its plant painted over, small JPEGs."""

    name: str
    whole: bytes
    painted: bytes


def samples_of(test: Blanked, most: int = SAMPLES) -> list[Sample]:
    """Some of the pictures, spread over the part, so that one sees what the test left to be seen."""
    rows = np.unique(np.linspace(0, len(test) - 1, min(most, len(test))).round().astype(int))
    names = test.table["scientificName"].to_pylist()
    return [Sample(names[row], thumbnail(test.source.image_bytes(row)), thumbnail(test.image_bytes(row))) for row in rows]


def write_shortcuts(findings: Sequence[Finding], samples: Sequence[Sample], out: Path | str, command: str) -> Path:
    """Write both files into a folder and return the path of the page, which names the command that makes it again.

    What stands there already is replaced.
    """
    out = Path(out)
    write_json(out / "shortcuts.json", [finding.as_json() for finding in findings])
    write_text(out / "shortcuts.html", to_html(findings, samples, command))
    return out / "shortcuts.html"


def to_html(findings: Sequence[Finding], samples: Sequence[Sample], command: str) -> str:
    """Render the page."""
    page = template("shortcuts.html", percent=percent, span=span, picture=jpeg_address, bar=_bar, points=_points)
    return page.render(findings=findings, samples=samples, titles=TITLES, command=command)


def _bar(figure: Interval) -> Mapping[str, str]:
    """Places in per cent of a bar's width."""
    return {
        "value": f"{_SCALE * figure.value:.2f}",
        "low": f"{_SCALE * figure.low:.2f}",
        "width": f"{_SCALE * (figure.high - figure.low):.2f}",
    }


def _points(found: Difference) -> str:
    value, low, high = (f"{_SCALE * number:+z.1f}" for number in (found.value, found.low, found.high))
    return f"{value} ({low} to {high})".replace("-", "−")
