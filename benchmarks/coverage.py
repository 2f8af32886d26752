"""How often an interval of a macro figure holds the truth: plain bootstrap, moved onto the figure, and by strata.

    python benchmarks/coverage.py [--parts 300] [--resamples 400] [--out RESULT.json]

Test parts are drawn whose species have known probabilities of being named rightly; the truth is their mean over the species that
occur. `plain` is `class_mean_of`, `centred` the same with `bootstrap(centred=...)`, `strata` is `macro_mean_of`, which reports
and comparisons use. 300 parts leave 2.5 points of chance on each side of 95 %.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from taxakey.metrics.intervals import bootstrap, class_mean_of, macro_mean_of


@dataclass(frozen=True)
class Case:
    """Observations of classes whose shares fall by Zipf's law to some power, named rightly by a beta distribution."""

    observations: int
    classes: int
    zipf: float
    beta: tuple[float, float]
    rare_worse: bool = False


CASES = {
    "900 of 90 species, even": Case(900, 90, 0, (7, 3)),
    "3,000 of 1,000 by Zipf": Case(3000, 1000, 1, (2, 1)),
    "3,000 of 1,000 by Zipf, rare ones worse": Case(3000, 1000, 1, (4, 1), rare_worse=True),
    "600 of 2,000, even": Case(600, 2000, 0, (2, 1)),
    "600 of 2,000, all or nothing": Case(600, 2000, 0, (0.3, 0.2)),
    "40 of 20": Case(40, 20, 0, (3, 1)),
}


def coverage(case: Case, parts: int, resamples: int) -> dict[str, float]:
    """Share of parts whose interval holds the truth, and its mean width, by the kind of interval."""
    generator, found = np.random.default_rng(1), dict.fromkeys(("plain", "centred", "strata"), 0.0)
    width, single = dict.fromkeys(found, 0.0), 0.0
    share = 1 / np.arange(1, case.classes + 1) ** case.zipf
    for seed in range(parts):
        right_C = generator.beta(*case.beta, size=case.classes) * (0.5 + 0.5 * share**0.25 if case.rare_worse else 1)
        true_O = generator.choice(case.classes, case.observations, p=share / share.sum())
        right_O = generator.random(case.observations) < right_C[true_O]
        present, count = np.unique(true_O, return_counts=True)
        plain, strata = class_mean_of(right_O, true_O), macro_mean_of(right_O, true_O)
        statistics = {"plain": plain, "centred": plain, "strata": strata}
        of = bootstrap(statistics, case.observations, resamples=resamples, seed=seed, centred=["centred"])
        for kind, interval in of.items():
            found[kind] += (interval.low <= right_C[present].mean() <= interval.high) / parts
            width[kind] += (interval.high - interval.low) / parts
        single += float((count == 1).mean()) / parts
    figures = {"single": single} | found | {f"width {kind}": each for kind, each in width.items()}
    return {name: round(float(value), 4) for name, value in figures.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=int, default=300)
    parser.add_argument("--resamples", type=int, default=400)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    results = {}
    for name, case in CASES.items():
        results[name] = coverage(case, given.parts, given.resamples)
        print(name, results[name], flush=True)
    if given.out:
        given.out.write_text(json.dumps({"parts": given.parts, "resamples": given.resamples, "cases": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
