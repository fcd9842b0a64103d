"""One window times a kernel is one number of a map."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from opsin.core.stored_json import JsonObject
from opsin.inspection.lessons.lesson_layers import LessonLayer, fetch, plain
from opsin.inspection.lessons.lesson_terms import Term
from opsin.inspection.lessons.lesson_window import WindowGrid, strongest_place
from opsin.onnx_files.onnx_graph import OnnxGraph, attribute
from opsin.runtime.classifier import Classifier


@dataclass(frozen=True)
class ConvolutionLesson:
    """How one number of a convolution's maps comes about.

    Args:
        layer: Name of the layer.
        kind: What it is.
        unit: The map that the number is in, and whose kernel it is.
        units: How many maps the layer has.
        place: Row and column of the number in its map.
        at: First row and column of the window in the maps that come in; below 0: padding.
        reach: Rows and columns that the window covers there.
        first: Number of the first map that the kernel sees; others than 0 in groups.
        window: What the kernel sees, ``float32[C, h, w]``, 0 in the padding.
        inside: Which of it lies on the maps, ``bool[h, w]``.
        kernel: ``float32[C, h, w]``
        bias: What is added; 0 where the layer has none.
        output: The number in the file.
        before: The maps that the kernel sees, ``float32[C, H, W]``.
        after: The map that the number is in, ``float32[H', W']``.
    """

    term: ClassVar[Term] = "convolution"
    layer: str
    kind: str
    unit: int
    units: int
    place: tuple[int, int]
    at: tuple[int, int]
    reach: tuple[int, int]
    first: int
    window: NDArray[np.float32] = field(repr=False)
    inside: NDArray[np.bool_] = field(repr=False)
    kernel: NDArray[np.float32] = field(repr=False)
    bias: float
    output: float
    before: NDArray[np.float32] = field(repr=False)
    after: NDArray[np.float32] = field(repr=False)

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

    def to_json(self) -> JsonObject:
        """Return it as plain data, the whole maps left out."""
        return {
            "term": self.term,
            "layer": self.layer,
            "kind": self.kind,
            "unit": self.unit,
            "place": list(self.place),
            "at": list(self.at),
            "maps": [self.first, self.first + len(self.window) - 1],
            "window": plain(self.window),
            "kernel": plain(self.kernel),
            "sums": plain(self.sums),
            "bias": plain(np.asarray(self.bias)),
            "total": plain(np.asarray(self.total)),
            "output": plain(np.asarray(self.output)),
        }


def convolution_lesson(
    classifier: Classifier,  # noqa: ARG001  of every lesson
    network: OnnxGraph,
    found: LessonLayer,
    pixels: NDArray[np.uint8],
) -> ConvolutionLesson:
    """Return how the largest number that a convolution makes of an image comes about.

    Places whose window reaches into the padding come last.

    Args:
        classifier: An open classifier.
        network: Its network.
        found: The layer.
        pixels: A prepared image, ``uint8[H, W, C]``.

    Raises:
        ModelFileError: A value is infinite or no number.
    """
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
    return ConvolutionLesson(
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
