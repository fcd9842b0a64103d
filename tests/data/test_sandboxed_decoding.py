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
    pixels, read_as = open_apart(content)
    assert read_as == kind
    assert np.array_equal(pixels.squeeze(), np.asarray(open_image(content)))


def test_it_is_turned_upright_and_made_small() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(Image.new("RGB", (400, 100), "red"), "JPEG", exif=exif)
    assert open_apart(content, side=40)[0].shape == (40, 10, 3)
