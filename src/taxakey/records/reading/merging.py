"""Several sources -> one: a specimen that GBIF and iDigBio both deliver becomes one observation, its pictures united.

Two observations of different sources are the same where they have the same gbifID, else the same occurrenceID, else the same
institutionCode, collectionCode and catalogNumber, all three without regard to case, spaces and "urn:uuid:" or "https://" in
front. An occurrenceID that a source didn't have (a picture's name or path stands there) says nothing, and a catalogue number
that a source gives to several of its observations doesn't either. What an observation says of the specimen is taken from the
first source that says it, its name and taxon from the first source alone. Shapes: N rows, O observations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taxakey.records.reading.checking import whole
from taxakey.records.table import REJECTED, SCHEMA, Observations

MERGED = "specimens delivered by several sources, made one"
RENAMED = "specimens named differently by several sources, the first taken"
AGAIN = "picture given by an earlier source"

_OF_THE_PICTURE = ("image_id", "path", "identifier", "license", "rightsHolder", "creator", "organ", "source")
_OF_THE_NAME = ("scientificName", "scientificNameAuthorship", "verbatimScientificName", "taxonID", "taxonRank")
_SEPARATOR = " | "


@dataclass(frozen=True)
class _Keys:
    """What identifies each observation of a source [O], the strongest first; null where it has no such key."""

    occurrence: pa.Array
    gbif: pa.Array
    given: pa.Array
    triple: pa.Array
    name: pa.Array


def with_source(observations: Observations, name: str) -> Observations:
    """The observations with `name` in the column source."""
    column = pa.repeat(pa.scalar(name, pa.string()), len(observations))
    return observations.replace(_set(observations.table, "source", column))


def merge(sources: Sequence[Observations]) -> Observations:
    """Unite sources, each with its name in the column source, in this order; merges are counted in `repaired`.

    A picture that an earlier source gives for the same specimen (same path, or same address but for the scheme) is moved to the
    rejected rows, and the row that stays names both sources. Ids that only look the same get the source's name in front.
    """
    merged = sources[0]
    for later in sources[1:]:
        merged = _merge_two(merged, later)
    return merged


def _merge_two(first: Observations, later: Observations) -> Observations:
    if not len(first) or not len(later):
        table, counts = pa.concat_tables([first.table, later.table]), dict[str, int]()
        rejected = _below(first.rejected, later.rejected)
        return Observations(table.combine_chunks(), rejected, _added(first, later, counts), _below(first.partial, later.partial))
    known, new = _keys(first.table), _keys(later.table)
    same = _matches(known, new)
    rows = _with_known_ids(later.table, first.table, known, new, same)
    again = _again(first.table, rows)
    kept = _set(first.table, "source", _sources(first.table, rows.filter(again)))
    table = _agreed(pa.concat_tables([kept, rows.filter(pc.invert(again))]), known.occurrence.take(same.drop_null()))
    renamed = pc.sum(pc.not_equal(known.name.take(same), new.name)).as_py() or 0
    counts = {MERGED: len(same) - same.null_count, RENAMED: renamed}
    rejected = _below(first.rejected, later.rejected, _refused(rows.filter(again)))
    partial = _below(first.partial, later.partial)
    return Observations(table.cast(SCHEMA).combine_chunks(), rejected, _added(first, later, counts), partial)


def _below(*tables: pa.Table) -> pa.Table:
    return pa.concat_tables(tables).combine_chunks()


def _added(first: Observations, later: Observations, more: Mapping[str, int]) -> dict[str, int]:
    total: dict[str, int] = {}
    for counts in (first.repaired, later.repaired, more):
        for fact, number in counts.items():
            if number:
                total[fact] = total.get(fact, 0) + number
    return total


def _set(table: pa.Table, name: str, column: pa.Array | pa.ChunkedArray) -> pa.Table:
    at = SCHEMA.get_field_index(name)
    return table.set_column(at, SCHEMA.field(at), column)


# ---- which observations are the same ----


def _keys(table: pa.Table) -> _Keys:
    own = pc.equal(table["occurrenceID"], table["image_id"])
    columns = ("gbifID", "institutionCode", "collectionCode", "catalogNumber", "scientificName")
    grouped = table.select(["occurrenceID", *columns]).append_column("own", own)
    grouped = grouped.group_by("occurrenceID", use_threads=False).aggregate(
        [*((name, "first") for name in columns), ("own", "any")]
    )
    occurrence = whole(grouped["occurrenceID"])
    parts = [_normal(whole(grouped[f"{name}_first"])) for name in ("institutionCode", "collectionCode", "catalogNumber")]
    return _Keys(
        occurrence=occurrence,
        gbif=whole(grouped["gbifID_first"]),
        given=pc.if_else(grouped["own_any"].combine_chunks(), None, _normal(occurrence)),
        triple=_unique(pc.binary_join_element_wise(*parts, "\n")),  # null where one of the three is
        name=whole(grouped["scientificName_first"]),
    )


def _normal(text: pa.Array) -> pa.Array:
    bare = pc.replace_substring_regex(pc.utf8_lower(text), r"^(?:urn:uuid:|https?://)|\s+|/+$", "")
    return pc.if_else(pc.equal(bare, ""), None, bare)


def _unique(keys: pa.Array) -> pa.Array:
    counted = pc.value_counts(keys)
    repeated = counted.field("values").filter(pc.greater(counted.field("counts"), 1))
    return pc.if_else(pc.is_in(keys, repeated), None, keys)


def _matches(known: _Keys, new: _Keys) -> pa.Array:
    """Place among the known observations of each new one [O], or null; each known one is matched once, by the strongest key."""
    found = np.full(len(new.occurrence), -1, np.int64)
    taken = np.zeros(len(known.occurrence), bool)
    for name in ("gbif", "given", "triple"):
        at = pc.index_in(getattr(new, name), getattr(known, name), skip_nulls=True)
        at_O = pc.fill_null(at, -1).to_numpy(zero_copy_only=False).astype(np.int64)
        free_O = np.flatnonzero((found < 0) & (at_O >= 0) & ~taken[at_O])
        _, once = np.unique(at_O[free_O], return_index=True)
        chosen_O = free_O[once]
        found[chosen_O] = at_O[chosen_O]
        taken[at_O[chosen_O]] = True
    return pa.array(found, mask=found < 0)


def _with_known_ids(rows: pa.Table, first: pa.Table, known: _Keys, new: _Keys, same: pa.Array) -> pa.Table:
    """The new rows, with the known occurrenceID where they are of a known observation, and with no id that is taken."""
    own = _free(new.occurrence, known.occurrence, rows["source"][0].as_py())
    ids = pc.coalesce(known.occurrence.take(same), own)
    rows = _set(rows, "occurrenceID", ids.take(pc.index_in(whole(rows["occurrenceID"]), new.occurrence)))
    return _set(rows, "image_id", _free(whole(rows["image_id"]), whole(first["image_id"]), rows["source"][0].as_py()))


def _free(ids: pa.Array, taken: pa.Array, source: str) -> pa.Array:
    return pc.if_else(pc.is_in(ids, taken), pc.binary_join_element_wise(source, ids, ":"), ids)


# ---- which pictures are, and what is said of the specimen ----


def _addresses(table: pa.Table) -> dict[str, pa.Array]:
    """Keys of the pictures [N]: by path and by address, each with its observation."""
    address = pc.replace_substring_regex(table["identifier"], "^https?://", "")
    return {
        name: whole(pc.binary_join_element_wise(table["occurrenceID"], column, "\n"))
        for name, column in (("path", table["path"]), ("address", address))
    }


def _again(first: pa.Table, rows: pa.Table) -> pa.Array:
    known, new = _addresses(first), _addresses(rows)
    return pc.or_(*(pc.is_in(new[name], known[name], skip_nulls=True) for name in new))


def _sources(first: pa.Table, again: pa.Table) -> pa.Array:
    """The column source of the first rows, with the later source added where it gave the picture again."""
    if not len(again):
        return first["source"]
    known, new = _addresses(first), _addresses(again)
    given = pc.or_(*(pc.is_in(known[name], new[name], skip_nulls=True) for name in known))
    both = pc.binary_join_element_wise(whole(first["source"]), again["source"][0].as_py(), _SEPARATOR)
    return pc.if_else(given, both, whole(first["source"]))


def _agreed(table: pa.Table, ids: pa.Array) -> pa.Table:
    """In the rows of these observations, what is said of the specimen is what the first row says that says it."""
    if not len(ids):
        return table
    common = [name for name in SCHEMA.names if name not in _OF_THE_PICTURE and name != "occurrenceID"]
    options = {name: pc.ScalarAggregateOptions(skip_nulls=name not in _OF_THE_NAME) for name in common}
    of_ids = table.filter(pc.is_in(table["occurrenceID"], ids)).select(["occurrenceID", *common])
    said = of_ids.group_by("occurrenceID", use_threads=False).aggregate([(name, "first", options[name]) for name in common])
    at = pc.index_in(whole(table["occurrenceID"]), whole(said["occurrenceID"]))
    for name in common:
        value = said[f"{name}_first"].combine_chunks().take(at)
        table = _set(table, name, pc.if_else(pc.is_valid(at), value, table[name]))
    return table


def _refused(rows: pa.Table) -> pa.Table:
    texts = [pa.array([AGAIN] * len(rows), pa.string()), pc.coalesce(rows["identifier"], rows["path"])]
    return pa.table([*rows.select(REJECTED.names[:3]).columns, *texts], schema=REJECTED)
