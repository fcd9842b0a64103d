"""Weights as images of a page."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from opsin.report.figures.style import shorten
from opsin.report.maps import PUOR

# A map's width in pixels of the page, as near as whole numbers come; pixels between the numbers
# along its sides.
_WIDE, _ACROSS, _DOWN = 960, 56, 14
# Rows and columns of a map of a matrix; of more, each point stands for a block.
_SIDE: Final = 1024
# Steps of colour on both sides of 0 together, of a tile and of a map, which is many times larger.
_FINE, _COARSE = 63, 15


@dataclass(frozen=True)
class Sheet:
    """A map of the weights of many units with numbers along its sides; sizes in pixels."""

    first: int
    last: int
    address: str
    width: int
    height: int
    rows: list[tuple[float, str]]  # where each label on the left stands, and what it says
    columns: list[tuple[float, str]]

    @property
    def left(self) -> int:
        """Pixels that the longest label on the left takes."""
        return 8 + 7 * max((len(text) for _, text in self.rows), default=0)


def tile_address(weights: NDArray[np.float32], limit: float, factor: int = 1) -> str:
    """Return a unit's weights ``float32[H, W, C]`` as the address of an embedded image."""
    weights = _smaller(weights, factor)
    if weights.shape[2] == 3:
        colours = 127.5 + 127.5 * np.clip(weights / limit, -1, 1)
        return _png(Image.fromarray(colours.round().astype(np.uint8)))
    return _map_address(weights.mean(axis=2), limit, _FINE)


def kernel_sheet(weights: NDArray[np.float32], start: int, limit: float) -> Sheet:
    """Draw kernels ``float32[N, M, H, W]`` of units from ``start`` on, a gap between each two."""
    units, maps, height, width = weights.shape
    cells = np.zeros((units, height + 1, maps, width + 1), np.float32)
    gaps = np.ones(cells.shape, np.bool_)
    cells[:, :height, :, :width] = weights.transpose(0, 2, 1, 3)
    gaps[:, :height, :, :width] = False
    flat = (units * (height + 1), maps * (width + 1))
    scale = int(np.clip(_WIDE // flat[1], 2, 5))
    return Sheet(
        first=start,
        last=start + units - 1,
        address=_map_address(cells.reshape(flat), limit, _COARSE, gaps.reshape(flat)),
        width=scale * flat[1],
        height=scale * flat[0],
        rows=list(_numbers(start, units, 1, scale * (height + 1), _DOWN)),
        columns=list(_numbers(0, maps, 1, scale * (width + 1), _ACROSS)),
    )


def matrix_sheet(
    matrix: NDArray[Any], limit: float, names: Sequence[str] = ()
) -> tuple[Sheet, tuple[int, int]]:
    """Draw a matrix ``float[N, M]`` as one map, with names or numbers beside its rows."""
    units = len(matrix)
    down, across = (math.ceil(side / _SIDE) for side in matrix.shape)
    matrix = _strongest(matrix, down, across)
    rows, columns = matrix.shape
    wide, high = int(np.clip(_WIDE // columns, 1, 16)), int(np.clip(320 // rows, 1, 16))
    labels = list(_numbers(0, rows, down, high, _DOWN))
    if len(names) == rows == units:
        labels = [(high * (row + 0.5), shorten(name, 22)) for row, name in enumerate(names)]
        labels = labels[:: math.ceil(_DOWN / high)]
    sheet = Sheet(
        first=0,
        last=units - 1,
        address=_map_address(matrix, limit, _COARSE),
        width=wide * columns,
        height=high * rows,
        rows=labels,
        columns=list(_numbers(0, columns, across, wide, _ACROSS)),
    )
    return sheet, (down, across)


def _smaller(image: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Return the means of blocks of an image ``[H, W, C]``; those at the edges may be smaller."""
    if factor <= 1:
        return image
    starts = [np.arange(0, side, factor) for side in image.shape[:2]]
    sums = np.add.reduceat(np.add.reduceat(image, starts[0], axis=0), starts[1], axis=1)
    down, across = (
        np.diff([*start, side]) for start, side in zip(starts, image.shape, strict=False)
    )
    smaller: NDArray[np.float32] = sums / (down[:, None, None] * across[None, :, None])
    return smaller


def _strongest(matrix: NDArray[Any], down: int, across: int) -> NDArray[Any]:
    """Return the number farthest from 0 of each block of a matrix."""
    for axis, block in ((0, down), (1, across)):
        starts = np.arange(0, matrix.shape[axis], block)
        most = np.maximum.reduceat(matrix, starts, axis=axis)
        least = np.minimum.reduceat(matrix, starts, axis=axis)
        matrix = np.where(most >= -least, most, least)
    return matrix


def _numbers(
    start: int, count: int, each: int, pixels: int, apart: int
) -> Iterator[tuple[float, str]]:
    """Yield where the numbers along a side stand: round ones, as close as they can be read."""
    step = next(
        size * 10**power
        for power in range(9)
        for size in (1, 2, 5)
        if size * 10**power * pixels >= apart * each
    )
    for number in range(start, start + count * each):
        place = (number - start) / each + 0.5
        # The last point may stand for fewer than the others, and the number for none of them.
        if number % step == 0 and place < count:
            yield pixels * place, str(number)


def _map_address(
    weights: NDArray[Any], limit: float, steps: int, gaps: NDArray[np.bool_] | None = None
) -> str:
    """Return a map as an embedded PNG, transparent where there are gaps."""
    middle = (steps - 1) / 2
    level = (middle + middle * np.clip(weights / limit, -1, 1)).round().astype(np.uint8)
    if gaps is not None:
        level[gaps] = steps
    image = Image.fromarray(level)
    colours = PUOR[np.linspace(0, 255, steps).round().astype(int)]
    image.putpalette(colours.tobytes() + bytes(3))
    return _png(image, bits=4 if steps < 16 else 8, transparency=steps)


def _png(image: Image.Image, **options: Any) -> str:
    stream = io.BytesIO()
    image.save(stream, "PNG", **options)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
