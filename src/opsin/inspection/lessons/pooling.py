"""A window of a map becomes one number."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from opsin.core.stored_json import JsonObject
from opsin.inspection.lessons.lesson_layers import LessonLayer, fetch, lesson_json
from opsin.inspection.lessons.lesson_terms import Term
from opsin.inspection.lessons.lesson_window import WindowGrid, strongest_place
from opsin.onnx_files.onnx_graph import OnnxGraph

# Rows and columns of windows that are shown side by side.
_SIDE = 2


@dataclass(frozen=True)
class PooledWindow:
    """A window and the number that it becomes; rows and columns below 0 are padding."""

    place: tuple[int, int]
    at: tuple[int, int]
    end: tuple[int, int]
    values: NDArray[np.float32] = field(repr=False)  # [h, w], 0 in the padding
    picked: tuple[int, int] | None  # where in the map the largest number is, if that passes
    output: float  # the number in the file

    @classmethod
    def of(
        cls,
        grid: WindowGrid,
        before: NDArray[np.float32],
        after: NDArray[np.float32],
        place: tuple[int, int],
        *,
        largest: bool,
    ) -> PooledWindow:
        """The window of one place of the map that comes out."""
        (values,), inside = grid.cut(before[None], *place)
        picked = None
        if largest:
            most = int(np.where(inside, values, -np.inf).argmax())
            down, across = np.unravel_index(most, values.shape)
            rows, columns = grid.places(*place)
            picked = (int(rows[down]), int(columns[across]))
        top, left = grid.at(*place)
        end = (top + grid.reach[0], left + grid.reach[1])
        return cls(place, (top, left), end, values, picked, float(after[place]))


@dataclass(frozen=True)
class PoolingLesson:
    """What a pooling makes of an image's strongest map."""

    term: ClassVar[Term] = "pooling"
    layer: str
    kind: str
    takes: Literal["largest", "mean"]
    unit: int  # the map that is shown, of as many as `units`
    units: int
    windows: tuple[PooledWindow, ...]  # around the map's largest number
    before: NDArray[np.float32] = field(repr=False)  # [H, W]
    after: NDArray[np.float32] = field(repr=False)  # [H', W']; 1×1 where it becomes one number

    @classmethod
    def of(cls, network: OnnxGraph, found: LessonLayer, pixels: NDArray[np.uint8]) -> PoolingLesson:
        """The lesson about one image."""
        node = found.node
        source, output = node.input[0], node.output[0]
        values = fetch(network, pixels, [source, output])
        maps = values[source]
        after = values[output].reshape(len(maps), *values[output].shape[1:3])
        if after.ndim == 1:
            after = after[:, None, None]
        kernel = next(
            (each.ints for each in node.attribute if each.name == "kernel_shape"), maps.shape[1:]
        )
        grid = WindowGrid.of(node, kernel, maps.shape[1:])
        unit, row, column = strongest_place(after)
        largest = "Max" in node.op_type
        rows, columns = (
            range(start := max(0, min(place, count - _SIDE)), min(start + _SIDE, count))
            for place, count in zip((row, column), after.shape[1:], strict=True)
        )
        return cls(
            layer=found.name,
            kind=found.kind,
            takes="largest" if largest else "mean",
            unit=unit,
            units=len(maps),
            windows=tuple(
                PooledWindow.of(grid, maps[unit], after[unit], place, largest=largest)
                for place in itertools.product(rows, columns)
            ),
            before=maps[unit],
            after=after[unit],
        )

    @property
    def covered(self) -> tuple[int, int, int, int]:
        """The part of ``before`` in the windows: top, left, bottom, right, ends left out."""
        tops, lefts = zip(*(each.at for each in self.windows), strict=True)
        bottoms, rights = zip(*(each.end for each in self.windows), strict=True)
        return max(0, min(tops)), max(0, min(lefts)), max(bottoms), max(rights)

    @property
    def block(self) -> NDArray[np.float32]:
        """The numbers in the windows together."""
        top, left, bottom, right = self.covered
        return self.before[top:bottom, left:right]

    @property
    def picked(self) -> list[tuple[int, int]]:
        """Where in ``block`` the largest numbers are that pass."""
        top, left, *_ = self.covered
        found = [each.picked for each in self.windows if each.picked is not None]
        return [(row - top, column - left) for row, column in found]

    @property
    def outputs(self) -> NDArray[np.float32]:
        """What the windows become, in their rows and columns."""
        rows = len({each.place[0] for each in self.windows})
        return np.array([each.output for each in self.windows], np.float32).reshape(rows, -1)

    def to_json(self) -> JsonObject:
        """Plain data, the whole maps left out."""
        windows = [
            {"place": each.place, "at": each.at, "window": each.values, "picked": each.picked,
             "output": each.output}
            for each in self.windows
        ]  # fmt: skip
        return lesson_json(
            self, "takes unit size_before size_after windows", windows=windows,
            size_before=self.before.shape, size_after=self.after.shape,
        )  # fmt: skip
