"""Observations: Darwin Core columns, their types, and what makes a row valid. One row per PICTURE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from taxakey.artifacts import Manifest, Plan, finish, read_manifest, start, write_parquet
from taxakey.errors import BadRecords, MissingArtifact

SCHEMA = pa.schema(
    [
        pa.field("occurrenceID", pa.string(), nullable=False),
        pa.field("image_id", pa.string(), nullable=False),
        ("path", pa.string()),
        ("identifier", pa.string()),
        pa.field("scientificName", pa.string(), nullable=False),
        ("scientificNameAuthorship", pa.string()),
        ("verbatimScientificName", pa.string()),
        ("taxonID", pa.string()),
        ("taxonRank", pa.string()),
        ("kingdom", pa.string()),
        ("phylum", pa.string()),
        ("class", pa.string()),
        ("order", pa.string()),
        ("family", pa.string()),
        ("genus", pa.string()),
        ("vernacularName", pa.string()),
        ("poisonous", pa.bool_()),
        ("institutionCode", pa.string()),
        ("collectionCode", pa.string()),
        ("catalogNumber", pa.string()),
        ("recordNumber", pa.string()),
        ("recordedBy", pa.string()),
        ("gbifID", pa.string()),
        ("datasetKey", pa.string()),
        ("basisOfRecord", pa.string()),
        ("eventDate", pa.string()),
        ("year", pa.int32()),
        ("month", pa.int32()),
        ("day", pa.int32()),
        ("decimalLatitude", pa.float64()),
        ("decimalLongitude", pa.float64()),
        ("countryCode", pa.string()),
        ("habitat", pa.string()),
        ("substrate", pa.string()),
        ("metasubstrate", pa.string()),
        ("organ", pa.string()),
        ("license", pa.string()),
        ("rightsHolder", pa.string()),
        ("creator", pa.string()),
        ("source", pa.string()),
        ("split", pa.string()),
    ]
)
"""`path`: an absolute local path, null where only a URL is known; `identifier`: the picture's URI as delivered; `scientificName`:
canonical, WITHOUT its author; `metasubstrate`: a coarser class of substrates, as Danish Fungi has it; `creator`: of the picture;
`source`: what delivered the row; `split`: train, validation, test or null. Missing text is null."""

REJECTED = pa.schema([(name, pa.string()) for name in ("occurrenceID", "image_id", "scientificName", "reason", "detail")])

NOT_TO_SPECIES = "not identified to species"
PARTIAL_RANKS = ("genus", "family")
"""Ranks to which a record must be known at least, to be of use in training without a species."""
SPLITS = ("train", "validation", "test")
_SPLIT_ALIASES = {"val": "validation", "valid": "validation", "dev": "validation", "training": "train", "testing": "test"}

RANKS_ABOVE_SPECIES = (
    "genus", "subgenus", "section", "series", "tribe", "subtribe", "subfamily", "family", "superfamily", "suborder", "order",
    "subclass", "class", "subphylum", "phylum", "division", "subkingdom", "kingdom", "domain",
)  # fmt: skip

_ABOVE_GENUS = RANKS_ABOVE_SPECIES[RANKS_ABOVE_SPECIES.index("tribe") :]
_ABOVE_FAMILY = RANKS_ABOVE_SPECIES[RANKS_ABOVE_SPECIES.index("superfamily") :]
PARTIAL_FILE = "partial.parquet"

_JUDGED = ("occurrenceID", "image_id", "path", "identifier", "scientificName", "taxonRank", "split")
_REPAIRED = ("eventDate", "year", "month", "day", "decimalLatitude", "decimalLongitude", "poisonous")
"""The columns that decide whether a row is good, and those whose impossible values become null."""

_TRUE = ("true", "t", "yes", "y", "1", "1.0")
_FALSE = ("false", "f", "no", "n", "0", "0.0")


@dataclass(frozen=True, eq=False)
class Observations:
    """Records that were checked once at the door.

    `table` has the columns of `SCHEMA`, one row a picture; `rejected` those of `REJECTED`, one row for each row that was refused;
    `repaired` counts values that were set to null because they couldn't be true, by what they were. `partial`, like `table`: the
    rows among the refused whose only fault is that they are known to genus or family; scientificName is that taxon.
    """

    table: pa.Table
    rejected: pa.Table
    repaired: Mapping[str, int] = field(default_factory=dict)
    partial: pa.Table = field(default_factory=SCHEMA.empty_table)

    @classmethod
    def from_table(cls, table: pa.Table, *, reason: pa.Array | None = None, detail: pa.Array | None = None) -> Observations:
        """Cast to `SCHEMA`, fill missing columns with null, and reject bad rows; never raises for one.

        `reason` and `detail`, strings [N], are what a source already found wrong with its rows (null: nothing). A row is
        rejected for: no name, a rank above species, no occurrenceID, no image_id, no picture (neither path nor identifier),
        an unknown split, an observation of two names or in two splits (all its rows), a picture given twice for one
        observation, and an image_id that an earlier row has. Impossible coordinates, months and days become null and are
        counted.
        """
        judged = {name: _text(_column(table, name)) for name in _JUDGED}
        judged["split"] = _lower(judged["split"], _SPLIT_ALIASES)
        found = _Faults(table.num_rows, reason, detail)
        _find_faults(judged, found)
        good = found.none()
        partial = cls._known_above_species(table, judged, found)
        measured = {name: _text(_column(table, name)) for name in _REPAIRED}
        repaired = _repair(measured)
        rejected = pa.table(
            [*(judged[name].filter(pc.invert(good)) for name in REJECTED.names[:3]), *found.rejected()], schema=REJECTED
        )
        kept = []
        for field_ in SCHEMA:  # column by column, so that hardly more than the result is held at a time
            done = judged.pop(field_.name, None) if field_.name in judged else measured.pop(field_.name, None)
            column = _text(_column(table, field_.name).filter(good)) if done is None else done.filter(good)
            kept.append(_whole(column.cast(field_.type)))
        return cls(pa.table(kept, schema=SCHEMA), rejected.combine_chunks(), repaired, partial)

    @classmethod
    def _known_above_species(cls, table: pa.Table, judged: Mapping[str, Any], found: _Faults) -> pa.Table:
        """Rows refused for their rank, under the name of their genus or family, as far as nothing else is wrong with them."""
        refused = pc.fill_null(pc.equal(found.reason, NOT_TO_SPECIES), False)
        rank = pc.utf8_lower(judged["taxonRank"])
        parents = {name: _text(_column(table, name)) for name in PARTIAL_RANKS}
        genus = pc.if_else(pc.is_in(rank, pa.array(_ABOVE_GENUS)), None, parents["genus"])
        genus = pc.coalesce(genus, pc.if_else(pc.equal(rank, "genus"), judged["scientificName"], None))
        family = pc.if_else(pc.is_in(rank, pa.array(_ABOVE_FAMILY)), None, parents["family"])
        family = pc.coalesce(family, pc.if_else(pc.equal(rank, "family"), judged["scientificName"], None))
        taxon = pc.coalesce(genus, family)
        kept = pc.and_(refused, pc.is_valid(taxon))
        if not pc.any(kept).as_py():
            return SCHEMA.empty_table()
        rows = table.filter(kept)
        for name, column in {"scientificName": taxon, "genus": genus, "family": family, "taxonRank": None}.items():
            values = pa.nulls(rows.num_rows, pa.string()) if column is None else column.filter(kept)
            place = rows.schema.get_field_index(name)
            rows = rows.append_column(name, values) if place < 0 else rows.set_column(place, name, values)
        good = cls.from_table(rows).table  # ids, pictures and splits are judged like those of any other row
        good = good.filter(pc.fill_null(pc.equal(good["split"], "train"), True))  # what a source keeps for a test stays unseen
        known = pc.if_else(pc.is_valid(good["genus"]), "genus", "family")
        return good.set_column(good.schema.get_field_index("taxonRank"), SCHEMA.field("taxonRank"), known)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def replace(self, table: pa.Table) -> Observations:
        """The same rejections with another, already valid table."""
        return replace(self, table=table)

    def with_paths(self, paths: pa.Table) -> Observations:
        """With the files of `paths` (image_id, path; null: none), which go before the paths that the records have."""
        return replace(self, table=_with_paths(self.table, paths), partial=_with_paths(self.partial, paths))

    def reject(self, bad: pa.Array, reason: str, detail: str) -> Observations:
        """Move the rows where the mask `bad` [N] is true to `rejected`."""
        rows = self.table.filter(bad).select(REJECTED.names[:3])
        texts = [pa.array([text] * rows.num_rows, pa.string()) for text in (reason, detail)]
        moved = pa.table([*rows.columns, *texts], schema=REJECTED)
        kept = self.table.filter(pc.invert(bad)).combine_chunks()
        return replace(self, table=kept, rejected=pa.concat_tables([self.rejected, moved]).combine_chunks())

    def add_rejected(self, reason: str, details: Sequence[str]) -> Observations:
        """Note lines or files of the source that never became rows."""
        nothing = pa.nulls(len(details), pa.string())
        texts = pa.array([reason] * len(details), pa.string()), pa.array([text[:200] for text in details], pa.string())
        lines = pa.table([nothing, nothing, nothing, *texts], schema=REJECTED)
        return replace(self, rejected=pa.concat_tables([self.rejected, lines]).combine_chunks())

    def counts(self) -> dict[str, int]:
        """What the manifest says: images, observations, species, images per split, rejected rows by reason, repaired values."""
        counts = {
            "images": len(self),
            "observations": pc.count_distinct(self.table["occurrenceID"]).as_py(),
            "species": pc.count_distinct(self.table["scientificName"]).as_py(),
        }
        counts |= {split: pc.sum(pc.equal(self.table["split"], split)).as_py() or 0 for split in SPLITS}
        counts["rejected"] = self.rejected.num_rows
        counts |= {f"rejected: {reason}": number for reason, number in self.rejections().items()}
        for rank in PARTIAL_RANKS:
            if number := pc.sum(pc.equal(self.partial["taxonRank"], rank)).as_py():
                counts[f"known above species: to {rank}"] = number
        return counts | {f"repaired: {fact}": number for fact, number in self.repaired.items()}

    def rejections(self) -> dict[str, int]:
        """Rejected rows by reason, the most frequent first."""
        pairs = pc.value_counts(self.rejected["reason"].combine_chunks()).to_pylist()
        return {pair["values"]: pair["counts"] for pair in sorted(pairs, key=lambda pair: (-pair["counts"], pair["values"]))}

    def write(self, folder: Path | str, plan: Plan) -> Manifest:
        """Write the artifact "records": observations.parquet, rejected.parquet, partial.parquet (if any), the manifest."""
        folder = Path(folder)
        if start(folder, plan) == "finished":
            return read_manifest(folder, "records")
        write_parquet(folder / "observations.parquet", self.table)
        write_parquet(folder / "rejected.parquet", self.rejected)
        self.write_partial(folder)
        return finish(folder, plan, counts=self.counts())

    def write_partial(self, folder: Path) -> None:
        """Write partial.parquet, where there is something for it."""
        if self.partial.num_rows:
            write_parquet(folder / PARTIAL_FILE, self.partial)

    @classmethod
    def read(cls, folder: Path | str) -> Observations:
        """Read what `write` wrote; raises MissingArtifact or BadRecords with the file's name."""
        folder = Path(folder)
        manifest = read_manifest(folder, "records")
        repaired = {
            key.removeprefix("repaired: "): number for key, number in manifest.counts.items() if key.startswith("repaired: ")
        }
        tables = []
        for name, schema in (("observations.parquet", SCHEMA), ("rejected.parquet", REJECTED)):
            if not (folder / name).is_file():
                raise MissingArtifact(f"{folder / name}: no such file; write the records again")
            table = pq.read_table(folder / name)
            if missing := [column for column in schema.names if column not in table.column_names]:
                raise BadRecords(f"{folder / name}: lacks the columns {', '.join(missing)}; write the records again")
            tables.append(table.select(schema.names).cast(schema))
        return cls(tables[0], tables[1], repaired, read_partial(folder))


def read_partial(folder: Path) -> pa.Table:
    """What `Observations.write_partial` wrote into a folder of records, or no rows."""
    file = folder / PARTIAL_FILE
    return pq.read_table(file, columns=SCHEMA.names).cast(SCHEMA) if file.is_file() else SCHEMA.empty_table()


# ---- casting: every column arrives as text or as its own type and is text until the end ----


def _column(table: pa.Table, name: str) -> pa.ChunkedArray:
    if name in table.column_names:
        return table.column(name)
    return pa.chunked_array([pa.nulls(table.num_rows, pa.string())])


def _with_paths(rows: pa.Table, paths: pa.Table) -> pa.Table:
    row_N = pc.index_in(rows["image_id"], paths["image_id"].combine_chunks())
    found = pc.coalesce(paths["path"].cast(pa.string()).take(row_N), rows["path"])
    column = rows.schema.get_field_index("path")
    return rows.set_column(column, rows.schema.field(column), found)


def _whole(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column if column.num_chunks == 1 else pa.chunked_array([column.combine_chunks()])


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Any column as strings without space around them; empty ones are null."""
    if pa.types.is_boolean(column.type):
        column = pc.if_else(column, "true", "false")
    text = pc.utf8_trim_whitespace(column.cast(pa.string()))
    return pc.if_else(pc.equal(text, ""), None, text)


def _lower(column: pa.ChunkedArray, aliases: Mapping[str, str]) -> pa.ChunkedArray:
    text = pc.utf8_lower(column)
    for alias, meant in aliases.items():
        text = pc.if_else(pc.equal(text, alias), meant, text)
    return text


def _number(column: pa.ChunkedArray, kind: pa.DataType) -> tuple[pa.ChunkedArray, int]:
    """Strings as numbers, and how many weren't numbers. Whole numbers may be written 2014.0, as pandas does."""
    pattern = r"^[+-]?\d{1,9}(\.0*)?$" if pa.types.is_integer(kind) else r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?$"
    good = pc.fill_null(pc.match_substring_regex(column, pattern), False)
    text = pc.replace_substring_regex(pc.if_else(good, column, None), r"^\+", "")
    numbers = text.cast(pa.float64()).cast(kind)
    return numbers, numbers.null_count - column.null_count


def _repair(columns: dict[str, Any]) -> dict[str, int]:
    """Turn texts into numbers and truths in place; what can't be true becomes null. Returns the counts."""
    counts: dict[str, int] = {}
    _take_date_apart(columns)
    for name in ("year", "month", "day"):
        columns[name], counts[f"{name} isn't a whole number"] = _number(columns[name], pa.int32())
    for name in ("decimalLatitude", "decimalLongitude"):
        columns[name], counts[f"{name} isn't a number"] = _number(columns[name], pa.float64())
    for name, last in (("month", 12), ("day", 31)):
        columns[name], counts[f"{name} out of range"] = _within(columns[name], 1, last)
    latitude, bad_latitudes = _within(columns["decimalLatitude"], -90, 90)
    longitude, bad_longitudes = _within(columns["decimalLongitude"], -180, 180)
    both = pc.and_(pc.is_valid(latitude), pc.is_valid(longitude))  # half a place is no place
    columns["decimalLatitude"], columns["decimalLongitude"] = (pc.if_else(both, half, None) for half in (latitude, longitude))
    counts["coordinates out of range"] = max(bad_latitudes, bad_longitudes)
    truth = pc.utf8_lower(columns["poisonous"])
    yes, no = (pc.is_in(truth, pa.array(words)) for words in (_TRUE, _FALSE))
    columns["poisonous"] = pc.if_else(yes, True, pc.if_else(no, False, pa.scalar(None, pa.bool_())))
    counts["poisonous is neither yes nor no"] = columns["poisonous"].null_count - truth.null_count
    return {fact: number for fact, number in counts.items() if number}


def _within(numbers: pa.ChunkedArray, low: float, high: float) -> tuple[pa.ChunkedArray, int]:
    inside = pc.and_(pc.greater_equal(numbers, low), pc.less_equal(numbers, high))
    kept = pc.if_else(inside, numbers, None)
    return kept, kept.null_count - numbers.null_count


def _take_date_apart(columns: dict[str, Any]) -> None:
    """Year, month and day from an ISO eventDate where none of the three is given; an interval ("/") has none."""
    parts = pc.extract_regex(
        columns["eventDate"], r"^(?P<year>\d{4})(?:-(?P<month>\d{1,2})(?:-(?P<day>\d{1,2}))?)?(?:[T ][^/]*)?$"
    )
    given = pc.or_(pc.or_(pc.is_valid(columns["year"]), pc.is_valid(columns["month"])), pc.is_valid(columns["day"]))
    for name in ("year", "month", "day"):
        part = pc.struct_field(parts, name)
        part = pc.if_else(pc.equal(part, ""), None, part)
        columns[name] = pc.if_else(given, columns[name], part)


# ---- what is wrong with a row: the first fault found is the one told ----


class _Faults:
    """The first reason and detail found for each row."""

    def __init__(self, rows: int, reason: pa.Array | None, detail: pa.Array | None) -> None:
        self.reason = pa.nulls(rows, pa.string()) if reason is None else reason
        self.detail = pa.nulls(rows, pa.string()) if detail is None else detail

    def none(self) -> pa.Array:
        return pc.is_null(self.reason)

    def add(self, bad: pa.Array, reason: str, detail: pa.Array | str) -> None:
        new = pc.and_(pc.fill_null(bad, False), self.none())
        self.reason = pc.if_else(new, reason, self.reason)
        self.detail = pc.if_else(new, detail, self.detail)

    def rejected(self) -> tuple[pa.Array, pa.Array]:
        bad = pc.invert(self.none())
        return self.reason.filter(bad), self.detail.filter(bad)


def _find_faults(columns: Mapping[str, Any], found: _Faults) -> None:
    name, observation, image = (columns[key] for key in ("scientificName", "occurrenceID", "image_id"))
    rank = pc.utf8_lower(columns["taxonRank"])
    picture = pc.coalesce(columns["path"], columns["identifier"])
    found.add(pc.is_null(name), "no name", "scientificName is empty")
    found.add(pc.is_in(rank, pa.array(RANKS_ABOVE_SPECIES)), NOT_TO_SPECIES, columns["taxonRank"])
    found.add(pc.is_null(observation), "no occurrenceID", "occurrenceID is empty")
    found.add(pc.is_null(picture), "no picture", "neither a file nor an address is given")
    found.add(pc.is_null(image), "no image_id", "image_id is empty")
    splits = pa.array([*SPLITS])
    found.add(
        pc.and_(pc.is_valid(columns["split"]), pc.invert(pc.is_in(columns["split"], splits))), "unknown split", columns["split"]
    )
    for values, reason in ((name, "observation of two names"), (columns["split"], "observation in two splits")):
        found.add(pc.is_in(observation, _of_several(observation, values)), reason, values)
    key = pc.binary_join_element_wise(observation, picture, "\n")
    found.add(_seen_before(key, found.none()), "picture given twice", picture)
    found.add(_seen_before(image, found.none()), "duplicate image_id", picture)


def _of_several(observation: Any, values: Any) -> pa.Array:
    """Observations with more than one value, whatever else is wrong with their rows."""
    pairs = pa.table({"observation": observation, "value": values}).filter(pc.is_valid(observation))
    counted = pairs.group_by("observation").aggregate([("value", "count_distinct")])  # nulls aren't counted
    return counted.filter(pc.greater(counted["value_count_distinct"], 1))["observation"].combine_chunks()


def _seen_before(key: Any, good: Any) -> pa.Array:
    """True [N] for a row whose key a good row above it has."""
    rows = pa.table({"key": key, "row": np.arange(len(key))}).filter(good)
    first = rows.group_by("key").aggregate([("row", "min")])["row_min"]
    repeated = pc.invert(pc.is_in(rows["row"], first.combine_chunks()))
    return pc.is_in(pa.array(np.arange(len(key))), rows["row"].filter(repeated).combine_chunks())
