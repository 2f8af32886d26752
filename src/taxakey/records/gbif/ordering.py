"""One order for many taxa, kept on disk with its DOI.

An order's key lies on disk from the moment that GBIF has given it, so a wait that was interrupted goes on with the same order:
GBIF makes a person wait for each, and prepares three at a time. Credentials come from the environment and are never written.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from taxakey.artifacts import read_json, write_json
from taxakey.errors import BadInput, DownloadFailed
from taxakey.records.gbif.service import KEY, ORDER_FILE, Download, Gbif, short

MOST_TAXA = 100_000
"""GBIF takes 101,000 values in one predicate."""


@dataclass(frozen=True)
class Credentials:
    """A GBIF account. The password is left out wherever this is printed."""

    user: str
    password: str = field(repr=False)
    email: str

    @classmethod
    def from_environment(cls) -> Credentials:
        """From GBIF_USER, GBIF_PWD and GBIF_EMAIL; raises BadInput where one isn't set."""
        names = ("GBIF_USER", "GBIF_PWD", "GBIF_EMAIL")
        if lacking := [name for name in names if not os.environ.get(name)]:
            raise BadInput(
                f"{', '.join(lacking)} not set in the environment; an account at https://www.gbif.org is needed for an order: "
                f"set {', '.join(names)}"
            )
        return cls(*(os.environ[name] for name in names))


def order(
    gbif: Gbif, taxon_keys: Sequence[int], folder: Path, basis: Sequence[str] = (), credentials: Credentials | None = None
) -> Download:
    """Order one download of the occurrences of these taxa with pictures, and wait for it.

    `folder` keeps the order in gbif-order.json: run again, the same order is waited for. The account is asked of the environment
    where none is given and one is needed. Raises BadInput where the folder holds the order of other taxa, and DownloadFailed
    where GBIF gave it up.
    """
    request = {"format": "DWCA", "predicate": predicate(taxon_keys, basis)}
    file = folder / ORDER_FILE
    if file.is_file():
        kept = _kept(file)
        if kept.get("request") != request:
            raise BadInput(f"{file}: holds the order {kept.get('key')} for other taxa; name another folder with --downloads")
        key = kept["key"]
    else:
        key = _place(gbif, request, credentials or Credentials.from_environment())
        write_json(file, {"key": key, "ordered": datetime.now(UTC).isoformat(timespec="seconds"), "request": request})
    download = gbif.wait(key)
    write_json(file, {**_kept(file), "doi": download.doi, "status": download.status})
    return download


def _place(gbif: Gbif, request: Mapping[str, Any], credentials: Credentials) -> str:
    who = {"creator": credentials.user, "notificationAddresses": [credentials.email], "sendNotification": False}
    answer = gbif.ask(
        "POST", "/occurrence/download/request", repeat=False, json={**who, **request},
        auth=(credentials.user, credentials.password),
    )  # fmt: skip
    key = answer.text.strip().strip('"')
    if answer.status_code == 404 or not KEY.fullmatch(key):
        raise DownloadFailed(
            f"{answer.request.url}: answered {answer.status_code}, {short(answer.text)!r}, where a key is expected"
        )
    return key


def _kept(file: Path) -> dict[str, Any]:
    kept = read_json(file)
    if not isinstance(kept, dict) or not KEY.fullmatch(str(kept.get("key"))):
        raise BadInput(f"{file}: holds no order; delete it to order anew")
    return kept


def predicate(taxon_keys: Sequence[int], basis: Sequence[str] = ()) -> dict[str, Any]:
    """GBIF's filter: any of the taxa, with a still image, and where `basis` is given any of those bases of record."""
    keys = sorted(set(taxon_keys))
    if not 0 < len(keys) <= MOST_TAXA:
        raise BadInput(f"{len(keys):,} taxon keys for one order; GBIF takes 1 to {MOST_TAXA:,}: name them, or a group above them")
    parts: list[dict[str, Any]] = [
        {"type": "in", "key": "TAXON_KEY", "values": [str(key) for key in keys]},
        {"type": "equals", "key": "MEDIA_TYPE", "value": "StillImage"},
    ]
    if basis:
        parts.append({"type": "in", "key": "BASIS_OF_RECORD", "values": sorted(set(basis))})
    return {"type": "and", "predicates": parts}


def read_taxon_keys(text_or_file: str) -> list[int]:
    """Taxon keys from a file, one a line (what stands behind a comma, a tab or # is left), or from "2876213,3189863"."""
    path = Path(text_or_file)
    if re.fullmatch(r"[\d,\s]+", text_or_file) and not path.is_file():
        cells = text_or_file.replace(",", " ").split()
    elif path.is_file():
        cells = [
            cell for line in path.read_text(encoding="utf-8-sig").splitlines() if (cell := re.split(r"[,\t#]", line)[0].strip())
        ]
    else:
        raise BadInput(f"{text_or_file}: no such file, and no list of taxon keys such as 2876213,3189863")
    if wrong := [cell for cell in cells if not cell.isdecimal()]:
        raise BadInput(f"{text_or_file}: {wrong[0]!r} is no GBIF taxon key, a whole number; correct it")
    return [int(cell) for cell in cells]
