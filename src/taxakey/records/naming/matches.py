"""What became of delivered names: a table of those that were matched and one of those that weren't, and why.

Shapes: N distinct delivered names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from taxakey.artifacts import Manifest, Plan, finish, open_atomically, read_manifest, start, write_parquet
from taxakey.errors import MissingArtifact
from taxakey.records.naming.delivered_names import DELIVERED

MatchType = Literal[
    "exact", "without author", "hybrid sign ignored", "rank differs", "author differs", "accepted homonym", "rolled up",
    "spelling variant", "fuzzy", "fuzzy genus", "ambiguous", "unmatched",
]  # fmt: skip
"""How a name was found; where several apply, the last of them. "without author": one side has none; "accepted homonym": only
with that option; "rolled up": a name below species that isn't in the checklist, whose species is; "ambiguous" and "unmatched"
are never in `Matches.matched`."""

MATCH_TYPES: tuple[MatchType, ...] = get_args(MatchType)

_DELIVERED = [(name, pa.string()) for name in DELIVERED.values()]
MATCHED = pa.schema(
    [
        *_DELIVERED,
        ("count", pa.int64()),
        ("taxonID", pa.string()),
        ("acceptedNameUsageID", pa.string()),
        ("scientificName", pa.string()),
        ("scientificNameAuthorship", pa.string()),
        ("taxonRank", pa.string()),
        ("kingdom", pa.string()),
        ("family", pa.string()),
        ("genus", pa.string()),
        ("matchType", pa.string()),
        ("matchScore", pa.float32()),
        ("link", pa.string()),
        ("path", pa.string()),
    ]
)
"""`count`: rows delivered under the name; `taxonID`: of the name that was found in the checklist; `acceptedNameUsageID` and the
columns behind it: of the accepted species; `link`: of the found name, see `checklist.LINKS`; `path`: name → synonym →
accepted."""

UNMATCHED = pa.schema(
    [*_DELIVERED, ("count", pa.int64()), ("matchType", pa.string()), ("reason", pa.string()), ("taxonID", pa.string()),
     ("candidates", pa.string())]
)  # fmt: skip
"""`taxonID`: the name was found, and leads nowhere; `candidates`: the nearest names, the nearest first."""


@dataclass(frozen=True, eq=False)
class Matches:
    """Every distinct delivered name is in one of two tables: `matched` (columns of `MATCHED`) or `unmatched` (`UNMATCHED`)."""

    matched: pa.Table
    unmatched: pa.Table

    def counts(self) -> dict[str, int]:
        """Names by match type, in the order of `MATCH_TYPES`."""
        found: dict[str, int] = dict.fromkeys(MATCH_TYPES, 0)
        for table in (self.matched, self.unmatched):
            for pair in pc.value_counts(table["matchType"]).to_pylist():
                found[pair["values"]] += pair["counts"]
        return {kind: number for kind, number in found.items() if number}

    def reasons(self) -> dict[str, int]:
        """Unmatched and ambiguous names by reason, the most frequent first."""
        pairs = pc.value_counts(self.unmatched["reason"].combine_chunks()).to_pylist()
        return {pair["values"]: pair["counts"] for pair in sorted(pairs, key=lambda pair: (-pair["counts"], pair["values"]))}

    def write(self, folder: Path | str, plan: Plan, *, checklist: Mapping[str, int] | None = None) -> Manifest:
        """Write the artifact "names": matches.parquet, unmatched.parquet, the same as unmatched.csv for reading, the manifest.

        `checklist`: its counts, to stand in the manifest.
        """
        folder = Path(folder)
        if start(folder, plan) == "finished":
            return read_manifest(folder, "names")
        write_parquet(folder / "matches.parquet", self.matched)
        write_parquet(folder / "unmatched.parquet", self.unmatched)
        with open_atomically(folder / "unmatched.csv") as file:
            pyarrow.csv.write_csv(self.unmatched, file)
        counts = {"distinct names": len(self.matched) + len(self.unmatched), **self.counts()}
        counts |= {f"unmatched: {reason}": number for reason, number in self.reasons().items()}
        counts |= {f"checklist: {fact}": number for fact, number in (checklist or {}).items()}
        return finish(folder, plan, counts=counts)

    @classmethod
    def read(cls, folder: Path | str) -> Matches:
        """Read what `write` wrote; raises MissingArtifact with the file's name."""
        folder = Path(folder)
        read_manifest(folder, "names")
        tables = []
        for name, schema in (("matches.parquet", MATCHED), ("unmatched.parquet", UNMATCHED)):
            if not (folder / name).is_file():
                raise MissingArtifact(f"{folder / name}: no such file; match the names again")
            tables.append(pq.read_table(folder / name).select(schema.names).cast(schema))
        return cls(*tables)
