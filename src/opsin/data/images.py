"""Bytes become upright pixels of one size: for training and prediction alike."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from opsin.data.background import border_of
from opsin.errors import ImageError
from opsin.metadata import Preparation

#: What may be decoded. A list, because Pillow knows formats that can start other programs.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")

#: File names that a folder is searched for.
SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm",
)  # fmt: skip

#: Pixels of the largest picture that is opened; more is taken for a decompression bomb.
MAX_PIXELS = 80_000_000

ImageLike = str | os.PathLike[str] | bytes | BinaryIO | Image.Image | NDArray[np.uint8]


def open_image(image: ImageLike, name: str | None = None) -> Image.Image:
    """Decode a picture and turn it upright.

    Args:
        image: A file's name, its bytes, an open file, a Pillow image, or an array
            ``uint8[H, W]``, ``uint8[H, W, 1]``, ``uint8[H, W, 3]`` or ``uint8[H, W, 4]``.
        name: What to call it in an error (default: the file's name).

    Returns:
        An image of mode ``L`` (grey) or ``RGB``; transparent parts have become white.

    Raises:
        ImageError: It cannot be read; the error names the file and the reason.

    Example:
        >>> open_image(np.zeros((4, 6), np.uint8)).size
        (6, 4)
    """
    name = name or (str(image) if isinstance(image, str | os.PathLike) else "the picture")
    if isinstance(image, np.ndarray):
        return _from_array(image, name)
    if isinstance(image, Image.Image):
        return _grey_or_rgb(image, name)
    try:
        if isinstance(image, bytes):
            image = io.BytesIO(image)
        # Closed below: only what was opened here.
        stream = Path(image).open("rb") if isinstance(image, str | os.PathLike) else image  # noqa: SIM115
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ImageError("a picture", f"{name}: {reason}", "Check the name.") from error
    try:
        with Image.open(stream, formats=FORMATS) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise ImageError(
                    f"a picture of at most {MAX_PIXELS // 1_000_000} million pixels",
                    f"{name} has {picture.width:,} × {picture.height:,}",
                    "Make it smaller first.",
                )
            picture.load()
            return _grey_or_rgb(picture, name)
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(
            "a readable picture",
            f"{name}: {_reason(error)}",
            "Open it in a viewer and save it again, or leave it out.",
        ) from error
    finally:
        if stream is not image:
            stream.close()


def read_image(
    image: ImageLike, preparation: Preparation, name: str | None = None
) -> NDArray[np.uint8]:
    """Decode a picture into the network's pixels: `open_image`, then `to_pixels`.

    Returns:
        ``uint8[height, width, channels]``

    Raises:
        ImageError: It cannot be read.
    """
    return to_pixels(open_image(image, name), preparation)


def to_pixels(picture: Image.Image, preparation: Preparation) -> NDArray[np.uint8]:
    """Resize an upright picture and convert it to grey or colour.

    ``fit`` keeps the whole picture and fills the rest with the colour of its border, ``fill``
    cuts what stands out, ``squash`` stretches. Shrinking averages over the pixels it covers
    (Pillow's bilinear filter), so that thin lines survive.

    Returns:
        ``uint8[height, width, channels]``
    """
    picture = picture.convert("L" if preparation.channels == 1 else "RGB")
    size = (preparation.width, preparation.height)
    if picture.size != size:
        match preparation.resize:
            case "fit":
                picture = ImageOps.pad(
                    picture, size, Image.Resampling.BILINEAR, color=border_of(picture)
                )
            case "fill":
                picture = ImageOps.fit(picture, size, Image.Resampling.BILINEAR)
            case "squash":
                picture = picture.resize(size, Image.Resampling.BILINEAR)
    pixels = np.asarray(picture, np.uint8)
    return pixels.reshape(preparation.height, preparation.width, preparation.channels)


def _grey_or_rgb(picture: Image.Image, name: str) -> Image.Image:
    """Turn upright and convert any of Pillow's modes to ``L`` or ``RGB``."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode in ("L", "RGB"):
        return _opaque(picture) if "transparency" in picture.info else picture
    if picture.mode.startswith("I"):  # 16 bits a pixel, or 32 that hold 16
        deep = np.asarray(picture).astype(np.int64)
        return Image.fromarray((np.clip(deep, 0, 65535) >> 8).astype(np.uint8))
    if picture.mode == "F":
        raise ImageError(
            "a picture of 8 or 16 bits a channel",
            f"{name} holds floating-point numbers, whose white is unknown",
            "Save it as an 8-bit PNG.",
        )
    if picture.mode == "1":
        return picture.convert("L")
    if picture.has_transparency_data:
        return _opaque(picture)
    return picture.convert("RGB")


def _opaque(picture: Image.Image) -> Image.Image:
    """Lay a picture with transparent parts over white."""
    grey = picture.mode in ("L", "LA", "La")
    layers = picture.convert("RGBA")
    white = Image.new("RGBA", layers.size, "white")
    return Image.alpha_composite(white, layers).convert("L" if grey else "RGB")


def _from_array(array: NDArray[np.uint8], name: str) -> Image.Image:
    shape = array.shape
    if array.dtype != np.uint8 or array.size == 0 or not (
        array.ndim == 2 or (array.ndim == 3 and shape[2] in (1, 3, 4))
    ):  # fmt: skip
        raise ImageError(
            "an array uint8[H, W], uint8[H, W, 1], uint8[H, W, 3] or uint8[H, W, 4]",
            f"{name} is {array.dtype}{list(shape)}",
            "Scale to 0–255 and convert: (255 * a).astype('uint8')",
        )
    if array.ndim == 3 and shape[2] == 1:
        array = array[:, :, 0]
    return _grey_or_rgb(Image.fromarray(np.ascontiguousarray(array)), name)


def _reason(error: Exception) -> str:
    """Say in a few words why a decoder gave up."""
    if isinstance(error, UnidentifiedImageError):
        return "no picture of a known format"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"more than {MAX_PIXELS // 1_000_000} million pixels"
    if isinstance(error, EOFError) or "truncated" in str(error):
        return "the file is cut short"
    return f"damaged ({type(error).__name__})"
