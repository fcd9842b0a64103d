"""Weights in float16: half the space."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.onnx_files.operators import WEIGHTED

# The largest number that float16 can hold.
_LARGEST: Final = 65504.0


def to_fp16(content: bytes) -> bytes:
    """Return a classifier with its weights in float16, and its arithmetic in float32 as before."""
    graph = OnnxGraph(content)
    casts = []
    for name in dict.fromkeys(node.input[1] for node in graph.nodes if node.op_type in WEIGHTED):
        weight = graph.weights.get(name)
        if weight is None or not _is_float(weight) or np.abs(weight).max() > _LARGEST:
            continue
        stored = f"{name}.float16"
        graph.weights[stored] = graph.weights.pop(name).astype(np.float16)
        casts.append(
            helper.make_node("Cast", [stored], [name], name=f"{name}/Cast", to=TensorProto.FLOAT)
        )
    graph.nodes = [*casts, *graph.nodes]
    return graph.content(graph.metadata.model_copy(update={"precision": "float16"}))


def _is_float(value: NDArray[Any]) -> bool:
    """Tell whether an array holds float32, finite numbers only."""
    return value.dtype == np.float32 and bool(np.isfinite(value).all())
