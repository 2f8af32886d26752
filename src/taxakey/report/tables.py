"""Markdown's tables and escapes, shared by all pages of that kind."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from taxakey.evaluation.meanings import Definition
from taxakey.metrics.intervals import Interval


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table of cells that are escaped already."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def italic(name: str) -> str:
    """A scientific name of a species or genus."""
    return f"*{escape(name)}*"


def escape(text: str) -> str:
    """Make Markdown's own signs, HTML's among them, harmless in a name, and keep it on its line.

    >>> print(escape("Acer <b>*x*"))
    Acer \\<b\\>\\*x\\*
    """
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", " ".join(text.split()))


def ranged(figure: Interval) -> str:
    """`88.7 [86.8, 90.9]`: a share in per cent with its interval."""
    return f"{100 * figure.value:.1f} [{100 * figure.low:.1f}, {100 * figure.high:.1f}]"


def points(difference: Interval, *, scale: int = 100, digits: int = 1) -> str:
    """`+1.3 [−0.2, +2.4]`: a difference of shares in points, bold where zero lies outside."""
    value, low, high = (f"{scale * number:+z.{digits}f}" for number in (difference.value, difference.low, difference.high))
    text = f"{value} [{low}, {high}]".replace("-", "−")
    return f"**{text}**" if difference.low > 0 or difference.high < 0 else text


def definitions(found: Iterable[Definition]) -> str:
    """The section at a page's foot to which its figures are traced."""
    rows = [[meant.title, meant.meaning, escape(meant.formula), meant.source] for meant in found]
    return "## Definitions\n\n" + table(["Figure", "Meaning", "Formula", "Source"], rows)
