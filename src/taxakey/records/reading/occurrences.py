"""An archive of occurrences -> Observations: occurrences joined with their pictures, one row a picture. N rows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taxakey.records.reading.archives import Archive, open_archive, open_snapshot
from taxakey.records.reading.checking import TOO_LONG, first_of, observations, whole
from taxakey.records.reading.delimited import plain
from taxakey.records.reading.distinct import by_distinct
from taxakey.records.reading.names import name_rows
from taxakey.records.reading.pictures import ids_by_stem, locate_all
from taxakey.records.table import Observations

UNBALANCED = "quotation mark that nothing closes, in the header of a table"

_MEDIA_CHOICES = {
    "identifier": ("media accessURI", "media bestQualityAccessURI", "media identifier", "media goodQualityAccessURI"),
    "organ": ("media organ", "media subjectPart", "organ"),
    "license": ("media license", "license"),
    "rightsHolder": ("media rightsHolder", "rightsHolder"),
    "creator": ("media creator",),
}
"""What is said of the picture goes before what is said of the occurrence. An Audubon identifier may be no address."""


def read_archive(path: Path | str) -> Observations:
    """Read a Darwin Core Archive: occurrences with the extension Simple Multimedia (or Image, or Audubon Core).

    A zip, a gzipped tar file, a folder, or a table of occurrences with one of pictures beside it. Where an archive has no table
    of pictures, the addresses in associatedMedia are taken. The image_id is the file's name without suffix where these differ
    throughout, else "{occurrenceID}_{number}". `dynamicProperties` may hold JSON with the truth value "poisonous". Raises
    BadRecords where it isn't an archive of occurrences.
    """
    return of_archive(open_archive(Path(path)))


def read_snapshot(path: Path | str) -> Observations:
    """Read a GBIF snapshot: occurrences in Parquet, with pictures only where a table of them lies beside."""
    return of_archive(open_snapshot(Path(path)))


def of_archive(archive: Archive) -> Observations:
    """Join and check what was read; its tables are let go on the way, because each may fill a good part of the memory."""
    folder, too_long, unbalanced = archive.folder, archive.too_long, archive.unbalanced
    core, media = _columns(archive.core), _columns(archive.media if archive.media is not None else _associated(archive.core))
    del archive
    columns, reasons = _join(core, media)
    rows = len(reasons)
    pa.default_memory_pool().release_unused()
    columns["occurrenceID"] = first_of(columns, "occurrenceID", "gbifID", "id")
    columns["taxonID"] = first_of(columns, "speciesKey", "taxonID", "taxonKey", "nothing")
    if "poisonous" not in columns and "dynamicProperties" in columns:
        columns["poisonous"] = by_distinct(_poisonous, columns["dynamicProperties"])
    if "geoPoint" in columns:
        _take_point_apart(columns)
    unnamed = name_rows(columns, rows)
    columns["path"], misplaced = locate_all(columns["identifier"], [folder], confined=True)
    columns["image_id"] = ids_by_stem(columns["identifier"], columns["occurrenceID"])
    reason = pc.coalesce(reasons, misplaced, unnamed)
    found = observations(columns, reason, columns["identifier"]).add_rejected(TOO_LONG, too_long)
    if not unbalanced:
        return found
    return replace(found, repaired={**found.repaired, UNBALANCED: unbalanced})


def _columns(table: pa.Table) -> Table:
    return dict(zip(table.column_names, table.columns, strict=True))


def _associated(core: pa.Table) -> pa.Table:
    """A table of pictures from associatedMedia, a list of addresses with bars (or spaces, commas, semicolons) between them."""
    if "associatedMedia" not in core.column_names:
        return pa.table({"id": pa.array([], pa.string()), "identifier": pa.array([], pa.string())})
    given = pa.table({"id": plain(core["id"]), "listed": plain(core["associatedMedia"])}).drop_null().combine_chunks()
    lists = pc.split_pattern(pc.replace_substring_regex(given["listed"], r"[\s|;,]*(https?://)", r"|\1"), "|").combine_chunks()
    pictures = pa.table({"id": given["id"].take(pc.list_parent_indices(lists)), "identifier": pc.list_flatten(lists)})
    return pictures.filter(pc.match_substring_regex(pictures["identifier"], "^https?://"))


Table = dict[str, Any]
"""Column -> values; columns are taken out of it one by one, so that hardly more than the result is held at a time."""


def _join(core: Table, media: Table) -> tuple[Table, pa.ChunkedArray]:
    """One row a picture, then one for each occurrence without any; and what is wrong with each row, as far as the join tells."""
    ids, wanted = _key(core), _key(media)
    at = pc.index_in(wanted, ids, skip_nulls=True)
    first = _first(ids)
    unpictured = pc.indices_nonzero(pc.invert(pc.and_(pc.is_in(ids, wanted, skip_nulls=True), first)))
    again = pc.if_else(first.take(unpictured), pa.scalar(None, pa.string()), "occurrence given twice")
    wrong = pc.if_else(pc.is_null(at), "picture of no occurrence", _not_still(media))
    core_rows = pa.concat_arrays([at.cast(pa.int64()), unpictured.cast(pa.int64())])
    media_rows = pa.concat_arrays([pa.array(np.arange(len(wanted))), pa.nulls(len(unpictured), pa.int64())])
    rows = {f"media {name}": _taken(media, name, media_rows) for name in [*media] if name != "id"}
    rows |= {name: _taken(core, name, core_rows) for name in [*core]}
    return _with_media_columns(rows, len(core_rows)), pa.chunked_array([whole(wrong), whole(again)])


def _taken(table: Table, name: str, rows: pa.Array) -> pa.ChunkedArray:
    column = table.pop(name)
    column = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    return pa.chunked_array([column.take(rows)])


def _key(table: Table) -> pa.Array:
    return whole(table["id"])


def _first(ids: pa.Array) -> pa.Array:
    """True [N] for the first row of its id; rows without one stay."""
    if pc.count_distinct(ids).as_py() == len(ids) - ids.null_count:
        return pa.repeat(True, len(ids))
    return pc.or_(pc.is_null(ids), pc.equal(pc.index_in(ids, ids), pa.array(np.arange(len(ids), dtype=np.int32))))


def _with_media_columns(found: Table, rows: int) -> Table:
    found["nothing"] = pa.chunked_array([pa.nulls(rows, pa.string())])
    chosen = {name: first_of(found, *names, "nothing") for name, names in _MEDIA_CHOICES.items()}
    return {name: column for name, column in found.items() if not name.startswith("media ")} | chosen


def _not_still(media: Table) -> pa.Array:
    kinds = [media[name] for name in ("type", "format") if name in media]
    return whole(by_distinct(_complaint, *kinds)) if kinds else pa.nulls(len(media["id"]), pa.string())


def _complaint(kind: str | None, form: str | None = None) -> str | None:
    """Whether a picture's type, or where it has none its format, is of another medium than a photograph or a scan."""
    text = (kind or form or "image").lower().replace(" ", "")
    still = ("image" in text or "photo" in text) and "moving" not in text
    return None if still else "not a still image"


def _poisonous(text: str | None) -> str | None:
    try:
        properties = json.loads(text) if text else None
    except ValueError:  # free text is allowed there
        return None
    value = properties.get("poisonous") if isinstance(properties, dict) else None
    return None if value is None else str(value)


def _take_point_apart(columns: dict[str, pa.ChunkedArray]) -> None:
    """Latitude and longitude from iDigBio's JSON {"lat": …, "lon": …}, where the table has no columns for them."""
    for name, key in (("decimalLatitude", "lat"), ("decimalLongitude", "lon")):
        if name not in columns:
            found = pc.extract_regex(plain(columns["geoPoint"]), rf'"{key}"\s*:\s*(?P<degrees>[-+.\deE]+)')
            columns[name] = pc.struct_field(found, "degrees")
