"""Restriction of a model to some of its species: a list, a taxon, a country. No torch.

Shapes: S specimens, C classes of the model, A of them allowed.

Probabilities are renormalised over the allowed species, which is right where the truth is one of them; so every answer says how
many they are, by what, and how much of the probability lay on them before.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from taxakey.errors import BadInput
from taxakey.serving.name_list import NameList, read_name_list
from taxakey.taxonomy import HIGHER_RANKS, Taxonomy

_FILES = (".csv", ".tsv", ".txt", ".tab", ".zip")
_SMALLEST = 1e-300


@dataclass(frozen=True, eq=False)
class Restriction:
    """Some of a model's species. `taxonomy`: of these alone; `allowed_A`: their positions in the model's; `origin`: what chose
    them, in words; `of`: how many the model has; `listed`, `unknown`: names of a list, and those that the model doesn't know."""

    taxonomy: Taxonomy
    allowed_A: NDArray[np.int64]
    origin: str
    of: int
    listed: int = 0
    unknown: tuple[str, ...] = ()

    def apply(self, probabilities_SC: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Probabilities over the allowed species [S, A], and their sum before [S].

        Where that sum is 0 as far as a computer can tell, nothing tells the allowed species apart, and all are equal.
        """
        inside_SA = np.asarray(probabilities_SC, dtype=np.float64)[:, self.allowed_A]
        sum_S = inside_SA.sum(axis=1)
        even = 1 / len(self.allowed_A)
        return np.where(sum_S[:, None] > _SMALLEST, inside_SA / np.maximum(sum_S, _SMALLEST)[:, None], even), sum_S

    @property
    def meaning(self) -> str:
        """In a sentence for people."""
        said = f"Only {len(self.taxonomy):,} of the model's {self.of:,} species were considered: {self.origin}."
        if self.unknown:
            said += f" {len(self.unknown):,} of the {self.listed:,} species listed there are unknown to the model."
        return said

    def narrowed(self, wanted: str) -> Restriction:
        """Those of its species that belong to the taxa `wanted` as well."""
        inner = restrict_to_taxa(self.taxonomy, wanted)
        origin = f"{self.origin}, of these {inner.origin}"
        return Restriction(inner.taxonomy, self.allowed_A[inner.allowed_A], origin, self.of, self.listed, self.unknown)


def restrict(taxonomy: Taxonomy, wanted: str) -> Restriction:
    """To the names in a file, "flora.csv"; to those of a country or region in it, "flora.csv:Costa Rica"; or to taxa of the
    model, "Rosaceae" or "Quercus, Fagus". See `name_list` for files.

    Raises BadInput where nothing is left, and for what is neither a file nor a taxon.
    """
    before, mark, region = wanted.rpartition(":")
    if Path(wanted).exists():
        return _restricted_to_list(taxonomy, Path(wanted), None)
    if mark and Path(before).exists() and region.strip():
        return _restricted_to_list(taxonomy, Path(before), region.strip())
    if Path(before or wanted).suffix.lower() in _FILES or "/" in wanted:
        raise BadInput(f"{before or wanted}: no such file; name a list, LIST:REGION, or a genus or family of the model")
    return restrict_to_taxa(taxonomy, wanted)


def restrict_to_taxa(taxonomy: Taxonomy, wanted: str) -> Restriction:
    """To taxa of the model at any rank, with commas between; never looks for a file."""
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    allowed_C = np.zeros(len(taxonomy), dtype=bool)
    said = []
    for name in names:
        members_C, rank = _members(taxonomy, name)
        allowed_C |= members_C
        said.append(f"the {rank} {name}")
    if not names:
        raise BadInput("restricted to nothing; name a genus or family of the model")
    return _restriction(taxonomy, allowed_C, " and ".join(said))


def _members(taxonomy: Taxonomy, name: str) -> tuple[NDArray[np.bool_], str]:
    """Which classes belong to the taxon of this name, and its rank."""
    seen: list[str] = []
    for rank in ("species", *reversed(HIGHER_RANKS)):
        taxa = [taxon.lower() for taxon in taxonomy.taxa(rank)]
        if name.lower() in taxa:
            return taxonomy.codes(rank) == taxa.index(name.lower()), rank
        seen += taxonomy.taxa(rank)
    near = difflib.get_close_matches(name, seen, 1, 0.8)
    meant = f"; {near[0]}?" if near else ""
    raise BadInput(f"{name!r}: neither a taxon of the model nor a file{meant}")


def _restricted_to_list(taxonomy: Taxonomy, file: Path, region: str | None) -> Restriction:
    listed = read_name_list(file, region)
    origin = f"{file.name}, {region}" if region else file.name
    words_C = _words(taxonomy)
    known_words = set(words_C)
    allowed = {words for all_words in listed.species.values() for words in all_words}
    unknown = tuple(name for name, all_words in listed.species.items() if not all_words & known_words)
    allowed_C = np.array([words in allowed for words in words_C])
    if not allowed_C.any():
        raise BadInput(
            f"{file}: none of its {len(listed.species):,} species is one of the model's {len(taxonomy):,}{_first(listed)}"
        )
    return _restriction(taxonomy, allowed_C, origin, len(listed.species), unknown)


def _words(taxonomy: Taxonomy) -> list[str]:
    """What is compared of each class [C]."""
    from taxakey.records.naming.scientific_name import parse_names, words_of

    names = pa.chunked_array([pa.array(taxonomy.names, pa.string())])
    return pc.coalesce(words_of(parse_names(names), species=True), pc.utf8_lower(names)).to_pylist()


def _first(listed: NameList) -> str:
    return f" (first: {next(iter(listed.species))})" if listed.species else ""


def _restriction(
    taxonomy: Taxonomy, allowed_C: NDArray[np.bool_], origin: str, listed: int = 0, unknown: tuple[str, ...] = ()
) -> Restriction:
    allowed_A = np.flatnonzero(allowed_C)
    if not len(allowed_A):
        raise BadInput(f"restricted to {origin}, no species of the model is left")
    rows = taxonomy.table.take(pa.array(allowed_A)).to_pylist()
    return Restriction(Taxonomy.from_rows(rows), allowed_A, origin, len(taxonomy), listed, unknown)
