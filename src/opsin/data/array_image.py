"""An array as an image: taken where it can mean one thing only; else the line that mends it."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from opsin.core.errors import ImageError
from opsin.core.metadata import Bits
from opsin.data.deep_pixels import brighter_than

_CHANNELS: Final = (1, 3, 4)
_WANTED: Final = "an array [H, W], [H, W, 1], [H, W, 3] or [H, W, 4]"
# Most bits that cameras and scanners put into a number, and the steps below.
_DEPTHS: Final = (10, 12, 14, 16)


def image_from_array(
    array: NDArray[Any], name: str, bits: Bits | None = None
) -> tuple[Image.Image, str | None]:
    """Take an array as an image."""
    pixels, note = to_bytes(_shaped(array, name), name, bits=bits)
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
            "an array of numbers from 0 (black) to 255 (white)",
            f"{name} is {array.dtype}{list(array.shape)}",
            "Give its pixels; of a Pillow image: np.asarray(image)",
        )
    if kind == "f" and not np.isfinite(array).all():
        raise ImageError(
            "an array of numbers from 0 (black) to 255 (white)",
            f"{name} also holds NaN or infinity",
            f"Find out why; to make those pixels black: "
            f"np.nan_to_num({variable}, posinf=0, neginf=0)",
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
    reason, line = _scaled(kind, float(low), float(high), variable)
    raise ImageError(
        "whole numbers from 0 (black) to 255 (white), or fractions from 0 to 1",
        f"{name} is {array.dtype} from {low:.6g} to {high:.6g}",
        f"{reason}: {line}",
    )


def _scaled(kind: str, low: float, high: float, a: str) -> tuple[str, str]:
    """Say what numbers probably are, and the line that brings them to 0 to 255."""
    depth = next((bits for bits in _DEPTHS if high < 2**bits), None)
    if kind != "f":
        if low >= 0 and depth:
            return f"If white is {2**depth - 1}", f"({a} >> {depth - 8}).astype('uint8')"
        return "If what lies outside may be cut off", f"{a}.clip(0, 255).astype('uint8')"
    if low > -0.5 and high < 2:
        return "If 0 is black and 1 is white", f"(255 * {a}.clip(0, 1)).round().astype('uint8')"
    if low >= -1 and high <= 1:
        return "If -1 is black and 1 is white", f"(127.5 * ({a} + 1)).round().astype('uint8')"
    if low > -20 and high < 20:
        return (
            "It looks standardised; with the mean and the deviation that were used",
            f"(255 * ({a} * std + mean)).clip(0, 255).round().astype('uint8')",
        )
    if low >= 0 and depth and high > 255:
        line = f"({a} * (255 / {2**depth - 1})).round().astype('uint8')"
        return f"If white is {2**depth - 1}", line
    return "If 0 is black and 255 is white", f"{a}.clip(0, 255).round().astype('uint8')"


def _shaped(array: NDArray[Any], name: str) -> NDArray[Any]:
    """Return an array ``[H, W]`` or ``[H, W, C]``, or say which axis is wrong."""
    shape, one = array.shape, "a"
    if not array.size:
        raise ImageError(
            _WANTED, f"{name} is empty: {list(shape)}", "Check how it was cut or loaded."
        )
    if array.ndim == 4 and shape[0] == 1:  # a batch of one
        array, one = array[0], "a[0]"
    if array.ndim == 3 and array.shape[0] == 1 and array.shape[2] not in _CHANNELS:
        array = array[0]  # [1, H, W]: a batch of one, or one channel, which is the same
    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] in _CHANNELS):
        return array
    reason, advice = _wrong_axis(array.shape, one)
    raise ImageError(_WANTED, f"{name} is {list(shape)}: {reason}", advice)


def _wrong_axis(shape: tuple[int, ...], a: str) -> tuple[str, str]:
    """Say which axis is wrong, and the line that mends it."""
    if len(shape) == 3:
        if shape[2] == 2:
            line = f"{a}[:, :, 0]"
            return "it has 2 channels", f"If the first is grey and the second transparency: {line}"
        if shape[0] in _CHANNELS:
            return "its channels come first", f"Put them last: {a}.transpose(1, 2, 0)"
        if shape[0] == shape[1] != shape[2]:
            line = f"{a}[:, :, [0, 1, 2]]"
            return f"it has {shape[2]} channels", f"Choose red, green and blue, such as: {line}"
        line = f"classifier.predict(list({a}))"
        return (
            f"its last axis is {shape[2]}, which is no number of channels",
            f"If it is a batch of {shape[0]} grey images, they go as a list: {line}",
        )
    if len(shape) == 4:
        first = shape[1] in _CHANNELS and shape[3] not in _CHANNELS
        line = f"list({a}.transpose(0, 2, 3, 1))" if first else f"list({a})"
        also = ", and their channels come first" if first else ""
        return (
            f"it is a batch of {shape[0]} images{also}",
            f"Several go as a list: classifier.predict({line})",
        )
    if len(shape) == 1:
        side, side3 = math.isqrt(shape[0]), math.isqrt(shape[0] // 3)
        if side * side == shape[0] > 1:
            sizes = f"{side}, {side}"
        else:
            sizes = f"{side3}, {side3}, 3" if 3 * side3 * side3 == shape[0] else "height, width"
        return "it has one axis only", f"Give it its height and width: {a}.reshape({sizes})"
    if not shape:
        return "it is a single value", "Give an image's pixels, or the name of its file."
    return (
        f"it has {len(shape)} axes",
        f"Take one image out: {a}[{', '.join('0' * (len(shape) - 3))}]",
    )
