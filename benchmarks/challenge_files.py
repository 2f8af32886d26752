"""How long a run file of PlantCLEF 2022 takes to be checked and scored, at that challenge's full size, and with how much memory.

    python benchmarks/challenge_files.py [--observations 26868] [--classes 80000] [--out RESULT.json]

The file is made here: 30 answers for each observation, among 80,000 classes. Checking looks at every row (fields, numbers, ids,
classes twice, ranks, probabilities) and compares its observations with the expected ones; memory is the process's peak (VmHWM).
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from taxakey.evaluation.challenges.checking import check
from taxakey.evaluation.challenges.formats import FORMATS
from taxakey.evaluation.challenges.scoring import score

PLANTCLEF = FORMATS["plantclef2022"]


def make(folder: Path, observations: int, classes: int) -> None:
    """run.txt and truth.csv."""
    rng = np.random.default_rng(0)
    start, true = rng.integers(0, classes, observations), rng.integers(0, 60, observations)
    share = np.exp(-0.2 * np.arange(30))
    share /= share.sum()
    step = 7919  # without a divisor in common with the number of classes: no class twice
    with open(folder / "run.txt", "w", encoding="utf-8") as run, open(folder / "truth.csv", "w", encoding="utf-8") as truth:
        truth.write("obsid;classid\n")
        for row in range(observations):
            id = 1_000_000_000 + row
            lines = [f"{id};{1_350_000 + (start[row] + step * k) % classes};{share[k]:.7f};{k + 1}\n" for k in range(30)]
            run.write("".join(lines))
            truth.write(f"{id};{1_350_000 + (start[row] + step * true[row]) % classes}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--observations", type=int, default=26_868)
    parser.add_argument("--classes", type=int, default=80_000)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, given.observations, given.classes)
        begun = time.perf_counter()
        checked = check(folder / "run.txt", PLANTCLEF, expected=folder / "truth.csv")
        checking = time.perf_counter() - begun
        figures = score(folder / "run.txt", PLANTCLEF, folder / "truth.csv")
        scoring = time.perf_counter() - begun - checking
        size = (folder / "run.txt").stat().st_size
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    assert checked.accepted, checked.faults
    result = {
        "rows": checked.rows, "file_MB": round(size / 1e6, 1), "check_seconds": round(checking, 2),
        "score_seconds": round(scoring, 2), "peak_MB": round(int(peak.split()[1]) / 1000), "figures": figures,
    }  # fmt: skip
    print(json.dumps(result, indent=2))
    if given.out:
        facts = {"date": datetime.now(UTC).date().isoformat(), "machine": platform.machine(), "classes": given.classes}
        given.out.write_text(json.dumps(facts | result, indent=2) + "\n")


if __name__ == "__main__":
    main()
