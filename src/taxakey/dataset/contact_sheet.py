"""Twenty pictures before and after augmentation, side by side in one JPEG: what the numbers of a recipe do, to be looked at."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from taxakey.artifacts import open_atomically
from taxakey.dataset.augment import Augment
from taxakey.dataset.preprocess import Preprocess, decode
from taxakey.dataset.reader import Part

PICTURES = 20
_COLUMNS = 5
_EDGE = 150
_CAPTION, _GAP = 18, 10


def write_contact_sheet(
    file: Path, part: Part, rows: NDArray[np.int64], preprocess: Preprocess, augment: Augment, seed: int
) -> None:
    """Draw twenty of the given pictures, of rare classes only where those are treated apart; left as evaluation sees each."""
    labels = part.class_index[rows]
    shown = rows[augment.rare_C[labels]] if augment.rare_C.any() else rows
    chosen = np.random.default_rng(seed).permutation(shown)[:PICTURES]
    sheet = Image.new(
        "RGB", (_COLUMNS * (2 * _EDGE + _GAP) + _GAP, -(-len(chosen) // _COLUMNS) * (_EDGE + _CAPTION) + _GAP), "white"
    )
    for place, row in enumerate(chosen.tolist()):
        image = decode(part.image_bytes(row))
        label = int(part.class_index[row])
        after = augment(image, label, seed + place)
        left, top = _GAP + place % _COLUMNS * (2 * _EDGE + _GAP), _GAP + place // _COLUMNS * (_EDGE + _CAPTION)
        sheet.paste(_small(preprocess.centre(preprocess.fitted(image))), (left, top))
        sheet.paste(_small(after), (left + _EDGE, top))
        named = part.table["scientificName"][row].as_py() or "?"  # a label may be of a genus, which isn't among the classes
        caption = f"{named} ({int(augment.counts_C[label]):,})"
        ImageDraw.Draw(sheet).text((left, top + _EDGE), caption, fill="black", font=ImageFont.load_default(12))
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=88)
    with open_atomically(file) as target:
        target.write(buffer.getvalue())


def _small(image_HW3: NDArray[np.uint8]) -> Image.Image:
    """Fitted into a square cell of the sheet, on white."""
    small = Image.fromarray(np.ascontiguousarray(image_HW3))
    small.thumbnail((_EDGE, _EDGE))
    cell = Image.new("RGB", (_EDGE, _EDGE), "white")
    cell.paste(small, ((_EDGE - small.width) // 2, (_EDGE - small.height) // 2))
    return cell
