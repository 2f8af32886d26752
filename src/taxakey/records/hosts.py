"""Which download hosts to ask: as many species as possible with enough pictures, from as few hosts as possible (NAFlora-1M).

The best set is a covering problem that nobody solves exactly for hundreds of hosts. Greedy: add the host that brings most species
over the line; where none does alone, or several do alike, the one that brings species most pictures that they lack.

Shapes: E pairs of a species and a host, S species, H hosts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from taxakey.errors import BadInput

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class HostOptions:
    """`most`: hosts at most (None: no limit); `share`: stop at this share of the species that all hosts together could bring over
    the line; `enough`: pictures that a species needs.
    """

    most: int | None = None
    share: float = 1.0
    enough: int = 10

    def __post_init__(self) -> None:
        if (self.most is not None and self.most < 1) or not 0 < self.share <= 1 or self.enough < 1:
            raise BadInput(
                f"hosts: most is {self.most}, share {self.share} and enough {self.enough}; "
                "most ≥ 1, 0 < share ≤ 1 and enough ≥ 1 are needed"
            )


@dataclass(frozen=True)
class Choice:
    """Hosts in the order of choice, and how many species have enough pictures once the first, the first two, … are asked."""

    hosts: list[str]
    species: list[int]

    def table(self) -> pa.Table:
        return pa.table({"host": pa.array(self.hosts, pa.string()), "species": pa.array(self.species, pa.int64())})


def choose_hosts(counts: pa.Table, options: HostOptions) -> Choice:
    """`counts`: columns accepted (a species' name), host and images, one row a pair. Equal hosts in the order of their names."""
    species_E, _ = _coded(counts["accepted"])
    host_E, names = _coded(counts["host"])
    images_E = counts["images"].to_numpy().astype(np.int64)
    have_S = np.zeros(int(species_E.max(initial=-1)) + 1, dtype=np.int64)
    attainable = int((np.bincount(species_E, weights=images_E, minlength=len(have_S)) >= options.enough).sum())
    chosen: list[int] = []
    reached: list[int] = []
    while len(chosen) < min(options.most or len(names), len(names)):
        if reached and reached[-1] >= options.share * attainable:
            break
        best = _best(species_E, host_E, images_E, have_S, chosen, len(names), options.enough)
        chosen.append(best)
        np.add.at(have_S, species_E[host_E == best], images_E[host_E == best])
        reached.append(int((have_S >= options.enough).sum()))
    return Choice([names[host] for host in chosen], reached)


def _best(species_E: Ints, host_E: Ints, images_E: Ints, have_S: Ints, chosen: list[int], hosts: int, enough: int) -> int:
    lack_E = enough - have_S[species_E]
    over_H = np.bincount(host_E, weights=(lack_E > 0) & (images_E >= lack_E), minlength=hosts)
    nearer_H = np.bincount(host_E, weights=np.clip(np.minimum(images_E, lack_E), 0, None), minlength=hosts)
    over_H[chosen] = nearer_H[chosen] = -1
    return int(np.lexsort((np.arange(hosts), -nearer_H, -over_H))[0])


def _coded(column: pa.ChunkedArray) -> tuple[Ints, list[str]]:
    """Each value's place among the sorted distinct values, and these."""
    names, codes = np.unique(np.array(column.to_pylist(), dtype=object), return_inverse=True)
    return codes.astype(np.int64).reshape(-1), names.tolist()
