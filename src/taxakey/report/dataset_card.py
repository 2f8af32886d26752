"""The card of a dataset: README.md with the YAML front matter that the Hugging Face hub reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from taxakey import __version__
from taxakey.dataset.build import PARTS
from taxakey.dataset.publishing.citation import CitationOptions, citation_text
from taxakey.dataset.reader import Dataset
from taxakey.records.flow import Step
from taxakey.report.exploration import cumulative_tenths
from taxakey.report.flow import flow_table
from taxakey.report.tables import escape, table
from taxakey.report.wording import counted

_SIZES = ((1000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10_000_000, "1M<n<10M"))
_HUB_LICENCES = frozenset(
    {"cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0",
     "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0",
     "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0"}
)  # fmt: skip
"""Licences that the hub knows by name; every other one is "other" there."""


def dataset_card(
    dataset: Dataset,
    citation: CitationOptions,
    licences: pa.Table,
    *,
    flow: Sequence[Step] = (),
    notes: Sequence[str] = (),
    hidden_test: bool = False,
    herbarium2022: bool = False,
) -> str:
    """Front matter and text, made from what the dataset holds. `licences`: columns license, url, images, observations."""
    front = front_matter(dataset, citation, licences, hidden_test=hidden_test)
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---",
        f"# {escape(citation.title)}",
        *([escape(citation.abstract)] if citation.abstract else []),
        _summary(dataset),
        *(f"> **Note:** {escape(note)}" for note in (*dataset.manifest.notes, *notes)),
        "## Parts",
        _parts(dataset, hidden_test=hidden_test),
        "## The long tail",
        _tail(dataset),
        *_flow(tuple(flow)),
        "## Licences",
        _licences(licences),
        "## Files",
        _files(hidden_test=hidden_test, herbarium2022=herbarium2022),
        "## How to cite",
        "```\n" + citation_text(citation).replace("```", "'''") + "```",
        f"Built by Taxakey {dataset.manifest.taxakey} on {dataset.manifest.created[:10]}, card by Taxakey {__version__}; class "
        f"list `{dataset.taxonomy.fingerprint}`; recipe `{dict(dataset.manifest.recipe)}`.",
    ]
    return "\n\n".join(parts) + "\n"


def front_matter(dataset: Dataset, citation: CitationOptions, licences: pa.Table, *, hidden_test: bool = False) -> dict[str, Any]:
    """What the hub reads. The licence is one of its names where all pictures share it, else "other" and a link to the ledger."""
    images = sum(dataset.manifest.counts[part] for part in PARTS)
    names = licences["license"].to_pylist()
    same = names[0].lower() if len(names) == 1 else ""
    licence = {"license": same}
    if same not in _HUB_LICENCES:
        licence = {"license": "other", "license_name": "per-picture", "license_link": "attribution.csv"}
    files = [{"split": part, "path": f"data/{part}-*.parquet"} for part in PARTS]
    shards = {} if hidden_test else {"configs": [{"config_name": "default", "data_files": files}]}
    return {
        "pretty_name": citation.title,
        **licence,
        "task_categories": ["image-classification"],
        "size_categories": [next((name for size, name in _SIZES if images < size), "10M<n<100M")],
        "tags": ["biology", "biodiversity", "species", "fine-grained", "long-tailed"],
        **shards,
    }


def _summary(dataset: Dataset) -> str:
    taxonomy = dataset.taxonomy
    return (
        f"{counted(sum(dataset.manifest.counts[part] for part in PARTS), 'picture')} of "
        f"{counted(len(taxonomy), 'species', 'species')} in {counted(len(taxonomy.taxa('genus')), 'genus', 'genera')} and "
        f"{counted(len(taxonomy.taxa('family')), 'family', 'families')}. Pictures of one observation never stand in two parts."
    )


def _parts(dataset: Dataset, *, hidden_test: bool) -> str:
    rows = []
    for part in PARTS:
        of = dataset.part(part)
        hidden = " (without names)" if hidden_test and part == "test" else ""
        observations, species = len(set(of.observation_ids)), len(set(of.table["scientificName"].to_pylist()))
        rows.append([part + hidden, f"{len(of):,}", f"{observations:,}", f"{species:,}"])
    return table(["Part", "Pictures", "Observations", "Species"], rows)


def _tail(dataset: Dataset) -> str:
    counts_C = dataset.train_counts()
    tenths = cumulative_tenths(counts_C)
    numbers = table(
        ["Share of the training pictures", *(f"{tenth.percent} %" for tenth in tenths)],
        [["Species that hold it, the most pictured first", *(f"{tenth.classes:,}" for tenth in tenths)]],
    )
    return (
        f"A species has {counts_C.min():,} to {counts_C.max():,} training pictures, in the middle {np.median(counts_C):,.0f}.\n\n"
        f"{numbers}"
    )


def _flow(steps: tuple[Step, ...]) -> list[str]:
    if not steps:
        return []
    return [
        "## What became of every record",
        "![Steps from the records to the dataset](flow.svg)",
        flow_table(steps),
    ]


def _licences(licences: pa.Table) -> str:
    rows = [
        [escape(row["license"]) if row["license"] else "not given", f"{row['images']:,}", f"{row['observations']:,}"]
        for row in licences.to_pylist()
    ]
    return (
        "Each picture has the licence of whoever made it; `attribution.csv` names licence, rights holder and creator of each.\n\n"
        + table(["Licence", "Pictures", "Observations"], rows)
    )


def _files(*, hidden_test: bool, herbarium2022: bool) -> str:
    lines = []
    if not hidden_test:
        lines.append(
            "* `data/*.parquet`: pictures with their records, one row a picture (`image`, Darwin Core columns, `width`, "
            "`height`); `datasets.load_dataset` reads them as they are"
        )
    if herbarium2022:
        lines.append(
            "* `herbarium2022/`: the layout of the Herbarium 2022 challenge (`train_metadata.json`, `test_metadata.json`, "
            "`sample_submission.csv`, JPEG files); its training file holds our validation part too, listed in "
            "`validation_images.csv`"
        )
    lines += [
        "* `attribution.parquet`, `attribution.csv`, `licences.csv`: who made which picture, and what may be done with it",
        "* `derived-dataset.csv`: dataset keys of GBIF and records taken from each, for <https://www.gbif.org/derived-dataset>",
        "* `CITATION.cff`, `CITATION.txt`: how to cite",
    ]
    return "\n".join(lines)
