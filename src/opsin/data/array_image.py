"""An array as an image: taken where it can mean one thing only; else the line that mends it."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from opsin.core.errors import ImageError
from opsin.core.metadata import Bits
from opsin.data.deep_pixels import DEPTHS, brighter_than

_CHANNELS: Final = (1, 3, 4)
_WANTED: Final = "an array [H, W], [H, W, 1], [H, W, 3] or [H, W, 4]"
_NUMBERS: Final = "an array of numbers from 0 (black) to 255 (white)"


def image_from_array(
    array: NDArray[Any], name: str, bits: Bits | None = None
) -> tuple[Image.Image, str | None]:
    """Take an array, or a batch of one, as an image; say what its numbers were taken for."""
    shape = array.shape
    if not array.size:
        raise ImageError(
            _WANTED, f"{name} is empty: {list(shape)}", "Check how it was cut or loaded."
        )
    if array.ndim == 4 and shape[0] == 1:
        array = array[0]
    if array.ndim == 3 and array.shape[0] == 1 and array.shape[2] not in _CHANNELS:
        array = array[0]  # [1, H, W]: a batch of one, or one channel, which is the same
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[2] in _CHANNELS):
        reason, advice = _wrong_axis(array.shape, "a" if array.ndim == len(shape) else "a[0]")
        raise ImageError(_WANTED, f"{name} is {list(array.shape)}: {reason}", advice)
    pixels, note = to_bytes(array, name, bits=bits)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    return Image.fromarray(np.ascontiguousarray(pixels)), note


def to_bytes(
    array: NDArray[Any], name: str, variable: str = "a", *, bits: Bits | None = None
) -> tuple[NDArray[np.uint8], str | None]:
    """Bring an array's numbers to 0 (black) to 255 (white), where they can mean one thing only."""
    if array.dtype == np.uint8:
        return array, None
    kind = array.dtype.kind
    if kind == "b":
        return array * np.uint8(255), "True taken as white, False as black"
    if kind not in "iuf" or not array.size:
        raise ImageError(
            _NUMBERS,
            f"{name} is {array.dtype}{list(array.shape)}",
            "Give its pixels; of a Pillow image: np.asarray(image)",
        )
    if kind == "f" and not np.isfinite(array).all():
        line = f"np.nan_to_num({variable}, posinf=0, neginf=0)"
        raise ImageError(
            _NUMBERS,
            f"{name} also holds NaN or infinity",
            f"Find out why; to make those pixels black: {line}",
        )
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
    raise ImageError(
        "whole numbers from 0 (black) to 255 (white), or fractions from 0 to 1",
        f"{name} is {array.dtype} from {low:.6g} to {high:.6g}",
        _scaled(kind, float(low), float(high), variable),
    )


def _scaled(kind: str, low: float, high: float, a: str) -> str:
    """Say what numbers probably are, and the line that brings them to 0 to 255."""
    depth = next((bits for bits in DEPTHS if high < 2**bits), None) if low >= 0 else None
    if kind != "f" and depth:
        return f"If white is {2**depth - 1}: ({a} >> {depth - 8}).astype('uint8')"
    if kind != "f":
        return f"If what lies outside may be cut off: {a}.clip(0, 255).astype('uint8')"
    if low > -0.5 and high < 2:
        meaning, line = "0 is black and 1 is white", f"255 * {a}.clip(0, 1)"
    elif low >= -1 and high <= 1:
        meaning, line = "-1 is black and 1 is white", f"127.5 * ({a} + 1)"
    elif low > -20 and high < 20:
        meaning, line = "it was standardised", f"(255 * ({a} * std + mean)).clip(0, 255)"
    elif depth and high > 255:
        meaning, line = f"white is {2**depth - 1}", f"{a} * (255 / {2**depth - 1})"
    else:
        meaning, line = "0 is black and 255 is white", f"{a}.clip(0, 255)"
    return f"If {meaning}: ({line}).round().astype('uint8')"


def _wrong_axis(shape: tuple[int, ...], a: str) -> tuple[str, str]:
    if len(shape) == 4:
        first = shape[1] in _CHANNELS and shape[3] not in _CHANNELS
        line = f"list({a}.transpose(0, 2, 3, 1))" if first else f"list({a})"
        also = ", and their channels come first" if first else ""
        received = f"it is a batch of {shape[0]} images{also}"
        return received, f"Several go as a list: classifier.predict({line})"
    if len(shape) == 3 and shape[0] in _CHANNELS:
        return "its channels come first", f"Put them last: {a}.transpose(1, 2, 0)"
    if len(shape) == 3 and shape[2] == 2:
        return "it has 2 channels", f"If the first is grey, the second transparency: {a}[:, :, 0]"
    if len(shape) == 3:
        return (
            f"its last axis is {shape[2]}, which is no number of channels",
            f"If it is a batch of {shape[0]} grey images: classifier.predict(list({a}))",
        )
    if len(shape) == 1:
        side = math.isqrt(shape[0])
        sizes = f"{side}, {side}" if side * side == shape[0] else "height, width"
        return "it has one axis only", f"Give it its height and width: {a}.reshape({sizes})"
    return f"it has {len(shape)} axes", "Give the pixels of one image."


def png_address(pixels: NDArray[np.uint8]) -> str:
    """Return ``uint8[H, W, 1]`` or ``uint8[H, W, 3]`` as the address of an embedded PNG."""
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"


def contact_sheet(images: Sequence[NDArray[np.uint8]], columns: int) -> NDArray[np.uint8]:
    """Lay images of one shape side by side, two white pixels apart."""
    height, width, channels = images[0].shape
    rows = -(-len(images) // columns)
    sheet = np.full((rows * (height + 2) - 2, columns * (width + 2) - 2, channels), 255, np.uint8)
    for place, image in enumerate(images):
        top, left = (place // columns) * (height + 2), (place % columns) * (width + 2)
        sheet[top : top + height, left : left + width] = image
    return sheet
