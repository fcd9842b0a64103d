"""Images inside a page: small, and as few bytes as they need."""

from __future__ import annotations

import base64
import io
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

#: Longest side of an image on a page, in pixels.
SIDE: Final = 96
# Bytes from which a photograph is kept as JPEG, of this quality.
_HEAVY, _QUALITY = 1500, 88


def small(pixels: NDArray[np.uint8], side: int = SIDE) -> NDArray[np.uint8]:
    """Shrink an image to what a page of hundreds can carry; a smaller one stays as it is."""
    height, width, channels = pixels.shape
    if max(height, width) <= side:
        return pixels
    image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
    image.thumbnail((side, side))
    return np.asarray(image, np.uint8).reshape(image.height, image.width, channels)


def image_address(pixels: NDArray[np.uint8]) -> str:
    """Return ``uint8[H, W, C]`` as the address of an embedded image of a page."""
    shrunk = small(pixels)
    image = Image.fromarray(shrunk[:, :, 0] if shrunk.shape[2] == 1 else shrunk)
    # Photographs show themselves by how little a quick PNG saves: the best one takes far longer.
    quick = _encoded(image, "PNG", compress_level=1)
    if len(quick) <= _HEAVY:
        return _address(_encoded(image, "PNG", optimize=True), "png")
    photograph = _encoded(image, "JPEG", quality=_QUALITY, subsampling=0, optimize=True)
    if 2 * len(photograph) < len(quick):
        return _address(photograph, "jpeg")
    drawing = _encoded(image, "PNG", optimize=True)
    if len(drawing) <= max(_HEAVY, len(photograph)):
        return _address(drawing, "png")
    return _address(photograph, "jpeg")


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def _address(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
