"""Where the windows of a convolution or a pooling lie on the maps that come in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from opsin.onnx_files.onnx_graph import attribute

_Pair = tuple[int, int]


@dataclass(frozen=True)
class WindowGrid:
    """Windows of one size at even distances; with padding they reach beyond the maps."""

    kernel: _Pair
    strides: _Pair
    dilations: _Pair
    pads: _Pair  # rows above the maps and columns left of them
    size: _Pair  # height and width of the maps

    @classmethod
    def of(cls, node: NodeProto, kernel: Sequence[int], size: Sequence[int]) -> WindowGrid:
        """The windows of a ``Conv``, ``MaxPool`` or ``AveragePool`` on maps of a size."""
        strides = attribute(node, "strides", (1, 1))
        dilations = attribute(node, "dilations", (1, 1))
        pads = list(attribute(node, "pads", (0, 0, 0, 0))[:2])
        automatic = attribute(node, "auto_pad", b"NOTSET")
        if automatic in (b"SAME_UPPER", b"SAME_LOWER"):
            for axis in (0, 1):
                reach = (-(-size[axis] // strides[axis]) - 1) * strides[axis]
                reach += (kernel[axis] - 1) * dilations[axis] + 1
                total = max(0, reach - size[axis])
                pads[axis] = total // 2 if automatic == b"SAME_UPPER" else -(-total // 2)
        pairs = (kernel, strides, dilations, pads, size)
        return cls(*((int(tall), int(wide)) for tall, wide in pairs))

    def at(self, row: int, column: int) -> _Pair:
        """First row and column of the window at a place; below 0 in the padding."""
        return row * self.strides[0] - self.pads[0], column * self.strides[1] - self.pads[1]

    @property
    def reach(self) -> _Pair:
        """Rows and columns of the maps that a window covers."""
        (tall, wide), (down, across) = self.kernel, self.dilations
        return (tall - 1) * down + 1, (wide - 1) * across + 1

    def places(self, row: int, column: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The rows and the columns of the maps that the window at a place sees."""
        top, left = self.at(row, column)
        return (
            top + self.dilations[0] * np.arange(self.kernel[0]),
            left + self.dilations[1] * np.arange(self.kernel[1]),
        )

    def cut(
        self, maps: NDArray[np.float32], row: int, column: int
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """What the window sees of maps ``[C, H, W]``, 0 in the padding, and what lies on them."""
        rows, columns = self.places(row, column)
        height, width = self.size
        inside = np.logical_and.outer(
            (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
        )
        seen = maps[:, np.clip(rows, 0, height - 1)][:, :, np.clip(columns, 0, width - 1)]
        return np.where(inside, seen, np.float32(0)), inside

    def whole(self, rows: int, columns: int) -> NDArray[np.bool_]:
        """The places, ``bool[rows, columns]``, where the window lies on the maps as a whole."""
        fits = []
        for axis, count in enumerate((rows, columns)):
            first = np.arange(count) * self.strides[axis] - self.pads[axis]
            fits.append((first >= 0) & (first + self.reach[axis] <= self.size[axis]))
        return np.logical_and.outer(*fits)


def strongest_place(
    maps: NDArray[np.float32], allowed: NDArray[np.bool_] | None = None
) -> tuple[int, int, int]:
    """Unit, row and column of the largest value of maps ``[C, H, W]``, at the places allowed."""
    if allowed is not None and allowed.any():
        maps = np.where(allowed, maps, -np.inf)
    unit, row, column = np.unravel_index(int(maps.argmax()), maps.shape)
    return int(unit), int(row), int(column)
