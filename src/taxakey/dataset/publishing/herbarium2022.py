"""Writes a dataset in the layout of Herbarium 2022 (NAFlora-1M), so that what was written for that challenge reads it.

    train_metadata.json    annotations, images (both in the same order), categories, genera, institutions, licenses, distances
    test_metadata.json     a list of images, and nothing that names them
    sample_submission.csv  Id,Predicted
    train_images/ddd/dd/ddddd__nnn.jpg and test_images/nnn/test-nnnnnn.jpg
    validation_images.csv  which pictures of train_metadata.json are our validation part: that layout has none

The answers go to a folder apart, with the key that shuffled the test pictures. The numbers, the order and the files of the test
pictures say nothing of what they show; metadata inside these files (EXIF, XMP, comments) is left out, because sheets are often
delivered with their name in it. Shapes: N pictures, C classes, G genera.
"""

from __future__ import annotations

import csv
import io
import json
import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from taxakey.artifacts import open_atomically, write_text
from taxakey.dataset.build import PARTS, shards_of
from taxakey.dataset.publishing.herbarium2022_tables import ChallengeTables
from taxakey.dataset.publishing.jpeg import without_metadata
from taxakey.dataset.reader import Dataset
from taxakey.errors import BadInput
from taxakey.progress import track
from taxakey.records.phylogeny import Tree

_KEY = "key.txt"
_BATCH_ROWS = 100
_TIME = (315_619_200, 315_619_200)
"""2 January 1980: the first day that a zip can hold in every time zone."""


@dataclass(frozen=True)
class Herbarium2022Options:
    """`solution`: folder for the answers, outside what is published. `tree`: distances between genera, from ranks without one.

    `category_ids`: species -> number, such as its line in the checklist, so that numbers stay when a later version of the
    dataset has other species; without it species are numbered in order of their names. Numbers may have gaps, as theirs have.
    `halves`: image_id of a test picture -> public or private. `pictures`: whether the JPEG files are written too.
    """

    solution: Path
    tree: Tree | None = None
    category_ids: Mapping[str, int] = field(default_factory=dict)
    halves: Mapping[str, str] = field(default_factory=dict)
    pictures: bool = True


@dataclass(frozen=True, eq=False)
class Herbarium2022:
    """What each picture of the dataset became: `file_of` and `id_of` by image_id; what had to be left out is counted."""

    file_of: Mapping[str, str]
    id_of: Mapping[str, str]
    counts: Mapping[str, int]
    notes: tuple[str, ...]


def write_herbarium2022(dataset: Dataset, out: Path, options: Herbarium2022Options) -> Herbarium2022:
    """Write the layout into `out` and the answers into `options.solution`.

    Raises BadInput where the answers would lie among what is published, a species has no number or a test picture no half.
    """
    if options.solution.resolve().is_relative_to(out.resolve().parent):
        raise BadInput(f"{options.solution}: the answers would lie among what is published; name a folder elsewhere")
    tables = ChallengeTables(dataset, options.category_ids, options.tree, _key(options.solution))
    _write_solution(tables, options)
    with open_atomically(out / "train_metadata.json", "w") as file:
        _write_object(file, tables.arrays())
    write_text(out / "test_metadata.json", json.dumps(tables.test_images, indent=0, ensure_ascii=False) + "\n")
    _write_csv(out / "sample_submission.csv", ["Id", "Predicted"], ([image["image_id"], 0] for image in tables.test_images))
    validation = [[tables.id_of[name]] for name in tables.rows["validation"]["image_id"].to_pylist()]
    _write_csv(out / "validation_images.csv", ["image_id"], validation)
    if options.pictures:
        _write_pictures(dataset.folder, out, tables)
    return Herbarium2022(tables.file_of, tables.id_of, tables.counts(), tables.notes())


def _key(folder: Path) -> str:
    """Decides the order of the test pictures; made once, so that a second run gives the same files."""
    if not (folder / _KEY).is_file():
        write_text(folder / _KEY, secrets.token_hex(16) + "\n")
    return (folder / _KEY).read_text(encoding="utf-8").strip()


# ---- files ----


def _write_object(file: Any, arrays: Mapping[str, Iterable[str]]) -> None:
    """An object of arrays, one element a line, without ever holding one whole."""
    for number, (name, elements) in enumerate(arrays.items()):
        file.write(("{" if number == 0 else ",\n") + f"{json.dumps(name)}:[\n")
        first = True
        for element in elements:
            file.write(element if first else ",\n" + element)
            first = False
        file.write("\n]")
    file.write("}\n")


def _write_csv(path: Path, header: list[str], rows: Iterable[list[Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def _write_solution(tables: ChallengeTables, options: Herbarium2022Options) -> None:
    """solution.csv as Kaggle wants it, and which of our pictures each number is."""
    rows = zip(*(tables.rows["test"][name].to_pylist() for name in ("image_id", "occurrenceID", "scientificName")), strict=True)
    ordered = sorted(rows, key=lambda row: int(tables.id_of[row[0]]))
    header, usage = ["Id", "Predicted"], {}
    if options.halves:
        header.append("Usage")
        usage = {image: options.halves.get(image, "").capitalize() for image, *_ in ordered}
        if wrong := [image for image, half in usage.items() if half not in ("Public", "Private")]:
            raise BadInput(f"{len(wrong):,} test pictures are in no half (first: {wrong[0]}); split the test part anew")
    lines = ([tables.id_of[image], tables.category_of[name], *([usage[image]] if usage else [])] for image, _, name in ordered)
    _write_csv(options.solution / "solution.csv", header, lines)
    names = ([tables.id_of[image], image, observation, name] for image, observation, name in ordered)
    _write_csv(options.solution / "test_pictures.csv", ["Id", "image_id", "occurrenceID", "scientificName"], names)


def _write_pictures(folder: Path, out: Path, tables: ChallengeTables) -> None:
    """Bytes as they lie in the shards; those of test without metadata. What an interrupted run has left is written anew.

    All files get the same time, because the order in which they were written is that of the shards, which names observations.
    """
    for part in PARTS:
        for shard in track(shards_of(folder, part), f"pictures of {part}"):
            with pq.ParquetFile(shard) as source:
                for batch in source.iter_batches(_BATCH_ROWS, columns=["image.bytes", "image_id"]):
                    pictures = batch.column("image").field("bytes").to_pylist()
                    for image, data in zip(batch.column("image_id").to_pylist(), pictures, strict=True):
                        if image in tables.file_of:  # the others are of species without a training picture
                            file = out / tables.file_of[image]
                            file.parent.mkdir(parents=True, exist_ok=True)
                            file.write_bytes(without_metadata(data) if part == "test" else data)
                            os.utime(file, _TIME)
