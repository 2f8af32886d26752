"""Name drift: which classes a newer checklist keeps, renames, merges, splits or drops.

The name of a class leads, as a name does in matching, to its heir in the newer checklist: the accepted name for the same type
specimen. A class is split where one of its old synonyms is now an accepted species of its own: then nobody can say from the name
alone which part a record belongs to, and no weight is given, unless the names on records tell (`weigh_splits`).

Shapes: C classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from taxakey.artifacts import Manifest, Plan, finish, open_atomically, read_manifest, start
from taxakey.records.naming.checklist import ACCEPTED, Checklist, read_checklist
from taxakey.records.naming.delivered_names import DELIVERED
from taxakey.records.naming.matches import Matches
from taxakey.records.naming.matching import MatchOptions, match_names
from taxakey.taxonomy import Taxonomy

Change = Literal["kept", "renamed", "merged", "split", "undecided", "dropped"]
"""What became of a class. "undecided": the newer checklist has homonyms of it, and no author decides; "dropped": not there, or
not accepted as anything. A class that is split and merged counts as split."""

CHANGES: tuple[Change, ...] = get_args(Change)
_PARTS = ("scientificName", "scientificNameAuthorship", "kingdom")
_SEPARATOR = " | "
CLASSES = pa.schema(
    [(name, pa.string()) for name in ("scientificName", "scientificNameAuthorship", "change", "heir", "parts", "reason")]
)
"""One row an old class. `heir`: its accepted name now; `parts`: further species that were its synonyms, with " | " between;
`reason`: why it is undecided or dropped."""

MAPPING = pa.schema([("old", pa.string()), ("new", pa.string()), ("weight", pa.float64()), ("heir", pa.bool_())])
"""Old class -> new class. `weight`: share of the old class that goes there, null where a split can't be decided; `heir`: the
class that has the old one's type. Undecided and dropped classes aren't in it."""


@dataclass(frozen=True, eq=False)
class Drift:
    """`classes`: columns of `CLASSES`; `mapping`: of `MAPPING`; `accepted`: rows of the newer checklist for every new name in the
    mapping; `new`: accepted species that no old class leads to."""

    classes: pa.Table
    mapping: pa.Table
    accepted: pa.Table
    new: pa.Table

    def counts(self) -> dict[str, int]:
        found = {pair["values"]: pair["counts"] for pair in pc.value_counts(self.classes["change"]).to_pylist()}
        return {change: found.get(change, 0) for change in CHANGES} | {"new": len(self.new)}

    def examples(self, number: int = 3) -> list[str]:
        """A few lines a person can check for each kind of change."""
        lines = []
        for change in CHANGES[1:]:
            some = self.classes.filter(pc.equal(self.classes["change"], change)).slice(0, number).to_pylist()
            for row in some:
                parts = f" and {row['parts']}" if row["parts"] else ""
                lines.append(f"{change}: {row['scientificName']} → {row['heir'] or row['reason']}{parts}")
        return lines

    def write(self, folder: Path | str, plan: Plan) -> Manifest:
        """Write the artifact "drift": classes.csv, mapping.csv, new.csv and the manifest."""
        folder = Path(folder)
        if start(folder, plan) == "finished":
            return read_manifest(folder, "drift")
        for name, table in (("classes", self.classes), ("mapping", self.mapping), ("new", self.new)):
            with open_atomically(folder / f"{name}.csv") as file:
                pyarrow.csv.write_csv(table, file)
        return finish(folder, plan, counts=self.counts())


def read_classes(old: Path | str, new: Path | str) -> tuple[pa.Table, Checklist, Checklist | None]:
    """Classes, newer checklist and older checklist from two files; the older may be a model's taxonomy.parquet."""
    if Path(old).suffix.lower() == ".parquet":
        return classes_of(Taxonomy.read(old)), read_checklist(new), None
    checklist = read_checklist(old)
    return accepted_species(checklist), read_checklist(new), checklist


def classes_of(taxonomy: Taxonomy) -> pa.Table:
    """The classes of a model as `find_drift` takes them."""
    table = taxonomy.table.select(["scientificName", "scientificNameAuthorship", "kingdom"])
    text = {name: pc.if_else(pc.equal(table[name], ""), None, table[name]) for name in table.column_names}
    return pa.table(text)


def accepted_species(checklist: Checklist) -> pa.Table:
    """Rows of a checklist's accepted species."""
    rows = pa.array(np.arange(len(checklist)), pa.int32())
    return checklist.table.filter(pc.equal(checklist.table["species"], rows))


def find_drift(classes: pa.Table, new: Checklist, old: Checklist | None = None) -> Drift:
    """What becomes of classes (scientificName, scientificNameAuthorship, kingdom) in the checklist `new`.

    Without `old`, the checklist under which they were classes, their synonyms aren't known and no split can be seen.
    """
    names = classes.select([name for name in _PARTS if name in classes.column_names])
    matches = match_names(names, new, MatchOptions(fuzzy=False))
    heirs = {_delivered(row): row for row in matches.matched.to_pylist()}
    reasons = {_delivered(row): row for row in matches.unmatched.to_pylist()}
    shared = Counter(row["acceptedNameUsageID"] for row in heirs.values())
    split_off = _split_off(old, new) if old is not None else {}
    rows: list[dict[str, Any]] = []
    for row in names.to_pylist():
        key = tuple(row.get(part) for part in _PARTS)
        heir, unmatched = heirs.get(key), reasons.get(key, {})
        own = heir["acceptedNameUsageID"] if heir else None
        parts = sorted({name for taxon, name in split_off.get(row["scientificName"], ()) if taxon != own})
        if parts:
            change: Change = "split"
        elif heir is None:
            change = "undecided" if unmatched["matchType"] == "ambiguous" else "dropped"
        elif shared[own] > 1:
            change = "merged"
        else:
            change = "kept" if heir["scientificName"] == row["scientificName"] else "renamed"
        facts = {"heir": heir and heir["scientificName"], "parts": parts, "reason": unmatched.get("reason")}
        rows.append({**row, "change": change, **facts})
    mapping = _mapping(rows)
    species = accepted_species(new)
    reached = pc.is_in(species["scientificName"], mapping["new"].combine_chunks())
    table = pa.Table.from_pylist([{**row, "parts": _SEPARATOR.join(row["parts"]) or None} for row in rows], schema=CLASSES)
    unreached = species.filter(pc.invert(reached)).select(["scientificName", "scientificNameAuthorship", "family"])
    return Drift(table, mapping, species.filter(reached), unreached)


def weigh_splits(drift: Drift, old: Matches, new: Matches) -> Drift:
    """The drift with weights for split classes, from records whose names were matched to both checklists.

    The weight is the share of a class's records whose own name leads to a part; a record under the class's accepted name counts
    for the heir, because that is what its name says now. A class without such a record stays without weights.
    """
    columns = list(DELIVERED.values())
    now = {tuple(row[column] for column in columns): row["scientificName"] for row in new.matched.to_pylist()}
    records: Counter[tuple[str, str]] = Counter()
    for row in old.matched.to_pylist():
        if target := now.get(tuple(row[column] for column in columns)):
            records[row["scientificName"], target] += row["count"]
    rows = drift.mapping.to_pylist()
    total: Counter[str] = Counter()
    for row in rows:
        total[row["old"]] += records[row["old"], row["new"]]
    for row in rows:
        if row["weight"] is None and total[row["old"]]:
            row["weight"] = records[row["old"], row["new"]] / total[row["old"]]
    return replace(drift, mapping=pa.Table.from_pylist(rows, schema=MAPPING))


def _split_off(old: Checklist, new: Checklist) -> dict[str, list[tuple[str, str]]]:
    """Old class -> (taxonID, name) of species that were its synonyms and now are accepted under the very same name and author."""
    synonyms = old.table.filter(pc.and_(pc.not_equal(old.table["link"], ACCEPTED), pc.greater_equal(old.table["species"], 0)))
    found = match_names(synonyms.select(list(_PARTS)), new, MatchOptions(fuzzy=False)).matched
    own = pc.and_(pc.equal(found["taxonID"], found["acceptedNameUsageID"]), pc.equal(found["matchType"], "exact"))
    now = {_delivered(row): (row["acceptedNameUsageID"], row["scientificName"]) for row in found.filter(own).to_pylist()}
    classes = old.table["scientificName"].take(synonyms["species"]).to_pylist()
    parts: dict[str, list[tuple[str, str]]] = {}
    for row, name in zip(synonyms.select(list(_PARTS)).to_pylist(), classes, strict=True):
        if part := now.get(tuple(row[column] for column in _PARTS)):
            parts.setdefault(name, []).append(part)
    return parts


def _mapping(rows: list[dict[str, Any]]) -> pa.Table:
    links = []
    for row in rows:
        targets = [(row["heir"], True)] * (row["heir"] is not None) + [(name, False) for name in row["parts"]]
        weight = 1.0 if len(targets) == 1 else None
        links += [{"old": row["scientificName"], "new": name, "weight": weight, "heir": heir} for name, heir in targets]
    return pa.Table.from_pylist(links, schema=MAPPING)


def _delivered(row: Mapping[str, Any]) -> tuple[str | None, ...]:
    return tuple(row[DELIVERED[part]] for part in _PARTS)
