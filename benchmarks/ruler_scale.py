"""On how many pictures a scale bar is found, and on how many where there can be none.

    python benchmarks/ruler_scale.py DATA [--out RESULT.json] [--pictures FOLDER]

DATA is the folder of real data: herbarium sheets have bars of several makes or none; photographs of flowers and fungi have none,
so each one found there is an error. Nobody wrote down the true scales. `--pictures` draws the centimetres beside each bar
found, for a person to compare with the numbers printed on it.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from taxakey.dataset.preprocess import decode
from taxakey.dataset.ruler import Ruler, find_ruler

FOLDERS = ("herbarium/sheets_huh_500x750", "herbarium/sheets_large", "images/flowers102", "images/fungi_mo")
SHOWN = (1100, 110)


def measure(folder: Path) -> tuple[dict[str, Any], list[Any]]:
    files = sorted(folder.rglob("*.jpg"))
    scales, seconds, bars = [], [], []
    for file in files:
        image = decode(file)
        begun = time.perf_counter()
        ruler = find_ruler(image)
        seconds.append(time.perf_counter() - begun)
        if ruler is not None:
            scales.append(max(image.shape) / ruler.pixels_per_mm)
            bars.append(with_centimetres(image, ruler, file.name))
    facts = {"pictures": len(files), "found": len(scales), "seconds": round(float(np.median(seconds)), 3)}
    if scales:
        facts["longest_edge_mm"] = {str(share): round(float(np.quantile(scales, share))) for share in (0, 0.1, 0.5, 0.9, 1)}
    return facts, bars


def with_centimetres(image: Any, ruler: Ruler, name: str) -> Any:
    """The bar, laid down and enlarged, with a red mark at each centimetre counted from the first block found."""
    left, top, right, bottom = ruler.box
    upright = bottom - top > right - left
    if upright:
        image, (left, top, right, bottom) = np.ascontiguousarray(image.transpose(1, 0, 2)), (top, left, bottom, right)
    step = 10 * ruler.pixels_per_mm
    x0, x1 = max(0, round(left - 2.5 * step)), min(image.shape[1], round(right + 2.5 * step))
    y0, y1 = max(0, round(top - 1.2 * step)), min(image.shape[0], round(bottom + 1.2 * step))
    scale = SHOWN[0] / (x1 - x0)
    shown = cv2.resize(image[y0:y1, x0:x1], (SHOWN[0], SHOWN[1]), interpolation=cv2.INTER_AREA)
    for number in range(round((right - left) / step) + 1):
        x = round((left - x0 + number * step) * scale)
        cv2.line(shown, (x, 0), (x, 16), (255, 0, 0), 2)
    return cv2.putText(shown, f"{name[:14]} {'upright' if upright else ''}", (4, SHOWN[1] - 6), 0, 0.5, (255, 80, 0), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--pictures", type=Path)
    given = parser.parse_args()
    result = {}
    for folder in FOLDERS:
        result[folder], bars = measure(given.data / folder)
        print(folder, json.dumps(result[folder]))
        for page in range(0, len(bars) if given.pictures else 0, 20):
            given.pictures.mkdir(parents=True, exist_ok=True)
            name = f"{folder.replace('/', '-')}-{page // 20:02}.png"
            cv2.imwrite(str(given.pictures / name), np.vstack(bars[page : page + 20])[:, :, ::-1])
    if given.out:
        given.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
