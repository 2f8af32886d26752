"""How fast pictures are inspected: ours beside Pillow with imagehash, in one run, one thread, from bytes in memory.

    python benchmarks/inspecting.py PHOTOGRAPHS [--count 60] [--rounds 5] [--resize LONGEST_EDGE] [--out RESULT.json]

"Taxakey" hashes the bytes and gives the perceptual hash, size, sharpness, exposure and colour cast. "Pillow + imagehash"
only hashes the bytes and gives the same perceptual hash of the whole picture, as a script of a few lines does; "all
measures" adds sharpness, exposure and cast of the whole picture in numpy and OpenCV. The ways take turns in every round; the
figure is the median of the rounds, in processor time.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import platform
from datetime import UTC, datetime
from pathlib import Path

import cv2
import imagehash
import numpy as np
from decoding import Way, measure, read_photographs
from PIL import Image

from taxakey.dataset.inspection import colour, exposure, look, sharpness


def plain(data: bytes) -> object:
    with Image.open(io.BytesIO(data)) as picture:
        return hashlib.sha256(data).hexdigest(), picture.size, imagehash.phash(picture, hash_size=16)


def plain_with_measures(data: bytes) -> object:
    with Image.open(io.BytesIO(data)) as picture:
        pixels = np.asarray(picture.convert("RGB"))
        grey = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
        return plain(data), sharpness(grey), exposure(grey), colour(pixels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path, help="folder with .jpg files")
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--resize", type=int)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    ways: dict[str, Way] = {"Taxakey": look, "Pillow + imagehash": plain, "the same, all measures": plain_with_measures}
    photographs = read_photographs(given.photographs, given.count, given.resize)
    speeds = measure(ways, photographs, given.rounds)
    for name, speed in speeds.items():
        print(f"{name:24} {speed:7.0f} pictures/s a thread, {speed / speeds['Pillow + imagehash']:5.2f} × Pillow + imagehash")
    if given.out:
        facts = {"date": datetime.now(UTC).date().isoformat(), "machine": platform.machine(), "photographs": len(photographs)}
        given.out.write_text(json.dumps(facts | {"resize": given.resize, "per_second": speeds}, indent=2) + "\n")


if __name__ == "__main__":
    main()
