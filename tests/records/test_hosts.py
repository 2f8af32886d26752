"""Greedy choice of hosts against the best of all sets."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pyarrow as pa
import pytest

from taxakey.errors import BadInput
from taxakey.records.hosts import HostOptions, choose_hosts


def counts(images_SH: np.ndarray) -> pa.Table:
    species_E, host_E = np.nonzero(images_SH)
    return pa.table(
        {
            "accepted": [f"Aus s{number}" for number in species_E],
            "host": [f"h{number}" for number in host_E],
            "images": images_SH[species_E, host_E],
        }
    )


def reached(images_SH: np.ndarray, hosts: tuple[int, ...], enough: int) -> int:
    return int((images_SH[:, list(hosts)].sum(1) >= enough).sum())


def test_greedy_comes_near_the_best_of_all_sets() -> None:
    rng = np.random.default_rng(0)
    found, optimum = [], []
    for _ in range(200):
        images_SH = rng.poisson(rng.gamma(0.4, 8, (20, 1)) * rng.dirichlet(np.full(7, 0.5))[None])
        choice = choose_hosts(counts(images_SH), HostOptions(most=3, enough=10))
        best = max(reached(images_SH, hosts, 10) for hosts in combinations(range(7), 3))
        chosen = tuple(int(host[1:]) for host in choice.hosts)
        assert len(chosen) == 3 or choice.species[-1] == best
        assert choice.species[-1] == reached(images_SH, chosen, 10)
        found.append(choice.species[-1])
        optimum.append(best)
    gap = np.array(optimum) - np.array(found)
    print(f"greedy: {sum(found)} of {sum(optimum)} species; best in {np.mean(gap == 0):.0%} of cases, {gap.max()} short at worst")
    assert sum(found) > 0.98 * sum(optimum)
    assert np.mean(gap == 0) > 0.9
    assert gap.max() <= 2


def test_hosts_that_only_help_together_are_found() -> None:
    images_SH = np.array([[6, 4, 0], [6, 4, 0], [0, 0, 9]])  # no host alone brings any species over ten
    choice = choose_hosts(counts(images_SH), HostOptions(enough=10))
    assert choice.hosts[:2] == ["h0", "h1"]
    assert choice.species == [0, 2]  # and the third host can bring none: all that can be reached is reached


def test_it_stops_at_the_share_that_is_asked_for() -> None:
    images_SH = np.diag([10, 10, 10, 10])
    assert len(choose_hosts(counts(images_SH), HostOptions(share=0.5)).hosts) == 2
    assert len(choose_hosts(counts(images_SH), HostOptions(share=1.0)).hosts) == 4
    assert choose_hosts(counts(images_SH), HostOptions(most=1)).hosts == ["h0"]  # all alike: by name
    assert choose_hosts(counts(np.zeros((0, 0), dtype=int)), HostOptions()).hosts == []


@pytest.mark.parametrize("options", [{"most": 0}, {"share": 0.0}, {"share": 1.1}, {"enough": 0}])
def test_options_that_cannot_be_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(BadInput, match="are needed"):
        HostOptions(**options)  # type: ignore[arg-type]
