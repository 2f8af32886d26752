"""Answers for people and other programs: CSV, JSON lines, Darwin Core identifications, and the response of the Pl@ntNet API.

Each format is a function from a photograph's name and its answer to rows or a document; writing files is `answer_file`'s.
"""

from __future__ import annotations

import csv
import io
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from taxakey import __version__
from taxakey.serving.answers import Answer, Taxon
from taxakey.serving.deciding import Decision
from taxakey.taxonomy import HIGHER_RANKS

CSV_COLUMNS = ("file_name", *HIGHER_RANKS, "species", "score")
DECISION_COLUMNS = ("decided_rank", "decided_name", "decided_probability", "possible", "possible_count", "unknown", "organism")
"""Further columns of the CSV where answers are decided; `possible`: names with "|" between. Empty: not measured."""
DARWIN_CORE_COLUMNS = (
    "identificationID",
    "associatedMedia",
    "scientificName",
    "scientificNameAuthorship",
    "taxonID",
    *HIGHER_RANKS,
    "taxonRank",
    "vernacularName",
    "identificationQualifier",
    "identificationVerificationStatus",
    "identifiedBy",
    "dateIdentified",
    "identificationRemarks",
)


@dataclass(frozen=True)
class Format:
    """How answers become text. `name_column` is where a row holds its photograph's name; "" columns: JSON lines."""

    name: str
    columns: tuple[str, ...]
    name_column: str
    default_top: int
    rows: Callable[[str, Answer, str], list[dict[str, Any]]]
    """(file name, answer, the model's fingerprint) -> rows."""

    def header(self) -> str:
        """The first line of a file, "" where the format has none."""
        return _csv_line(self.columns) if self.columns else ""

    def text(self, file_name: str, answer: Answer, fingerprint: str) -> str:
        """All lines of one photograph or specimen."""
        rows = self.rows(file_name, answer, fingerprint)
        if not self.columns:
            return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        return "".join(_csv_line([row[column] for column in self.columns]) for row in rows)


def _csv_line(values: Sequence[object]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()


def _csv_rows(file_name: str, answer: Answer, _: str) -> list[dict[str, Any]]:
    return [
        {
            **{"file_name": file_name, **taxon.parents, "species": taxon.scientific_name, "score": f"{taxon.probability:.6f}"},
            **(_decision_cells(answer.decision) if answer.decision else {}),
        }
        for taxon in answer.species
    ]


def _decision_cells(decision: Decision) -> dict[str, str]:
    probability, count = decision.probability, decision.possible_count
    cells = (
        decision.rank,
        decision.name,
        "" if probability is None else f"{probability:.6f}",
        "|".join(decision.possible),
        "" if count is None else str(count),
        *("" if flag is None else str(flag).lower() for flag in (decision.unknown, decision.organism)),
    )
    return dict(zip(DECISION_COLUMNS, cells, strict=True))


def _json_rows(file_name: str, answer: Answer, fingerprint: str) -> list[dict[str, Any]]:
    return [
        {
            "file_name": file_name,
            "photographs": answer.photographs,
            "unsure": answer.unsure,
            "calibrated": answer.calibrated,
            "poisonous_probability": answer.poisonous_probability,
            "species": [_plain(taxon) for taxon in answer.species],
            "genera": [_plain(taxon) for taxon in answer.genera],
            "families": [_plain(taxon) for taxon in answer.families],
            **({"decision": decision_facts(answer.decision)} if answer.decision else {}),
            **({"restriction": answer.restriction.meaning, "inside": answer.inside} if answer.restriction else {}),
            **({"shares": answer.shares} if answer.shares else {}),
            "model": fingerprint,
        }
    ]


def decision_facts(decision: Decision) -> dict[str, Any]:
    """A decision as JSON."""
    return {
        "rule": decision.rule,
        "rank": decision.rank or None,
        "name": decision.name or None,
        "probability": decision.probability,
        "sentence": decision.sentence,
        "possible": list(decision.possible),
        "possible_count": decision.possible_count,
        "coverage": decision.coverage,
        "unknown": decision.unknown,
        "organism": decision.organism,
    }


def _plain(taxon: Taxon) -> dict[str, Any]:
    facts: dict[str, Any] = {"scientific_name": taxon.scientific_name}
    if taxon.rank == "species":
        facts |= {"authorship": taxon.authorship, "vernacular_name": taxon.vernacular_name, "taxon_id": taxon.taxon_id}
        facts["poisonous"] = taxon.poisonous
    return {**facts, **taxon.parents, "probability": taxon.probability}


def _darwin_core_rows(file_name: str, answer: Answer, fingerprint: str) -> list[dict[str, Any]]:
    of = f"mean of {answer.photographs} photographs; " if answer.photographs > 1 else ""
    trust = ("unsure" if answer.unsure else "sure") if answer.calibrated else "model not calibrated"
    return [
        {
            # The same photograph, model and place in the ranking give the same identifier in every run.
            "identificationID": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'taxakey:{fingerprint}:{place}:{file_name}')}",
            "associatedMedia": file_name,
            "scientificName": f"{taxon.scientific_name} {taxon.authorship}".strip(),  # Darwin Core's has the author in it
            "scientificNameAuthorship": taxon.authorship,
            "taxonID": taxon.taxon_id,
            **taxon.parents,
            "taxonRank": "species",
            "vernacularName": taxon.vernacular_name,
            "identificationQualifier": _qualifier(taxon, sure=place == 1 and not answer.unsure),
            "identificationVerificationStatus": "machine",
            "identifiedBy": f"Taxakey {__version__} model {fingerprint}",
            "dateIdentified": date.today().isoformat(),
            "identificationRemarks": f"probability {taxon.probability:.4f}; place {place}; {of}{trust}{_remarks(answer)}",
        }
        for place, taxon in enumerate(answer.species, start=1)
    ]


def _remarks(answer: Answer) -> str:
    restricted = answer.restriction.meaning if answer.restriction else None
    said = (answer.decision.sentence if answer.decision else None, restricted, answer.shares)
    return "".join(f"; {text.rstrip('.')}" for text in said if text)


def _qualifier(taxon: Taxon, *, sure: bool) -> str:
    """A determiner's doubt in front of the epithet it concerns, as Darwin Core asks: "cf. napellus"."""
    return "" if sure else f"cf. {taxon.scientific_name.partition(' ')[2] or taxon.scientific_name}"


FORMATS: Mapping[str, Format] = {
    "csv": Format("csv", CSV_COLUMNS, "file_name", 5, _csv_rows),
    "jsonl": Format("jsonl", (), "file_name", 5, _json_rows),
    # Several rows would be several opinions in a collection's database, so Darwin Core gets one unless more are asked for.
    "dwc": Format("dwc", DARWIN_CORE_COLUMNS, "associatedMedia", 1, _darwin_core_rows),
}


def with_decisions(format: Format) -> Format:
    """The same for answers that are decided: the CSV has further columns."""
    return replace(format, columns=CSV_COLUMNS + DECISION_COLUMNS) if format.name == "csv" else format


# ---- the shape of the Pl@ntNet API, version 2 ----

NO_QUOTA = 1_000_000
"""Clients read `remainingIdentificationRequests` as a number; there is no quota here."""


@dataclass(frozen=True)
class Question:
    """What a client sent, as the response repeats it."""

    project: str
    images: list[str]
    """A name of ours for each picture: the start of the SHA-256 of its bytes."""
    organs: list[str]
    include_related_images: bool = False
    language: str = "en"


def plantnet_response(question: Question, answer: Answer, results: int, own: Mapping[str, Any]) -> dict[str, Any]:
    """The response of `POST /v2/identify/{project}` with the first `results` species; `own` are our further keys."""
    species = answer.species[:results]
    return {
        "query": {
            "project": question.project,
            "images": question.images,
            "organs": question.organs,
            "includeRelatedImages": question.include_related_images,
        },
        "language": question.language,
        "preferedReferential": "taxakey",  # misspelt in the original; clients expect it so
        "bestMatch": _with_author(species[0]),
        "results": [_plantnet_result(taxon) for taxon in species],
        "version": __version__,
        "remainingIdentificationRequests": NO_QUOTA,
        "taxakey": dict(own),
    }


def _with_author(taxon: Taxon) -> str:
    return f"{taxon.scientific_name} {taxon.authorship}".strip()


def _plantnet_result(taxon: Taxon) -> dict[str, Any]:
    return {
        "score": round(taxon.probability, 5),
        "species": {
            **_three_names(taxon.scientific_name, taxon.authorship),
            "genus": _three_names(taxon.genus),
            "family": _three_names(taxon.family),
            "commonNames": [taxon.vernacular_name] if taxon.vernacular_name else [],
        },
        "images": [],
        "gbif": {"id": None},
        "powo": {"id": None},
    }


def _three_names(name: str, authorship: str = "") -> dict[str, str]:
    return {
        "scientificNameWithoutAuthor": name,
        "scientificNameAuthorship": authorship,
        "scientificName": f"{name} {authorship}".strip(),
    }
