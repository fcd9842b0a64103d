"""What is decoded where it is wanted, and what in a process of its own."""

from __future__ import annotations

import io
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from opsin.core.errors import ImageError
from opsin.core.metadata import Preparation
from opsin.data import images, plain_headers
from opsin.data.formats import orientation_of

LIKE = Preparation(height=16, width=16, channels=3, resize="fit")


def encoded(kind: str = "JPEG", size: tuple[int, int] = (40, 30), **options: Any) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, kind, **options)
    return stream.getvalue()


def oriented(number: int, **more: Any) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = number
    exif[0x010F] = "A camera"
    for tag, value in more.items():
        exif[int(tag[1:])] = value
    return exif


XMP = b'<rdf:Description tiff:Orientation="6"/>'


@pytest.mark.parametrize(
    "content",
    [
        encoded(), encoded(progressive=True), encoded(exif=oriented(6)),
        encoded(exif=oriented(3), xmp=XMP, comment=b"of a boot", icc_profile=bytes(200_000)),
        encoded("PNG"), encoded("PNG", exif=oriented(8), icc_profile=bytes(3000)),
    ],
)  # fmt: skip
def test_what_cameras_and_editors_write_is_plain(content: bytes) -> None:
    stated = plain_headers.plain(content)
    assert stated is not None
    assert (stated.width, stated.height) == (30, 40)


@pytest.mark.parametrize(
    "content",
    [
        encoded("WEBP"), encoded("GIF"), encoded(xmp=XMP), encoded(exif=oriented(6).tobytes()[:-9]),
        encoded()[:300], encoded("PNG")[:-20], b"\xff\xd8" + b"\xff\xfe\0\2" * 100 + encoded()[2:],
        b"\xff\xd8" + (b"\xff\xe1\0\x0aExif\0\0II" * 2) + encoded()[2:],
    ],
)  # fmt: skip
def test_what_is_unusual_is_not(content: bytes) -> None:
    assert plain_headers.plain(content) is None


@given(damage=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6))
def test_an_orientation_is_that_which_pillow_finds(damage: list[tuple[int, int]]) -> None:
    exif = bytearray(oriented(6, t256=40, t282=72.5, t306="2026").tobytes())
    for place, value in damage:
        exif[6 + place % (len(exif) - 6)] = value
    stated = plain_headers.exif_orientation(bytes(exif[6:]))
    image = Image.new("L", (2, 2))
    image.info["exif"] = bytes(exif)
    if stated is not None:
        assert (stated if 1 <= stated <= 8 else 1) == orientation_of(image)


@given(damage=st.lists(st.tuples(st.integers(0, 900), st.integers(0, 255)), max_size=3))
def test_damaged_files_are_read_the_same_in_either_process(damage: list[tuple[int, int]]) -> None:
    content = bytearray(encoded(exif=oriented(6), quality=30))
    for place, value in damage:
        content[place % len(content)] = value
    here: list[bytes] = []
    apart: list[bytes] = []
    for kept, read in ((here, images.prepare), (apart, partial(images.prepare_here, match=False))):
        try:
            kept.append(read(bytes(content), LIKE, "x").pixels.tobytes())
        except ImageError:
            kept.append(b"refused")
    assert apart in (here, [b"refused"])
