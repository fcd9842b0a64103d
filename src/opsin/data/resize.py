"""Resizing of upright images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from opsin.core.metadata import Preparation


@dataclass(frozen=True)
class Upright:
    """An image that stands upright, decoded whole or at a fraction of its size."""

    image: Image.Image
    width: int
    height: int
    eighths: int = 8
    left: float = 0
    top: float = 0
    note: str | None = None
    depth: int = 0

    @classmethod
    def whole(cls, image: Image.Image, note: str | None = None, depth: int = 0) -> Upright:
        """Wrap an image that was decoded whole."""
        return cls(image, image.width, image.height, note=note, depth=depth)


def to_pixels(upright: Upright | Image.Image, preparation: Preparation) -> NDArray[np.uint8]:
    """Resize an upright image and convert it to grey or colour."""
    if isinstance(upright, Image.Image):
        upright = Upright.whole(upright)
    image, mode = upright.image, "L" if preparation.channels == 1 else "RGB"
    if image.mode == "RGB" and mode == "L":  # convert always copies
        image = image.convert(mode)
    size = (preparation.width, preparation.height)
    if upright.eighths < 8 or image.size != size:
        inner, box = placement(upright.width, upright.height, preparation)
        left, top, right, bottom = (side * upright.eighths / 8 for side in box)
        x, y = upright.left, upright.top
        within = (x + left, y + top, x + right, y + bottom)
        image = image.resize(inner, Image.Resampling.BILINEAR, within)
    if image.mode != mode:  # grey to colour after resizing takes less memory
        image = image.convert(mode)
    pixels = np.asarray(image, np.uint8).reshape(image.height, image.width, -1)
    return pixels if image.size == size else filled(pixels, preparation)


def filled(pixels: NDArray[np.uint8], preparation: Preparation) -> NDArray[np.uint8]:
    """Centre pixels on a canvas of their border's colour."""
    edge = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
    middle = len(edge) // 2
    line = np.tile(np.partition(edge, middle, axis=0)[middle], preparation.width)
    whole = np.empty((preparation.height, preparation.width, pixels.shape[2]), np.uint8)
    # By line: filling three bytes at a time would take as long as reading the file.
    whole.reshape(preparation.height, -1)[:] = line
    top = (whole.shape[0] - pixels.shape[0]) // 2
    left = (whole.shape[1] - pixels.shape[1]) // 2
    whole[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return whole


def placement(
    width: int, height: int, preparation: Preparation
) -> tuple[tuple[int, int], tuple[float, float, float, float]]:
    """Return the target size and the source box of an image."""
    wide, high = preparation.width, preparation.height
    everything = (0.0, 0.0, float(width), float(height))
    match preparation.resize:
        case "fit":
            scale = min(wide / width, high / height)
            # At least one pixel, for extreme aspect ratios.
            inner = (max(1, round(width * scale)), max(1, round(height * scale)))
            return inner, everything
        case "fill":
            scale = max(wide / width, high / height)
            left = max(0.0, (width - wide / scale) / 2)
            top = max(0.0, (height - high / scale) / 2)
            return (wide, high), (left, top, width - left, height - top)
        case "squash":
            return (wide, high), everything
