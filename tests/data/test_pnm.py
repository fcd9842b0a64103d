"""PNM in text form and of unusual depth is what Pillow reads."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import PpmImagePlugin

from opsin.core.errors import ImageError
from opsin.data.images import open_image


def by_pillow(content: bytes) -> bytes:
    """Return what Pillow's own decoders read; this process uses those."""
    image = PpmImagePlugin.PpmImageFile(io.BytesIO(content))
    image.load()
    return (image.convert("RGB") if image.mode == "RGB" else image.convert("L")).tobytes()


@pytest.mark.parametrize("kind", [b"P5", b"P6"])
@pytest.mark.parametrize("white", [1, 7, 100, 255])
def test_the_pixels_are_pillows(kind: bytes, white: int) -> None:
    rng = np.random.default_rng(white)
    numbers = rng.integers(0, white + 1, 7 * 5 * (3 if kind == b"P6" else 1))
    head = kind + b"\n# a comment\n7 5\n%d\n" % white
    body = numbers.astype(np.uint8).tobytes()
    assert open_image(head + body).tobytes() == by_pillow(head + body)


@pytest.mark.parametrize("kind", [b"P2", b"P5"])
def test_deep_numbers_are_scaled_by_white(kind: bytes) -> None:
    numbers = np.array([0, 1000, 4095], ">u2")
    text = b"0 1000 4095" if kind == b"P2" else numbers.tobytes()
    read = np.asarray(open_image(kind + b" 3 1 4095\n" + text))
    assert read.tolist() == [[0, 62, 255]]


@pytest.mark.parametrize(
    "body", [b"1 2", b"1 2 x 4", b"1 2 3 300", b"1 2 -3 4", b"1 2 3 99999999999"]
)
def test_damaged_text_is_refused(body: bytes) -> None:
    with pytest.raises(ImageError, match="damaged"):
        open_image(b"P2 2 2 255\n" + body)
