"""A JPEG without what others wrote into it: EXIF, XMP, IPTC, comments. The picture itself is not decoded."""

from __future__ import annotations

import re

from taxakey.errors import BadImage

_KEPT = (0xE0, 0xEE)  # JFIF, and Adobe's mark of how colours are stored
_COLOUR_PROFILE = b"ICC_PROFILE\0"
_APPLICATION = range(0xE0, 0xF0)
_COMMENT, _SCAN, _END = 0xFE, 0xDA, 0xD9
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""Ends the coded pixels of a scan: in them FF is followed by 00 or a restart."""


def without_metadata(data: bytes) -> bytes:
    """The same JPEG, its pixels and its colour profile untouched; what follows its end is left out too.

    Raises BadImage where the segments can't be followed.
    """
    if data[:2] != b"\xff\xd8":
        raise BadImage(f"a picture of {len(data):,} bytes is no JPEG; build the dataset again")
    kept, place = [data[:2]], 2
    while True:
        marker, end = _segment(data, place)
        if _stays(marker, data[place : place + 20]):
            kept.append(data[place:end])
        if marker == _END:
            return b"".join(kept)
        if marker == _SCAN:
            found = _MARKER.search(data, end)
            if found is None:  # its end was cut off, which readers forgive
                return b"".join([*kept, data[end:], bytes([0xFF, _END])])
            kept.append(data[end : found.start()])
            end = found.start()
        place = end


def _segment(data: bytes, place: int) -> tuple[int, int]:
    """Marker and end of the segment at `place`."""
    while data[place : place + 2] == b"\xff\xff":  # fill bytes before a marker are allowed
        place += 1
    if data[place : place + 2] == bytes([0xFF, _END]):
        return _END, place + 2
    if len(data) < place + 4 or data[place] != 0xFF:
        raise BadImage(f"a JPEG of {len(data):,} bytes is broken at byte {place:,}; build the dataset again")
    return data[place + 1], place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")


def _stays(marker: int, start: bytes) -> bool:
    if marker not in _APPLICATION:
        return marker != _COMMENT
    return marker in _KEPT or _COLOUR_PROFILE in start
