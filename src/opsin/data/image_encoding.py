"""Images as PNGs inside HTML."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image


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
