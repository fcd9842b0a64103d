"""The network in a classifier.onnx, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from opsin.core.metadata import Layer, LayerOp
from opsin.core.stored_json import JsonObject
from opsin.inspection.timing import layer_seconds
from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.onnx_files.receptive_field import ReceptiveField
from opsin.runtime.classifier import Classifier

# Pixels and images of the batch that is timed: enough to measure, few enough for a fraction of
# a second.
_PIXELS, _IMAGES = 12_000, 16


@dataclass(frozen=True)
class LayerRow:
    """One layer.

    Args:
        name: Its name, by which `opsin.Classifier.layers` fetches what it puts out.
        kind: What it is: ``Conv 3×3 same``, ``Dense`` …
        shape: Of its output for one image: ``(channels, height, width)`` or ``(units,)``.
        parents: The layers that it takes the output of, or ``images``.
        parameters: Numbers that it holds.
        trainable: Those of them that training changed.
        multiply_adds: Multiplications with an addition, for one image.
        seconds: Measured time for one image; ``None`` where it was not measured.
        share: Its share of the time of all layers, 0 to 1; ``None`` where it was not measured.
        receptive_field: The pixels that one of its places, or units, depends on; ``None``: all.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parents: tuple[str, ...]
    parameters: int
    trainable: int
    multiply_adds: int
    seconds: float | None
    share: float | None
    receptive_field: ReceptiveField | None

    def to_json(self) -> JsonObject:
        """Return the row as plain data; the receptive field as height and width, in pixels."""
        field = self.receptive_field
        return {
            "name": self.name,
            "kind": self.kind,
            "shape": list(self.shape),
            "parents": list(self.parents),
            "parameters": self.parameters,
            "trainable": self.trainable,
            "multiply_adds": self.multiply_adds,
            "seconds": self.seconds,
            "share": self.share,
            "receptive_field": None if field is None else [field.height, field.width],
        }


@dataclass(frozen=True)
class NetworkSummary:
    """All layers of a network, and their sums.

    Args:
        rows: The layers in the order of their work.
        parameters: Numbers that all of them hold.
        trainable: Those of them that training changed.
        multiply_adds: Multiplications with an addition, for one image.
        seconds: Measured time of all layers for one image, each operator by itself on one
            thread, which takes longer than an answer does; ``None`` where it was not measured.
        file_bytes: Size of the file.
        size: Height and width of an image, in pixels.
    """

    rows: tuple[LayerRow, ...]
    parameters: int
    trainable: int
    multiply_adds: int
    seconds: float | None
    file_bytes: int
    size: tuple[int, int]

    def to_json(self) -> JsonObject:
        """Return the summary as plain data."""
        return {
            "layers": [row.to_json() for row in self.rows],
            "parameters": self.parameters,
            "trainable": self.trainable,
            "multiply_adds": self.multiply_adds,
            "seconds": self.seconds,
            "bytes": self.file_bytes,
        }


def summarise(classifier: Classifier, network: OnnxGraph, *, timed: bool = True) -> NetworkSummary:
    """Describe each layer of a classifier.

    Args:
        classifier: An open classifier.
        network: The network in its file.
        timed: Measure how long each layer takes (`opsin.inspection.timing.layer_seconds`), on
            noise of the images' size: what an image shows makes next to no difference.

    Example:
        >>> import tempfile, opsin
        >>> run = opsin.train("digits", model="mlp", epochs=1, runs=tempfile.mkdtemp(), quiet=True)
        >>> file = run.classifier()
        >>> summary = summarise(file, OnnxGraph(file.content))
        >>> [row.name for row in summary.rows], summary.parameters
        (['input', 'flatten', 'dense1', 'relu1', 'head'], 9610)
        >>> row = summary.rows[2]
        >>> row.parents, row.shape, row.receptive_field is None, 0 < row.share < 1
        (('flatten',), (128,), True, True)
    """
    content = classifier.content
    seconds: dict[str, float] = {}
    if timed:
        seconds = layer_seconds(content, network.layers, _noise(classifier))
    whole, like = sum(seconds.values()), classifier.metadata.preparation
    rows = tuple(
        LayerRow(
            name=layer.name,
            kind=layer.kind,
            shape=layer.shape,
            parents=network.parents(layer.name),
            parameters=layer.parameters,
            trainable=layer.trainable,
            multiply_adds=layer.multiply_adds,
            seconds=seconds.get(layer.name),
            share=seconds[layer.name] / whole if whole else None,
            receptive_field=_field(network, layer),
        )
        for layer in network.layers
    )
    return NetworkSummary(
        rows=rows,
        parameters=sum(row.parameters for row in rows),
        trainable=sum(row.trainable for row in rows),
        multiply_adds=sum(row.multiply_adds for row in rows),
        seconds=whole if timed else None,
        file_bytes=len(content),
        size=(like.height, like.width),
    )


def _field(network: OnnxGraph, layer: Layer) -> ReceptiveField | None:
    """Return what a unit of a layer sees; flattening only lays the places of maps in a row."""
    name = network.parents(layer.name)[0] if layer.op is LayerOp.FLATTEN else layer.name
    return network.receptive_field(name)


def _noise(classifier: Classifier) -> NDArray[np.uint8]:
    """Return images to measure with, ``uint8[N, H, W, C]``."""
    like = classifier.metadata.preparation
    count = min(_IMAGES, max(1, _PIXELS // (like.height * like.width)))
    shape = (count, like.height, like.width, like.channels)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)
