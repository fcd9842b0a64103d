"""Operators for models without layers, as skl2onnx writes them, become standard ones."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper

from opsin.onnx_files.onnx_graph import attribute, leading_to
from opsin.onnx_files.postprocessing import TREES, GraphWriter

_ENDINGS: Final[dict[bytes, tuple[str, dict[str, Any]]]] = {
    b"SOFTMAX": ("Softmax", {"axis": 1}),
    b"LOGISTIC": ("Sigmoid", {}),
}


def use_standard_operators(model: onnx.ModelProto) -> tuple[str, ...] | None:
    """Rewrite a graph, labels left out, and return the names of the classes if it says them."""
    graph, to, classes = model.graph, GraphWriter(), None
    for node in graph.node:
        write = _WRITERS.get(node.op_type) if node.domain == TREES else None
        if write is not None:
            write(to, node)
        elif node.domain == TREES and node.op_type == "ZipMap":
            # Of a table of names and probabilities, the probabilities are what is wanted.
            names = attribute(node, "classlabels_strings", None)
            names = names or attribute(node, "classlabels_int64s", ())
            classes = tuple(
                name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
                for name in names
            )
            to.node("Identity", node.input[:1], node.output[0])
            for output in graph.output:
                if output.name == node.output[0]:
                    output.CopyFrom(helper.make_tensor_value_info(
                        output.name, TensorProto.FLOAT, ["N", len(classes)]
                    ))  # fmt: skip
        else:
            to.nodes.append(node)
    labels = (TensorProto.INT64, TensorProto.STRING)
    kept = [output for output in graph.output if output.type.tensor_type.elem_type not in labels]
    nodes = leading_to(to.nodes, [output.name for output in kept])
    del graph.node[:], graph.output[:]
    graph.node.extend(nodes)
    graph.output.extend(kept)
    graph.initializer.extend(to.weights)
    return classes


def _linear(to: GraphWriter, node: NodeProto) -> None:
    stem = node.output[1]
    intercepts = np.array(attribute(node, "intercepts", ()), np.float32)
    weights = np.array(attribute(node, "coefficients", ()), np.float32)
    held = [to.weight(f"{stem}.weight", weights.reshape(len(intercepts), -1), np.float32),
            to.weight(f"{stem}.bias", intercepts, np.float32)]  # fmt: skip
    made = to.node("Gemm", [node.input[0], *held], f"{stem}.scores", transB=1)
    kind, options = _ENDINGS.get(attribute(node, "post_transform", b"NONE"), ("Identity", {}))
    to.node(kind, [made], stem, **options)


def _scaler(to: GraphWriter, node: NodeProto) -> None:
    stem = node.output[0]
    offset, scale = (to.weight(f"{stem}.{part}", attribute(node, part, ()), np.float32)
                     for part in ("offset", "scale"))  # fmt: skip
    moved = to.node("Sub", [node.input[0], offset], f"{stem}.moved")
    to.node("Mul", [moved, scale], stem)


def _normalizer(to: GraphWriter, node: NodeProto) -> None:
    stem, size = node.output[0], node.input[0]
    kind = {b"L1": "ReduceL1", b"L2": "ReduceL2"}.get(attribute(node, "norm", b"MAX"))
    if kind is None:  # the largest magnitude
        kind, size = "ReduceMax", to.node("Abs", [size], f"{stem}.size")
    # As an attribute: such files are older than operators that take it as an input.
    length = to.node(kind, [size], f"{stem}.length", axes=[1], keepdims=1)
    to.node("Div", [node.input[0], length], stem)


_WRITERS: Final = {"LinearClassifier": _linear, "Scaler": _scaler, "Normalizer": _normalizer}
