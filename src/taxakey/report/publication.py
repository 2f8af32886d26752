"""From a finished dataset to a folder that can be published: card, citation, attribution, and other layouts on request.

Where a challenge layout is asked for, the test part is meant to be unknown: its names go to a folder of their own, and nothing in
the published one, the ledger of licences included, leads from a test picture to its name.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from taxakey.artifacts import Manifest, Plan, finish, hash_of, read_manifest, start, write_text
from taxakey.dataset.publishing.attribution import ledger, licence_totals, write_attribution
from taxakey.dataset.publishing.citation import CitationOptions, downloads_of, write_citation
from taxakey.dataset.publishing.herbarium2022 import Herbarium2022, Herbarium2022Options, write_herbarium2022
from taxakey.dataset.reader import Dataset
from taxakey.errors import BadInput
from taxakey.records.flow import Step, read_flow
from taxakey.records.phylogeny import read_newick
from taxakey.report.dataset_card import dataset_card
from taxakey.report.flow import flow_svg

LAYOUTS = ("herbarium2022",)


@dataclass(frozen=True)
class PublicationOptions:
    """Files that say more: `records` (folder; for the DOIs of its downloads), `flow` (flow.json of the selection), `tree`
    (Newick), `numbering` (CSV with scientificName and, if wanted, category_id; else the line's number), `halves` (Parquet with
    image_id and half). `also`: further layouts; they need `solution`, a folder for the answers outside the published one."""

    citation: CitationOptions
    records: Path | None = None
    flow: Path | None = None
    also: tuple[str, ...] = ()
    solution: Path | None = None
    tree: Path | None = None
    numbering: Path | None = None
    halves: Path | None = None
    pictures: bool = True

    def __post_init__(self) -> None:
        if unknown := [name for name in self.also if name not in LAYOUTS]:
            raise BadInput(f"there is no layout {unknown[0]!r}; one of {', '.join(LAYOUTS)}")
        if self.also and self.solution is None:
            raise BadInput(f"--also {self.also[0]} hides the names of the test part; say --solution FOLDER for the answers")
        if not self.also and (self.solution or self.tree or self.numbering or self.halves):
            raise BadInput("--solution, --tree, --numbering and --halves are for a further layout; say --also herbarium2022")


def publish(dataset_folder: Path | str, out: Path | str, options: PublicationOptions) -> Manifest:
    """Make the artifact "publication" in `out`. Raises BadInput and ArtifactError with the next step."""
    dataset, out = Dataset.open(dataset_folder), Path(out)
    citation = _with_downloads(options.citation, options.records, dataset)
    steps = read_flow(options.flow) if options.flow else ()
    plan = Plan("publication", {"dataset": hash_of(dataset.folder), **_hashes(options)}, _recipe(options, citation))
    if start(out, plan) == "finished":
        return read_manifest(out, "publication")
    challenge = _write_layout(dataset, out, options)
    rows = ledger(dataset, challenge.file_of, challenge.id_of) if challenge else ledger(dataset)
    without_key = write_attribution(dataset, out, rows)
    write_citation(out, citation)
    if steps:
        write_text(out / "flow.svg", flow_svg(steps))
    notes = (*_notes(without_key), *(challenge.notes if challenge else ()))
    write_text(out / "README.md", _card(dataset, citation, steps, notes, hidden=challenge is not None))
    counts = {"images": rows.num_rows, "records of no GBIF dataset": without_key, **(challenge.counts if challenge else {})}
    return finish(out, plan, counts=counts, taxonomy=dataset.taxonomy.fingerprint, notes=notes)


def _with_downloads(citation: CitationOptions, records: Path | None, dataset: Dataset) -> CitationOptions:
    """The DOIs said and those that the records name; the records must be those that the dataset was built from."""
    if records is None:
        return citation
    manifest = read_manifest(records, "records")
    if dataset.manifest.inputs.get("records") not in (None, hash_of(records)):
        raise BadInput(f"{records}: the dataset {dataset.folder} was built from other records; name those")
    return replace(citation, downloads=tuple(sorted({*citation.downloads, *downloads_of(manifest)})))


def _hashes(options: PublicationOptions) -> dict[str, str]:
    files = {"flow": options.flow, "tree": options.tree, "numbering": options.numbering, "halves": options.halves}
    return {name: hash_of(path) for name, path in files.items() if path is not None}


def _recipe(options: PublicationOptions, citation: CitationOptions) -> dict[str, Any]:
    """Without the place of the answers, which is nobody's business."""
    said = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(citation).items()}
    said["released"] = citation.released.isoformat() if citation.released else None
    return {"citation": said, "also": list(options.also), "pictures": options.pictures}


def _write_layout(dataset: Dataset, out: Path, options: PublicationOptions) -> Herbarium2022 | None:
    if not options.also or options.solution is None:
        return None
    layout = Herbarium2022Options(
        solution=options.solution,
        tree=read_newick(options.tree) if options.tree else None,
        category_ids=read_numbering(options.numbering) if options.numbering else {},
        halves=_halves(options.halves) if options.halves else {},
        pictures=options.pictures,
    )
    return write_herbarium2022(dataset, out / "herbarium2022", layout)


def read_numbering(path: Path) -> dict[str, int]:
    """scientificName -> category_id, or the number of its line (the first after the header is 0). Raises BadInput."""
    with open(path, newline="", encoding="utf-8-sig") as lines:
        rows = csv.DictReader(lines)
        if "scientificName" not in (rows.fieldnames or ()):
            raise BadInput(f"{path}: no column scientificName; its columns are {', '.join(rows.fieldnames or ())}")
        numbers: dict[str, int] = {}
        for line, row in enumerate(rows):
            text = row.get("category_id") or str(line)
            if not text.isdecimal():
                raise BadInput(f"{path}: the category_id {text!r} of {row['scientificName']!r} isn't a whole number")
            if numbers.setdefault(row["scientificName"], int(text)) != int(text):
                raise BadInput(f"{path}: {row['scientificName']!r} stands there twice; leave one of its lines")
    if len(set(numbers.values())) < len(numbers):
        raise BadInput(f"{path}: two species have the same category_id; give each its own")
    return numbers


def _halves(path: Path) -> dict[str, str]:
    names = pq.read_schema(path).names
    if not {"image_id", "half"} <= set(names):
        raise BadInput(f"{path}: needs the columns image_id and half; it has {', '.join(names)}")
    rows = pq.read_table(path, columns=["image_id", "half"])
    pairs: Mapping[str, str | None] = dict(zip(rows["image_id"].to_pylist(), rows["half"].to_pylist(), strict=True))
    return {image: half for image, half in pairs.items() if half}


def _notes(without_key: int) -> tuple[str, ...]:
    if not without_key:
        return ()
    return (f"{without_key:,} records name no dataset of GBIF and are not in derived-dataset.csv; cite their sources too",)


def _card(dataset: Dataset, citation: CitationOptions, steps: Sequence[Step], notes: Sequence[str], *, hidden: bool) -> str:
    return dataset_card(
        dataset, citation, licence_totals(dataset), flow=steps, notes=notes, hidden_test=hidden, herbarium2022=hidden
    )
