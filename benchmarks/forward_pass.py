"""Embedding on a CPU: a plain loop over timm in batches of 32 against what `taxakey.embeddings` does, in one run.

    python benchmarks/forward_pass.py [--model mobilenetv2_100] [--rounds 5]

Three ways take turns in each round, each in a process of its own, since memory settings hold for a process: plain; channels-last;
channels-last with freed memory kept, in batches of 16. Printed: the median over rounds of images a second, and the ratio.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

WAYS = {"plain, batch 32": (False, False, 32), "channels-last": (True, False, 32), "and memory kept, batch 16": (True, True, 16)}
_PROGRAM = """
import sys, time
import taxakey.torchvision_guard
import timm, torch
from taxakey.cpu_memory import keep_freed_memory
name, channels_last, keep, batch = sys.argv[1], sys.argv[2] == "True", sys.argv[3] == "True", int(sys.argv[4])
if keep:
    keep_freed_memory()
layout = torch.channels_last if channels_last else torch.contiguous_format
model = timm.create_model(name, num_classes=0).eval().to(memory_format=layout)
pixels = torch.randn(batch, 3, 224, 224).contiguous(memory_format=layout)
with torch.inference_mode():
    model(pixels)
    begun = time.perf_counter()
    for _ in range(128 // batch):
        model(pixels)
print(128 / (time.perf_counter() - begun))
"""


def images_per_second(model: str, way: tuple[bool, bool, int]) -> float:
    command = [sys.executable, "-c", _PROGRAM, model, *map(str, way)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mobilenetv2_100")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    measured: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(options.rounds):
        for name, way in WAYS.items():
            measured[name].append(images_per_second(options.model, way))
    plain = statistics.median(measured["plain, batch 32"])
    for name, rates in measured.items():
        median = statistics.median(rates)
        print(f"{name:28} {median:7.1f} images/s  {median / plain:5.2f} times plain")


if __name__ == "__main__":
    main()
