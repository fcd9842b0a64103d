"""Numbers as colours, without matplotlib."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ColourMap = Literal["viridis", "PuOr"]

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
    """How a layer's values become colours: one scale for all its maps."""

    low: float
    high: float
    colours: ColourMap  # viridis from 0 where nothing is negative

    def places(self, values: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return the place of each value among the 256 colours."""
        width = (self.high - self.low) or 1.0
        share = (np.nan_to_num(values, nan=self.low).astype(np.float64) - self.low) / width
        return np.asarray(np.rint(255 * np.clip(share, 0, 1)), np.uint8)


def scale_of(low: float, high: float) -> Scale:
    """Return the scale of a layer whose values lie between two numbers."""
    if low >= 0:
        return Scale(0.0, high, "viridis")
    reach = max(-low, high)
    return Scale(-reach, reach, "PuOr")


def _between(colours: ColourMap) -> NDArray[np.uint8]:
    stops = np.array([[int(stop[i : i + 2], 16) for i in (1, 3, 5)] for stop in STOPS[colours]])
    places = np.linspace(0, 1, len(stops))
    wanted = np.linspace(0, 1, 256)
    channels = [np.interp(wanted, places, stops[:, channel]) for channel in range(3)]
    return np.asarray(np.rint(np.stack(channels, axis=1)), np.uint8)


#: The 256 colours of each map, ``uint8[256, 3]``.
PUOR: Final = _between("PuOr")
PALETTES: Final[dict[ColourMap, NDArray[np.uint8]]] = {
    "viridis": _between("viridis"),
    "PuOr": PUOR,
}


def gradient(colours: ColourMap) -> str:
    """Return a map as a gradient of CSS, from left to right."""
    return f"linear-gradient(90deg,{','.join(STOPS[colours])})"


def sprite(maps: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """Lay maps of one size side by side without gaps."""
    count, height, width = maps.shape
    rows = -(-count // columns)
    cells = np.zeros((rows * columns, height, width), np.uint8)
    cells[:count] = maps
    grid = cells.reshape(rows, columns, height, width).swapaxes(1, 2)
    return grid.reshape(rows * height, columns * width)


def indexed_address(places: NDArray[np.uint8], colours: ColourMap) -> str:
    """Return places among the colours, ``uint8[H, W]``, as the address of an embedded PNG."""
    image = Image.fromarray(places)
    image.putpalette(PALETTES[colours].tobytes())
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
