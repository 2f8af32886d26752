"""How much of the text on herbarium sheets masking covers, how much of the sheet it costs, and whether anything is still found.

    python benchmarks/text_masking.py DATA [--half tuned|held-out] [--photographs 300] [--out RESULT.json] [--pictures FOLDER]

DATA is the folder of real data. The 100 sheets of herbarium/sheets_huh_500x750 that have boxes of the detector CRAFT (made by
others, herbarium/craft_text_boxes) are found by correlation with the pictures in which those boxes are drawn. Every second one
served to choose the defaults of `MaskOptions`, the others ("held-out", the default) are measured.

"Covered" is the share of CRAFT's area that is masked, "covered_readable" the same of those of its boxes in which something is
read, "masked" the share of the sheet, "ratio" our area divided by CRAFT's. "score" is the first look at that least score,
"after masking" the whole. The second opinion is rapidocr's recogniser, which shares nothing with the detector: it reads CRAFT's
boxes, and those of ours that CRAFT doesn't have, before masking, after the first look, and in the end. Flowers should be left
alone. `--pictures` writes a page of sheets before and after.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from taxakey.dataset.masking import MaskOptions, TextMasker, paint, painted, share_of_paper
from taxakey.dataset.preprocess import decode

SCORES = (0.4, 0.55, 0.7)
Boxes = NDArray[np.int32]
Mask = NDArray[np.bool_]
READ = 0.5
"""Least score of the recogniser for characters that count as read."""


# ---- sheets and the boxes that others found on them ----


def sheets_with_boxes(herbarium: Path) -> list[tuple[Path, NDArray[np.int32]]]:
    """Each clean sheet with CRAFT's boxes [N, 4, 2], in the order of the box files' names."""
    clean = sorted((herbarium / "sheets_huh_500x750").rglob("*.jpg"))
    looks = np.stack([_look(file) for file in clean])
    found = []
    for file in sorted((herbarium / "craft_text_boxes").glob("*.txt")):
        likeness = looks @ _look(file.with_name(f"{file.name.removesuffix('.txt')}.boxes_drawn.jpg"))
        if likeness.max() < 0.98:
            raise SystemExit(f"{file}: no clean copy of its sheet (best correlation {likeness.max():.3f})")
        numbers = [[float(value) for value in line.split(",")] for line in file.read_text().splitlines() if line.strip()]
        found.append((clean[int(likeness.argmax())], np.rint(np.reshape(numbers, (-1, 4, 2))).astype(np.int32)))
    return found


def _look(file: Path) -> NDArray[np.float32]:
    grey = cv2.resize(cv2.cvtColor(decode(file), cv2.COLOR_RGB2GRAY), (100, 150), interpolation=cv2.INTER_AREA)
    centred = grey.astype(np.float32).ravel() - grey.mean()
    return centred / np.linalg.norm(centred)


# ---- one sheet ----


@dataclass
class Sheet:
    """What was measured on one sheet; areas as shares of it."""

    file: str
    craft: float
    readable: float = 0.0
    covered: dict[str, float] = field(default_factory=dict)
    covered_readable: dict[str, float] = field(default_factory=dict)
    masked: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    left_after_first: int = 0
    left: int = 0
    read_in_craft: tuple[int, int, int] = (0, 0, 0)
    read_elsewhere: tuple[int, int, int] = (0, 0, 0)
    boxes_elsewhere: int = 0
    read_boxes_elsewhere: int = 0


def measure(file: Path, craft_N42: Boxes, maskers: dict[float, TextMasker], recogniser: Recogniser) -> tuple[Sheet, Any]:
    image = decode(file)
    size = image.shape[:2]
    masker = maskers[SCORES[0]]
    begun = time.process_time()
    result = masker(image, image, seed=0)
    seconds = time.process_time() - begun
    if result is None:
        raise SystemExit(f"{file}: doesn't count as a sheet (share of paper {share_of_paper(image):.2f})")
    masked, all_N42 = result
    readable_N42 = [box for box in craft_N42 if recogniser.characters(image, [box])]
    theirs_HW, readable_HW = painted(craft_N42, size), painted(np.reshape(readable_N42, (-1, 4, 2)).astype(np.int32), size)
    sheet = Sheet(f"{file.parent.name}/{file.name}", float(theirs_HW.mean()), float(readable_HW.mean()), seconds=seconds)
    first = {score: masker.find(image) for score, masker in maskers.items()}
    for name, boxes_N42 in (*((f"score {score}", boxes) for score, boxes in first.items()), ("after masking", all_N42)):
        _note(sheet, name, painted(boxes_N42, size), theirs_HW, readable_HW)
    once = paint(image, first[SCORES[0]], masker.options.blur, 0)
    sheet.left_after_first, sheet.left = len(masker.find_text(once)), len(masker.find_text(masked))
    ours = [box for box in first[SCORES[0]] if theirs_HW[painted(box[None], size)].mean() < 0.1]
    pictures = (image, once, masked)
    sheet.read_in_craft = tuple(recogniser.characters(picture, craft_N42) for picture in pictures)
    sheet.read_elsewhere = tuple(recogniser.characters(picture, ours) for picture in pictures)
    sheet.boxes_elsewhere = len(ours)
    sheet.read_boxes_elsewhere = sum(recogniser.characters(image, [box]) > 0 for box in ours)
    return sheet, (image, masked, all_N42, craft_N42)


def _note(sheet: Sheet, name: str, ours_HW: Mask, theirs_HW: Mask, readable_HW: Mask) -> None:
    sheet.masked[name] = float(ours_HW.mean())
    if theirs_HW.any():
        sheet.covered[name] = float(ours_HW[theirs_HW].mean())
    if readable_HW.any():
        sheet.covered_readable[name] = float(ours_HW[readable_HW].mean())


class Recogniser:
    """Reads boxes with rapidocr's recogniser alone."""

    def __init__(self) -> None:
        from rapidocr import RapidOCR

        settings = {"Global.log_level": "error", "Global.use_cls": False, "Global.use_det": False}
        self._read = RapidOCR(params=settings | {"EngineConfig.onnxruntime.intra_op_num_threads": 1})

    def characters(self, image: NDArray[np.uint8], boxes: Sequence[NDArray[np.int32]] | NDArray[np.int32]) -> int:
        """How many letters and digits it reads in the boxes' upright frames, doubtful ones left out."""
        return sum(map(self._count, _crops(image, boxes)))

    def _count(self, crop: NDArray[np.uint8]) -> int:
        found = self._read(crop[:, :, ::-1])
        texts = zip(found.txts or (), found.scores or (), strict=True)
        return sum(sum(map(str.isalnum, text)) for text, score in texts if score >= READ)


def _crops(image: NDArray[np.uint8], boxes: Sequence[NDArray[np.int32]] | NDArray[np.int32]) -> Iterator[NDArray[np.uint8]]:
    for box in boxes:
        (left, top), (right, bottom) = box.min(axis=0), box.max(axis=0) + 1
        if right - left >= 4 and bottom - top >= 4:
            yield cv2.resize(image[top:bottom, left:right], None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)


# ---- all of them ----


def summary(sheets: list[Sheet]) -> dict[str, Any]:
    """Pooled areas, and quantiles over sheets."""
    craft = sum(sheet.craft for sheet in sheets)
    table = {}
    for name in sheets[0].masked:
        covered = [sheet.covered[name] for sheet in sheets if sheet.craft]
        pooled = sum(sheet.covered[name] * sheet.craft for sheet in sheets if sheet.craft) / craft
        masked = [sheet.masked[name] for sheet in sheets]
        legible = [sheet for sheet in sheets if sheet.readable]
        good = sum(sheet.covered_readable[name] * sheet.readable for sheet in legible) / sum(sheet.readable for sheet in legible)
        table[name] = {
            "covered": round(pooled, 4), "covered_readable": round(good, 4), "covered_by_sheet": _quantiles(covered),
            "masked": round(float(np.mean(masked)), 4),
            "masked_by_sheet": _quantiles(masked), "ratio": round(sum(masked) / craft, 2),
        }  # fmt: skip
    facts = {"sheets": len(sheets), "without_craft_boxes": sum(not sheet.craft for sheet in sheets)}
    facts |= {"craft_share": round(craft / len(sheets), 4), "seconds_a_sheet": _quantiles([sheet.seconds for sheet in sheets])}
    for name in ("left_after_first", "left"):
        counts = [getattr(sheet, name) for sheet in sheets]
        facts[name] = {"boxes": sum(counts), "sheets": sum(map(bool, counts))}
    for name in ("read_in_craft", "read_elsewhere"):
        facts[name] = [sum(getattr(sheet, name)[when] for sheet in sheets) for when in (0, 1, 2)]
    facts["boxes_elsewhere"] = [
        sum(sheet.boxes_elsewhere for sheet in sheets),
        sum(sheet.read_boxes_elsewhere for sheet in sheets),
    ]
    return {"facts": facts, "table": table}


def _quantiles(values: list[float]) -> dict[str, float]:
    return {str(share): round(float(np.quantile(values, share)), 4) for share in (0, 0.1, 0.5, 0.9, 1)}


def photographs(folder: Path, count: int, masker: TextMasker) -> dict[str, Any]:
    """What happens to photographs, with the look for paper and without it."""
    files = sorted(folder.rglob("*.jpg"))
    files = files[:: max(1, len(files) // count)][:count]
    shares, bold = [], []
    looked_at = 0
    for file in files:
        image = decode(file)
        found = masker(image, image, seed=0)
        looked_at += found is not None
        shares.append(0.0 if found is None else float(painted(found[1], image.shape[:2]).mean()))
        bold.append(float(painted(masker.find(image), image.shape[:2]).mean()))
    touched = float(np.mean([share > 0 for share in shares]))
    return {
        "photographs": len(files), "taken_for_sheets": looked_at, "touched": round(touched, 4),
        "masked": round(float(np.mean(shares)), 5),
        "masked_were_all_looked_at": round(float(np.mean(bold)), 4),
    }  # fmt: skip


def large_sheets(folder: Path, stored_edge: int, masker: TextMasker) -> dict[str, Any]:
    """Scans of other herbaria, stored smaller than they are: whether the detector finds anything in what is stored."""
    left, seconds, masked_shares, not_sheets = [], [], [], 0
    for file in sorted(folder.glob("*.jpg")):
        image = decode(file)
        ratio = min(1.0, stored_edge / max(image.shape))
        stored = cv2.resize(image, None, fx=ratio, fy=ratio, interpolation=cv2.INTER_AREA)
        begun = time.process_time()
        found = masker(image, stored, seed=0)
        seconds.append(time.process_time() - begun)
        not_sheets += found is None
        if found is not None:
            left.append(len(masker.find_text(found[0])))
            masked_shares.append(float(painted(found[1], stored.shape[:2]).mean()))
    return {
        "sheets": len(left), "not_taken_for_sheets": not_sheets, "stored_edge": stored_edge, "left_boxes": sum(left),
        "left_sheets": sum(map(bool, left)), "masked": _quantiles(masked_shares), "seconds": _quantiles(seconds),
    }  # fmt: skip


def draw(pictures: list[Any], out: Path) -> None:
    """Pages of eight sheets: CRAFT's boxes red and ours green on the left, the masked sheet on the right."""
    out.mkdir(parents=True, exist_ok=True)
    for page in range(0, len(pictures), 8):
        tiles = []
        for image, masked, ours, theirs in pictures[page : page + 8]:
            marked = cv2.polylines(cv2.polylines(image.copy(), list(ours), True, (0, 150, 0)), list(theirs), True, (255, 0, 0))
            tiles.append(np.hstack([marked, masked]))
        tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % 4)
        rows = [np.hstack(tiles[start : start + 4]) for start in range(0, len(tiles), 4)]
        cv2.imwrite(str(out / f"sheets-{page // 8:02}.jpg"), np.vstack(rows)[:, :, ::-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--half", choices=("tuned", "held-out"), default="held-out")
    parser.add_argument("--what", default="text")
    parser.add_argument("--photographs", type=int, default=300)
    parser.add_argument("--stored-edge", type=int, default=1000)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--pictures", type=Path)
    given = parser.parse_args()
    options = MaskOptions(what=given.what)
    maskers = {score: TextMasker(replace(options, score=score)) for score in SCORES}
    masker, recogniser = maskers[options.score], Recogniser()
    pairs = sheets_with_boxes(given.data / "herbarium")[given.half == "held-out" :: 2]
    measured = [measure(file, boxes, maskers, recogniser) for file, boxes in pairs]
    result = {"date": datetime.now(UTC).date().isoformat(), "rapidocr": version("rapidocr"), "half": given.half}
    result |= {"options": asdict(options), **summary([sheet for sheet, _ in measured])}
    result["flowers102"] = photographs(given.data / "images/flowers102", given.photographs, masker)
    result["sheets_large"] = large_sheets(given.data / "herbarium/sheets_large", given.stored_edge, masker)
    print(json.dumps(result, indent=2))
    worst = sorted((sheet for sheet, _ in measured if sheet.craft), key=lambda sheet: sheet.covered["after masking"])[:5]
    for sheet in worst:
        print(f"least covered: {sheet.file} {sheet.covered['after masking']:.3f}")
    if given.out:
        given.out.write_text(json.dumps(result, indent=2) + "\n")
    if given.pictures:
        draw([picture for _, picture in measured], given.pictures)


if __name__ == "__main__":
    main()
