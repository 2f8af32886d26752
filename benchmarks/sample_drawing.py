"""How fast the simulated herbarium is drawn: sheets a second on one core, JPEG encoding included.

Run: python benchmarks/sample_drawing.py [--size 256] [--rounds 7]
Measures specimens as the command draws them (a mounted sheet is photographed one to three times), without writing files.
"""

from __future__ import annotations

import argparse
import statistics
import time

import cv2

from taxakey.records.sample import INSTITUTIONS, Collection, SampleOptions
from taxakey.records.sample.drawing import encoded
from taxakey.records.sample.options import stream
from taxakey.records.sample.sheet import mount, photograph


def draw(collection: Collection, first: int, last: int) -> int:
    """Draw and encode the specimens of a range; returns the number of sheets."""
    size, sheets = collection.options.size, 0
    for number in range(first, last):
        specimen = collection.specimen(number)
        institution, species = INSTITUTIONS[specimen.institution], collection.flora.species[specimen.species]
        sheet = mount(species, specimen, institution, size, stream(0, "plant", number))
        for k in range(specimen.photographs):
            encoded(photograph(sheet, institution, size, stream(0, "photograph", number, k)), quality=90)
            sheets += 1
    return sheets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--specimens", type=int, default=100, help="in a round")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    collection = Collection(SampleOptions(sheets=2 * (arguments.rounds + 1) * arguments.specimens, size=arguments.size))
    draw(collection, 0, 20)  # papers and fonts are made once
    wall, core = [], []
    for round_ in range(arguments.rounds):
        wall_before, core_before = time.perf_counter(), time.process_time()
        sheets = draw(collection, round_ * arguments.specimens, (round_ + 1) * arguments.specimens)
        wall.append(sheets / (time.perf_counter() - wall_before))
        core.append(sheets / (time.process_time() - core_before))
    for clock, rates in (("wall clock", wall), ("processor time", core)):
        median, spread = statistics.median(rates), f"{min(rates):.0f}-{max(rates):.0f}"
        print(f"{arguments.size} px, {clock}: median {median:.0f} sheets/s on one core ({spread})")


if __name__ == "__main__":
    main()
