"""How fast a photograph becomes the network's input: ours beside plain Pillow and torchvision, in one run, one thread.

    python benchmarks/decoding.py PHOTOGRAPHS [--resize LONGEST_EDGE] [--out RESULT.json]

Each way reads the same JPEG bytes from memory and ends with float32 [3, 224, 224]: shorter edge 256, centre 224, standardised.
"Pillow" and "torchvision" are timm's transform by other means; "Pillow, scaled decoding" also lets libjpeg halve the picture
while it decodes. The ways take turns in every round, so that a busy machine slows all of them; the figure is the median of the
rounds, in processor time. `--resize` first makes all photographs the same size, so that runs on others can be compared.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from taxakey.dataset.preprocess import Preprocess, decode

PREPROCESS = Preprocess()
Way = Callable[[bytes], object]


def ours(data: bytes) -> object:
    return PREPROCESS.load(data)


def ours_decoded_whole(data: bytes) -> object:
    return PREPROCESS(decode(data))


def pillow(data: bytes, *, scaled: bool = False) -> object:
    with Image.open(io.BytesIO(data)) as picture:
        size = _shorter_edge_256(*picture.size)
        if scaled:
            picture.draft("RGB", size)
        small = picture.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    left, top = (size[0] - 224) // 2, (size[1] - 224) // 2
    pixels = np.asarray(small.crop((left, top, left + 224, top + 224)), dtype=np.float32) / 255
    return ((pixels - np.float32(PREPROCESS.mean)) / np.float32(PREPROCESS.std)).transpose(2, 0, 1).copy()


def _shorter_edge_256(width: int, height: int) -> tuple[int, int]:
    return (256, 256 * height // width) if width < height else (256 * width // height, 256)


def torchvision_way() -> Way:
    """timm's evaluation transform, as data loaders of most trainings run it."""
    import taxakey.torchvision_guard  # noqa: F401  before timm

    import torch
    from timm.data.transforms_factory import transforms_imagenet_eval

    torch.set_num_threads(1)
    transform = transforms_imagenet_eval(224, interpolation="bicubic", mean=PREPROCESS.mean, std=PREPROCESS.std)

    def load(data: bytes) -> object:
        with Image.open(io.BytesIO(data)) as picture:
            return transform(picture.convert("RGB"))

    return load


def read_photographs(folder: Path, count: int, resize: int | None) -> list[bytes]:
    files = sorted(folder.rglob("*.jpg"))
    files = files[:: max(1, len(files) // count)][:count]
    if not files:
        raise SystemExit(f"{folder}: no .jpg in it")
    return [_resized(file, resize) if resize else file.read_bytes() for file in files]


def _resized(file: Path, longest_edge: int) -> bytes:
    with Image.open(file) as picture:
        ratio = longest_edge / max(picture.size)
        size = (round(picture.width * ratio), round(picture.height * ratio))
        buffer = io.BytesIO()
        picture.convert("RGB").resize(size, Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def measure(ways: dict[str, Way], photographs: list[bytes], rounds: int) -> dict[str, float]:
    """Photographs a second and thread of each way."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for load in ways.values():
        load(photographs[0])  # imports and tables
    for _ in range(rounds):
        for name, load in ways.items():
            begun = time.thread_time()
            for data in photographs:
                load(data)
            seconds[name].append(time.thread_time() - begun)
    return {name: len(photographs) / median(times) for name, times in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path, help="folder with .jpg files")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--resize", type=int)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    ways: dict[str, Way] = {
        "Taxakey": ours,
        "Taxakey, decoded whole": ours_decoded_whole,
        "Pillow": pillow,
        "Pillow, scaled decoding": lambda data: pillow(data, scaled=True),
        "torchvision": torchvision_way(),
    }
    photographs = read_photographs(given.photographs, given.count, given.resize)
    speeds = measure(ways, photographs, given.rounds)
    for name, speed in speeds.items():
        print(f"{name:26} {speed:7.0f} photographs/s a thread, {speed / speeds['Pillow']:5.2f} × Pillow")
    if given.out:
        facts = {"date": datetime.now(UTC).date().isoformat(), "machine": platform.machine(), "cpu": platform.processor()}
        facts |= {
            "photographs": len(photographs),
            "megabytes": round(sum(map(len, photographs)) / 1e6, 1),
            "resize": given.resize,
        }
        given.out.write_text(json.dumps(facts | {"per_second": speeds}, indent=2) + "\n")


if __name__ == "__main__":
    main()
