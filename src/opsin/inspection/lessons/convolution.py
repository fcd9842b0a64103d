"""One window times a kernel is one number of a map."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from opsin.core.format import counted
from opsin.core.stored_json import JsonObject
from opsin.inspection.lessons.lesson_layers import LessonLayer, fetch, lesson_json
from opsin.inspection.lessons.lesson_terms import Term
from opsin.inspection.lessons.lesson_window import WindowGrid, strongest_place
from opsin.onnx_files.onnx_graph import OnnxGraph, attribute


@dataclass(frozen=True)
class ConvolutionLesson:
    """How the largest number that a convolution makes of an image comes about."""

    term: ClassVar[Term] = "convolution"
    layer: str
    kind: str
    unit: int  # the map that the number is in, of as many as `units`
    units: int
    place: tuple[int, int]
    at: tuple[int, int]  # first row and column of the window; below 0: padding
    reach: tuple[int, int]
    first: int  # the first map that the kernel sees: not 0 in groups
    window: NDArray[np.float32] = field(repr=False)  # [C, h, w], 0 in the padding
    inside: NDArray[np.bool_] = field(repr=False)  # [h, w]
    kernel: NDArray[np.float32] = field(repr=False)  # [C, h, w]
    bias: float
    output: float  # the number in the file
    before: NDArray[np.float32] = field(repr=False)  # [C, H, W]
    after: NDArray[np.float32] = field(repr=False)  # [H', W']

    @classmethod
    def of(
        cls, network: OnnxGraph, found: LessonLayer, pixels: NDArray[np.uint8]
    ) -> ConvolutionLesson:
        """The lesson about one image; places whose window reaches into the padding come last."""
        node = found.node
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
            layer=found.name,
            kind=found.kind,
            unit=unit,
            units=len(after),
            place=(row, column),
            at=grid.at(row, column),
            reach=grid.reach,
            first=first,
            window=window,
            inside=inside,
            kernel=kernels[unit],
            bias=float(values[bias][unit]) if bias else 0.0,
            output=float(after[unit, row, column]),
            before=seen,
            after=after[unit],
        )

    @property
    def products(self) -> NDArray[np.float64]:
        """Each number of the window times that of the kernel, ``float64[C, h, w]``."""
        return np.asarray(self.window, np.float64) * self.kernel

    @property
    def sums(self) -> NDArray[np.float64]:
        """The sum of the products on each map that comes in, ``float64[C]``."""
        return np.asarray(self.products.sum(axis=(1, 2)))

    @property
    def strongest(self) -> int:
        """The map that comes in whose sum is farthest from 0, a place among ``before``."""
        return int(np.abs(self.sums).argmax())

    @property
    def total(self) -> float:
        """All products and the bias, added up here; the file says ``output``."""
        return float(self.products.sum()) + self.bias

    def addends(self, count: int) -> list[tuple[str, float]]:
        """What adds up to the number, by name: the maps that matter most first."""
        order = np.argsort(-np.abs(self.sums), kind="stable")
        rows = [(f"Products on map {self.first + i}", float(self.sums[i])) for i in order[:count]]
        if len(order) > count:
            others = counted(len(order) - count, "other map")
            rows.append((f"Products on {others}", float(self.sums[order[count:]].sum())))
        return [*rows, ("Bias", self.bias), ("Sum", self.total), ("In the file", self.output)]

    def to_json(self) -> JsonObject:
        """Plain data, the whole maps left out."""
        maps = [self.first, self.first + len(self.window) - 1]
        names = "unit place at maps window kernel sums bias total output"
        return lesson_json(self, names, maps=maps)
