"""Which perceptual hash tells copies from other pictures, at which distance; and how fast near pairs are found.

    python benchmarks/near_duplicates.py FOLDER... [--copies 500] [--search 1000000] [--out RESULT.json]

In each folder, pictures lie in a folder per species (or specimen). Copies of up to `--copies` of them are made in five ways;
recall is the share of copies within a distance of their original. False pairs are pairs of pictures of DIFFERENT species
within that distance, per million of such pairs; pairs within a species may be true copies and aren't counted. Ours is hashed
as `taxakey inspect` does; the others are those of imagehash on the whole picture, which is what it is used with elsewhere.
`--search`: random hashes with a twentieth of near copies, searched by `near_groups` in one thread; processor time.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from taxakey.dataset.duplicates import NEAR_DISTANCE, near_groups
from taxakey.dataset.inspection import perceptual_hash, working_picture

SHARES = (0, 1 / 32, 1 / 16, 3 / 32, 1 / 8, 5 / 32, 3 / 16)
"""Distances, as share of the bits of a hash."""


def ours(picture: Image.Image) -> NDArray[np.uint8]:
    grey = cv2.cvtColor(working_picture(np.asarray(picture)), cv2.COLOR_RGB2GRAY)
    return np.frombuffer(perceptual_hash(np.asarray(grey, dtype=np.uint8)), dtype=np.uint8)


def theirs(hash_: Callable[..., Any], picture: Image.Image, **options: int) -> NDArray[np.uint8]:
    return np.packbits(hash_(picture, **options).hash)


HASHES: dict[str, Callable[[Image.Image], NDArray[np.uint8]]] = {
    "ours (phash, 256 bits)": ours,
    "phash, 256 bits": partial(theirs, imagehash.phash, hash_size=16),
    "phash, 64 bits": partial(theirs, imagehash.phash),
    "dhash, 256 bits": partial(theirs, imagehash.dhash, hash_size=16),
    "dhash, 64 bits": partial(theirs, imagehash.dhash),
    "average, 64 bits": partial(theirs, imagehash.average_hash),
    "wavelet, 64 bits": partial(theirs, imagehash.whash, image_scale=64),
}


def encoded_anew(picture: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=40)
    return Image.open(buffer).convert("RGB")


def cropped(picture: Image.Image, share: float) -> Image.Image:
    width, height = picture.size
    edges = (share * width, share * height, (1 - share) * width, (1 - share) * height)
    return picture.crop(tuple(round(edge) for edge in edges))


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG 40": encoded_anew,
    "half size": lambda picture: picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BICUBIC),
    "25 % brighter": lambda picture: Image.fromarray(np.clip(np.asarray(picture) * 1.25, 0, 255).astype(np.uint8)),
    "2 % cropped": partial(cropped, share=0.02),
    "5 % cropped": partial(cropped, share=0.05),
}


def hashes_of(file: Path, copies: bool) -> dict[tuple[str, str], NDArray[np.uint8]]:
    with Image.open(file) as opened:
        picture = opened.convert("RGB")
    ways = {"": lambda same: same} | (COPIES if copies else {})
    changed = {way: change(picture) for way, change in ways.items()}
    return {(name, way): hash_(changed[way]) for name, hash_ in HASHES.items() for way in changed}


def measure(folder: Path, copies: int) -> list[dict[str, Any]]:
    """A row for each hash and distance."""
    files = sorted(folder.rglob("*.jpg"))
    chosen = set(np.random.default_rng(0).permutation(len(files))[:copies].tolist())
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda item: hashes_of(item[1], item[0] in chosen), enumerate(files)))
    species = np.unique([file.parent.name for file in files], return_inverse=True)[1]
    rows = []
    for name in HASHES:
        hashes = np.stack([row[name, ""] for row in found])
        histogram = distances(hashes, species)
        for share in SHARES:
            bits = round(share * 8 * hashes.shape[1])
            recall = {
                way: float(np.mean([_bits(found[i][name, way], hashes[i]) <= bits for i in sorted(chosen)])) for way in COPIES
            }
            false = int(histogram[: bits + 1].sum())
            rows.append({"folder": folder.name, "hash": name, "bits": bits, "recall": recall, "false": false,
                         "false_per_million": 1e6 * false / int(histogram.sum())})  # fmt: skip
    return rows


def _bits(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> int:
    return int(np.bitwise_count(left ^ right).sum())


def distances(hashes: NDArray[np.uint8], species: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of pairs of different species by their distance."""
    histogram = np.zeros(8 * hashes.shape[1] + 1, dtype=np.int64)
    for row in range(len(hashes) - 1):
        apart = np.bitwise_count(hashes[row + 1 :] ^ hashes[row]).sum(axis=1)
        histogram += np.bincount(apart[species[row + 1 :] != species[row]], minlength=len(histogram))
    return histogram


def search(number: int) -> dict[str, float]:
    """Seconds and megabytes for hashes of which every twentieth is a copy with up to 40 bits turned."""
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, (number, 4), dtype=np.uint64)
    copies = hashes[rng.integers(0, number, number // 20)]
    for turned in range(40):
        bits = rng.integers(0, 256, len(copies))
        some = rng.random(len(copies)) < turned / 40
        copies[some, bits[some] // 64] ^= np.uint64(1) << (bits[some] % 64).astype(np.uint64)
    hashes[: len(copies)] = copies
    begun = time.process_time()
    groups = near_groups(hashes)
    seconds = time.process_time() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"hashes": number, "seconds": seconds, "groups": len(np.unique(groups)), "peak_mib": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="*")
    parser.add_argument("--copies", type=int, default=500)
    parser.add_argument("--search", type=int, nargs="*", default=[])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    searches = [search(number) for number in given.search]  # first: the peak of memory is the process's
    for found in searches:
        print(f"{found['hashes']:,} hashes within {NEAR_DISTANCE} bits: {found['seconds']:.1f} s, {found['peak_mib']:,.0f} MiB")
    rows = []
    for folder in given.folders:
        rows += (measured := measure(folder, given.copies))
        print(f"{folder.name:24}  bits  {'  '.join(COPIES)}  false per million (pairs)")
        for row in measured:
            recall = "  ".join(f"{row['recall'][way]:{len(way)}.3f}" for way in COPIES)
            print(f"{row['hash']:24} {row['bits']:5}  {recall}  {row['false_per_million']:12,.2f} ({row['false']:,})")
    if given.out:
        facts = {"date": datetime.now(UTC).date().isoformat(), "search": searches, "rows": rows}
        given.out.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
