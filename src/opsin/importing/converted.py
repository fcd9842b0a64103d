"""The result of each reader: a network of standard operators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from onnx import ModelProto

from opsin.core.metadata import Layer

#: The form of a network's answers.
Form = Literal["logits", "softmax", "probabilities", "sigmoid", "scores"]


@dataclass(frozen=True)
class Converted:
    """A network as standard operators, and details from its file."""

    model: ModelProto
    maker: str
    network: str
    layers: tuple[Layer, ...] = ()  # none: each operator is one
    output: str | None = None
    form: Form | None = None
    scales: str | None = None  # the layer that scales pixels from 0 to 255
    classes: tuple[str, ...] | None = None
