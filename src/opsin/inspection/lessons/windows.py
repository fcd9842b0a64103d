"""Lessons on single layers, and those on windows: convolution and pooling."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from onnx import NodeProto

from opsin.core.arrays import Bools, Doubles, Floats, Ints, Pixels
from opsin.core.errors import ModelFileError
from opsin.core.format import counted
from opsin.inspection.lessons.lesson_terms import Term
from opsin.onnx_files.onnx_graph import OnnxGraph, Subnetwork, attribute, attributes
from opsin.onnx_files.operators import padding
from opsin.onnx_files.postprocessing import IMAGES

_Pair = tuple[int, int]
# A map by its title, with its frames: first row and column, rows and columns.
DrawnMap = tuple[str, "Floats", list[tuple[_Pair, _Pair]]]
# Rows and columns of pooled windows that are shown side by side.
_SIDE = 2


@dataclass(frozen=True)
class LessonLayer:
    """A layer that a lesson can be about, and the operator in it that the lesson shows."""

    name: str
    kind: str
    node: NodeProto
    value: str = ""  # what dropout acts on


@dataclass(frozen=True)
class Lesson:
    """A layer's work on one image, in numbers of seven digits, as float32 holds."""

    DIGITS = 7
    term: ClassVar[Term]
    layer: str
    kind: str

    @property
    def drawn(self) -> list[DrawnMap]:
        """The maps before and after, each with what is framed in it."""
        return []


def fetch(
    network: OnnxGraph, pixels: Pixels, names: Iterable[str], *, whole: bool = False
) -> dict[str, Floats]:
    """Values of a network for one image, and weights, by name; ``""`` is passed over."""
    wanted = [name for name in dict.fromkeys(names) if name]
    arrays = {name: network.weights[name] for name in wanted if name in network.weights}
    if computed := [name for name in wanted if name not in arrays]:
        part = Subnetwork(network.up_to(computed))
        values = part.run({IMAGES: np.ascontiguousarray(pixels[None])})
        # Values made of weights alone have no batch axis.
        of_images = {IMAGES}
        for node in network.leading_to(computed):
            if of_images.intersection(node.input):
                of_images.update(node.output)
        for name, value in values.items():
            arrays[name] = value if whole or name not in of_images else value[0]
    for name, value in arrays.items():
        if not np.isfinite(value).all():
            raise ModelFileError(
                f"{name} holds values that are no finite numbers for this image",
                "Train again, best at a smaller --learning-rate.",
            )
    return {name: np.asarray(value, np.float32) for name, value in arrays.items()}


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
        options = attributes(node)
        strides, dilations = (options.get(name, (1, 1)) for name in ("strides", "dilations"))
        pairs = (kernel, strides, dilations, padding(options, size, kernel)[:2], size)
        return cls(*((int(tall), int(wide)) for tall, wide in pairs))

    def at(self, row: int, column: int) -> _Pair:
        """First row and column of the window at a place; below 0 in the padding."""
        return row * self.strides[0] - self.pads[0], column * self.strides[1] - self.pads[1]

    @property
    def reach(self) -> _Pair:
        """Rows and columns of the maps that a window covers."""
        (tall, wide), (down, across) = self.kernel, self.dilations
        return (tall - 1) * down + 1, (wide - 1) * across + 1

    def places(self, row: int, column: int) -> tuple[Ints, Ints]:
        """The rows and the columns of the maps that the window at a place sees."""
        top, left = self.at(row, column)
        return (
            top + self.dilations[0] * np.arange(self.kernel[0]),
            left + self.dilations[1] * np.arange(self.kernel[1]),
        )

    def cut(self, maps: Floats, row: int, column: int) -> tuple[Floats, Bools]:
        """The window's part of maps ``[C, H, W]``, 0 in the padding, and what lies on them."""
        places = self.places(row, column)
        inside = np.logical_and.outer(
            *((at >= 0) & (at < side) for at, side in zip(places, self.size, strict=True))
        )
        rows, columns = (at.clip(0, side - 1) for at, side in zip(places, self.size, strict=True))
        return np.where(inside, maps[:, rows][:, :, columns], np.float32(0)), inside

    def whole(self, rows: int, columns: int) -> Bools:
        """The places, ``bool[rows, columns]``, whose window lies on the maps as a whole."""
        fits = []
        for axis, count in enumerate((rows, columns)):
            first = np.arange(count) * self.strides[axis] - self.pads[axis]
            fits.append((first >= 0) & (first + self.reach[axis] <= self.size[axis]))
        return np.logical_and.outer(*fits)


def strongest_place(maps: Floats, allowed: Bools | None = None) -> tuple[int, int, int]:
    """Unit, row and column of the largest value of maps ``[C, H, W]``, at the places allowed."""
    if allowed is not None and allowed.any():
        maps = np.where(allowed, maps, -np.inf)
    unit, row, column = np.unravel_index(int(maps.argmax()), maps.shape)
    return int(unit), int(row), int(column)


@dataclass(frozen=True)
class ConvolutionLesson(Lesson):
    """The largest number that a convolution computes for an image, in full."""

    term: ClassVar[Term] = "convolution"
    JSON: ClassVar = "term layer kind unit place at maps window kernel sums bias total output"
    unit: int  # the map that the number is in, of as many as `units`
    units: int
    place: _Pair
    at: _Pair  # first row and column of the window; below 0: padding
    reach: _Pair
    first: int  # the first map that the kernel sees: not 0 in groups
    window: Floats = field(repr=False)  # [C, h, w], 0 in the padding
    inside: Bools = field(repr=False)  # [h, w]
    kernel: Floats = field(repr=False)  # [C, h, w]
    bias: float
    output: float  # the number in the file
    before: Floats = field(repr=False)  # [C, H, W]
    after: Floats = field(repr=False)  # [H', W']

    @classmethod
    def of(cls, network: OnnxGraph, layer: LessonLayer, pixels: Pixels) -> ConvolutionLesson:
        """The lesson about one image; places whose window reaches into the padding come last."""
        node = layer.node
        source, weights, *rest = node.input
        bias = rest[0] if rest else ""
        values = fetch(network, pixels, [source, weights, bias, node.output[0]])
        maps, kernels, after = values[source], values[weights], values[node.output[0]]
        grid = WindowGrid.of(node, kernels.shape[2:], maps.shape[1:])
        unit, row, column = strongest_place(after, grid.whole(*after.shape[1:]))
        group = unit // (len(after) // attribute(node, "group", 1))
        first = group * kernels.shape[1]
        seen = maps[first : first + kernels.shape[1]]
        window, inside = grid.cut(seen, row, column)
        return cls(
            layer.name,
            layer.kind,
            unit,
            len(after),
            (row, column),
            grid.at(row, column),
            grid.reach,
            first,
            window,
            inside,
            kernels[unit],
            bias=float(values[bias][unit]) if bias else 0.0,
            output=float(after[unit, row, column]),
            before=seen,
            after=after[unit],
        )

    @property
    def products(self) -> Doubles:
        """Each number of the window times that of the kernel, ``float64[C, h, w]``."""
        return np.asarray(self.window, np.float64) * self.kernel

    @property
    def sums(self) -> Doubles:
        """The sum of the products on each map that comes in, ``float64[C]``."""
        return np.asarray(self.products.sum(axis=(1, 2)))

    @property
    def strongest(self) -> int:
        """The map that comes in whose sum is farthest from 0, a place among ``before``."""
        return int(np.abs(self.sums).argmax())

    @property
    def total(self) -> float:
        """All products and the bias, added up here; ``output`` is the file's."""
        return float(self.products.sum()) + self.bias

    @property
    def drawn(self) -> list[DrawnMap]:  # noqa: D102
        before = self.before[self.strongest]
        return [
            ("Comes in", before, [(self.at, self.reach)]),
            ("Goes out", self.after, [(self.place, (1, 1))]),
        ]

    def addends(self, count: int) -> list[tuple[str, float]]:
        """The terms of the sum by name, the maps that matter most first."""
        order = np.argsort(-np.abs(self.sums), kind="stable")
        rows = [(f"Products on map {self.first + i}", float(self.sums[i])) for i in order[:count]]
        if len(order) > count:
            others = counted(len(order) - count, "other map")
            rows.append((f"Products on {others}", float(self.sums[order[count:]].sum())))
        return [*rows, ("Bias", self.bias), ("Sum", self.total), ("In the file", self.output)]

    @property
    def maps(self) -> tuple[int, int]:
        """The first and the last map that the kernel sees."""
        return self.first, self.first + len(self.window) - 1


@dataclass(frozen=True)
class PooledWindow:
    """A window and its output; rows and columns below 0 are padding."""

    JSON: ClassVar = "place at window=values picked output"
    DIGITS = 7
    place: tuple[int, int]
    at: tuple[int, int]
    end: tuple[int, int]
    values: Floats = field(repr=False)  # [h, w], 0 in the padding
    picked: tuple[int, int] | None  # where in the map the largest number is, if that passes
    output: float  # the number in the file

    @classmethod
    def of(
        cls, grid: WindowGrid, before: Floats, after: Floats, position: _Pair, *, largest: bool
    ) -> PooledWindow:
        """The window of one place of the output."""
        (values,), inside = grid.cut(before[None], *position)
        picked = None
        if largest:
            most = int(np.where(inside, values, -np.inf).argmax())
            down, across = np.unravel_index(most, values.shape)
            rows, columns = grid.places(*position)
            picked = (int(rows[down]), int(columns[across]))
        top, left = grid.at(*position)
        end = (top + grid.reach[0], left + grid.reach[1])
        return cls(position, (top, left), end, values, picked, float(after[position]))


@dataclass(frozen=True)
class PoolingLesson(Lesson):
    """The pooling of an image's strongest map."""

    term: ClassVar[Term] = "pooling"
    JSON: ClassVar = (
        "term layer kind takes unit size_before=before.shape size_after=after.shape windows"
    )
    takes: Literal["largest", "mean"]
    unit: int  # the map that is shown, of as many as `units`
    units: int
    windows: tuple[PooledWindow, ...]  # around the map's largest number
    before: Floats = field(repr=False)  # [H, W]
    after: Floats = field(repr=False)  # [H', W']; 1×1 if it becomes one number

    @classmethod
    def of(cls, network: OnnxGraph, layer: LessonLayer, pixels: Pixels) -> PoolingLesson:
        """The lesson about one image."""
        node = layer.node
        source, output = node.input[0], node.output[0]
        values = fetch(network, pixels, [source, output])
        maps = values[source]
        after = values[output].reshape(len(maps), *values[output].shape[1:3])
        if after.ndim == 1:
            after = after[:, None, None]
        kernel = attribute(node, "kernel_shape", maps.shape[1:])
        grid = WindowGrid.of(node, kernel, maps.shape[1:])
        unit, row, column = strongest_place(after)
        largest = "Max" in node.op_type
        rows, columns = (
            range(start := max(0, min(position, count - _SIDE)), min(start + _SIDE, count))
            for position, count in zip((row, column), after.shape[1:], strict=True)
        )
        windows = tuple(
            PooledWindow.of(grid, maps[unit], after[unit], position, largest=largest)
            for position in itertools.product(rows, columns)
        )
        takes: Literal["largest", "mean"] = "largest" if largest else "mean"
        return cls(layer.name, layer.kind, takes, unit, len(maps), windows, maps[unit], after[unit])

    @property
    def drawn(self) -> list[DrawnMap]:  # noqa: D102
        taken = [
            (window.at, (window.values.shape[0], window.values.shape[1])) for window in self.windows
        ]
        made = [(window.place, (1, 1)) for window in self.windows]
        return [("Before", self.before, taken), ("After", self.after, made)]

    @property
    def covered(self) -> tuple[int, int, int, int]:
        """The part of ``before`` in the windows: top, left, bottom, right, ends left out."""
        tops, lefts = zip(*(window.at for window in self.windows), strict=True)
        bottoms, rights = zip(*(window.end for window in self.windows), strict=True)
        return max(0, min(tops)), max(0, min(lefts)), max(bottoms), max(rights)

    @property
    def block(self) -> Floats:
        """The numbers in the windows together."""
        top, left, bottom, right = self.covered
        return self.before[top:bottom, left:right]

    @property
    def picked(self) -> list[tuple[int, int]]:
        """Positions in ``block`` of the largest numbers, which pass."""
        top, left, *_ = self.covered
        places = [window.picked for window in self.windows if window.picked is not None]
        return [(row - top, column - left) for row, column in places]

    @property
    def outputs(self) -> Floats:
        """The outputs of the windows, in their rows and columns."""
        rows = len({window.place[0] for window in self.windows})
        return np.array([window.output for window in self.windows], np.float32).reshape(rows, -1)
