"""Arrays as images, if unambiguous."""

from __future__ import annotations

import base64
import io
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from opsin.core.errors import ImageError
from opsin.core.metadata import Bits
from opsin.data.deep_pixels import brighter_than

_CHANNELS: Final = (1, 3, 4)


def image_from_array(
    array: NDArray[Any], name: str, bits: Bits | None = None
) -> tuple[Image.Image, str | None]:
    """Convert an array, or a batch of one, to an image; note how its numbers were interpreted."""
    shape = array.shape
    if array.ndim == 4 and shape[0] == 1:
        array = array[0]
    if array.ndim == 3 and array.shape[0] == 1 and array.shape[2] not in _CHANNELS:
        array = array[0]  # [1, H, W]: a batch of one, or one channel, which is the same
    is_image = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in _CHANNELS)
    if not array.size or not is_image:
        raise ImageError(
            f"{name} is an array {list(shape)}; [H, W], [H, W, 1], [H, W, 3] or [H, W, 4] is "
            "expected",
            "Put the channels last; give several images as a list.",
        )
    pixels, note = to_bytes(array, name, bits=bits)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    return Image.fromarray(np.ascontiguousarray(pixels)), note


def to_bytes(
    array: NDArray[Any], name: str, *, bits: Bits | None = None
) -> tuple[NDArray[np.uint8], str | None]:
    """Scale an array to 0 (black) to 255 (white); note how its numbers were interpreted."""
    kind = array.dtype.kind
    if array.dtype == np.uint8:
        return array, None
    if kind == "b":
        return array * np.uint8(255), "True taken as white, False as black"
    numbers = "empty"
    if array.size and kind in "iuf":
        low, high = array.min(), array.max()
        if bits is not None and kind in "iu" and array.dtype.itemsize > 1 and low >= 0:
            white = (1 << bits) - 1
            scaled = (np.minimum(array, white) >> (bits - 8)).astype(np.uint8)
            return scaled, brighter_than(bits) if high > white else None
        if kind == "f" and low >= 0 and high <= 1:
            scaled = (255 * array.astype(np.float64)).round().astype(np.uint8)
            return scaled, "numbers from 0 to 1 taken as black to white"
        if low >= 0 and high <= 255 and (kind != "f" or bool((array == array.round()).all())):
            return array.astype(np.uint8), None
        numbers = f"from {low:.6g} to {high:.6g}"
    raise ImageError(
        f"{name} is {array.dtype}{list(array.shape)}, {numbers}; whole numbers from 0 (black) to "
        "255 (white) or fractions from 0 to 1 are expected",
        "Scale them so that 255 is white.",
    )


def png_address(pixels: NDArray[np.uint8]) -> str:
    """Return ``uint8[H, W, 1]`` or ``uint8[H, W, 3]`` as the data URL of a PNG."""
    content = base64.b64encode(encode_png(pixels, optimize=True)).decode("ascii")
    return f"data:image/png;base64,{content}"


def encode_png(pixels: NDArray[np.uint8], *, optimize: bool = False) -> bytes:
    """Return ``uint8[H, W, 1]`` or ``uint8[H, W, 3]`` as a PNG file."""
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=optimize)
    return stream.getvalue()
