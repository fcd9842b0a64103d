"""The network in a classifier.onnx, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import PlainSerializer

from opsin.core.metadata import Layer, LayerOp
from opsin.onnx_files.onnx_graph import OnnxGraph, ReceptiveField
from opsin.runtime.classifier import Classifier

_Field = Annotated[
    ReceptiveField | None,
    PlainSerializer(lambda field: None if field is None else [field.height, field.width]),
]


class LayerRow(Layer):
    """One layer."""

    parents: tuple[str, ...]  # the layers that it takes the output of, or ``images``
    receptive_field: _Field  # the pixels that one place depends on; None: all


@dataclass(frozen=True)
class NetworkSummary:
    """All layers of a network in the order of their work, and their sums."""

    JSON: ClassVar = "layers=rows parameters trainable multiply_adds bytes=file_bytes"
    rows: tuple[LayerRow, ...]
    parameters: int
    trainable: int
    multiply_adds: int
    file_bytes: int
    size: tuple[int, int]  # height and width of an image, in pixels


def summarise(classifier: Classifier, network: OnnxGraph) -> NetworkSummary:
    """Describe each layer of a classifier."""
    preparation = classifier.metadata.preparation
    rows = tuple(
        LayerRow(
            **dict(layer),
            parents=(parents := network.parents(layer.name)),
            # Flattening only lays the places of maps in a row.
            receptive_field=network.receptive_field(
                parents[0] if layer.op is LayerOp.FLATTEN else layer.name
            ),
        )
        for layer in network.layers
    )
    return NetworkSummary(
        rows,
        sum(row.parameters for row in rows),
        sum(row.trainable for row in rows),
        sum(row.multiply_adds for row in rows),
        len(classifier.content),
        (preparation.height, preparation.width),
    )
