"""Writes a report's folder: `report.json` for programs, `report.md` for a repository, `report.html` for people."""

from __future__ import annotations

from pathlib import Path

from taxakey.artifacts import Plan, finish, start, write_json, write_text
from taxakey.evaluation.content import Report
from taxakey.report.html import to_html
from taxakey.report.markdown import to_markdown


def write_report(report: Report, out: Path | str) -> Path:
    """Write the artifact "report" and return the path of its `report.html`.

    The same predictions may be written again to the same folder (its three files are replaced, each as a whole); other
    predictions or settings are refused with PlanMismatch, so that no folder ever holds two reports mixed.
    """
    out = Path(out)
    plan = Plan("report", dict(report.inputs), {"part": report.part, **report.settings})
    start(out, plan)
    write_json(out / "report.json", report.as_json())
    write_text(out / "report.md", to_markdown(report))
    write_text(out / "report.html", to_html(report))
    taxonomy = next((facts.taxonomy for facts in report.sources if facts.kind == "predictions"), None)
    finish(out, plan, counts=dict(report.counts), taxonomy=taxonomy, notes=tuple(report.notes))
    return out / "report.html"
