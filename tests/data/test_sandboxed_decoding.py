"""Images opened in a process of their own."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from opsin.data.images import open_image
from opsin.data.sandboxed_decoding import open_apart


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_the_pixels_are_those_that_are_decoded_here(kind: str, mode: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (50, 40, 3), np.uint8)
    content = encoded(Image.fromarray(noise).convert(mode), kind)
    here, apart = open_image(content), open_apart(content)
    assert (apart.format, apart.width, apart.height) == (kind, 40, 50)
    assert np.array_equal(apart.pixels.squeeze(), np.asarray(here))


def test_it_is_turned_upright_and_made_small() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(Image.new("RGB", (400, 100), "red"), "JPEG", exif=exif)
    opened = open_apart(content, side=40)
    assert (opened.width, opened.height, opened.orientation) == (100, 400, 6)
    assert opened.pixels.shape == (40, 10, 3)
