"""Values become bytes: the brightest of all images sets white, unless the files state theirs."""

from __future__ import annotations

import base64
import io
import sys
from collections.abc import Callable
from typing import Any, Final, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFile, TiffImagePlugin

from opsin.core.arrays import Pixels
from opsin.core.errors import ImageError
from opsin.core.metadata import Bits

_CHANNELS: Final = (1, 3, 4)
DEPTHS: Final[tuple[Bits, ...]] = get_args(Bits)
_BITS_PER_SAMPLE: Final = 258
# Pillow's raw modes of 16 bits a channel; it decodes the upper bytes, or the lower ones if the
# byte order in the mode is swapped.
_COLOURS: Final = ("RGB;16", "RGBX;16", "RGBA;16")
_OTHER_ORDER: Final = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}


#: The depth that a file states as its white, and the one that it is decoded to; 0 for none.
_StatedDepth = tuple[int, int]


def bits_needed(largest: int) -> Bits:
    """Return the smallest depth of a camera or scanner that holds a value."""
    return next((bits for bits in DEPTHS if largest < 1 << bits), 16)


def brighter_than(bits: int) -> str:
    """Return the note on an image with larger values than the training images."""
    white = f"whatever is above {(1 << bits) - 1:,} ({bits} bits) is white"
    return f"brighter than the training images' range: {white}"


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
) -> tuple[Pixels, str | None]:
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


def png_address(pixels: Pixels) -> str:
    """Return ``uint8[H, W, 1]`` or ``uint8[H, W, 3]`` as the data URL of a PNG."""
    content = base64.b64encode(encode_png(pixels, optimize=True)).decode("ascii")
    return f"data:image/png;base64,{content}"


def encode_png(pixels: Pixels, **options: Any) -> bytes:
    """Return ``uint8[H, W, 1]`` or ``uint8[H, W, 3]`` as a PNG file, with options of Pillow."""
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    stream = io.BytesIO()
    image.save(stream, "PNG", **options)
    return stream.getvalue()


def load_bytes(
    image: Image.Image,
    bits: Bits | None,
    content: bytes | None = None,
    again: Callable[[], ImageFile.ImageFile] | None = None,
) -> tuple[Image.Image, str | None, int]:
    """Decode an image, of a file by its content, to bytes; note the bits that its values need."""
    stated, colours, depth = (0, 0), False, 0
    if content is not None and isinstance(image, ImageFile.ImageFile):
        stated, colours = _stated_depth(image, content), _take_bytes(image)
    image.load()
    shallow = image
    if image.mode.startswith("I"):  # 16 bits a pixel, or 32 that hold 16
        shallow, depth = _grey_bytes(image, bits, stated)
    elif colours:
        # From the upper bytes, without alpha.
        depth = bits_needed(int(np.asarray(image)[..., :3].max()) << 8 | 255)
        if again is not None and bits is not None and bits < 16:
            lower = again()
            _take_bytes(lower, lower=True)
            lower.load()
            shallow = _colour_bytes(image, lower, bits)
    note = brighter_than(bits) if bits and depth > bits and not stated[1] else None
    return shallow, note, depth


def _stated_depth(header: ImageFile.ImageFile, content: bytes) -> _StatedDepth:
    if isinstance(header, TiffImagePlugin.TiffImageFile):
        return (12, 12) if header.tag_v2.get(_BITS_PER_SAMPLE) == (12,) else (0, 0)
    white = 65535
    if header.format == "PPM" and isinstance(args := header.tile[0].args, tuple):
        white = args[-1]
    # The code stream of JPEG 2000 begins with two markers; Ssiz is the size of the first component
    # less 1.
    start = content.find(b"\xff\x4f\xff\x51") if header.format == "JPEG2000" else -1
    if 0 <= start < len(content) - 42:
        white = (1 << (content[start + 42] & 0x7F) + 1) - 1
    return (bits_needed(white), 16) if isinstance(white, int) and 255 < white < 65535 else (0, 0)


def _grey_bytes(
    image: Image.Image, bits: Bits | None, stated: _StatedDepth
) -> tuple[Image.Image, int]:
    deep: NDArray[np.integer] = np.asarray(image)
    if deep.dtype.itemsize > 2:
        deep = np.clip(deep, 0, 65535)
    largest = int(deep.max(initial=0))
    used = stated[1] or bits or 16
    # Pillow scales PNM to 16 bits. A TIFF of 32 states nothing: it may hold 8 as well.
    of_16 = image.format is not None and (image.mode != "I" or image.format == "PPM")
    if used == 16 and not of_16 and largest <= 255:
        used = 8
    grey = (np.minimum(deep, (1 << used) - 1) >> (used - 8)).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[deep == transparent] = 255
    return Image.fromarray(grey), stated[0] or bits_needed(largest)


def _take_bytes(header: ImageFile.ImageFile, *, lower: bool = False) -> bool:
    """Set a file of 16 bits a channel to decode to the upper (or lower) bytes, if it is one."""
    if not header.tile:
        return False
    tiles = list(header.tile)
    if header.format == "PPM" and tiles[0].codec_name == "ppm" and tiles[0].args == ("RGB", 65535):
        tiles = [tiles[0]._replace(codec_name="raw", args=("RGB;16B", 0, 1))]
    args = tiles[0].args
    mode, *rest = args if isinstance(args, tuple) else (args,)
    if not isinstance(mode, str) or not mode.startswith(_COLOURS):
        return False
    if lower:
        mode = mode[:-1] + _OTHER_ORDER[mode[-1]]
    header.tile = [tile._replace(args=(mode, *rest) if rest else mode) for tile in tiles]
    return True


def _colour_bytes(upper: Image.Image, lower: Image.Image, bits: Bits) -> Image.Image:
    white, shift = 1 << (bits - 8), 16 - bits
    high = [min(255, value << shift) if value < white else 255 for value in range(256)]
    low = [value >> (bits - 8) for value in range(256)]
    alpha = upper.mode == "RGBA"
    return ImageChops.add(
        upper.point(3 * high + (list(range(256)) if alpha else [])),
        lower.point(3 * low + ([0] * 256 if alpha else [])),
    )
