"""Trains by a recipe in child processes and kills so many with SIGKILL, each at a random moment; the next comes to its end.

    python tests/training/killed_runs.py DATASET RECIPE OUT VECTORS|- UNDISTURBED SEED KILLS

First a run that nobody disturbs goes to UNDISTURBED. Prints, as JSON, what `steps.csv` held at each kill. The children are forked
from a process that has imported everything, so that most of their life is training.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

import taxakey.torchvision_guard  # noqa: F401  before Lightning

import torch

from taxakey.training.loop import train
from taxakey.training.recipe import Recipe, read_recipe


def child(dataset: Path, recipe: Recipe, out: Path, vectors: Path | None) -> int:
    """Fork a process, in a group of its own, that trains and exits with 0."""
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    try:
        train(dataset, recipe, out, embeddings_folder=vectors, device="cpu")
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def ended(pid: int, deadline: float) -> int | None:
    """Exit status, or None if it still runs at the deadline."""
    while time.monotonic() < deadline:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return None


def steps(out: Path) -> int:
    return len((out / "steps.csv").read_bytes().splitlines()) - 1 if (out / "steps.csv").is_file() else -1


def main() -> None:
    dataset, recipe_file, out = (Path(argument) for argument in sys.argv[1:4])
    vectors = None if sys.argv[4] == "-" else Path(sys.argv[4])
    undisturbed, chance, kills = Path(sys.argv[5]), random.Random(int(sys.argv[6])), int(sys.argv[7])
    torch.set_num_threads(1)
    recipe = read_recipe(recipe_file)
    begun = time.monotonic()
    if status := ended(child(dataset, recipe, undisturbed, vectors), begun + 300):
        sys.exit(f"the undisturbed run ended with {status}")
    # Moments are drawn by progress, not by the clock: how fast the machine is just now must not decide how many there are.
    moments = sorted(chance.uniform(0, 0.9) * steps(undisturbed) for _ in range(kills))
    held = []
    for moment in moments:
        pid = child(dataset, recipe, out, vectors)
        deadline = time.monotonic() + 300
        while steps(out) < moment and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.1))
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        held.append(steps(out))
    status = ended(child(dataset, recipe, out, vectors), time.monotonic() + 300)
    if status:
        sys.exit(f"after {len(held)} kills the run ended with {status}")
    print(json.dumps(held))


if __name__ == "__main__":
    main()
