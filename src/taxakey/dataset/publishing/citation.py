"""How a dataset is to be cited: CITATION.cff for machines (https://citation-file-format.github.io), CITATION.txt for people."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from taxakey.artifacts import Manifest, write_text
from taxakey.errors import BadInput

_DOI = re.compile(r"10\.\d{4,9}/\S+")
_GBIF_DOWNLOAD = re.compile(r"10\.15468/dl\.[a-z0-9]+", re.IGNORECASE)


@dataclass(frozen=True)
class CitationOptions:
    """`authors`: "Family, Given" for a person, without a comma for an institution. `doi`: of this dataset; `downloads`: those of
    the downloads of GBIF that it was made from. `licence`: SPDX, of the dataset as a compilation; each picture has its own."""

    title: str
    authors: tuple[str, ...]
    version: str = "1.0"
    released: date | None = None
    doi: str | None = None
    url: str | None = None
    licence: str | None = None
    abstract: str | None = None
    downloads: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.title.strip() or not self.authors or not all(author.strip() for author in self.authors):
            raise BadInput("a citation needs a title and at least one author; say --title and --author")
        for doi in (*([self.doi] if self.doi else []), *self.downloads):
            if not _DOI.fullmatch(doi):
                raise BadInput(f"{doi!r} is no DOI; write it as 10.15468/dl.abc123, without https://doi.org/")
        if self.url is not None and not self.url.startswith(("https://", "http://")):
            raise BadInput(f"{self.url!r} is no address; it must begin with https://")


def downloads_of(manifest: Manifest) -> tuple[str, ...]:
    """DOIs of downloads of GBIF, wherever the manifest of records names them; each once, sorted."""
    said = json.dumps([dict(manifest.inputs), dict(manifest.recipe), list(manifest.notes)])
    return tuple(sorted({doi.lower() for doi in _GBIF_DOWNLOAD.findall(said)}))


def write_citation(out: Path, options: CitationOptions) -> None:
    """Write both files."""
    text = yaml.safe_dump(citation_cff(options), sort_keys=False, allow_unicode=True, width=1000)
    write_text(out / "CITATION.cff", text)
    write_text(out / "CITATION.txt", citation_text(options))


def citation_cff(options: CitationOptions) -> dict[str, Any]:
    """The Citation File Format, 1.2.0."""
    found: dict[str, Any] = {
        "cff-version": "1.2.0",
        "message": "If you use this dataset, please cite it, and the downloads of GBIF that it was made from.",
        "type": "dataset",
        "title": options.title,
        "authors": [_author(author) for author in options.authors],
        "version": options.version,
    }
    optional = {
        "date-released": options.released.isoformat() if options.released else None,
        "doi": options.doi,
        "url": options.url,
        "license": options.licence,
        "abstract": options.abstract,
        "references": [_reference(doi) for doi in options.downloads] or None,
    }
    return found | {key: value for key, value in optional.items() if value is not None}


def _author(name: str) -> dict[str, str]:
    family, comma, given = (part.strip() for part in name.partition(","))
    return {"family-names": family, "given-names": given} if comma else {"name": family}


def _reference(doi: str) -> dict[str, Any]:
    return {"type": "data", "title": "GBIF Occurrence Download", "authors": [{"name": "GBIF.org"}], "doi": doi}


def citation_text(options: CitationOptions) -> str:
    """One paragraph to copy, and one for each download."""
    year = f" ({options.released.year})" if options.released else ""
    place = f" https://doi.org/{options.doi}" if options.doi else f" {options.url}" if options.url else ""
    lines = [f"{_and(options.authors)}{year}. {options.title} (version {options.version}) [Dataset].{place}"]
    if options.downloads:
        lines += ["", "Made from occurrence records of GBIF, to be cited with it:", ""]
        lines += [f"GBIF.org. GBIF Occurrence Download. https://doi.org/{doi}" for doi in options.downloads]
    return "\n".join(lines) + "\n"


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{'; '.join(names[:-1])} & {names[-1]}"
