"""What each layer has learnt: its weights in figures and as images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from opsin.core.artifacts.epoch import Epoch
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.stored_json import JsonObject
from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.onnx_files.operators import traits_of
from opsin.onnx_files.postprocessing import IMAGES
from opsin.runtime.classifier import Classifier

#: Bars of a histogram, whose middle edge is 0.
BARS: Final = 40
# Share of a layer's weights that lie within the ends of its colour scale.
_WITHIN: Final = 0.995
# What each tensor is called, by its name in the file.
_TITLES: Final = {"weight": "weights", "bias": "biases"}
_NORM_TITLES: Final = {
    "weight": "scale",
    "bias": "shift",
    "running_mean": "running mean",
    "running_var": "running deviation",
}
# Operators that pass on their input unchanged.

#: What images of weights are: ``filters`` of the first convolution, ``units`` of a dense layer
#: that sees the pixels, ``kernels`` of another convolution, the ``matrix`` of another dense layer.
WeightImageKind = Literal["filters", "units", "kernels", "matrix"]


@dataclass(frozen=True)
class TensorSummary:
    """One tensor of a layer in figures.

    Args:
        name: ``weight``, ``bias``, ``running_mean`` or ``running_var``.
        title: What it is called: ``weights``, ``biases``, ``scale``, ``shift`` …
        shape: Its own.
        mean: Of all its numbers, as are the others.
        deviation: Standard deviation.
        smallest: The least number.
        largest: The greatest.
        norm: Root of the sum of squares (L2).
        edges: Ends of the histogram's bars, ``float64[41]``, the same distance on both sides of 0.
        counts: How many numbers are in each, ``int64[40]``.
    """

    name: str
    title: str
    shape: tuple[int, ...]
    mean: float
    deviation: float
    smallest: float
    largest: float
    norm: float
    edges: NDArray[np.float64]
    counts: NDArray[np.int64]

    def to_json(self) -> JsonObject:
        """Return it as plain data."""
        said = {name: getattr(self, name) for name in self.__dataclass_fields__}
        arrays = {"edges": self.edges.tolist(), "counts": self.counts.tolist()}
        return said | {"shape": list(self.shape)} | arrays


@dataclass(frozen=True)
class WeightImages:
    """A layer's weights, arranged so that they can be seen.

    Args:
        kind: What the images are.
        weights: ``float32``. Of ``filters`` and ``units`` ``[N, H, W, C]``, an image of pixels
            for each unit; of ``kernels`` ``[N, M, H, W]``, a kernel for each unit and each map
            that comes in; of a ``matrix`` ``[N, M]``, a row for each unit.
        limit: Where the ends of one colour scale for the whole layer should lie, plus and minus:
            all but the strongest 0.5% of its weights are within.
        sources: The layers whose output it takes, or ``images``.
    """

    kind: WeightImageKind
    weights: NDArray[np.float32]
    limit: float
    sources: tuple[str, ...]


@dataclass(frozen=True)
class WeightView:
    """What a layer holds.

    Args:
        name: Of the layer.
        kind: What it is: ``Conv 3×3 same``, ``Dense``, ``BatchNorm`` …
        parameters: Numbers that it holds.
        trainable: Those of them that training changed.
        values: Each of its tensors in figures.
        images: Its weights as images; ``None`` for those that are a list of numbers.
    """

    name: str
    kind: str
    parameters: int
    trainable: int
    values: tuple[TensorSummary, ...]
    images: WeightImages | None

    def to_json(self) -> JsonObject:
        """Return the figures as plain data, the images left out."""
        images = None if self.images is None else self.images.kind
        return {
            "layer": self.name,
            "kind": self.kind,
            "parameters": self.parameters,
            "trainable": self.trainable,
            "images": images,
            "values": [values.to_json() for values in self.values],
        }


def weight_views(network: OnnxGraph) -> list[WeightView]:
    """Return what each layer that holds weights has learnt, in the order of the layers.

    Layers without weights are left out, and so is the first one, whose mean and deviation of the
    pixels are measured, not learnt. Trees, neighbours and support vectors are no weights.

    Args:
        network: The network in a file.

    Example:
        >>> import opsin, tempfile
        >>> run = opsin.train("digits", model="mlp", epochs=1, runs=tempfile.mkdtemp(), quiet=True)
        >>> file = run.classifier()
        >>> views = weight_views(OnnxGraph(file.content))
        >>> [(view.name, view.images.kind, view.images.weights.shape) for view in views]
        [('dense1', 'units', (128, 8, 8, 1)), ('head', 'matrix', (10, 128))]
    """
    views = []
    for layer in network.layers:
        held = network.weights_of(layer.name)
        titles = _NORM_TITLES if "running_var" in held else _TITLES
        found = [
            values_of(name, title, _shown(name, held[name]))
            for name, title in titles.items()
            if name in held and held[name].size
        ]
        if found:
            images = _images(network, layer.name, held.get("weight"))
            views.append(
                WeightView(
                    name=layer.name,
                    kind=layer.kind,
                    parameters=layer.parameters,
                    trainable=layer.trainable,
                    values=tuple(found),
                    images=images,
                )
            )
    return views


def values_of(name: str, title: str, weights: NDArray[Any]) -> TensorSummary:
    """Describe a tensor.

    Args:
        name: Its name in the file.
        title: What to call it.
        weights: Its numbers, at least one.

    Example:
        >>> found = values_of("bias", "biases", np.array([-1.0, 0.0, 3.0]))
        >>> round(found.norm**2), found.largest, int(found.counts.sum())
        (10, 3.0, 3)
    """
    exact = np.asarray(weights, np.float64)
    reach = float(np.abs(exact).max()) or 1.0
    counts, edges = np.histogram(exact, BARS, (-reach, reach))
    return TensorSummary(
        name=name,
        title=title,
        shape=tuple(exact.shape),
        mean=float(exact.mean()),
        deviation=float(exact.std()),
        smallest=float(exact.min()),
        largest=float(exact.max()),
        norm=float(np.sqrt((exact**2).sum())),
        edges=edges,
        counts=counts.astype(np.int64),
    )


def _shown(name: str, weights: NDArray[Any]) -> NDArray[Any]:
    """Return a variance as a deviation, in the unit of what it is the deviation of."""
    return np.sqrt(np.maximum(weights, 0)) if name == "running_var" else weights


def _images(
    network: OnnxGraph, name: str, weights: NDArray[np.float32] | None
) -> WeightImages | None:
    if weights is None or weights.ndim not in (2, 4):
        return None
    sources = network.parents(name)
    pixels = _pixels_into(network, name)
    kind: WeightImageKind = "kernels" if weights.ndim == 4 else "matrix"
    if weights.ndim == 4 and _from_first(network, sources):
        kind, weights = "filters", weights.transpose(0, 2, 3, 1)
    elif weights.ndim == 2 and pixels is not None and weights.shape[1] == np.prod(pixels):
        kind, weights = "units", weights.reshape(-1, *pixels).transpose(0, 2, 3, 1)
    return WeightImages(kind, np.ascontiguousarray(weights), limit_of(weights), sources)


def limit_of(weights: NDArray[Any]) -> float:
    """Return where the colour scale of a layer ends: 99.5% of its weights lie within.

    Example:
        >>> round(limit_of(np.linspace(-1, 1, 2001)), 3), limit_of(np.zeros(3))
        (0.995, 1.0)
    """
    strengths = np.abs(np.asarray(weights, np.float64))
    ends = float(np.quantile(strengths, _WITHIN))
    return ends or float(strengths.max()) or 1.0


def _from_first(network: OnnxGraph, sources: tuple[str, ...]) -> bool:
    """Tell whether a layer sees the pixels, themselves or normalised."""
    first = network.layers[0].name
    return sources == (IMAGES,) or (
        sources == (first,) and "weight" not in network.weights_of(first)
    )


def _pixels_into(network: OnnxGraph, name: str) -> tuple[int, int, int] | None:
    """Return the shape of the pixels, channels first, if nothing else goes into a layer."""
    sources = network.parents(name)
    while len(sources) == 1 and not _from_first(network, sources):
        if sources[0] == IMAGES or not traits_of(network.layer(sources[0]).op).passes_on:
            return None
        sources = network.parents(sources[0])
    shape = network.layers[0].shape
    if not _from_first(network, sources) or len(shape) != 3:
        return None
    channels, height, width = shape
    return channels, height, width


def norm_history(classifier: Classifier) -> list[Epoch]:
    """Return the epochs of the training that the file came from, each with its ``norms``.

    Epochs without them, as runs of earlier versions have, are left out; of a file that lies in no
    run nothing is known.

    Args:
        classifier: An open classifier.

    Example:
        >>> import opsin, tempfile
        >>> run = opsin.train("digits", model="mlp", epochs=2, runs=tempfile.mkdtemp(), quiet=True)
        >>> [sorted(epoch.norms) for epoch in norm_history(run.classifier())]
        [['dense1', 'head'], ['dense1', 'head']]
    """
    directory = RunDirectory(classifier.path.parent)
    if not directory.history.is_file():
        return []
    return [epoch for epoch in directory.read_history() if epoch.norms]
