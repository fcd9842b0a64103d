"""A window of a map becomes one number."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from opsin.core.stored_json import JsonObject
from opsin.inspection.lessons.lesson_layers import LessonLayer, fetch, plain
from opsin.inspection.lessons.lesson_terms import Term
from opsin.inspection.lessons.lesson_window import WindowGrid, strongest_place
from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.runtime.classifier import Classifier

# Rows and columns of windows that are shown side by side.
_SIDE = 2


@dataclass(frozen=True)
class PooledWindow:
    """A window and the number that it becomes.

    Args:
        place: Row and column of the number.
        at: First row and column of the window in the map that comes in; below 0: padding.
        end: Those behind its last.
        values: The window, ``float32[h, w]``, 0 in the padding.
        inside: Which of it lies on the map, ``bool[h, w]``.
        picked: Row and column in the map that comes in of the largest number, which passes;
            ``None`` where the mean does.
        output: The number in the file.
    """

    place: tuple[int, int]
    at: tuple[int, int]
    end: tuple[int, int]
    values: NDArray[np.float32] = field(repr=False)
    inside: NDArray[np.bool_] = field(repr=False)
    picked: tuple[int, int] | None
    output: float

    def to_json(self) -> JsonObject:
        """Return it as plain data."""
        return {
            "place": list(self.place),
            "at": list(self.at),
            "window": plain(self.values),
            "picked": None if self.picked is None else list(self.picked),
            "output": plain(np.asarray(self.output)),
        }


@dataclass(frozen=True)
class PoolingLesson:
    """What a pooling makes of a map.

    Args:
        layer: Name of the layer.
        kind: What it is.
        takes: Whether the largest number of a window passes, or the mean.
        unit: The map that is shown.
        units: How many maps there are.
        windows: Up to two by two windows side by side, around the map's largest number.
        before: The map that comes in, ``float32[H, W]``.
        after: The map that comes out, ``float32[H', W']``; 1×1 where it becomes one number.
    """

    term: ClassVar[Term] = "pooling"
    layer: str
    kind: str
    takes: Literal["largest", "mean"]
    unit: int
    units: int
    windows: tuple[PooledWindow, ...]
    before: NDArray[np.float32] = field(repr=False)
    after: NDArray[np.float32] = field(repr=False)

    @property
    def covered(self) -> tuple[int, int, int, int]:
        """The part of ``before`` in the windows: top, left, bottom, right, ends left out."""
        tops, lefts = zip(*(each.at for each in self.windows), strict=True)
        bottoms, rights = zip(*(each.end for each in self.windows), strict=True)
        return max(0, min(tops)), max(0, min(lefts)), max(bottoms), max(rights)

    def to_json(self) -> JsonObject:
        """Return it as plain data, the whole maps left out."""
        return {
            "term": self.term,
            "layer": self.layer,
            "kind": self.kind,
            "takes": self.takes,
            "unit": self.unit,
            "size_before": list(self.before.shape),
            "size_after": list(self.after.shape),
            "windows": [each.to_json() for each in self.windows],
        }


def pooling_lesson(
    classifier: Classifier,  # noqa: ARG001  of every lesson
    network: OnnxGraph,
    found: LessonLayer,
    pixels: NDArray[np.uint8],
) -> PoolingLesson:
    """Return what a pooling makes of an image's strongest map.

    Args:
        classifier: An open classifier.
        network: Its network.
        found: The layer.
        pixels: A prepared image, ``uint8[H, W, C]``.

    Raises:
        ModelFileError: A value is infinite or no number.
    """
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
        _neighbours(place, count)
        for place, count in zip((row, column), after.shape[1:], strict=True)
    )
    return PoolingLesson(
        layer=found.name,
        kind=found.kind,
        takes="largest" if largest else "mean",
        unit=unit,
        units=len(maps),
        windows=tuple(
            _window(grid, maps[unit], after[unit], place, largest=largest)
            for place in itertools.product(rows, columns)
        ),
        before=maps[unit],
        after=after[unit],
    )


def _neighbours(place: int, count: int) -> range:
    """Return a place and the next one, or the one before where it is the last."""
    start = max(0, min(place, count - _SIDE))
    return range(start, min(start + _SIDE, count))


def _window(
    grid: WindowGrid,
    before: NDArray[np.float32],
    after: NDArray[np.float32],
    place: tuple[int, int],
    *,
    largest: bool,
) -> PooledWindow:
    (values,), inside = grid.cut(before[None], *place)
    picked = None
    if largest:
        down, across = np.unravel_index(
            int(np.where(inside, values, -np.inf).argmax()), values.shape
        )
        rows, columns = grid.places(*place)
        picked = (int(rows[down]), int(columns[across]))
    top, left = grid.at(*place)
    end = (top + grid.reach[0], left + grid.reach[1])
    return PooledWindow(place, (top, left), end, values, inside, picked, float(after[place]))
