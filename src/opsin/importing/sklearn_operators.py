"""Operators for models without layers, as skl2onnx writes them, become standard ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

from opsin.onnx_files.onnx_graph import attribute, leading_to
from opsin.onnx_files.postprocessing import TREES


class StandardOperators:
    """Rewrites a graph; trees stay, which every runtime knows."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        self._nodes: list[NodeProto] = []
        #: Names of the classes, where the file says them.
        self.classes: tuple[str, ...] | None = None

    def rewrite(self) -> None:
        """Write each operator that has a standard form in this, and leave labels out."""
        write: dict[str, Callable[[NodeProto], None]] = {
            "ZipMap": self._zip_map,
            "LinearClassifier": self._linear,
            "Scaler": self._scaler,
            "Normalizer": self._normalizer,
        }
        for node in self._graph.node:
            rewritten = write.get(node.op_type) if node.domain == TREES else None
            if rewritten is None:
                self._nodes.append(node)
            else:
                rewritten(node)
        kept = [each for each in self._graph.output if not self._is_label(each)]
        nodes = leading_to(self._nodes, [each.name for each in kept])
        del self._graph.node[:], self._graph.output[:]
        self._graph.node.extend(nodes)
        self._graph.output.extend(kept)

    def _is_label(self, output: onnx.ValueInfoProto) -> bool:
        kinds = (onnx.TensorProto.INT64, onnx.TensorProto.STRING)
        return output.type.tensor_type.elem_type in kinds

    def _held(self, name: str, value: Any, dtype: type[np.generic] = np.float32) -> str:
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def _add(self, kind: str, inputs: Sequence[str], output: str, **further: Any) -> str:
        self._nodes.append(helper.make_node(kind, inputs, [output], **further))
        return output

    def _zip_map(self, node: NodeProto) -> None:
        """Leave a table of names and probabilities out: the probabilities are what is wanted."""
        names = attribute(node, "classlabels_strings", None)
        names = names or attribute(node, "classlabels_int64s", ())
        self.classes = tuple(
            name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
            for name in names
        )
        self._add("Identity", node.input[:1], node.output[0])
        for output in self._graph.output:
            if output.name == node.output[0]:
                output.CopyFrom(helper.make_tensor_value_info(
                    output.name, onnx.TensorProto.FLOAT, ["N", len(self.classes)]
                ))  # fmt: skip

    def _linear(self, node: NodeProto) -> None:
        stem = node.output[1]
        intercepts = np.array(attribute(node, "intercepts", ()), np.float32)
        weights: NDArray[np.float32] = np.array(attribute(node, "coefficients", ()), np.float32)
        weights = weights.reshape(len(intercepts), -1)
        names = [self._held(f"{stem}.weight", weights), self._held(f"{stem}.bias", intercepts)]
        ending = _ENDINGS.get(attribute(node, "post_transform", b"NONE"), None)
        made = self._add(
            "Gemm", [node.input[0], *names], f"{stem}.scores" if ending else stem, transB=1
        )
        if ending:
            self._add(ending, [made], stem, **({"axis": 1} if ending == "Softmax" else {}))

    def _scaler(self, node: NodeProto) -> None:
        stem = node.output[0]
        offset = self._held(f"{stem}.offset", attribute(node, "offset", ()))
        scale = self._held(f"{stem}.scale", attribute(node, "scale", ()))
        moved = self._add("Sub", [node.input[0], offset], f"{stem}.moved")
        self._add("Mul", [moved, scale], stem)

    def _normalizer(self, node: NodeProto) -> None:
        stem = node.output[0]
        kind = {b"L1": "ReduceL1", b"L2": "ReduceL2"}.get(attribute(node, "norm", b"MAX"))
        if kind is None:  # the largest magnitude
            size = self._add("Abs", node.input[:1], f"{stem}.size")
            kind = "ReduceMax"
        else:
            size = node.input[0]
        # As an attribute: such files are older than operators that take it as an input.
        length = self._add(kind, [size], f"{stem}.length", axes=[1], keepdims=1)
        self._add("Div", [node.input[0], length], stem)


_ENDINGS: Final = {b"SOFTMAX": "Softmax", b"LOGISTIC": "Sigmoid"}
