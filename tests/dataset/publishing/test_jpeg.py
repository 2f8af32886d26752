"""Metadata goes, pixels and colour profile stay."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageCms
from small_pictures import noise

from taxakey.dataset.publishing.jpeg import without_metadata
from taxakey.errors import BadImage

SECRET = "Bellis perennis L."


def telling(**how: object) -> bytes:
    """A JPEG that says its name in EXIF, XMP, a comment and behind its end."""
    exif = Image.Exif()
    exif[0x010E] = SECRET
    buffer = io.BytesIO()
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    noise(1, 60, 80).save(
        buffer, "JPEG", exif=exif.tobytes(), icc_profile=profile, comment=SECRET.encode(), xmp=SECRET.encode(), **how
    )
    return buffer.getvalue() + SECRET.encode()


@pytest.mark.parametrize("how", [{}, {"progressive": True}, {"quality": 30, "restart_marker_blocks": 1}])
def test_nothing_is_said_and_nothing_is_seen_differently(how: dict[str, object]) -> None:
    data = telling(**how)
    assert data.count(SECRET.encode()) == 4
    clean = without_metadata(data)
    assert SECRET.encode() not in clean
    with Image.open(io.BytesIO(data)) as before, Image.open(io.BytesIO(clean)) as after:
        assert np.array_equal(np.asarray(before), np.asarray(after))
        assert after.info["icc_profile"] == before.info["icc_profile"]
        assert not after.getexif()
        assert not {"comment", "xmp"} & set(after.info)
    assert without_metadata(clean) == clean
    assert clean[-2:] == b"\xff\xd9"


def test_a_picture_whose_end_is_cut_off_gets_one() -> None:
    buffer = io.BytesIO()
    noise(2, 60, 80).save(buffer, "JPEG")
    assert without_metadata(buffer.getvalue()[:-2]) == buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "words"), [(b"\x89PNG", "no JPEG"), (b"\xff\xd8\xff", "byte 2"), (b"\xff\xd8\xff\xe0\0\x04ab??", "byte 8")]
)
def test_what_is_no_jpeg_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(BadImage, match=words):
        without_metadata(data)
