"""The figures of a report in the model card, `model/README.md` of its run: written again, they replace those of before."""

from __future__ import annotations

import re
from pathlib import Path

from taxakey.artifacts import hash_of, read_manifest, write_text
from taxakey.errors import BadInput, MissingArtifact
from taxakey.evaluation.content import Report
from taxakey.report.summary import summary
from taxakey.report.tables import escape, table
from taxakey.report.wording import percent, span, subtitle

_SHOWN = ("top_1", "top_5", "macro_top_1", "macro_f1")


def update_card(report: Report, predictions_folder: Path | str, run_folder: Path | str | None = None) -> Path:
    """Write the section of this part into the card, in place of an older one; everything else in the card stays as it is.

    The same report gives the same card. Raises MissingArtifact where there is no card, and BadInput unless the predictions were
    made by the very model beside it: figures of another model would be worse than none.
    """
    manifest = read_manifest(predictions_folder, "predictions")
    folder = _model_folder(run_folder, manifest.recipe.get("model"))
    card = folder / "README.md"
    if not card.is_file():
        raise MissingArtifact(f"{card}: no model card there; name the run with --run")
    weights = folder / "model.safetensors"
    if not weights.is_file() or manifest.inputs.get("model") != hash_of(weights):
        raise BadInput(f"{folder}: not the model that made {predictions_folder}; predict again with it, or leave the card out")
    write_text(card, with_section(card.read_text(encoding="utf-8"), report.part, section(report)))
    return card


def _model_folder(run: Path | str | None, named: str | None) -> Path:
    if run is None and named is None:
        raise BadInput("these predictions are those of several models, which have no card together; leave --card out")
    folder = Path(run if run is not None else str(named))
    return folder / "model" if (folder / "model").is_dir() else folder


def with_section(card: str, part: str, text: str) -> str:
    """The card with `text` as its section of a part.

    >>> once = with_section("# A model", "test", "Good.")
    >>> with_section(once, "test", "Good.") == once
    True
    """
    begin, end = (f"<!-- taxakey: figures of {part}, {which} -->" for which in ("begin", "end"))
    block = f"{begin}\n{text.strip()}\n{end}"
    found = re.compile(re.escape(begin) + r".*?" + re.escape(end), re.DOTALL)
    if found.search(card):
        return found.sub(lambda _: block, card, count=1)
    return f"{card.rstrip()}\n\n{block}\n"


def section(report: Report) -> str:
    """Heading, figures at each rank, what they say in words, and the command that makes them again."""
    rows = [
        [rank.capitalize(), *(f"{percent(figures[name].value)} ({span(figures[name])})" for name in _SHOWN)]
        for rank, figures in report.figures.items()
    ]
    level = f"{report.settings['level'] * 100:.3g}\u00a0%"
    return "\n\n".join(
        [
            f"## Measured on the {report.part} part",
            escape(subtitle(report)),
            table(["Rank", *(report.definitions[name].title for name in _SHOWN)], rows),
            f"Ranges are {level} bootstrap intervals over observations.",
            "\n".join(f"* {escape(sentence)}" for sentence in summary(report)),
            f"`{report.command}`",
        ]
    )
