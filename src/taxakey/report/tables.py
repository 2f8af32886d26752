"""Markdown's tables and escapes, shared by all pages of that kind."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


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
