"""What a table of records holds, before anything is trained on it: counts per class and part, the long tail, who, where, when.

Every number counts pictures (rows) unless it says otherwise. Shapes: N rows, C classes (species).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from taxakey.dataset.publishing.attribution import normalised
from taxakey.errors import BadRecords
from taxakey.records.table import SCHEMA, SPLITS

_CELLS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_MOST_CELLS = 180
_MOST_RANGES = 16
_NO_METADATA = ("path", "split")
"""Columns that say where a row stands with us, not what is known of the record."""


@dataclass(frozen=True)
class Group:
    """Pictures and species of one institution, family, country or licence; `name` is None where it isn't given."""

    name: str | None
    images: int
    species: int


@dataclass(frozen=True)
class Tenth:
    """The fewest classes that together hold at least `percent` of the pictures."""

    percent: int
    classes: int


@dataclass(frozen=True)
class Places:
    """Pictures in cells of `degrees`: their south-west corners at (west[i], south[i]); `located`: pictures with a place."""

    degrees: float
    west: tuple[float, ...]
    south: tuple[float, ...]
    images: tuple[int, ...]
    located: int


@dataclass(frozen=True)
class Histogram:
    """How many pictures there are of each `label`, a number or a range of numbers (its end excluded)."""

    labels: tuple[str, ...]
    images: tuple[int, ...]


@dataclass(frozen=True)
class Exploration:
    """Everything that the page shows, and `exploration.json` holds.

    `classes`: columns of equal length, most pictures first: scientificName, family, images, observations, and train, validation,
    test where any row has a split. `missing`: pictures without a value, by column. `refused`: rows or pictures that never got
    here, by reason. `longest_edge` in pixels and `aspect` (width / height) are None where the sizes aren't known.
    """

    counts: Mapping[str, int]
    classes: Mapping[str, list[Any]]
    tenths: tuple[Tenth, ...]
    families: tuple[Group, ...]
    institutions: tuple[Group, ...]
    countries: tuple[Group, ...]
    licences: tuple[Group, ...]
    years: Mapping[int, int]
    months: tuple[int, ...]
    places: Places | None
    longest_edge: Histogram | None
    aspect: Histogram | None
    missing: Mapping[str, int]
    refused: Mapping[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def explore(table: pa.Table, refused: Mapping[str, int] | None = None) -> Exploration:
    """Count a table with the columns of `records.table.SCHEMA`, and `width` and `height` if it has them.

    Raises BadRecords for an empty table.
    """
    if not table.num_rows:
        raise BadRecords("there is not one picture to explore; name records or a dataset that hold some")
    names, class_N = _codes(table["scientificName"])
    classes = _classes(table, names, class_N)
    return Exploration(
        counts=_counts(table, classes),
        classes=classes,
        tenths=cumulative_tenths(np.array(classes["images"])),
        families=_groups(table["family"], class_N),
        institutions=_groups(table["institutionCode"], class_N),
        countries=_groups(table["countryCode"], class_N),
        licences=_groups(normalised(table["license"]), class_N),
        years=_years(table["year"]),
        months=tuple(np.bincount(_integers(table["month"]), minlength=13)[1:13].tolist()),
        places=_places(table),
        longest_edge=_longest_edge(table),
        aspect=_aspect(table),
        missing={name: table[name].null_count for name in SCHEMA.names if name not in _NO_METADATA},
        refused=dict(refused or {}),
    )


def cumulative_tenths(images_C: NDArray[np.int64]) -> tuple[Tenth, ...]:
    """How many classes, the largest first, it takes for 10 %, 20 % … 100 % of the pictures (SPEC.md, section 3).

    >>> [tenth.classes for tenth in cumulative_tenths(np.array([5, 50, 20, 10, 10, 5]))]
    [1, 1, 1, 1, 1, 2, 2, 3, 4, 6]
    """
    sums_C = np.cumsum(np.sort(images_C)[::-1])
    percents = range(10, 101, 10)
    # In whole numbers: a tenth of a sum is no float that could be compared with safely.
    classes = [int(np.searchsorted(100 * sums_C, percent * int(sums_C[-1]))) + 1 for percent in percents]
    return tuple(Tenth(percent, number) for percent, number in zip(percents, classes, strict=True))


# ---- classes and groups ----


def _codes(column: pa.ChunkedArray) -> tuple[list[str], NDArray[np.int64]]:
    """The distinct values, and the position of each row's among them [N]; -1 for null."""
    encoded = pc.dictionary_encode(column).combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.chunk(0)
    return encoded.dictionary.to_pylist(), pc.fill_null(encoded.indices, -1).to_numpy().astype(np.int64)


def _classes(table: pa.Table, names: list[str], class_N: NDArray[np.int64]) -> dict[str, list[Any]]:
    images_C = np.bincount(class_N, minlength=len(names))
    order_C = np.lexsort((np.argsort(np.argsort(names)), -images_C))
    columns: dict[str, list[Any]] = {"scientificName": [names[index] for index in order_C]}
    columns["family"] = _family_of_each(table["family"], class_N, len(names), order_C)
    columns["images"] = images_C[order_C].tolist()
    observations, observation_N = _codes(table["occurrenceID"])
    class_O = np.zeros(len(observations), dtype=np.int64)
    class_O[observation_N] = class_N  # an observation has one name: the records were checked for that
    columns["observations"] = np.bincount(class_O, minlength=len(names))[order_C].tolist()
    if table["split"].null_count < table.num_rows:
        for split in SPLITS:
            inside_N = pc.fill_null(pc.equal(table["split"], split), False).to_numpy(zero_copy_only=False)
            columns[split] = np.bincount(class_N[inside_N], minlength=len(names))[order_C].tolist()
    return columns


def _family_of_each(
    column: pa.ChunkedArray, class_N: NDArray[np.int64], classes: int, order_C: NDArray[np.int64]
) -> list[str | None]:
    """Of records that disagree the last named one counts; which, matters to nobody but must not change from run to run."""
    families, family_N = _codes(column)
    family_C = np.full(classes, -1, dtype=np.int64)
    known_N = family_N >= 0
    family_C[class_N[known_N]] = family_N[known_N]
    return [families[code] if code >= 0 else None for code in family_C[order_C]]


def _groups(column: pa.ChunkedArray, class_N: NDArray[np.int64]) -> tuple[Group, ...]:
    """The groups with most pictures first, those of equal size by name."""
    names, group_N = _codes(column)
    images_G = np.bincount(group_N + 1, minlength=len(names) + 1)
    width = int(class_N.max()) + 1
    pairs = np.unique((group_N + 1) * width + class_N)
    species_G = np.bincount(pairs // width, minlength=len(names) + 1)
    groups = [
        Group(name, int(images), int(species))
        for name, images, species in zip([None, *names], images_G, species_G, strict=True)
        if images
    ]
    return tuple(sorted(groups, key=lambda group: (-group.images, group.name or "")))


def _counts(table: pa.Table, classes: Mapping[str, list[Any]]) -> dict[str, int]:
    counts = {
        "images": table.num_rows,
        "observations": sum(classes["observations"]),
        "species": len(classes["scientificName"]),
        "genera": pc.count_distinct(table["genus"]).as_py(),
        "families": pc.count_distinct(table["family"]).as_py(),
        "institutions": pc.count_distinct(table["institutionCode"]).as_py(),
    }
    counts |= {split: sum(classes[split]) for split in SPLITS if split in classes}
    return counts | {"without_split": table["split"].null_count}


# ---- when, where, how large ----


def _integers(column: pa.ChunkedArray) -> NDArray[np.int64]:
    return column.drop_null().to_numpy().astype(np.int64)


def _years(column: pa.ChunkedArray) -> dict[int, int]:
    years, images = np.unique(_integers(column), return_counts=True)
    return dict(zip(years.tolist(), images.tolist(), strict=True))


def _places(table: pa.Table) -> Places | None:
    """Counts in cells as small as leave at most 180 from side to side."""
    both = pc.and_(pc.is_valid(table["decimalLatitude"]), pc.is_valid(table["decimalLongitude"]))
    located = table.select(["decimalLatitude", "decimalLongitude"]).filter(both)
    if not located.num_rows:
        return None
    latitude_N, longitude_N = (located[name].to_numpy() for name in located.column_names)
    extent = max(np.ptp(latitude_N), np.ptp(longitude_N))
    degrees = next((size for size in _CELLS if extent / size <= _MOST_CELLS), _CELLS[-1])
    cells_N2 = np.floor(np.stack([longitude_N, latitude_N], axis=1) / degrees).astype(np.int64)
    cells, images = np.unique(cells_N2, axis=0, return_counts=True)
    west, south = (tuple(round(float(index * degrees), 6) for index in cells[:, axis]) for axis in (0, 1))
    return Places(degrees, west, south, tuple(images.tolist()), located.num_rows)


def _longest_edge(table: pa.Table) -> Histogram | None:
    """A bar for each length where there are few of them, as after a build that shrank most; else some ranges."""
    if "width" not in table.column_names:
        return None
    longest_N = pc.max_element_wise(table["width"], table["height"]).to_numpy()
    lengths, images = np.unique(longest_N, return_counts=True)
    if len(lengths) <= _MOST_RANGES:
        return Histogram(tuple(map(str, lengths)), tuple(images.tolist()))
    return _histogram(longest_N, np.linspace(lengths[0], lengths[-1] + 1, _MOST_RANGES + 1).round())


def _aspect(table: pa.Table) -> Histogram | None:
    """What is narrower than 0.3 or wider than 3 counts to the first or last range."""
    if "width" not in table.column_names:
        return None
    ratio_N = np.clip(table["width"].to_numpy() / table["height"].to_numpy(), 0.3, 2.95)
    return _histogram(ratio_N, np.round(np.arange(0.3, 3.01, 0.1), 1))


def _histogram(values_N: NDArray[Any], edges: NDArray[np.floating]) -> Histogram:
    """Empty ranges at either end are left out."""
    images = np.histogram(values_N, edges)[0]
    first, last = np.flatnonzero(images)[[0, -1]]
    labels = [f"{low:g}–{high:g}" for low, high in pairwise(edges)]
    return Histogram(tuple(labels[first : last + 1]), tuple(images[first : last + 1].tolist()))
