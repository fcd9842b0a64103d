"""Images in pages: compact photographs, and numbers as colours, without matplotlib."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from PIL import Image

from opsin.core.arrays import Floats, Pixels

ColourMap = Literal["viridis", "PuOr"]

#: Longest side of a photograph on a page, in pixels.
SIDE: Final = 96
# Most characters of an address without a try as JPEG, and JPEG's quality.
_HEAVY, _QUALITY = 2000, 88

# Colours at even distances, linear between them. Viridis is S. van der Walt's and N. Smith's (2015,
# CC0), at 17 places, at most 5 of 255 from the original; PuOr is C. Brewer's (colorbrewer2.org)
# without its darkest ends, which are hard to tell apart; its middle, nearly white, is 0.
STOPS: Final[dict[ColourMap, tuple[str, ...]]] = {
    "viridis": (
        "#440154", "#48186a", "#472d7b", "#424086", "#3b528b", "#33638d", "#2c728e", "#26828e",
        "#21918c", "#1fa088", "#28ae80", "#3fbc73", "#5ec962", "#84d44b", "#addc30", "#d8e219",
        "#fde725",
    ),
    "PuOr": (
        "#b25706", "#e08214", "#fcb761", "#fee0b6", "#f6f6f7", "#d8daeb", "#b1aad1", "#8073ac",
        "#532687",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Scale:
    """The colour scale of a layer's values, one for all its maps."""

    low: float
    high: float
    colours: ColourMap  # viridis from 0 if nothing is negative

    def places(self, values: Floats) -> Pixels:
        """Return the index of each value among the 256 colours."""
        width = (self.high - self.low) or 1.0
        share = (np.nan_to_num(values, nan=self.low).astype(np.float64) - self.low) / width
        return np.asarray(np.rint(255 * np.clip(share, 0, 1)), np.uint8)


def scale_of(low: float, high: float) -> Scale:
    """Return the scale of a layer whose values lie between two numbers."""
    if low >= 0:
        return Scale(0.0, high, "viridis")
    reach = max(-low, high)
    return Scale(-reach, reach, "PuOr")


def _between(colours: ColourMap) -> Pixels:
    stops = np.array([[int(stop[i : i + 2], 16) for i in (1, 3, 5)] for stop in STOPS[colours]])
    places = np.linspace(0, 1, len(stops))
    channels = [np.interp(np.linspace(0, 1, 256), places, stop) for stop in stops.T]
    return np.asarray(np.rint(np.stack(channels, axis=1)), np.uint8)


#: The 256 colours of each map, ``uint8[256, 3]``.
PALETTES: Final[dict[ColourMap, Pixels]] = {name: _between(name) for name in STOPS}


def gradient(colours: ColourMap) -> str:
    """Return a map as a gradient of CSS, from left to right."""
    return f"linear-gradient(90deg,{','.join(STOPS[colours])})"


def sprite(maps: Pixels, columns: int) -> Pixels:
    """Lay maps of one size side by side without gaps."""
    count, height, width = maps.shape
    rows = -(-count // columns)
    cells = np.zeros((rows * columns, height, width), np.uint8)
    cells[:count] = maps
    grid = cells.reshape(rows, columns, height, width).swapaxes(1, 2)
    return grid.reshape(rows * height, columns * width)


def indexed_address(places: Pixels, colours: ColourMap) -> str:
    """Return indices of colours, ``uint8[H, W]``, as the address of an embedded PNG."""
    image = Image.fromarray(places)
    image.putpalette(PALETTES[colours].tobytes())
    return embedded(image)


def embedded(image: Image.Image, kind: str = "png", **options: Any) -> str:
    """Return an image as the address of an embedded file."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"


def small(pixels: Pixels, side: int = SIDE) -> Pixels:
    """Shrink an image for a page of hundreds; a smaller one stays as it is."""
    height, width, channels = pixels.shape
    if max(height, width) <= side:
        return pixels
    image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
    image.thumbnail((side, side))
    return np.asarray(image, np.uint8).reshape(image.height, image.width, channels)


def image_address(pixels: Pixels) -> str:
    """Return ``uint8[H, W, C]`` as the address of an embedded image of a page."""
    shrunk = small(pixels)
    image = Image.fromarray(shrunk[:, :, 0] if shrunk.shape[2] == 1 else shrunk)
    drawing = embedded(image)
    if len(drawing) <= _HEAVY:
        return drawing
    photograph = embedded(image, "jpeg", quality=_QUALITY, subsampling=0, optimize=True)
    return min(drawing, photograph, key=len)
