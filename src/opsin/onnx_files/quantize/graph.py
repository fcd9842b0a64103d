"""The graph of a classifier.onnx, taken apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import MissingExtraError
from opsin.core.metadata import Metadata

try:
    import onnx
    from onnx import helper, numpy_helper

    from opsin.onnx_files.onnx_graph import parse
except ImportError as error:
    raise MissingExtraError("smaller files", "evaluate") from error

#: Name of the logits in every file.
LOGITS: Final = "head"
#: Operators that hold a network's weights, as their second input.
WEIGHTED: Final = frozenset(("Conv", "Gemm"))


class Graph:
    """The operators of a file in their order, and its weights, to be changed.

    Args:
        content: An ONNX file that Opsin wrote.

    Raises:
        ModelFileError: Opsin did not write it.

    Example:
        >>> import tempfile, opsin
        >>> run = opsin.train("digits", model="mlp", epochs=1, runs=tempfile.mkdtemp(), quiet=True)
        >>> graph = Graph(run.classifier().content)
        >>> graph.maker("dense1").op_type, [node.op_type for node in graph.users("dense1")]
        ('Gemm', ['Relu'])
    """

    def __init__(self, content: bytes) -> None:
        self.model: onnx.ModelProto
        self.weights: dict[str, NDArray[Any]]
        self.model, self.weights = parse(content)
        props = {each.key: each.value for each in self.model.metadata_props}
        self.metadata: Metadata = Metadata.from_props(props, "the file")
        self.nodes: list[onnx.NodeProto] = list(self.model.graph.node)

    def maker(self, value: str) -> onnx.NodeProto | None:
        """Return the operator that a value comes from; ``None`` for weights and the input."""
        return next((node for node in self.nodes if value in node.output), None)

    def users(self, value: str) -> list[onnx.NodeProto]:
        """Return the operators that take a value."""
        return [node for node in self.nodes if value in node.input]

    def values(self) -> set[str]:
        """Return the names of all values that operators put out."""
        return {output for node in self.nodes for output in node.output}

    def content(self, metadata: Metadata, *, further: Mapping[str, str] | None = None) -> bytes:
        """Return the file.

        Args:
            metadata: What travels in it.
            further: Properties for other readers than Opsin.
        """
        model, used = onnx.ModelProto(), {name for node in self.nodes for name in node.input}
        model.CopyFrom(self.model)
        graph = model.graph
        del graph.node[:], graph.initializer[:], graph.value_info[:], model.opset_import[:]
        graph.node.extend(self.nodes)
        graph.initializer.extend(
            numpy_helper.from_array(value, name)
            for name, value in self.weights.items()
            if name in used
        )
        own = {each.domain: each.version for each in self.model.opset_import}
        for domain in sorted({node.domain for node in self.nodes} | {""}):
            model.opset_import.append(helper.make_opsetid(domain, own[domain]))
        model.producer_name, model.producer_version = "opsin", metadata.opsin
        helper.set_model_props(model, metadata.to_props() | dict(further or {}))
        onnx.checker.check_model(model, full_check=True)
        content: bytes = model.SerializeToString()
        return content


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Return what an operator's attribute says."""
    given: Iterable[onnx.AttributeProto] = node.attribute
    return next((helper.get_attribute_value(each) for each in given if each.name == name), default)


def is_float(value: NDArray[Any]) -> bool:
    """Tell whether an array holds float32, finite numbers only."""
    return value.dtype == np.float32 and bool(np.isfinite(value).all())
