"""Collects the operators and weights of a graph that is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from opsin.core.errors import MissingExtraError

try:
    from onnx import NodeProto, TensorProto, helper, numpy_helper
except ImportError as error:
    raise MissingExtraError("writing a classifier", "evaluate") from error


@dataclass
class GraphWriter:
    """Collects the nodes and weights of one ONNX graph."""

    nodes: list[NodeProto] = field(default_factory=list)
    weights: list[TensorProto] = field(default_factory=list)

    def weight(self, name: str, value: Any, dtype: type[np.generic]) -> str:
        """Store an array and return the name to use as an input."""
        array = np.ascontiguousarray(value, dtype)
        self.weights.append(numpy_helper.from_array(array.reshape(np.shape(value)), name))
        return name

    def node(self, kind: str, inputs: Sequence[str], *outputs: str, **attributes: Any) -> str:
        """Add an operator and return the name of its first output."""
        name = f"{outputs[0]}/{kind}"
        self.nodes.append(helper.make_node(kind, inputs, outputs, name=name, **attributes))
        return outputs[0]
