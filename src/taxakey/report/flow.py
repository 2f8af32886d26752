"""What became of every record, step by step: a table in Markdown and a picture in SVG."""

from __future__ import annotations

import html

from taxakey.records.flow import Step
from taxakey.report.plots import AMBER, GREEN, GREY, INK
from taxakey.report.tables import escape, table

_WIDTH, _BOX, _GAP, _LINE = 760, 320, 26, 18


def flow_table(steps: tuple[Step, ...]) -> str:
    """Markdown: a line a step and one for each reason, its share of what came in at first."""
    total = max(1, steps[0].kept + sum(steps[0].dropped.values()))
    rows = []
    for step in steps:
        rows.append([f"**{escape(step.step)}**", "", f"**{step.kept:,}**", _share(step.kept, total)])
        rows += [["", f"− {escape(why)}", f"{number:,}", _share(number, total)] for why, number in step.dropped.items()]
    return table(["Step", "Dropped because", "Pictures", "Of all"], rows)


def _share(number: int, total: int) -> str:
    return f"{100 * number / total:.1f} %"


def flow_svg(steps: tuple[Step, ...]) -> str:
    """Boxes from top to bottom, what they drop beside the arrows; text stays text, and nothing is fetched."""
    parts: list[str] = []
    y = 10
    for number, step in enumerate(steps):
        if step.dropped:
            y = _dropped(parts, step, y)
        elif number:
            y += _GAP
        if number or step.dropped:
            parts.append(_arrow(y))
        parts.append(_box(step, y))
        y += 48
    said = "; ".join(f"{step.step}: {step.kept:,} kept, {sum(step.dropped.values()):,} dropped" for step in steps)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y + 10}" width="{_WIDTH}" role="img" '
        f'aria-label="{html.escape(said)}" font-family="system-ui, sans-serif" font-size="13">'
    )
    return f'{head}\n<rect width="100%" height="100%" fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n"


def _box(step: Step, y: int) -> str:
    middle = 10 + _BOX / 2
    return (
        f'<rect x="10" y="{y}" width="{_BOX}" height="48" rx="8" fill="#e7f0ea" stroke="{GREEN}"/>'
        f'<text x="{middle:g}" y="{y + 20}" text-anchor="middle" fill="{INK}">{_short(step.step, 42)}</text>'
        f'<text x="{middle:g}" y="{y + 39}" text-anchor="middle" fill="{INK}" font-weight="600">{step.kept:,}</text>'
    )


def _dropped(parts: list[str], step: Step, y: int) -> int:
    """The reasons beside the way to the step's box; returns where the box begins."""
    top = y + 18
    for line, (reason, number) in enumerate(step.dropped.items()):
        text = f"− {number:,}  {_short(reason, 52)}"
        parts.append(f'<text x="{_BOX + 40}" y="{top + line * _LINE}" fill="{AMBER}">{text}</text>')
    bottom = top + (len(step.dropped) - 1) * _LINE
    middle = (top + bottom) / 2 - 4
    parts.append(
        f'<path d="M{10 + _BOX / 2:g} {y}V{bottom + 16}M{10 + _BOX / 2:g} {middle:g}H{_BOX + 32}" stroke="{GREY}" fill="none"/>'
    )
    return bottom + 22


def _arrow(y: int) -> str:
    middle = 10 + _BOX / 2
    return (
        f'<path d="M{middle:g} {y - _GAP}V{y - 4}" stroke="{GREY}" fill="none"/>'
        f'<path d="M{middle - 5:g} {y - 8}L{middle:g} {y}L{middle + 5:g} {y - 8}Z" fill="{GREY}"/>'
    )


def _short(text: str, length: int) -> str:
    text = " ".join(text.split())
    return html.escape(text if len(text) <= length else text[: length - 1] + "…")
