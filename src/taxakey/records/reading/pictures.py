"""Where a record's picture lies, and what the picture is called. Columns are strings [N] or dictionaries of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taxakey.records.reading.delimited import plain
from taxakey.records.reading.distinct import blocks

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".jp2", ".avif")

_PLAIN_PATH = r"^[^/\x00:]+(?:/[^/\x00:]+)*$"
_DOTS = r"(?:^|/)\.\.?(?:/|$)"


class Place(NamedTuple):
    """A picture's absolute path, or None with the reason why it can't be used; both None: only an address is known."""

    path: str | None
    reason: str | None = None


def locate(identifier: str | None, folders: Sequence[Path], *, confined: bool) -> Place:
    """Resolve what a record says of its picture.

    Absolute paths and file: URLs are taken as they are. A relative path is tried from each of the absolute `folders`, and
    stays with the first where nothing is found; `confined`: it may not lead out of that.
    """
    if not identifier:
        return Place(None)
    if "\0" in identifier:
        return Place(None, "broken path")
    if identifier.startswith("file:"):
        parts = urlsplit(identifier)
        here = parts.netloc in ("", "localhost") and os.path.isabs(parts.path)
        return Place(os.path.normpath(unquote(parts.path))) if here else Place(None, "file on another machine")
    if "://" in identifier:
        return Place(None)
    if os.path.isabs(identifier):
        return Place(os.path.normpath(identifier))
    tried = [os.path.normpath(folder / identifier) for folder in folders]
    if confined and not tried[0].startswith(os.path.join(str(folders[0]), "")):
        return Place(None, "path leaves the archive's folder")
    found = (path for path in tried if os.path.exists(path))
    return Place(tried[0] if len(tried) == 1 else next(found, tried[0]))


def locate_all(
    identifiers: pa.ChunkedArray, folders: Sequence[Path], *, confined: bool
) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Paths and reasons [N] as `locate` gives them; addresses and simple paths from one folder cost no call of it."""
    paths, reasons = [], []
    for (block,) in blocks(identifiers):
        block = plain(block)
        simple = pa.repeat(False, len(block))
        if len(folders) == 1:
            simple = pc.and_not(pc.match_substring_regex(block, _PLAIN_PATH), pc.match_substring_regex(block, _DOTS))
        path = pc.if_else(simple, pc.binary_join_element_wise(str(folders[0]), block, "/"), None)
        address = pc.and_not(pc.match_substring(block, "://"), pc.starts_with(block, "file:"))
        rows = pc.indices_nonzero(pc.invert(pc.fill_null(pc.or_(address, simple), True)))
        places = [locate(text, folders, confined=confined) for text in block.take(rows).to_pylist()]
        paths.append(_put(path, rows, [place.path for place in places]))
        reasons.append(_put(pa.nulls(len(block), pa.string()), rows, [place.reason for place in places]))
    return pa.chunked_array(paths, pa.string()), pa.chunked_array(reasons, pa.string())


def _put(column: pa.Array, rows: pa.Array, values: Sequence[str | None]) -> pa.Array:
    if not len(rows):
        return column
    chosen = np.zeros(len(column), bool)
    chosen[rows.to_numpy()] = True
    return pc.replace_with_mask(column, pa.array(chosen), pa.array(values, pa.string()))


# ---- what a picture is called ----


def ids_by_stem(identifiers: pa.ChunkedArray, observations: pa.ChunkedArray) -> pa.ChunkedArray:
    """image_id [N] of the pictures of an archive: the file's name without suffix where these differ throughout.

    Else "{observation}_{number}", the observation's id cut down to what stands behind its last slash where that tells them apart.
    """
    stems = _stems_that_differ(identifiers)
    if stems is not None:
        return stems
    encoded = plain(observations).combine_chunks().dictionary_encode()
    ids = encoded.dictionary
    short = pc.replace_substring_regex(pc.replace_substring_regex(ids, "/+$", ""), "(?s)^.*/", "")
    if pc.count_distinct(short).as_py() == len(ids):
        ids = short
    named = pc.and_(identifiers.is_valid().combine_chunks(), encoded.is_valid())
    codes_N = np.where(named.to_numpy(zero_copy_only=False), pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False), -1)
    joined = pc.binary_join_element_wise(ids.take(encoded.indices), pa.array(_numbers(codes_N)).cast(pa.string()), "_")
    return pa.chunked_array([pc.if_else(named, joined, None)])


def _numbers(codes_N: np.ndarray) -> np.ndarray:
    """Each row's number among those of the same code, from 1, in the order of rows."""
    order_N = np.argsort(codes_N, kind="stable")
    sorted_N = codes_N[order_N]
    begins_N = np.flatnonzero(np.r_[True, sorted_N[1:] != sorted_N[:-1]]) if len(sorted_N) else np.zeros(0, np.int64)
    lengths = np.diff(np.r_[begins_N, len(sorted_N)])
    numbers_N = np.empty(len(codes_N), np.int64)
    numbers_N[order_N] = np.arange(len(codes_N)) - np.repeat(begins_N, lengths) + 1
    return numbers_N


def _stems_that_differ(identifiers: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Last part of each path or address without its suffix [N]; None as soon as two of them are the same."""
    stems = []
    for (block,) in blocks(identifiers):
        stems.append(_stem_block(plain(block)))
        if not _differ(stems[-1]):
            return None
    whole = pa.chunked_array(stems, pa.string())
    return whole if _differ(whole) else None


def _differ(values: pa.Array | pa.ChunkedArray) -> bool:
    return bool(pc.count_distinct(values).as_py() == len(values) - values.null_count)


def _stem_block(text: pa.Array) -> pa.Array:
    address = pc.match_substring(text, "://")
    text = pc.if_else(address, pc.replace_substring_regex(text, "(?s)[?#].*$", ""), text)
    escaped = pc.indices_nonzero(pc.fill_null(pc.and_(address, pc.match_substring(text, "%")), False))
    text = _put(text, escaped, [unquote(value) for value in text.take(escaped).to_pylist()])
    last = pc.replace_substring_regex(pc.replace_substring_regex(text, "/+$", ""), "(?s)^.*/", "")
    stem = pc.replace_substring_regex(last, r"(?s)^(.+)\.[^.]*$", r"\1")
    return pc.if_else(pc.equal(stem, ""), None, stem)


def ids_by_path(paths: pa.ChunkedArray) -> pa.ChunkedArray:
    """image_id [N] of pictures in folders: relative paths without suffix where these still differ, else with it."""
    stems = pc.replace_substring_regex(paths, r"(?s)^((?:.*/)?[^/]+)\.[^./]+$", r"\1")
    return stems if pc.count_distinct(stems).as_py() == pc.count_distinct(paths).as_py() else paths


def ids_of_table(given: pa.ChunkedArray | None, paths: pa.ChunkedArray) -> pa.ChunkedArray:
    """image_id [N] of the rows of a table: those given, if there is one for each and all differ, else from the path.

    Where a path itself stands twice, the ids stay as given, so that the second row is found and rejected.
    """
    if given is not None:
        repeated = pc.count_distinct(paths).as_py() < len(paths) - paths.null_count
        if repeated or (not given.null_count and pc.count_distinct(given).as_py() == len(given)):
            return given
    return ids_by_path(paths)
