"""Numbers and JSON arrays of the layout of Herbarium 2022; `herbarium2022.py` writes them.

Shapes: C classes, G genera.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from itertools import chain
from typing import Any

import pyarrow as pa

from taxakey.dataset.build import PARTS
from taxakey.dataset.reader import Dataset
from taxakey.errors import BadInput
from taxakey.progress import track
from taxakey.records.licences import spdx, url_of
from taxakey.records.phylogeny import RANK_DISTANCES, Tree, genus_of, rank_distances, tree_distances

_COLUMNS = ("image_id", "occurrenceID", "scientificName", "institutionCode", "collectionCode", "license")


class ChallengeTables:
    """Numbers for everything, and the arrays of the JSON files.

    `category_ids`: species -> number, or empty; `key`: decides the order of the test pictures. `rows`: the records of each part
    that have a class; `id_of`, `file_of`: number and file of each picture, by image_id.
    """

    def __init__(self, dataset: Dataset, category_ids: Mapping[str, int], tree: Tree | None, key: str) -> None:
        self.taxonomy, self.tree = dataset.taxonomy, tree
        self.rows: dict[str, pa.Table] = {}
        self.left_out: Counter[str] = Counter()
        for part in PARTS:
            table = dataset.part(part).table.select(_COLUMNS)
            known = dataset.part(part).class_index >= 0
            self.left_out[part] = int((~known).sum())
            self.rows[part] = table.filter(pa.array(known))
        self.category_of = self._numbers(category_ids)
        self.licence_of = _numbered(self._all("license", *PARTS))
        self.institution_of = _numbered(_institutions(self._train("institutionCode"), self._train("collectionCode")))
        self._name_pictures(key)

    def _train(self, column: str) -> list[Any]:
        """Train and validation, one after the other: their layout knows no validation part."""
        return self._all(column, "train", "validation")

    def _all(self, column: str, *parts: str) -> list[Any]:
        return list(chain.from_iterable(self.rows[part][column].to_pylist() for part in parts))

    def _numbers(self, given: Mapping[str, int]) -> dict[str, int]:
        if not given:
            return {name: number for number, name in enumerate(self.taxonomy.names)}
        if without := [name for name in self.taxonomy.names if name not in given]:
            raise BadInput(f"{len(without):,} species of the dataset have no number (first: {without[0]}); add them to the list")
        return {name: given[name] for name in self.taxonomy.names}

    def _name_pictures(self, key: str) -> None:
        self.id_of: dict[str, str] = {}
        self.file_of: dict[str, str] = {}
        seen: Counter[int] = Counter()
        for image, name in zip(self._train("image_id"), self._train("scientificName"), strict=True):
            category = self.category_of[name]
            seen[category] += 1
            digits = f"{category:05d}"
            self.id_of[image] = f"{digits}__{seen[category]:03d}"
            self.file_of[image] = f"train_images/{digits[:-2]}/{digits[-2:]}/{self.id_of[image]}.jpg"
        order = sorted(self._all("image_id", "test"), key=lambda image: hashlib.sha256(f"{key}:{image}".encode()).digest())
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
        pairs = zip(self._all("image_id", "test"), self._all("license", "test"), strict=True)
        found = [(int(self.id_of[image]), image, text) for image, text in pairs]
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
            "licenses": map(_json, self._licences()),
            "institutions": map(_json, self._institutions()),
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

    def _licences(self) -> Iterator[dict[str, Any]]:
        for text, number in self.licence_of.items():
            yield {"id": number, "name": _licence(text), "url": _url(text)}

    def _institutions(self) -> Iterator[dict[str, Any]]:
        for code, number in self.institution_of.items():
            yield {"institution_id": number, "collectionCode": code or ""}

    def _distances(self) -> Iterator[str]:
        """Each pair once, the smaller number first; pairs with a genus that isn't in the tree have none."""
        rows = self._distance_rows()
        for x, row_G in enumerate(track(rows, "distances", total=len(self.genera))):
            for y, distance in enumerate(row_G[x + 1 :].tolist(), x + 1):
                if distance == distance:
                    yield f'{{"genus_id_x":{x},"genus_id_y":{y},"distance":{distance:.7g}}}'

    def _distance_rows(self) -> Iterator[Any]:
        if self.tree is not None:
            return tree_distances(self.tree, self.genera)
        parents: dict[str, list[str | None]] = {rank: [None] * len(self.genera) for rank in RANK_DISTANCES}
        number = {genus: index for index, genus in enumerate(self.genera)}
        for rank, known in parents.items():
            for name, parent in zip(self.taxonomy.names, self.taxonomy.column(rank), strict=True):
                known[number[self.genus_of[name]]] = known[number[self.genus_of[name]]] or parent or None
        return rank_distances(parents, len(self.genera))

    @cached_property
    def outside_tree(self) -> list[str]:
        """Genera that the tree lacks."""
        if self.tree is None:
            return []
        known = {genus_of(leaf) for leaf in self.tree.leaves}
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
            of = f"{len(self.outside_tree):,} of {len(self.genera):,}"
            notes.append(f"{of} genera aren't in the tree and have no distances: {shown}")
        return tuple(notes)


def _numbered(values: Iterable[str | None]) -> dict[str | None, int]:
    """A number for each value, the most frequent first, from 0 on."""
    counted = Counter(values)
    return {value: number for number, value in enumerate(sorted(counted, key=lambda value: (-counted[value], value or "")))}


def _institutions(codes: list[str | None], collections: list[str | None]) -> list[str | None]:
    return [code or collection for code, collection in zip(codes, collections, strict=True)]


def _licence(text: str | None) -> str:
    return spdx(text) or text or ""


def _url(text: str | None) -> str:
    return url_of(spdx(text)) or (text if text and text.startswith(("http://", "https://")) else "")


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
