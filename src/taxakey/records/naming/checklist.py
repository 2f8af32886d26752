"""A checklist: accepted names and synonyms in one table, every synonym followed to its accepted name and to that one's species.

Shapes: N names (rows of the checklist).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from taxakey.errors import BadRecords
from taxakey.records.naming.checklist_files import Delivered, read_checklist_files
from taxakey.records.naming.scientific_name import PARSED, clean, normal_rank, parse_names, words_of, written_out
from taxakey.records.table import RANKS_ABOVE_SPECIES

SCHEMA = pa.schema(
    [
        ("taxonID", pa.string()),
        ("scientificName", pa.string()),
        ("scientificNameAuthorship", pa.string()),
        ("taxonRank", pa.string()),
        ("taxonomicStatus", pa.string()),
        ("acceptedNameUsageID", pa.string()),
        ("kingdom", pa.string()),
        ("family", pa.string()),
        ("genus", pa.string()),
        ("words", pa.string()),
        ("hybrid", pa.bool_()),
        ("link", pa.string()),
        ("accepted", pa.int32()),
        ("species", pa.int32()),
    ]
)
"""One row a name at the rank of species or below. `scientificName` is WITHOUT its author; `genus` is the name's own; `words` is
what is compared (see `scientific_name.words_of`); `acceptedNameUsageID` as delivered; `link`: one of `LINKS`; `accepted`: row of
the accepted name, `species`: row of the accepted species that it is or belongs to; -1 where there is none."""

ACCEPTED, SYNONYM, SYNONYM_OF_SYNONYM = "accepted", "synonym", "synonym of a synonym"
BROKEN, CIRCLE, UNPLACED = (
    "its accepted name isn't in the checklist",
    "its synonyms go in a circle",
    "not placed by the checklist",
)
LINKS = (ACCEPTED, SYNONYM, SYNONYM_OF_SYNONYM, BROKEN, CIRCLE, UNPLACED)

# What checklists write for a name that counts. GBIF's "doubtful" taxa carry records of their own.
_STANDS = ("accepted", "valid", "provisionally accepted", "accepted name", "current name", "doubtful")


@dataclass(frozen=True, eq=False)
class Checklist:
    """`table` has the columns of `SCHEMA`; `counts` says what was found and what was left out, by reason."""

    name: str
    format: str
    table: pa.Table
    counts: Mapping[str, int]

    def __len__(self) -> int:
        return self.table.num_rows

    def accepted_species(self) -> pa.Table:
        """scientificName and family of the accepted species, one row a name."""
        rows = self.table.filter(pc.equal(self.table["species"], pa.array(range(len(self)), pa.int32())))
        families = rows.group_by("scientificName", use_threads=False).aggregate([("family", "min")])
        return families.rename_columns(["scientificName", "family"])


def read_checklist(path: Path | str) -> Checklist:
    """Read WCVP, a Darwin Core taxon file (GBIF's backbone too), a plain list, or a zip or folder with one.

    Links are followed: a synonym of a synonym has the accepted name at the end; one of a name that isn't there, or in a circle,
    has none and is counted. Where a link and `taxonomicStatus` contradict each other, "accepted" goes before the link. Names
    above the rank of species, and rows that aren't names, are left out and counted. Raises BadRecords.
    """
    return make_checklist(read_checklist_files(path), str(path))


def make_checklist(delivered: Delivered, name: str) -> Checklist:
    """The checklist of delivered columns; `name` is what messages call it."""
    counts: Counter[str] = Counter()
    counts["lines with too many columns"] = delivered.too_long
    columns, parsed = _columns(delivered)
    keep = _worth_keeping(columns, parsed, counts)
    columns, parsed = columns.filter(keep), parsed.filter(keep)
    if not columns.num_rows:
        raise BadRecords(f"{name}: no name of a species in it; name a checklist of species")
    accepted_N, links = _follow(columns, counts)
    species_N = _species_of(columns, parsed, accepted_N, counts)
    fields = {
        **{field: columns[field] for field in columns.column_names},
        "words": words_of(parsed),
        "hybrid": pc.is_valid(parsed["hybrid"]),
        "link": links,
        "accepted": pa.array(accepted_N, pa.int32()),
        "species": pa.array(species_N, pa.int32()),
    }
    table = pa.table([fields[field.name] for field in SCHEMA], schema=SCHEMA).combine_chunks()  # rows are taken from it
    counts["names"] = len(table)
    counts |= Counter({pair["values"]: pair["counts"] for pair in pc.value_counts(links).to_pylist()})
    return Checklist(name, delivered.format, table, {key: number for key, number in counts.items() if number})


# ---- columns ----


def _columns(delivered: Delivered) -> tuple[pa.Table, pa.Table]:
    """The checklist's own columns of text, and its names taken apart."""
    raw = {name: delivered.names[name] for name in delivered.names.column_names}
    nothing = pa.chunked_array([pa.nulls(delivered.names.num_rows, pa.string())])
    wcvp = delivered.format == "WCVP"
    parsed = _parts_of_wcvp(raw, nothing) if wcvp else _parts_of_darwin_core(raw, nothing)
    printed = written_out(parsed)
    rank = normal_rank(raw["taxonRank"]) if "taxonRank" in raw else nothing
    ids = _whole(raw["taxonID"]) if "taxonID" in raw else nothing
    author = pc.coalesce(raw.get("scientificNameAuthorship", nothing), parsed["author"])
    own_id = _joined(printed, author)  # a plain list has no others
    columns = {
        "taxonID": pc.coalesce(ids, own_id),
        "scientificName": pc.coalesce(raw["scientificName"], printed) if wcvp and "scientificName" in raw else printed,
        "scientificNameAuthorship": author,
        "taxonRank": pc.coalesce(rank, parsed["rank"]),
        "taxonomicStatus": pc.utf8_lower(raw.get("taxonomicStatus", nothing)),
        "acceptedNameUsageID": _whole(raw.get("acceptedNameUsageID", nothing)),
        "kingdom": pc.if_else(pc.is_valid(printed), "Plantae", None) if wcvp else raw.get("kingdom", nothing),
        "family": raw.get("family", nothing),
        "genus": pc.utf8_capitalize(parsed["genus"]),
        "parentNameUsageID": _whole(raw.get("parentNameUsageID", nothing)),
    }
    return pa.table(columns), parsed


def _parts_of_wcvp(raw: Mapping[str, pa.ChunkedArray], nothing: pa.ChunkedArray) -> pa.Table:
    rank = raw.get("infraspecific_rank", nothing)
    genus, species = (pc.is_valid(raw.get(f"{part}_hybrid", nothing)) for part in ("genus", "species"))
    below = pc.fill_null(pc.starts_with(rank, "notho"), False)
    hybrid = pc.if_else(genus, "genus", pc.if_else(species, "species", pc.if_else(below, "infraspecific", None)))
    return _parts(raw, nothing, raw["genus"], normal_rank(pc.replace_substring_regex(rank, "^notho", "")), hybrid)


def _parts_of_darwin_core(raw: Mapping[str, pa.ChunkedArray], nothing: pa.ChunkedArray) -> pa.Table:
    """From GBIF's own columns where they are there, because that is ten times faster; else from the name as written."""
    if "genericName" in raw and "specificEpithet" in raw:
        sign = pc.extract_regex(clean_sign(raw["scientificName"]), r"^(?P<first>.*?)×")
        place = pc.struct_field(sign, "first")
        hybrid = pc.if_else(pc.equal(place, ""), "genus", pc.if_else(pc.is_valid(place), "species", None))
        return _parts(raw, nothing, raw["genericName"], normal_rank(raw.get("taxonRank", nothing)), hybrid)
    pieces = [raw.get(part, nothing) for part in ("genus", "specificEpithet", "infraspecificEpithet")]
    composed = pc.if_else(pc.is_valid(pieces[1]), _joined(*pieces), None)
    names = pc.coalesce(raw["scientificName"], composed)
    return parse_names(names, raw.get("scientificNameAuthorship"), raw.get("taxonRank"))


def clean_sign(names: pa.ChunkedArray) -> pa.ChunkedArray:
    """Names with the hybrid sign as × where they hold one at all; the others as they are."""
    signed = pc.fill_null(pc.match_substring_regex(names, "×| [xX] |^[xX] "), False)
    return pc.if_else(signed, clean(pc.if_else(signed, names, None)), names)


def _parts(
    raw: Mapping[str, pa.ChunkedArray],
    nothing: pa.ChunkedArray,
    genus: pa.ChunkedArray,
    rank: pa.ChunkedArray,
    hybrid: pa.ChunkedArray,
) -> pa.Table:
    columns = dict.fromkeys(PARSED.names, nothing)
    epithet, below = raw["specificEpithet"], raw.get("infraspecificEpithet", nothing)
    epithet = pc.replace_substring(epithet, " ", "-")  # Hymenophyllum le ratii
    columns |= {"genus": genus, "epithet": epithet, "infraspecific": below, "hybrid": hybrid}
    columns["rank"] = pc.if_else(pc.is_valid(below), rank, pc.if_else(pc.is_valid(epithet), "species", None))
    return pa.table([columns[field.name] for field in PARSED], schema=PARSED)


def _joined(*columns: pa.ChunkedArray) -> pa.ChunkedArray:
    """Columns with a space between, missing ones left out. pyarrow's own null_handling="skip" loses rows where all are null."""
    filled = [pc.fill_null(column, "") for column in columns]
    return pc.utf8_trim(pc.replace_substring(pc.binary_join_element_wise(*filled, " "), "  ", " "), " ")


def _whole(ids: pa.ChunkedArray) -> pa.ChunkedArray:
    """Identifiers without the ".0" that pandas gives to whole numbers beside missing ones."""
    return pc.replace_substring_regex(ids, r"^(\d+)\.0$", r"\1")


def _worth_keeping(columns: pa.Table, parsed: pa.Table, counts: Counter[str]) -> pa.Array:
    """Mask [N] of names of species or below that aren't given twice; counts the others."""
    above = pc.fill_null(pc.is_in(columns["taxonRank"], pa.array(RANKS_ABOVE_SPECIES)), False)
    unnamed = pc.and_not(pc.or_(pc.is_null(columns["scientificName"]), pc.is_valid(parsed["problem"])), above)
    ids = columns["taxonID"].combine_chunks()
    first = pc.equal(pc.index_in(ids, ids), pa.array(np.arange(len(ids), dtype=np.int32)))
    named = pc.invert(pc.or_(above, unnamed))
    counts["above the rank of species"] = pc.sum(above).as_py() or 0
    counts["not a name of a species"] = pc.sum(unnamed).as_py() or 0
    counts["given twice"] = pc.sum(pc.and_not(named, first)).as_py() or 0
    return pc.and_(named, first)


# ---- links ----


def _follow(columns: pa.Table, counts: Counter[str]) -> tuple[NDArray[np.int64], pa.Array]:
    """Row of each name's accepted name [N] or -1, and its link [N].

    Each row points to the next one on its way; pointers are doubled, so that a way of any length is walked in a few steps.
    Ways that end nowhere end in one of two rows that are appended for them.
    """
    rows = columns.num_rows
    unplaced, broken = rows, rows + 1
    given = columns["acceptedNameUsageID"]
    target_N = pc.fill_null(pc.index_in(given, columns["taxonID"].combine_chunks()), -1).to_numpy().astype(np.int64)
    linked_N, own_N = given.is_valid().to_numpy(), np.arange(rows)
    stands = pc.is_in(columns["taxonomicStatus"], pa.array(_STANDS)).to_numpy()
    silent = columns["taxonomicStatus"].is_null().to_numpy()
    called_synonym = pc.fill_null(pc.match_substring(columns["taxonomicStatus"], "synonym"), False).to_numpy()
    root_N = stands | (silent & ~linked_N) | ((target_N == own_N) & ~called_synonym)
    next_N = np.where(linked_N, np.where(target_N < 0, broken, target_N), unplaced)
    end = np.concatenate([np.where(root_N, own_N, next_N), [unplaced, broken]])
    for _ in range(rows.bit_length() + 1):
        end = end[end]
    end_N = end[:rows]
    reached = np.append(root_N, [False, False])[end_N]
    counts["accepted with a link to another name"] = int((stands & linked_N & (target_N != own_N)).sum())
    kind_N = np.select(
        [root_N, reached & (next_N == end_N), reached, end_N == broken, end_N == unplaced], [0, 1, 2, 3, 5], default=4
    )
    return np.where(reached, end_N, -1), pa.array(LINKS).take(pa.array(kind_N))


def _species_of(columns: pa.Table, parsed: pa.Table, accepted_N: NDArray[np.int64], counts: Counter[str]) -> NDArray[np.int64]:
    """Row [N] of the accepted species to which each name leads, -1 for none.

    An accepted name below species belongs to its parent, where that is an accepted species; else to the only accepted species
    with the same two words in the same kingdom.
    """
    own_N = np.arange(columns.num_rows)
    is_species = (accepted_N == own_N) & pc.is_null(parsed["infraspecific"]).to_numpy()
    parent_N = pc.index_in(columns["parentNameUsageID"], columns["taxonID"].combine_chunks()).fill_null(-1).to_numpy()
    by_parent = np.where((parent_N >= 0) & is_species[parent_N], parent_N, -1)
    words = words_of(parsed, species=True)
    keys = pc.binary_join_element_wise(
        words, pc.fill_null(columns["kingdom"], ""), "|", null_handling="emit_null"
    ).combine_chunks()
    species_keys = keys.filter(pa.array(is_species))
    rows_of_species = own_N[is_species]
    found = pc.index_in(keys, species_keys).fill_null(-1).to_numpy()
    twice = pc.value_counts(species_keys)
    repeated = twice.field("values").filter(pc.greater(twice.field("counts"), 1))
    alone = ~pc.is_in(keys, repeated).to_numpy(zero_copy_only=False)
    by_words = np.where((found >= 0) & alone, rows_of_species[np.maximum(found, 0)] if len(rows_of_species) else -1, -1)
    species_N = np.where(is_species, own_N, np.where(by_parent >= 0, by_parent, by_words))
    orphans = (accepted_N == own_N) & (species_N < 0)
    counts["accepted below a species that isn't there"] = int(orphans.sum())
    return np.where(accepted_N >= 0, species_N[accepted_N], -1)
