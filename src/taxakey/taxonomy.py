"""Taxa: names, ranks, parents, the order of classes and its fingerprint; sums of probabilities over ranks.

Shapes: O observations or images, C classes (species), G taxa of a higher rank.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from taxakey.errors import BadInput, MissingArtifact, TaxonomyMismatch

RANKS = ("species", "genus", "family")
"""The ranks at which Taxakey answers, from the finest."""

HIGHER_RANKS = ("kingdom", "phylum", "class", "order", "family", "genus")
"""Darwin Core columns of a class's parents, from the top."""

SCHEMA = pa.schema(
    [
        ("class_index", pa.int32()),
        ("taxonID", pa.string()),
        ("scientificName", pa.string()),
        ("scientificNameAuthorship", pa.string()),
        *((rank, pa.string()) for rank in HIGHER_RANKS),
        ("vernacularName", pa.string()),
        ("poisonous", pa.bool_()),
    ]
)


@dataclass(frozen=True, eq=False)
class Taxonomy:
    """The ordered list of classes with their parents.

    `table` has the columns of `SCHEMA`, one row a class, sorted by scientificName; class_index is the row number.
    scientificName is held WITHOUT its author, who stands in scientificNameAuthorship; an unknown parent or author is "",
    an unknown `poisonous` is null. Made with `from_rows`, which sorts and checks.
    """

    table: pa.Table

    @classmethod
    def from_rows(cls, rows: Iterable[Mapping[str, Any]]) -> Taxonomy:
        """Sort and check classes given as mappings with at least `scientificName`.

        Raises BadInput when there are no rows, a name is empty or stands twice, or a genus has two families.
        """
        ordered = sorted(rows, key=lambda row: row["scientificName"])
        names = [row["scientificName"] for row in ordered]
        if not names:
            raise BadInput("a taxonomy needs at least one class, and no record was left to make one from")
        for before, name in zip([None, *names], names, strict=False):
            if not name or not name.strip():
                raise BadInput("a class has an empty scientificName; drop its records or name them")
            if name == before:
                raise BadInput(f"the class {name!r} stands twice in the taxonomy; merge its two rows")
        columns: dict[str, list[Any]] = {"class_index": list(range(len(ordered)))}
        for field in list(SCHEMA)[1:]:
            missing = None if field.name == "poisonous" else ""
            columns[field.name] = [missing if row.get(field.name) is None else row[field.name] for row in ordered]
        taxonomy = cls(pa.table(columns, schema=SCHEMA))
        taxonomy._check_parents()
        return taxonomy

    def _check_parents(self) -> None:
        seen: dict[str, str] = {}
        for genus, family in zip(self.column("genus"), self.column("family"), strict=True):
            if genus and family and seen.setdefault(genus, family) != family:
                raise BadInput(
                    f"the genus {genus!r} stands in two families, {seen[genus]!r} and {family!r}; "
                    "correct the family column of its records"
                )

    @classmethod
    def read(cls, path: Path | str) -> Taxonomy:
        """Read `taxonomy.parquet`; raises MissingArtifact or BadInput with the file's name."""
        path = Path(path)
        if not path.is_file():
            raise MissingArtifact(f"{path}: no taxonomy there; the folder isn't a finished dataset or model")
        table = pq.read_table(path)
        if missing := [name for name in SCHEMA.names if name not in table.column_names]:
            raise BadInput(f"{path}: lacks the columns {', '.join(missing)}; write it again with this version")
        rows = table.select(SCHEMA.names).to_pylist()
        taxonomy = cls.from_rows(rows)
        if taxonomy.names != tuple(row["scientificName"] for row in rows):
            raise BadInput(f"{path}: its rows aren't sorted by scientificName; write it again with this version")
        return taxonomy

    def column(self, name: str) -> list[Any]:
        """One column as a list, in class order."""
        return self.table.column(name).to_pylist()

    def __len__(self) -> int:
        return self.table.num_rows

    @cached_property
    def names(self) -> tuple[str, ...]:
        """scientificName of each class, in class order."""
        return tuple(self.column("scientificName"))

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with any name or with the order of the classes."""
        return hashlib.sha256("\n".join(self.names).encode()).hexdigest()[:16]

    def require_same(self, other: str, *, mine: object, theirs: object) -> None:
        """Raise TaxonomyMismatch unless `other` is this taxonomy's fingerprint; `mine` and `theirs` name the two artifacts."""
        if other != self.fingerprint:
            raise TaxonomyMismatch(
                f"{mine} has the class list {self.fingerprint} and {theirs} has {other}: they can't be used together; "
                "make both from the same dataset"
            )

    def poisonous(self) -> NDArray[np.bool_] | None:
        """Mask [C] of poisonous classes (unknown counts as not), or None where no class is marked either way."""
        marks = self.column("poisonous")
        if all(mark is None for mark in marks):
            return None
        return np.array([bool(mark) for mark in marks])

    # ---- ranks ----

    def taxa(self, rank: str) -> tuple[str, ...]:
        """Names of the taxa of a rank: the classes themselves for "species", else sorted, without the unknown one."""
        return self._rank(rank)[0]

    def codes(self, rank: str) -> NDArray[np.int64]:
        """For each class [C] the position of its taxon in `taxa(rank)`; -1 where its parent is unknown."""
        return self._rank(rank)[1]

    @cached_property
    def _ranks(self) -> dict[str, tuple[tuple[str, ...], NDArray[np.int64]]]:
        return {"species": (self.names, np.arange(len(self), dtype=np.int64))}

    def _rank(self, rank: str) -> tuple[tuple[str, ...], NDArray[np.int64]]:
        if rank not in self._ranks:
            if rank not in HIGHER_RANKS:
                raise BadInput(f"unknown rank {rank!r}; one of species, {', '.join(reversed(HIGHER_RANKS))}")
            parents = self.column(rank)
            taxa = tuple(sorted({parent for parent in parents if parent}))
            position = {name: index for index, name in enumerate(taxa)}
            self._ranks[rank] = taxa, np.array([position.get(parent, -1) for parent in parents], dtype=np.int64)
        return self._ranks[rank]

    def sum_over(self, rank: str, probabilities_OC: NDArray[np.floating]) -> NDArray[np.floating]:
        """Probability of each taxon of a rank: sum over its species, [O, C] -> [O, G] in the order of `taxa(rank)`.

        Classes with an unknown parent belong to no taxon, so a row may sum to less than one.
        """
        if rank == "species":
            return probabilities_OC
        codes_C = self.codes(rank)
        members = np.flatnonzero(codes_C >= 0)
        members = members[np.argsort(codes_C[members], kind="stable")]
        if not len(members):
            return np.zeros((len(probabilities_OC), 0), dtype=probabilities_OC.dtype)
        starts = np.flatnonzero(np.diff(codes_C[members], prepend=-1))
        return np.add.reduceat(probabilities_OC[:, members], starts, axis=1)

    def index_of(self, names: Sequence[str | None], rank: str = "species") -> NDArray[np.int64]:
        """Position in `taxa(rank)` of each name, [O]; -1 for a name that isn't there."""
        position = {name: index for index, name in enumerate(self.taxa(rank))}
        return np.array([position.get(name, -1) if name else -1 for name in names], dtype=np.int64)


_SAME_LIST = 0.95
"""Share of the classes of one name whose taxonIDs must agree, before an ID alone is believed to mean the same taxon."""


def same_classes(taxonomy: Taxonomy, before: Taxonomy) -> NDArray[np.int64]:
    """For each class [C] its position in `before`, -1 for a new one: by scientificName, else by taxonID (a renamed taxon).

    IDs are believed only where the classes of one name show that both lists number their taxa alike.
    """
    match_C = before.index_of(taxonomy.names)
    mine, theirs = np.array(taxonomy.column("taxonID"), dtype=object), np.array(before.column("taxonID"), dtype=object)
    named = np.flatnonzero(match_C >= 0)
    said = named[(mine[named] != "") & (theirs[match_C[named]] != "")]
    if not len(said) or (mine[said] == theirs[match_C[said]]).mean() < _SAME_LIST:
        return match_C
    ids, places, times = np.unique(theirs.astype(str), return_index=True, return_counts=True)
    free = {name: place for name, place in zip(ids[times == 1], places[times == 1], strict=True) if name}
    for place in match_C[named]:
        free.pop(theirs[place], None)
    for index in np.flatnonzero(match_C < 0):
        match_C[index] = free.pop(mine[index], -1)
    return match_C
