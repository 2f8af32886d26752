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
import hashlib
import io
import json
import os
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from taxakey.artifacts import open_atomically, write_text
from taxakey.dataset.build import PARTS, shards_of
from taxakey.dataset.jpeg import without_metadata
from taxakey.dataset.reader import Dataset
from taxakey.dataset.spdx import spdx, url_of
from taxakey.errors import BadInput
from taxakey.progress import track
from taxakey.records.phylogeny import RANK_DISTANCES, Tree, rank_distances, tree_distances

_KEY = "key.txt"
_BATCH_ROWS = 100
_TIME = (315_619_200, 315_619_200)
"""2 January 1980: the first day that a zip can hold in every time zone."""
_COLUMNS = ("image_id", "occurrenceID", "scientificName", "institutionCode", "collectionCode", "license")


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
    tables = _Tables(dataset, options, _key(options.solution))
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


# ---- the arrays ----


class _Tables:
    """Numbers for everything, and the arrays of the JSON files."""

    def __init__(self, dataset: Dataset, options: Herbarium2022Options, key: str) -> None:
        self.taxonomy, self.options, self.key = dataset.taxonomy, options, key
        self.rows, self.left_out = {}, Counter[str]()
        for part in PARTS:
            table = dataset.part(part).table.select(_COLUMNS)
            known = dataset.part(part).class_index >= 0
            self.left_out[part] = int((~known).sum())
            self.rows[part] = table.filter(pa.array(known))
        self.category_of = self._category_ids()
        self.licence_of = _numbered(self._all("license", *PARTS))
        self.institution_of = _numbered(_institutions(self._train("institutionCode"), self._train("collectionCode")))
        self._name_pictures()

    def _train(self, column: str) -> list[Any]:
        """Train and validation, one after the other: their layout knows no validation part."""
        return self._all(column, "train", "validation")

    def _all(self, column: str, *parts: str) -> list[Any]:
        return list(chain.from_iterable(self.rows[part][column].to_pylist() for part in parts))

    def _category_ids(self) -> dict[str, int]:
        given = self.options.category_ids
        if not given:
            return {name: number for number, name in enumerate(self.taxonomy.names)}
        if without := [name for name in self.taxonomy.names if name not in given]:
            raise BadInput(f"{len(without):,} species of the dataset have no number (first: {without[0]}); add them to the list")
        return {name: given[name] for name in self.taxonomy.names}

    def _name_pictures(self) -> None:
        self.id_of, self.file_of = {}, {}
        seen: Counter[int] = Counter()
        for image, name in zip(self._train("image_id"), self._train("scientificName"), strict=True):
            category = self.category_of[name]
            seen[category] += 1
            digits = f"{category:05d}"
            self.id_of[image] = f"{digits}__{seen[category]:03d}"
            self.file_of[image] = f"train_images/{digits[:-2]}/{digits[-2:]}/{self.id_of[image]}.jpg"
        order = sorted(self._all("image_id", "test"), key=lambda image: hashlib.sha256(f"{self.key}:{image}".encode()).digest())
        for number, image in enumerate(order):
            self.id_of[image] = str(number)
            self.file_of[image] = f"test_images/{number // 1000:03d}/test-{number:06d}.jpg"

    @cached_property
    def genera(self) -> list[str]:
        """Names of the genera, sorted; the number of a genus is its place."""
        return sorted(set(self.genus_of.values()))

    @cached_property
    def genus_of(self) -> dict[str, str]:
        """The genus of each class; the first word of the name where the records don't say."""
        pairs = zip(self.taxonomy.names, self.taxonomy.column("genus"), strict=True)
        return {name: genus or name.split()[0] for name, genus in pairs}

    @cached_property
    def test_images(self) -> list[dict[str, Any]]:
        """In the order of their numbers, which the key has shuffled."""
        licences = self._all("license", "test")
        found = [
            (int(self.id_of[image]), image, text) for image, text in zip(self._all("image_id", "test"), licences, strict=True)
        ]
        return [
            {"image_id": number, "file_name": self.file_of[image].partition("/")[2], "license": self.licence_of[text]}
            for number, image, text in sorted(found)
        ]

    def arrays(self) -> dict[str, Iterable[str]]:
        """The arrays of train_metadata.json, their objects as JSON already."""
        return {
            "annotations": map(_json, self._annotations()),
            "categories": map(_json, self._categories()),
            "genera": (_json({"genus_id": number, "genus": genus}) for number, genus in enumerate(self.genera)),
            "images": map(_json, self._images()),
            "distances": self._distances(),
            "licenses": (
                _json({"id": number, "name": _licence(text), "url": _url(text)}) for text, number in self.licence_of.items()
            ),
            "institutions": (
                _json({"institution_id": number, "collectionCode": code or ""}) for code, number in self.institution_of.items()
            ),
        }

    def _annotations(self) -> Iterator[dict[str, Any]]:
        genus_ids = {genus: number for number, genus in enumerate(self.genera)}
        codes = _institutions(self._train("institutionCode"), self._train("collectionCode"))
        for image, name, code in zip(self._train("image_id"), self._train("scientificName"), codes, strict=True):
            yield {
                "image_id": self.id_of[image],
                "category_id": self.category_of[name],
                "genus_id": genus_ids[self.genus_of[name]],
                "institution_id": self.institution_of[code],
            }

    def _images(self) -> Iterator[dict[str, Any]]:
        for image, text in zip(self._train("image_id"), self._train("license"), strict=True):
            file = self.file_of[image].partition("/")[2]
            yield {"image_id": self.id_of[image], "file_name": file, "license": self.licence_of[text]}

    def _categories(self) -> Iterator[dict[str, Any]]:
        columns = (self.taxonomy.column(name) for name in ("scientificNameAuthorship", "family"))
        rows = zip(self.taxonomy.names, *columns, strict=True)
        for name, author, family in sorted(rows, key=lambda row: self.category_of[row[0]]):
            genus = self.genus_of[name]
            yield {
                "category_id": self.category_of[name],
                "scientificName": f"{name} {author}".strip(),
                "family": family,
                "genus": genus,
                "species": name.removeprefix(genus).strip(),
                "authors": author,
            }

    def _distances(self) -> Iterator[str]:
        """Each pair once, the smaller number first; pairs with a genus that isn't in the tree have none."""
        rows = self._distance_rows()
        for x, row_G in enumerate(track(rows, "distances", total=len(self.genera))):
            for y, distance in enumerate(row_G[x + 1 :].tolist(), x + 1):
                if distance == distance:
                    yield f'{{"genus_id_x":{x},"genus_id_y":{y},"distance":{distance:.7g}}}'

    def _distance_rows(self) -> Iterator[Any]:
        if self.options.tree is not None:
            return tree_distances(self.options.tree, self.genera)
        parents: dict[str, list[str | None]] = {rank: [None] * len(self.genera) for rank in RANK_DISTANCES}
        number = {genus: index for index, genus in enumerate(self.genera)}
        for rank, known in parents.items():
            for name, parent in zip(self.taxonomy.names, self.taxonomy.column(rank), strict=True):
                known[number[self.genus_of[name]]] = known[number[self.genus_of[name]]] or parent or None
        return rank_distances(parents, len(self.genera))

    @cached_property
    def outside_tree(self) -> list[str]:
        """Genera that the tree lacks."""
        if self.options.tree is None:
            return []
        known = {leaf.split()[0] for leaf in self.options.tree.leaves}
        return [genus for genus in self.genera if genus not in known]

    def counts(self) -> dict[str, int]:
        counts = {"herbarium2022 train": len(self._train("image_id")), "herbarium2022 test": len(self.test_images)}
        counts |= {"herbarium2022 left out": sum(self.left_out.values()), "genera outside the tree": len(self.outside_tree)}
        return counts

    def notes(self) -> tuple[str, ...]:
        notes = []
        if left_out := sum(self.left_out.values()):
            notes.append(f"{left_out:,} pictures of species without a training picture are not in the herbarium2022 files")
        if self.outside_tree:
            shown = ", ".join(self.outside_tree[:5])
            notes.append(
                f"{len(self.outside_tree):,} of {len(self.genera):,} genera aren't in the tree and have no distances: {shown}"
            )
        return tuple(notes)


def _numbered(values: Iterable[str | None]) -> dict[str | None, int]:
    """A number for each value, the most frequent first, from 0 on."""
    counted = Counter(values)
    return {value: number for number, value in enumerate(sorted(counted, key=lambda value: (-counted[value], value or "")))}


def _institutions(codes: list[str | None], collections: list[str | None]) -> list[str | None]:
    return [code or collection for code, collection in zip(codes, collections, strict=True)]


def _licence(text: str | None) -> str:
    return spdx(text) or text or "not given"


def _url(text: str | None) -> str:
    return url_of(spdx(text)) or (text if text and text.startswith(("http://", "https://")) else "")


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


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


def _write_solution(tables: _Tables, options: Herbarium2022Options) -> None:
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


def _write_pictures(folder: Path, out: Path, tables: _Tables) -> None:
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
