"""Builds a dataset: every picture of the records is decoded, checked, made no larger than needed and put into a Parquet shard.

A shard depends on nothing but the records, the options and its pictures, so an interrupted build goes on with the shards that are
missing and ends with the same bytes. A picture that can't be used is a row of failures.parquet.

`process_shard` does for a table of records what `build` does for all of them, and for each row by itself: plain Python, a pool of
processes and Spark's mapInArrow get the same from it, however they cut the rows.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import md5, sha256
from itertools import chain
from math import ceil
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any, Literal

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import simplejpeg
from numpy.typing import NDArray

from taxakey.artifacts import Manifest, Plan, finish, hash_of, read_manifest, start, write_parquet
from taxakey.dataset.located import fetched_paths
from taxakey.dataset.masking import MaskOptions, TextMasker, check_installed, may_be_sheet, text_masker
from taxakey.dataset.partial import PARTIAL, partial_counts, usable_rows
from taxakey.dataset.preprocess import MAX_BYTES, MAX_PIXELS, decode, jpeg_orientation, jpeg_size, read_picture
from taxakey.dataset.shards import FAILURES, SCHEMA, Picture, failures_of, prepared_rows, shards_of, write_shard
from taxakey.dataset.spark_shards import write_shards_on_spark
from taxakey.errors import BadImage, BadInput, BadRecords
from taxakey.progress import track
from taxakey.records.table import Observations
from taxakey.taxonomy import HIGHER_RANKS, Taxonomy

__all__ = [
    "FAILURES", "PARTS", "SCHEMA", "BuildOptions", "Picture", "build", "classes_of", "default_workers", "plan_shards", "prepare",
    "process_shard", "shards_of",
]  # fmt: skip

PARTS = ("train", "validation", "test")
_KEPT_COLOURS = ("YCbCr", "RGB", "Gray")


@dataclass(frozen=True)
class BuildOptions:
    """Sizes in pixels; `quality` of JPEG, 1 to 100; a picture with an edge below `min_edge` is refused.

    `mask`: make the text on herbarium sheets unreadable (extra `mask`); None leaves pictures as they are. `partial`: keep
    pictures that are known to genus or family only, in a part of their own that a marginal loss can train with.
    """

    longest_edge: int = 512
    quality: int = 90
    rows_per_shard: int = 1000
    min_edge: int = 8
    max_bytes: int = MAX_BYTES
    max_pixels: int = MAX_PIXELS
    mask: MaskOptions | None = None
    partial: bool = False

    def __post_init__(self) -> None:
        if self.longest_edge < self.min_edge or self.min_edge < 1:
            raise BadInput(
                f"longest_edge is {self.longest_edge} and min_edge {self.min_edge}; 1 ≤ min_edge ≤ longest_edge is needed"
            )
        if not 1 <= self.quality <= 100 or self.rows_per_shard < 1:
            raise BadInput(f"quality is {self.quality} (1 to 100) and rows_per_shard {self.rows_per_shard} (1 or more)")


def build(
    records_folder: Path | str,
    out: Path | str,
    options: BuildOptions | None = None,
    *,
    pictures: Path | str | None = None,
    engine: Literal["local", "spark"] = "local",
    workers: int | None = None,
) -> Manifest:
    """Make the artifact "dataset" in `out` from the artifact "records", with `workers` threads (default: the cores at hand).

    `pictures`: the artifact of that name, whose files count before the records' own paths. With `options.mask` the workers are
    processes, each with a detector of its own. `engine`: spark has workers of its own (see `spark_shards.py`) and gives the same
    bytes. Raises BadRecords when the records have no split, or not one training picture can
    be used, and MissingExtra when masking is asked for and its packages aren't there.
    """
    records_folder, out, options = Path(records_folder), Path(out), options or BuildOptions()
    if options.mask is not None:
        check_installed()
    records, inputs = Observations.read(records_folder), {"records": hash_of(records_folder)}
    if without := records.table["split"].null_count:
        raise BadRecords(f"{records_folder}: {without:,} pictures have no split; write the records again with `taxakey records`")
    if pictures is not None:
        records, inputs["pictures"] = records.with_paths(fetched_paths(pictures)), hash_of(pictures)
    plan = Plan("dataset", inputs, asdict(options))
    if start(out, plan) == "finished":
        return read_manifest(out, "dataset")
    shards = plan_shards(records.table, options.rows_per_shard)
    if options.partial:
        shards |= _cut(usable_rows(records), PARTIAL, options.rows_per_shard)
    missing = _missing(out, shards)
    if engine == "spark":
        write_shards_on_spark(out / "data", missing, partial(process_shard, options=options))
    else:
        total = sum(rows.num_rows for rows in shards.values())
        _write_shards(out, missing, options, workers or default_workers(), total)
    failures = _collect_failures(out)
    write_parquet(out / "failures.parquet", failures)
    rows = {part: _read_names(out, part) for part in PARTS}
    if not len(rows["train"]):
        raise BadRecords(f"{records_folder}: not one training picture can be used; {out / 'failures.parquet'} says why")
    taxonomy, notes = classes_of(rows["train"].drop_columns("masked"))
    write_parquet(out / "taxonomy.parquet", taxonomy.table)
    untrained = set(chain(*(table["scientificName"].to_pylist() for table in rows.values()))) - set(taxonomy.names)
    counts = {part: len(table) for part, table in rows.items()}
    counts |= {"failures": len(failures), "classes": len(taxonomy), "untrained_species": len(untrained)}
    if options.partial:
        counts |= partial_counts(records, _read_names(out, PARTIAL), taxonomy)
    if options.mask is not None:
        counts["masked"] = sum(pc.sum(table["masked"]).as_py() or 0 for table in rows.values())
    return finish(out, plan, counts=counts, taxonomy=taxonomy.fingerprint, notes=notes)


def default_workers() -> int:
    """The cores that this process may use: decoding, resizing and encoding all run outside Python's lock."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# ---- which row goes into which shard ----


def plan_shards(records: pa.Table, rows_per_shard: int) -> dict[str, pa.Table]:
    """File name of each shard -> its rows. At least one shard a part, so that an empty part can be opened too.

    Rows stand in the order of a hash of their observation: pictures of one observation lie together, classes are mixed.
    """
    digests = pa.array([md5(name.encode(), usedforsecurity=False).hexdigest() for name in records["occurrenceID"].to_pylist()])
    ordered = records.append_column("_digest", digests).sort_by([("_digest", "ascending"), ("image_id", "ascending")])
    ordered = ordered.drop_columns(["_digest"])
    shards: dict[str, pa.Table] = {}
    for part in PARTS:
        shards |= _cut(ordered.filter(pc.equal(ordered["split"], part)), part, rows_per_shard)
    return shards


def _cut(rows: pa.Table, part: str, rows_per_shard: int) -> dict[str, pa.Table]:
    number = max(1, ceil(rows.num_rows / rows_per_shard))
    return {
        f"{part}-{shard:05}-of-{number:05}.parquet": rows.slice(shard * rows_per_shard, rows_per_shard) for shard in range(number)
    }


# ---- pictures ----


def prepare(path: str | None, options: BuildOptions, masker: TextMasker | None = None) -> Picture:
    """Read, check and shrink one picture, and let `masker` paint over its text; never raises for a bad one.

    A JPEG that is upright and small enough keeps its bytes (it was decoded all the same, so it is whole), and with them its
    metadata; anything else is encoded anew, its longest edge at most `longest_edge`, shrunk by averaging areas.
    """
    if path is None:
        return Picture(b"", 0, 0, "only an address is known, no local file; fetch it, and name the folder with --pictures")
    try:
        data, name = read_picture(path, max_bytes=options.max_bytes)
        size = jpeg_size(data)
        needed = max(options.longest_edge, masker.options.edge if masker else 0)
        edge = None if size is None else max(1, round(min(size) * needed / max(size)))
        image = decode(data, name=name, max_bytes=options.max_bytes, max_pixels=options.max_pixels, target_edge=edge)
    except BadImage as error:
        return Picture(b"", 0, 0, str(error).removeprefix(f"{path}: "))
    height, width = size or image.shape[:2]
    if min(height, width) < options.min_edge:
        return Picture(b"", 0, 0, f"{width} × {height} pixels, below the least edge of {options.min_edge}")
    ratio = min(1.0, options.longest_edge / max(height, width))
    small = _resized(image, max(1, round(height * ratio)), max(1, round(width * ratio)))
    height, width = small.shape[:2]
    digest = int.from_bytes(sha256(data).digest())
    found = masker(image, small, seed=digest) if masker and digest < masker.options.share * 2**256 else None
    small, boxes = (small, None) if found is None else (found[0], found[1].reshape(-1, 8).tolist())
    if ratio == 1 and not boxes and _may_stay(data):
        return Picture(data, width, height, boxes=boxes)
    encoded = simplejpeg.encode_jpeg(small, quality=options.quality, colorspace="RGB", colorsubsampling="420")
    return Picture(encoded, width, height, boxes=boxes)


def _resized(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _may_stay(data: bytes) -> bool:
    """Whether every reader shows these bytes as we do."""
    try:
        colours = simplejpeg.decode_jpeg_header(data)[2]
    except ValueError:
        return False
    return colours in _KEPT_COLOURS and jpeg_orientation(data) == 1


# ---- shards ----


def process_shard(rows: pa.Table, options: BuildOptions) -> pa.Table:
    """Prepare the pictures of records one after another: a table of `shards.PREPARED`, in the order of `rows`.

    A picture that can't be used has its `reason` and no bytes; `write_shard` makes a file of such a table.
    """
    return prepared_rows(rows, list(map(partial(_prepare_row, options=options), *_inputs(rows))))


def _inputs(rows: pa.Table) -> tuple[list[str | None], list[str | None]]:
    return rows["path"].to_pylist(), rows["basisOfRecord"].to_pylist()


def _prepare_row(path: str | None, basis_of_record: str | None, options: BuildOptions) -> Picture:
    if options.mask is None or not may_be_sheet(basis_of_record):
        return prepare(path, options)
    return prepare(path, options, text_masker(options.mask))


def _missing(out: Path, shards: Mapping[str, pa.Table]) -> dict[str, pa.Table]:
    for leftover in (out / "data").glob(".*.partial"):
        leftover.unlink()  # of a run that was killed while it wrote
    return {name: rows for name, rows in shards.items() if not (out / "data" / name).is_file()}


def _write_shards(out: Path, missing: Mapping[str, pa.Table], options: BuildOptions, workers: int, total: int) -> None:
    """`total`: pictures of all shards, those that are there already too."""
    done = total - sum(rows.num_rows for rows in missing.values())
    pool = _pool(options, workers)
    try:
        progress = track(_prepared(pool, missing, options), "pictures", total=total, done=done)
        for name, rows in missing.items():
            write_shard(out / "data" / name, prepared_rows(rows, [next(progress) for _ in range(rows.num_rows)]))
        next(progress, None)  # lets the display end
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C, nobody wants to wait for the rest of the shard


def _pool(options: BuildOptions, workers: int) -> Executor:
    """Threads, or processes where a detector runs: its Python parts would wait for each other."""
    if options.mask is None:
        return ThreadPoolExecutor(workers)
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_end_with_parent)


def _end_with_parent() -> None:
    """Let a worker end when its parent was killed; left alone, it would wait for work forever."""
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def _prepared(pool: Executor, shards: Mapping[str, pa.Table], options: BuildOptions) -> Iterator[Picture]:
    for rows in shards.values():
        yield from pool.map(partial(_prepare_row, options=options), *_inputs(rows))


def _collect_failures(out: Path) -> pa.Table:
    shards = chain(*(shards_of(out, part) for part in (*PARTS, PARTIAL)))
    return pa.Table.from_pylist(list(chain(*map(failures_of, shards))), schema=FAILURES)


def _read_names(out: Path, part: str) -> pa.Table:
    columns = ["scientificName", "scientificNameAuthorship", "taxonID", *HIGHER_RANKS, "vernacularName", "poisonous", "masked"]
    return pa.concat_tables([pq.read_table(shard, columns=columns).replace_schema_metadata() for shard in shards_of(out, part)])


# ---- classes ----


def classes_of(rows: pa.Table) -> tuple[Taxonomy, tuple[str, ...]]:
    """The species of the training pictures with what most of their records say of each; and notes on what had to give way.

    A tie goes to the value that sorts first. A genus belongs to the family that most of its pictures name.
    """
    columns = [name for name in rows.column_names if name != "scientificName"]
    classes = [{"scientificName": name} for name in sorted(set(rows["scientificName"].to_pylist()))]
    for column in columns:
        values = _majority(rows, "scientificName", column)
        for row in classes:
            row[column] = values.get(row["scientificName"])
    family_of = _majority(pa.table({name: rows[name] for name in ("genus", "family")}), "genus", "family")
    moved = 0
    for row in classes:
        family = family_of.get(row["genus"], row["family"]) if row["genus"] else row["family"]
        moved += bool(row["family"]) and family != row["family"]
        row["family"] = family
    notes = (f"{moved} species were given the family that most pictures of their genus name",) if moved else ()
    return Taxonomy.from_rows(classes), notes


def _majority(rows: pa.Table, key: str, column: str) -> dict[Any, Any]:
    """The most frequent value of `column` for each value of `key`, nulls left out."""
    votes: dict[Any, Counter[Any]] = {}
    pairs = rows.select([key, column]).group_by([key, column]).aggregate([([], "count_all")])
    for owner, value, count in zip(*(pairs[name].to_pylist() for name in (key, column, "count_all")), strict=True):
        if owner is not None and value is not None:
            votes.setdefault(owner, Counter())[value] += count
    return {owner: min(counted, key=lambda value: (-counted[value], str(value))) for owner, counted in votes.items()}
