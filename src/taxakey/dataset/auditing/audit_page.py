"""An audit as Markdown: counts first, then the worst cases of each kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_WORST = 10

MEANINGS = {
    "exact duplicate": "pictures whose very bytes an earlier part has",
    "near duplicate": "pictures of which an earlier part has a copy, re-encoded, resized, brightened or a little cropped, or "
    "another photograph that shows the same",
    "same observation": "pictures of an observation that an earlier part has too",
    "same specimen": "pictures of a specimen (institution, catalogue number, collector's number) that an earlier part has too",
    "same place and date": "pictures of the same day and cell of the map as one of an earlier part; no leak by itself",
    "other label": "pictures of which a copy, in any part, bears another name: one of the two is wrong",
    "one institution": "species that only one institution has: the model may learn the look of its sheets instead",
    "untrained": "species of validation or test without a training picture: no class of the model",
    "unreadable": "pictures of the dataset that can't be decoded",
}


def page(result: Mapping[str, Any], findings: pa.Table, name: str) -> str:
    """The whole page: `result` as audit.json has it, `findings` with the columns of `leaks.FINDINGS`."""
    parts = [
        f"# Audit of {_cell(name)}",
        _table(["Part", "Pictures", "Repeated within it"], _parts(result)),
        "## What an earlier part has seen",
        "Pictures with a copy, their observation or their specimen in an earlier part. Figures measured on them are too good.",
        _table(
            ["Part, in", "Pictures", "Share"],
            ([key, f"{row['pictures']:,}", _percent(row["share"])] for key, row in result["seen"].items()),
        ),
        "## Findings",
        _table(
            ["Kind", "Findings", "Meaning"],
            ([kind, f"{number:,}", MEANINGS[kind]] for kind, number in result["findings"].items()),
        ),
        *_worst(findings),
        "## Institutions",
        _table(["Institution", *(f"{part}" for part in result["pictures"])], _institutions(result)),
        "## Split manifest",
        f"`{result['split_manifest']['file']}` names the part of {result['split_manifest']['pictures']:,} pictures by their "
        f"hashes. Its digest is `{result['split_manifest']['digest']}`.",
    ]
    return "\n\n".join(parts) + "\n"


def _parts(result: Mapping[str, Any]) -> Iterable[Sequence[str]]:
    return ([part, f"{number:,}", f"{result['repeated_within'][part]:,}"] for part, number in result["pictures"].items())


def _institutions(result: Mapping[str, Any]) -> Iterable[Sequence[str]]:
    for row in result["institutions"]:
        cells = [f"{row[part]:,} ({_percent(row[f'share_of_{part}'])})" for part in result["pictures"]]
        yield [row["institutionCode"] or "not said", *cells]


def _worst(findings: pa.Table) -> Iterable[str]:
    """The first findings of each kind, the nearest copies first."""
    for kind in MEANINGS:
        rows = findings.filter(pc.equal(findings["kind"], kind)).sort_by([("distance", "ascending"), ("image_id", "ascending")])
        if len(rows):
            yield f"### {kind}: {len(rows):,}" + (f", the first {_WORST}" if len(rows) > _WORST else "")
            yield _table(
                ["Picture", "Part", "Name", "Other picture", "Its part", "Its name", "Bits", "What"],
                map(_row, rows.slice(0, _WORST).to_pylist()),
            )


def _row(row: Mapping[str, Any]) -> list[str]:
    names = ("image_id", "part", "scientificName", "other_image_id", "other_part", "other_scientificName", "distance", "key")
    return ["" if row[name] is None else str(row[name]) for name in names]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    """Names come from outside: nothing in them may end a cell or become markup."""
    text = " ".join(text.split())
    return "".join(f"\\{letter}" if letter in "\\|*_`<>[]" else letter for letter in text)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
