"""One look at every picture: what it is (hashes), how large, how sharp, how exposed, of what cast.

All but the size is measured on the picture at one working size, its longest edge `WORKING_EDGE` pixels whether it was larger
or smaller, so that figures compare between pictures; a small picture is enlarged and so as unsharp as it would look at that
size. Shapes: H, W of the working picture, uint8 [H, W, 3] RGB or grey [H, W].
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any

import cv2
import imagehash
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from taxakey.artifacts import Manifest, Plan, finish, hash_of, read_manifest, start, write_parquet
from taxakey.dataset.build import default_workers
from taxakey.dataset.duplicates import NEAR_DISTANCE, duplicates_of
from taxakey.dataset.located import fetched_paths
from taxakey.dataset.preprocess import MAX_BYTES, MAX_PIXELS, decode, jpeg_size, read_picture
from taxakey.dataset.ruler import pixels_per_mm
from taxakey.errors import BadImage, BadInput, BadRecords, MissingArtifact
from taxakey.progress import track, working
from taxakey.records.table import Observations

WORKING_EDGE = 512
"""Pixels; the longest edge that `taxakey build` stores by default."""

HASH_BITS = 256

SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        ("sha256", pa.string()),
        ("perceptual_hash", pa.binary(HASH_BITS // 8)),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("sharpness", pa.float32()),
        ("dark", pa.float32()),
        ("bright", pa.float32()),
        ("brightness", pa.float32()),
        ("colour_cast", pa.float32()),
        ("colour_spread", pa.float32()),
        ("pixels_per_mm", pa.float32()),
        ("failure", pa.string()),
    ]
)
"""`sha256`: hexadecimal, of the file's bytes; `width`, `height`: of the upright picture in pixels; the measures: see
`sharpness`, `exposure` and `colour`; `pixels_per_mm`: at full size, null where none was found or asked for; `failure`: why
nothing could be measured, else null."""

_DARK, _BRIGHT = 5, 250
Scale = Callable[[NDArray[np.uint8]], float | None]
"""Pixels per millimetre of a whole picture [H, W, 3], or None where it shows no ruler."""


@dataclass(frozen=True)
class InspectOptions:
    """`near_distance`: bits in which near duplicates may differ, see `duplicates.py`; `chunk`: pictures between two points
    from which an interrupted run goes on; `scale_bars`: look for one in every picture (see `ruler.py`; a third of a second)."""

    near_distance: int = NEAR_DISTANCE
    chunk: int = 1000
    scale_bars: bool = False
    max_bytes: int = MAX_BYTES
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        if not 0 <= self.near_distance <= HASH_BITS // 4 or self.chunk < 1:
            raise BadInput(
                f"near_distance is {self.near_distance} (0 to {HASH_BITS // 4} bits), chunk {self.chunk} (1 or more pictures)"
            )


# ---- what is measured ----


def working_picture(image_HW3: NDArray[np.uint8], size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """The picture with its longest edge at `WORKING_EDGE`; `size`: its true height and width, where it was decoded
    smaller."""
    height, width = _working_shape(*(size or image_HW3.shape[:2]))
    shrinks = height <= image_HW3.shape[0] and width <= image_HW3.shape[1]
    flag = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image_HW3, (width, height), interpolation=flag), dtype=np.uint8)


def _working_shape(height: int, width: int) -> tuple[int, int]:
    ratio = WORKING_EDGE / max(height, width)
    return max(1, round(height * ratio)), max(1, round(width * ratio))


def perceptual_hash(grey_HW: NDArray[np.uint8]) -> bytes:
    """256 bits, one for each of the 16 × 16 lowest frequencies: whether its cosine coefficient lies above their median.

    `imagehash.phash` with hash_size 16 (after N. Krawetz, "Looks Like It", hackerfactor.com, 2011), rows first, the first
    bit the most significant. Re-encoding, resizing and brightening leave it almost as it is; mirroring and turning don't.
    Chosen over the other hashes of that library and over 64 bits by `benchmarks/near_duplicates.py`.
    """
    return np.packbits(imagehash.phash(Image.fromarray(grey_HW), hash_size=16).hash).tobytes()


def sharpness(grey_HW: NDArray[np.uint8]) -> float:
    """Variance of the Laplacian of the grey levels, in squared levels of 0 to 255 (Pech-Pacheco et al., "Diatom autofocusing
    in brightfield microscopy", ICPR 2000). A blurred picture has little; so has a sharp one of a plain thing.

    >>> sharpness(np.full((9, 9), 7, np.uint8))
    0.0
    """
    return float(cv2.meanStdDev(cv2.Laplacian(grey_HW, cv2.CV_32F))[1].item() ** 2)


def exposure(grey_HW: NDArray[np.uint8]) -> dict[str, float]:
    """`dark` and `bright`: shares of pixels at or below level 5, at or above 250 of 255, which hold no detail any more (JPEG
    moves clipped levels a little, hence not 0 and 255). `brightness`: mean level, as share of 255. Levels are luma, ITU-R
    BT.601.

    >>> exposure(np.array([[0, 255, 255, 0]], np.uint8))
    {'dark': 0.5, 'bright': 0.5, 'brightness': 0.5}
    """
    levels = np.bincount(grey_HW.ravel(), minlength=256) / grey_HW.size
    mean = float(levels @ np.arange(256)) / 255
    return {"dark": float(levels[: _DARK + 1].sum()), "bright": float(levels[_BRIGHT:].sum()), "brightness": mean}


def colour(image_HW3: NDArray[np.uint8]) -> dict[str, float]:
    """`colour_cast`: distance of the mean colour from grey in CIELAB's a*b* plane; `colour_spread`: how far the colours lie
    from that mean (root of the summed variances), in the same units, some 2.3 of which are just noticeable.

    A cast moves all colours the same way: far from grey AND little spread (Gasparini and Schettini, "Color balancing of
    digital photos using simple image statistics", Pattern Recognition 37, 2004, whose D_σ is (cast − spread) / spread).
    """
    mean_3, deviation_3 = cv2.meanStdDev(cv2.cvtColor(image_HW3, cv2.COLOR_RGB2LAB))
    cast, spread = np.hypot(*(mean_3[1:, 0] - 128)), np.hypot(*deviation_3[1:, 0])  # 8 bits hold a* and b* plus 128
    return {"colour_cast": float(cast), "colour_spread": float(spread)}


def look(source: bytes | str, options: InspectOptions | None = None, scale: Scale | None = None) -> dict[str, Any]:
    """All facts of one picture but its image_id, as `SCHEMA` names them; never raises for a bad one.

    `scale` sees the whole picture, which then can't be decoded at a fraction of its size: slower.
    """
    options = options or InspectOptions()
    row: dict[str, Any] = {}
    try:
        data, name = read_picture(source, max_bytes=options.max_bytes)
        row["sha256"] = hashlib.sha256(data).hexdigest()
        size = jpeg_size(data)
        edge = min(_working_shape(*size)) if size and not scale else None
        image = decode(data, name=name, max_bytes=options.max_bytes, max_pixels=options.max_pixels, target_edge=edge)
    except BadImage as error:
        return row | {"failure": str(error).removeprefix(f"{source!s}: " if isinstance(source, str) else "")}
    height, width = size or image.shape[:2]
    small = working_picture(image, (height, width))
    grey = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    row |= {"width": width, "height": height, "perceptual_hash": perceptual_hash(grey), "sharpness": sharpness(grey)}
    return row | exposure(grey) | colour(small) | {"pixels_per_mm": scale(image) if scale else None}


# ---- the artifact ----


def inspect(
    records_folder: Path | str,
    out: Path | str,
    options: InspectOptions | None = None,
    *,
    pictures: Path | str | None = None,
    scale: Scale | None = None,
    workers: int | None = None,
) -> Manifest:
    """Make the artifact "inspection" of the artifact "records": inspection.parquet, one row a picture in the records' order,
    and duplicates.parquet (see `duplicates.duplicates_of`). `workers` threads, by default as many as there are cores.

    `pictures`: the artifact of that name, whose files count before the records' own paths. An interrupted run goes on with
    the next chunk. Raises MissingArtifact or BadRecords for what isn't such an artifact.
    """
    records_folder, out, options = Path(records_folder), Path(out), options or InspectOptions()
    inputs = {"records": hash_of(records_folder)}
    fetched = None
    if pictures is not None:
        fetched, inputs["pictures"] = fetched_paths(pictures), hash_of(pictures)
    scale = scale or (pixels_per_mm if options.scale_bars else None)
    named = {"scale": None if scale is None else f"{scale.__module__}.{scale.__qualname__}"}
    plan = Plan("inspection", inputs, asdict(options) | named | {"working_edge": WORKING_EDGE})
    records = Observations.read(records_folder)
    if start(out, plan) == "finished":
        return read_manifest(out, "inspection")
    places = places_of(records, fetched)
    _write_missing_chunks(out, places, options, scale, workers or default_workers())
    chunks = [pq.read_table(_chunk_file(out, first)) for first in range(0, places.num_rows, options.chunk)]
    found = pa.concat_tables(chunks) if chunks else SCHEMA.empty_table()
    write_parquet(out / "inspection.parquet", found)
    with working("looking for duplicates"):
        duplicates = duplicates_of(found, options.near_distance)
    write_parquet(out / "duplicates.parquet", duplicates)
    manifest = finish(out, plan, counts=_counts(found, duplicates))
    rmtree(out / "chunks", ignore_errors=True)  # all that is in them is in the table
    return manifest


def read_inspection(folder: Path | str) -> pa.Table:
    """inspection.parquet of a finished artifact; raises MissingArtifact or BadRecords."""
    read_manifest(folder, "inspection")
    return _read_checked(Path(folder) / "inspection.parquet", SCHEMA.names).cast(SCHEMA)


def read_duplicates(folder: Path | str) -> pa.Table:
    """duplicates.parquet, likewise: image_id, exact_group and near_group of pictures that have a duplicate."""
    read_manifest(folder, "inspection")
    return _read_checked(Path(folder) / "duplicates.parquet", ["image_id", "exact_group", "near_group"])


def read_near_groups(folder: Path | str) -> pa.Table:
    """image_id and group of pictures that no split may part, as `splits.assign` takes them."""
    near = read_duplicates(folder).select(["image_id", "near_group"]).rename_columns(["image_id", "group"])
    return near.filter(pc.is_valid(near["group"]))


def read_judged(folder: Path | str) -> pa.Table:
    """The inspection with exact_group and near_group, as `selection.select` takes it."""
    table, duplicates = read_inspection(folder), read_duplicates(folder)
    row_N = pc.index_in(table["image_id"], duplicates["image_id"].combine_chunks())
    for name in ("exact_group", "near_group"):
        table = table.append_column(name, duplicates[name].take(row_N))
    return table


def _read_checked(file: Path, columns: list[str]) -> pa.Table:
    if not file.is_file():
        raise MissingArtifact(f"{file}: no such file; inspect the pictures again")
    if missing := [name for name in columns if name not in pq.read_schema(file).names]:
        raise BadRecords(f"{file}: lacks the columns {', '.join(missing)}; inspect the pictures again")
    return pq.read_table(file, columns=columns)


def places_of(records: Observations, fetched: pa.Table | None) -> pa.Table:
    """image_id, path and the expected sha256 (null: not known) of each record's picture, in the records' order.

    `fetched`: see `fetched_paths`.
    """
    if fetched is None:
        return records.table.select(["image_id", "path"]).append_column("sha256", pa.nulls(len(records), pa.string()))
    places = records.with_paths(fetched).table.select(["image_id", "path"])
    row_N = pc.index_in(places["image_id"], fetched["image_id"].combine_chunks())
    return places.append_column("sha256", fetched["sha256"].cast(pa.string()).take(row_N))


def _chunk_file(out: Path, first: int) -> Path:
    return out / "chunks" / f"{first:010}.parquet"


def _write_missing_chunks(out: Path, places: pa.Table, options: InspectOptions, scale: Scale | None, workers: int) -> None:
    firsts = range(0, places.num_rows, options.chunk)
    missing = [first for first in firsts if not _chunk_file(out, first).is_file()]
    done = places.num_rows - sum(min(options.chunk, places.num_rows - first) for first in missing)
    for leftover in (out / "chunks").glob(".*.partial"):
        leftover.unlink()  # of a run that was killed while it wrote
    pool = ThreadPoolExecutor(workers)
    try:
        progress = track(_looks(pool, places, missing, options, scale), "looking at pictures", total=places.num_rows, done=done)
        for first in missing:
            rows = [next(progress) for _ in range(min(options.chunk, places.num_rows - first))]
            write_parquet(_chunk_file(out, first), pa.Table.from_pylist(rows, schema=SCHEMA))
        next(progress, None)  # lets the display end
    finally:
        pool.shutdown(cancel_futures=True)


def _looks(
    pool: ThreadPoolExecutor, places: pa.Table, firsts: list[int], options: InspectOptions, scale: Scale | None
) -> Iterator[dict[str, Any]]:
    def one(place: Mapping[str, Any]) -> dict[str, Any]:
        if place["path"] is None:
            row = {"failure": "only an address is known, no local file; fetch the picture first"}
        else:
            row = look(place["path"], options, scale)
        if place["sha256"] and row.get("sha256", place["sha256"]) != place["sha256"]:
            row = {"sha256": row["sha256"], "failure": "its bytes aren't those that were fetched; fetch it again"}
        return {"image_id": place["image_id"], **row}

    for first in firsts:
        yield from pool.map(one, places.slice(first, options.chunk).to_pylist())


def _counts(found: pa.Table, duplicates: pa.Table) -> dict[str, int]:
    counts = {"images": len(found), "failures": len(found) - found["failure"].null_count}
    counts["with_scale"] = len(found) - found["pixels_per_mm"].null_count
    for kind in ("exact", "near"):
        group = duplicates[f"{kind}_group"].drop_null()
        counts |= {f"{kind}_groups": pc.count_distinct(group).as_py(), f"in_{kind}_groups": len(group)}
    return counts
