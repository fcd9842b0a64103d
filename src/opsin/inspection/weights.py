"""Weights of each layer, in figures and as images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray

from opsin.core.arrays import Doubles, Floats, Ints
from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.onnx_files.operators import traits_of
from opsin.onnx_files.postprocessing import IMAGES

# Bars of a histogram, whose middle edge is 0.
_BARS: Final = 40
# Share of a layer's weights that lie within the ends of its colour scale.
_WITHIN: Final = 0.995
# Titles of tensors by their names in the file.
_TITLES: Final = {"weight": "weights", "bias": "biases"}
_NORM_TITLES: Final = {
    "weight": "scale", "bias": "shift", "running_mean": "running mean",
    "running_var": "running deviation",
}  # fmt: skip


@dataclass(frozen=True)
class TensorSummary:
    """One tensor of a layer in figures of all its numbers."""

    JSON: ClassVar = "name title shape mean deviation smallest largest norm edges counts"
    name: str
    title: str
    shape: tuple[int, ...]
    mean: float
    deviation: float
    smallest: float
    largest: float
    norm: float  # L2
    edges: Doubles  # of the histogram, symmetric about 0
    counts: Ints


@dataclass(frozen=True)
class WeightImages:
    """A layer's weights, arranged as images."""

    kind: Literal["filters", "units", "kernels", "matrix"]
    weights: Floats
    limit: float  # ends of one colour scale, plus and minus, for the whole layer
    sources: tuple[str, ...]  # the layers whose output it takes, or ``images``


@dataclass(frozen=True)
class WeightView:
    """The tensors of a layer; ``images`` is ``None`` if they have no axes to show."""

    JSON: ClassVar = "layer=name kind parameters trainable images=_images values"
    name: str
    kind: str
    parameters: int
    trainable: int
    values: tuple[TensorSummary, ...]
    images: WeightImages | None

    @property
    def _images(self) -> str | None:
        return None if self.images is None else self.images.kind


def weight_views(network: OnnxGraph) -> list[WeightView]:
    """The weights of each layer that has some, in the order of the layers."""
    views = []
    for layer in network.layers:
        held = network.weights_of(layer.name)
        titles = _NORM_TITLES if "running_var" in held else _TITLES
        tensors = tuple(
            values_of(name, title, held[name])
            for name, title in titles.items()
            if name in held and held[name].size
        )
        if tensors:
            images = _images(network, layer.name, held.get("weight"))
            sizes = layer.parameters, layer.trainable
            views.append(WeightView(layer.name, layer.kind, *sizes, tensors, images))
    return views


def values_of(name: str, title: str, weights: NDArray[Any]) -> TensorSummary:
    """Describe a tensor; a variance is shown as a standard deviation."""
    exact = np.asarray(weights, np.float64)
    if name == "running_var":
        exact = np.asarray(np.sqrt(np.maximum(weights, 0)), np.float64)
    reach = float(np.abs(exact).max()) or 1.0
    counts, edges = np.histogram(exact, _BARS, (-reach, reach))
    return TensorSummary(
        name,
        title,
        tuple(exact.shape),
        float(exact.mean()),
        float(exact.std()),
        float(exact.min()),
        float(exact.max()),
        float(np.sqrt((exact**2).sum())),
        edges,
        counts.astype(np.int64),
    )


def _images(network: OnnxGraph, name: str, weights: Floats | None) -> WeightImages | None:
    if weights is None or weights.ndim not in (2, 4):
        return None
    sources = network.parents(name)
    pixels = _pixels_into(network, name)
    kind: Literal["filters", "units", "kernels", "matrix"]
    kind = "kernels" if weights.ndim == 4 else "matrix"
    if weights.ndim == 4 and _from_first(network, sources):
        kind, weights = "filters", weights.transpose(0, 2, 3, 1)
    elif weights.ndim == 2 and pixels is not None and weights.shape[1] == np.prod(pixels):
        kind, weights = "units", weights.reshape(-1, *pixels).transpose(0, 2, 3, 1)
    strengths = np.abs(np.asarray(weights, np.float64))
    limit = float(np.quantile(strengths, _WITHIN)) or float(strengths.max()) or 1.0
    return WeightImages(kind, np.ascontiguousarray(weights), limit, sources)


def _from_first(network: OnnxGraph, sources: tuple[str, ...]) -> bool:
    first = network.layers[0].name
    return sources == (IMAGES,) or (
        sources == (first,) and "weight" not in network.weights_of(first)
    )


def _pixels_into(network: OnnxGraph, name: str) -> tuple[int, ...] | None:
    """The shape of the pixels, channels first, if they are a layer's only input."""
    sources = network.parents(name)
    while len(sources) == 1 and not _from_first(network, sources):
        if sources[0] == IMAGES or not traits_of(network.layer(sources[0]).op).passes_on:
            return None
        sources = network.parents(sources[0])
    shape = tuple(network.layers[0].shape)
    return shape if _from_first(network, sources) and len(shape) == 3 else None
