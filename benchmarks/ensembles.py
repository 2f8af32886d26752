"""How long 26 members take to be fitted, chosen among and judged, from stored predictions, and in how much memory.

    python benchmarks/ensembles.py --folder POOL [--members 26] [--rows 31000] [--classes 1081] [--rounds 3] [--out RESULT.json]

The sizes are those of the Pl@ntNet-300K examination: 26 models, 31,118 validation and 31,112 test images, 1,081 species. The
members are made up (seeded): the same pictures seen with noise of each member's own; written once into POOL as predictions with
full scores, 6 GB, and used again by later runs. The timed part is what `taxakey ensemble` does, in a process of its own: reading
validation, fitting every rule with cross-fitting, choosing, reading test and judging all rules with intervals; once more with a
member less, so that the difference is what one member more costs. Medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taxakey import artifacts
from taxakey.evaluation.ensembles import judge
from taxakey.prediction.ensemble import fit, require_fair
from taxakey.prediction.members import Member, open_pool
from taxakey.predictions import Predictions, Truth, write_full
from taxakey.progress import track
from taxakey.taxonomy import Taxonomy

PARTS = ("validation", "test")


@dataclass(frozen=True)
class Size:
    members: int
    rows: int
    classes: int

    @property
    def taxonomy(self) -> Taxonomy:
        """Four species in a genus, ten genera in a family."""
        numbers = range(self.classes)
        return Taxonomy.from_rows(
            {"scientificName": f"Genus{c // 4:05d} s{c:05d}", "genus": f"Genus{c // 4:05d}", "family": f"Family{c // 40:04d}"}
            for c in numbers
        )


def make(folder: Path, size: Size) -> None:
    """Write what isn't there yet; an artifact of another size is refused by its plan."""
    for part_number, part in enumerate(PARTS):
        seen_OC = None
        for m in track(range(size.members), f"writing members, {part}"):
            plan = artifacts.Plan("predictions", {"model": f"{m}"}, {"part": part, "rows": size.rows, "classes": size.classes})
            out = folder / f"{m:02d}-{part}"
            if artifacts.start(out, plan) == "finished":
                continue
            if seen_OC is None:
                true_O, seen_OC = pictures(size, part_number)
            write_member(out, plan, true_O, scores(seen_OC, m, part_number), size.taxonomy)


def pictures(size: Size, part: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """True classes [O], a few of them common and most rare, and what the pictures show of each class [O, C]."""
    generator = np.random.default_rng(part)
    share_C = 1 / np.arange(1, size.classes + 1)
    true_O = generator.choice(size.classes, size.rows, p=share_C / share_C.sum())
    seen_OC = generator.standard_normal((size.rows, size.classes), dtype=np.float32)
    seen_OC[np.arange(size.rows), true_O] += 4
    return true_O, seen_OC


def scores(seen_OC: NDArray[np.float32], member: int, part: int) -> NDArray[np.float32]:
    """Probabilities [O, C] of a member; later ones see a little less noise."""
    noise_OC = np.random.default_rng([1, member, part]).standard_normal(seen_OC.shape, dtype=np.float32)
    p_OC = np.exp(2 * (seen_OC + noise_OC * (1.4 - 0.02 * member)))
    p_OC /= p_OC.sum(axis=1, keepdims=True)
    return p_OC


def write_member(
    out: Path, plan: artifacts.Plan, true_O: NDArray[np.int64], p_OC: NDArray[np.float32], taxonomy: Taxonomy
) -> None:
    ids, names = [f"{plan.recipe['part']}{row:06d}" for row in range(len(true_O))], np.array(taxonomy.names)[true_O]
    truth = Truth(names.tolist(), *([None] * len(ids) for _ in range(2)))
    table = Predictions.from_probabilities(p_OC, taxonomy, observation_ids=ids, truth=truth)
    table.write(out / "observations.parquet")
    for number, begin in enumerate(range(0, len(ids), 256)):
        write_full(out / "full" / f"{number:05d}.arrow", ids[begin : begin + 256], p_OC[begin : begin + 256])
    artifacts.write_parquet(out / "taxonomy.parquet", taxonomy.table)
    artifacts.finish(out, plan, counts={"observations": len(ids)}, taxonomy=taxonomy.fingerprint)


# ---- timed, in a process of its own ----


def timed(folder: Path, members: int) -> dict[str, Any]:
    """Seconds of each step and of all, by the clock and of processors, and the process's peak in MiB."""
    seconds: dict[str, float] = {}
    processor_seconds: dict[str, float] = {}

    @contextmanager
    def step(name: str) -> Iterator[None]:
        begun = time.perf_counter(), time.process_time()
        yield
        seconds[name], processor_seconds[name] = time.perf_counter() - begun[0], time.process_time() - begun[1]

    with step("all"):
        opened = {part: [Member.open(folder / f"{m:02d}-{part}") for m in range(members)] for part in PARTS}
        require_fair(opened["validation"], opened["test"])
        with step("reading validation"):
            pool = open_pool(opened["validation"])
        with step("fitting and choosing"):
            fitted = fit(pool)
        del pool
        opened["validation"].clear()
        with step("reading test"):
            pool = open_pool(opened["test"])
        with step("judging"):
            found = judge(fitted, pool)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    chosen = next(row for row in found.judged if row.name == found.chosen)
    return {
        "members": members, "seconds": seconds, "processor_seconds": processor_seconds, "peak_MiB": peak, "chosen": found.chosen,
        "top_1": chosen.figures["top_1"].value, "over_mean": chosen.over_mean["top_1"].value,
    }  # fmt: skip


def in_its_own_process(folder: Path, members: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--folder", str(folder), "--timed", str(members)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def medians(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Of each figure; and the seconds of all as they came."""

    def steps(which: str) -> dict[str, float]:
        return {name: median(found[which][name] for found in rounds) for name in rounds[0][which]}

    of_steps = {which: steps(which) for which in ("seconds", "processor_seconds")}
    peak = median(found["peak_MiB"] for found in rounds)
    return {**rounds[0], **of_steps, "peak_MiB": peak, "all_seconds": [found["seconds"]["all"] for found in rounds]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--members", type=int, default=26)
    parser.add_argument("--rows", type=int, default=31_000)
    parser.add_argument("--classes", type=int, default=1081)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--timed", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.timed:
        print(json.dumps(timed(given.folder, given.timed)))
        return
    size = Size(given.members, given.rows, given.classes)
    make(given.folder, size)
    rounds = [[in_its_own_process(given.folder, n) for n in (size.members, size.members - 1)] for _ in range(given.rounds)]
    whole, without = (medians([pair[number] for pair in rounds]) for number in (0, 1))
    one_more = {
        which: {name: whole[which][name] - without[which][name] for name in whole[which]}
        for which in ("seconds", "processor_seconds")
    }
    print(f"{size.members} members, {size.rows:,} rows a part, {size.classes:,} classes; {os.getloadavg()[0]:.1f} processes")
    for name, seconds in whole["seconds"].items():
        processor = whole["processor_seconds"][name], one_more["processor_seconds"][name]
        print(f"{name:22} {seconds:6.1f} s; of processors {processor[0]:6.1f} s, for one member more {processor[1]:5.2f} s")
    print(f"peak {whole['peak_MiB']:,.0f} MiB; {whole['chosen']}")
    if given.out:
        facts = {"date": datetime.now(UTC).date().isoformat(), "machine": f"{platform.machine()}, {os.cpu_count()} cores",
                 "load_average": os.getloadavg()[0], "rows": size.rows, "classes": size.classes,
                 "whole": whole, "one_member_less": without, "one_member_more": one_more}  # fmt: skip
        given.out.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
