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
    """Windows of one size at even distances, which may reach beyond the maps.

    Args:
        kernel: Rows and columns of a window.
        strides: From one window to the next, down and across.
        dilations: From one row of a window to the next, and from one column.
        pads: Rows above the maps and columns left of them.
        size: Height and width of the maps.

    Example:
        >>> grid = WindowGrid((3, 3), (1, 1), (1, 1), (1, 1), (4, 4))
        >>> maps = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
        >>> window, inside = grid.cut(maps, 0, 1)
        >>> window[0].tolist(), inside[0].tolist()
        ([[0.0, 0.0, 0.0], [0.0, 1.0, 2.0], [4.0, 5.0, 6.0]], [False, False, False])
    """

    kernel: _Pair
    strides: _Pair
    dilations: _Pair
    pads: _Pair
    size: _Pair

    @classmethod
    def of(cls, node: NodeProto, kernel: Sequence[int], size: Sequence[int]) -> WindowGrid:
        """Read from an operator how its windows lie.

        Args:
            node: ``Conv``, ``MaxPool`` or ``AveragePool``.
            kernel: Rows and columns of a window.
            size: Height and width of the maps that come in.
        """
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
        return cls(*(_pair(each) for each in (kernel, strides, dilations, pads, size)))

    def at(self, row: int, column: int) -> _Pair:
        """Return the first row and column of the window at a place; below 0 in the padding."""
        return row * self.strides[0] - self.pads[0], column * self.strides[1] - self.pads[1]

    @property
    def reach(self) -> _Pair:
        """Rows and columns of the maps that a window covers."""
        tall, wide = (
            (side - 1) * step + 1 for side, step in zip(self.kernel, self.dilations, strict=True)
        )
        return tall, wide

    def places(self, row: int, column: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows and the columns of the maps that the window at a place sees."""
        top, left = self.at(row, column)
        return (
            top + self.dilations[0] * np.arange(self.kernel[0]),
            left + self.dilations[1] * np.arange(self.kernel[1]),
        )

    def cut(
        self, maps: NDArray[np.float32], row: int, column: int
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return what the window at a place sees, and which of it lies on the maps.

        Args:
            maps: ``float32[C, H, W]``
            row: Of the place.
            column: Of the place.

        Returns:
            ``float32[C, h, w]``, 0 in the padding, and ``bool[h, w]``.
        """
        rows, columns = self.places(row, column)
        inside = np.logical_and.outer(
            (rows >= 0) & (rows < self.size[0]), (columns >= 0) & (columns < self.size[1])
        )
        seen = maps[:, np.clip(rows, 0, self.size[0] - 1)][
            :, :, np.clip(columns, 0, self.size[1] - 1)
        ]
        return np.where(inside, seen, np.float32(0)), inside

    def whole(self, rows: int, columns: int) -> NDArray[np.bool_]:
        """Return at which of ``rows × columns`` places the window lies on the maps as a whole."""

        def fits(axis: int, count: int) -> NDArray[np.bool_]:
            first = np.arange(count) * self.strides[axis] - self.pads[axis]
            return (first >= 0) & (first + self.reach[axis] <= self.size[axis])

        return np.logical_and.outer(fits(0, rows), fits(1, columns))


def strongest_place(
    maps: NDArray[np.float32], allowed: NDArray[np.bool_] | None = None
) -> tuple[int, int, int]:
    """Return the unit, row and column of the largest value of maps.

    Args:
        maps: ``float32[C, H, W]``
        allowed: Which places count, ``bool[H, W]`` (default: all, as where none does).

    Example:
        >>> maps = np.float32([[[1, 5]], [[4, 3]]])
        >>> strongest_place(maps), strongest_place(maps, np.array([[True, False]]))
        ((0, 0, 1), (1, 0, 0))
    """
    if allowed is not None and allowed.any():
        maps = np.where(allowed, maps, -np.inf)
    unit, row, column = np.unravel_index(int(maps.argmax()), maps.shape)
    return int(unit), int(row), int(column)


def _pair(sides: Sequence[int]) -> _Pair:
    tall, wide = sides
    return int(tall), int(wide)
