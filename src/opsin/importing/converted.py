"""What each reader makes of a file: a network of standard operators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from onnx import ModelProto, helper

from opsin.core.metadata import Layer
from opsin.onnx_files.graph_writer import GraphWriter
from opsin.onnx_files.postprocessing import as_model

#: What a network answers with.
Form = Literal["logits", "softmax", "probabilities", "sigmoid", "scores"]


@dataclass(frozen=True)
class Converted:
    """A network as standard operators, and what its file says of it."""

    model: ModelProto
    maker: str
    network: str
    layers: tuple[Layer, ...] = ()  # none: each operator is one
    output: str | None = None
    form: Form | None = None
    scales: str | None = None  # the layer that scales pixels from 0 to 255
    classes: tuple[str, ...] | None = None


def model_of(to: GraphWriter, name: str, *ends: tuple[str, int, tuple[int, ...]]) -> ModelProto:
    """Return what was written as a model; `ends`: name, type and shape of input and outputs."""
    image, *answers = (
        helper.make_tensor_value_info(value, kind, ["N", *shape]) for value, kind, shape in ends
    )
    return as_model(helper.make_graph(to.nodes, name, [image], answers, to.weights))
