"""Whether bytes are a picture: by their first few, and by the header that a decoder reads. No pixel is decoded for that."""

from __future__ import annotations

import re
from pathlib import Path

from taxakey.dataset.fetch.outcomes import NotFetched
from taxakey.dataset.preprocess import decode
from taxakey.errors import BadImage

MEDIA_TYPES = {
    "image/jpeg": ("JPEG", ".jpg"),
    "image/png": ("PNG", ".png"),
    "image/webp": ("WEBP", ".webp"),
    "image/tiff": ("TIFF", ".tif"),
    "image/gif": ("GIF", ".gif"),
    "image/bmp": ("BMP", ".bmp"),
    "image/jp2": ("JPEG2000", ".jp2"),
    "image/avif": ("AVIF", ".avif"),
}
"""Media type -> the decoder's name for it, and the suffix of our files."""

_SIGNATURES = {
    "image/jpeg": rb"\xff\xd8\xff",
    "image/png": rb"\x89PNG\r\n\x1a\n",
    "image/webp": rb"RIFF....WEBP",
    "image/tiff": rb"II[*+]\0|MM\0[*+]",
    "image/gif": rb"GIF8[79]a",
    "image/bmp": rb"BM.{12}[\x0c\x28\x38\x40\x6c\x7c]\0\0\0",  # its header's size too: texts may begin with BM
    "image/jp2": rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51",
    "image/avif": rb"....ftypavi[fs]",
}
_COMPILED = {name: re.compile(pattern, re.DOTALL) for name, pattern in _SIGNATURES.items()}

HEAD = 18
"""So many bytes tell which kind of picture it is."""


def media_type_of(head: bytes) -> str | None:
    """The media type that the first bytes show; None where they are of no picture that we read.

    >>> media_type_of(b"GIF89a" + bytes(12)), media_type_of(b"<!DOCTYPE html>...")
    ('image/gif', None)
    """
    return next((name for name, pattern in _COMPILED.items() if pattern.match(head)), None)


def check_picture(file: Path, media_type: str, max_pixels: int, *, whole: bool) -> None:
    """Raise NotFetched unless the decoder finds a picture of that type within `max_pixels`.

    With `whole` the pixels are decoded too, a JPEG's at an eighth of its size: that shows whether it is cut off.
    """
    from PIL import Image

    format, _ = MEDIA_TYPES[media_type]
    try:
        with Image.open(file, formats=(format,)) as picture:
            width, height = picture.size
    except Image.DecompressionBombError as error:
        raise NotFetched("too many pixels", str(error), "never") from None
    except KeyError:
        raise NotFetched("unreadable type", f"this installation of Pillow has no decoder for {media_type}", "never") from None
    except Exception as error:  # hostile bytes make decoders raise anything; one bad picture must never end a run
        raise NotFetched("broken picture", f"starts as {media_type} and isn't one ({_without_name(error)})", "never") from None
    if width * height > max_pixels:
        raise NotFetched("too many pixels", f"{width} × {height}, over the limit of {max_pixels / 1e6:,.0f} million", "never")
    if whole:
        try:
            decode(file, name="the picture", max_bytes=file.stat().st_size, max_pixels=max_pixels, target_edge=64)
        except BadImage as error:
            raise NotFetched("cut off", f"the answer had no length, and {error}", "soon", trouble=True) from None


def _without_name(error: Exception) -> str:
    """What a decoder says, without the name of our temporary file: failures of two runs read the same."""
    return re.sub(r"'[^']*\.partial'", "it", str(error)) or type(error).__name__
