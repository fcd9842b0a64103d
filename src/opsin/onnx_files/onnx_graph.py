"""A classifier.onnx as a graph: operators, weights and layers, and parts that run alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import MissingExtraError, ModelFileError
from opsin.core.metadata import Layer, Metadata
from opsin.data.lazy_images import Images
from opsin.data.spelling import check_choices
from opsin.onnx_files.operators import OPERATORS, padding
from opsin.runtime.onnx_scan import printable, unreadable
from opsin.runtime.providers import cpu_session

try:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from opsin.onnx_files.postprocessing import IMAGES, PROBABILITIES
except ImportError as error:
    raise MissingExtraError("looking inside a network", "evaluate") from error


# Most bytes of values and pixels in a batch, and most images.
_BYTES: Final = 32 << 20
_BATCH: Final = 256


class OnnxGraph:
    """The operators of a file in their order, its weights, and which layer follows which."""

    def __init__(self, content: bytes, layers: Sequence[Layer] | None = None) -> None:
        # Operators and weights may be changed, and `content` writes them.
        self.model, self.weights = _parse(content)
        self.nodes: list[onnx.NodeProto] = list(self.model.graph.node)
        self._layers = layers

    @cached_property
    def metadata(self) -> Metadata:
        """The file's metadata."""
        props = {prop.key: prop.value for prop in self.model.metadata_props}
        return Metadata.from_props(props, "the file")

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The layers in the order of their work."""
        return self.metadata.layers if self._layers is None else tuple(self._layers)

    def layer(self, name: str) -> Layer:
        """Return the layer of that name."""
        check_choices("layer", [name], [layer.name for layer in self.layers], ModelFileError)
        return next(layer for layer in self.layers if layer.name == name)

    def maker(self, value: str) -> onnx.NodeProto | None:
        """Return the operator that a value comes from; ``None`` for weights and the input."""
        return next((node for node in self.nodes if value in node.output), None)

    def users(self, value: str) -> list[onnx.NodeProto]:
        """Return the operators that take a value."""
        return [node for node in self.nodes if value in node.input]

    def values(self) -> set[str]:
        """Return the names of all operators' outputs."""
        return {output for node in self.nodes for output in node.output}

    def parents(self, name: str) -> tuple[str, ...]:
        """Return the layers whose output a layer takes, or ``images``."""
        makers = {output: node for node in self.nodes for output in node.output}
        layers = {layer.name for layer in self.layers}
        parents: dict[str, None] = {}
        seen = {name}
        pending = [name]
        while pending:
            node = makers.get(pending.pop(0))
            for value in () if node is None else node.input:
                if value in layers or value == IMAGES:
                    parents[value] = None
                elif value and value not in self.weights and value not in seen:
                    seen.add(value)
                    pending.append(value)
        return tuple(parents)

    def weights_of(self, name: str) -> dict[str, NDArray[Any]]:
        """Return a layer's weights by name, such as ``weight``, ``bias`` and ``running_mean``."""
        start = f"{name}."
        return {
            key.removeprefix(start): value
            for key, value in self.weights.items()
            if key.startswith(start)
            and "." not in key.removeprefix(start)
            and value.dtype == np.float32
        }

    @cached_property
    def _fields(self) -> dict[str, ReceptiveField | None]:
        return receptive_fields(self.nodes, self.weights)

    def receptive_field(self, name: str) -> ReceptiveField | None:
        """Return the receptive field of the layer's maps; ``None``: the whole image."""
        return self._fields.get(name)

    def leading_to(self, values: Iterable[str], start: str = "") -> list[onnx.NodeProto]:
        """Return the operators that compute some values, or do so from another, in their order."""
        needed, leading = set(values) - {start}, []
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                needed.update(set(node.input) - {start})
                leading.append(node)
        return leading[::-1]

    def up_to(self, names: Sequence[str]) -> bytes:
        """Return the network as far as some values, as a file of its own with these as outputs."""
        outputs = [onnx.ValueInfoProto(name=name) for name in names]
        return self._part(self.leading_to(names), self.model.graph.input, outputs)

    def after(self, name: str) -> tuple[bytes, list[str]]:
        """Return the rest of the network behind a layer, as a file of its own."""
        follows, held, nodes = {name}, set(self.weights), []
        for node in self.leading_to([PROBABILITIES]):
            taken = {value for value in node.input if value}
            if held.issuperset(taken):  # made of weights alone, whatever the image
                held.update(node.output)
            elif name in node.output or not follows.intersection(taken):
                continue
            else:
                follows.update(node.output)
            nodes.append(node)
        known = held | follows - {name}
        past = {
            value: None for node in nodes for value in node.input if value and value not in known
        }
        inputs = list({name: None} | past)
        content = self._part(
            nodes,
            [helper.make_tensor_value_info(value, TensorProto.FLOAT, None) for value in inputs],
            [output for output in self.model.graph.output if output.name == PROBABILITIES],
        )
        return content, inputs

    def between(self, name: str, values: Sequence[str]) -> bytes:
        """Return the operators from one value to others, as a file of its own."""
        start = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        outputs = [onnx.ValueInfoProto(name=value) for value in values]
        return self._part(self.leading_to(values, name), [start], outputs)

    def stream(
        self, names: Sequence[str], images: Images, rows: NDArray[np.int64] | None = None
    ) -> Iterator[tuple[NDArray[np.int64], dict[str, NDArray[Any]]]]:
        """Rows of images and values for these, batch by batch, each as large as they allow."""
        part = Subnetwork(self.up_to(names))
        sizes = {layer.name: 4 * math.prod(layer.shape) for layer in self.layers}
        # The layers that are not fetched are computed as well, two or three of them at a time.
        work = sum(sizes.get(name, 0) for name in names) + 3 * max(sizes.values(), default=0)
        step = min(max(1, _BYTES // max(1, work + math.prod(images.shape[1:]))), _BATCH)
        rows = np.arange(len(images)) if rows is None else rows
        for start in range(0, len(rows), step):
            some = rows[start : start + step]
            yield some, part.run({IMAGES: np.ascontiguousarray(images[some])})

    def _part(
        self,
        nodes: Sequence[onnx.NodeProto],
        inputs: Sequence[onnx.ValueInfoProto],
        outputs: Sequence[onnx.ValueInfoProto],
    ) -> bytes:
        used = {value for node in nodes for value in node.input} | {end.name for end in outputs}
        weights = [weight for weight in self.model.graph.initializer if weight.name in used]
        graph = helper.make_graph(nodes, "part", inputs, outputs, weights)
        model = helper.make_model(
            graph, opset_imports=self.model.opset_import, ir_version=self.model.ir_version
        )
        content: bytes = model.SerializeToString()
        return content

    def with_weights(self, weights: Mapping[str, NDArray[Any]]) -> bytes:
        """Return the file with some weights exchanged for others of the same shape."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        for weight in model.graph.initializer:
            if weight.name in weights:
                value = np.ascontiguousarray(weights[weight.name], self.weights[weight.name].dtype)
                weight.CopyFrom(numpy_helper.from_array(value, weight.name))
        content: bytes = model.SerializeToString()
        return content

    def content(self, metadata: Metadata, *, further: Mapping[str, str] | None = None) -> bytes:
        """Return a file of the present operators and weights."""
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
        versions = {opset.domain: opset.version for opset in self.model.opset_import}
        for domain in sorted({node.domain for node in self.nodes} | {""}):
            model.opset_import.append(helper.make_opsetid(domain, versions[domain]))
        model.producer_name, model.producer_version = "opsin", metadata.opsin
        helper.set_model_props(model, metadata.to_props() | dict(further or {}))
        onnx.checker.check_model(model, full_check=True)
        content: bytes = model.SerializeToString()
        return content


def rename_values(nodes: Iterable[onnx.NodeProto], names: Mapping[str, str]) -> None:
    """Rename values in the inputs and outputs of operators."""
    for node in nodes:
        for part in (node.input, node.output):
            part[:] = [names.get(name, name) for name in part]


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Return the value of an operator's attribute."""
    items: Iterable[onnx.AttributeProto] = node.attribute
    return next((helper.get_attribute_value(item) for item in items if item.name == name), default)


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """All of an operator's attributes by name, bytes as text."""
    values = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    return {
        key: value.decode() if isinstance(value, bytes) else value for key, value in values.items()
    }


def _parse(content: bytes) -> tuple[onnx.ModelProto, dict[str, NDArray[Any]]]:
    name = ""
    weights = {}
    try:
        model: onnx.ModelProto = onnx.load_model_from_string(content)
        for weight in model.graph.initializer:
            name = weight.name
            if weight.data_location == onnx.TensorProto.EXTERNAL:
                raise ValueError("it lies outside the file")
            weights[name] = numpy_helper.to_array(weight)
    except Exception as error:
        reason = f"weight {printable(name)}: {printable(error)}" if name else printable(error)
        raise unreadable("the file", reason) from error
    return model, weights


@dataclass(frozen=True)
class ReceptiveField:
    """The part of the image that one place of a map can see."""

    height: int
    width: int
    step: tuple[int, int]
    start: tuple[int, int]

    def box(self, y: int, x: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Return the field of place (y, x): top, left, bottom, right, the ends left out."""
        top, left = self.start[0] + y * self.step[0], self.start[1] + x * self.step[1]
        return (
            min(max(top, 0), size[0] - 1),
            min(max(left, 0), size[1] - 1),
            max(min(top + self.height, size[0]), 1),
            max(min(left + self.width, size[1]), 1),
        )

    def joined(self, other: ReceptiveField) -> ReceptiveField:
        """Return the smallest field that covers both, which have one step."""
        top = min(self.start[0], other.start[0])
        left = min(self.start[1], other.start[1])
        bottom = max(self.start[0] + self.height, other.start[0] + other.height)
        right = max(self.start[1] + self.width, other.start[1] + other.width)
        return ReceptiveField(bottom - top, right - left, self.step, (top, left))


def receptive_fields(
    nodes: Sequence[onnx.NodeProto], weights: Mapping[str, NDArray[Any]]
) -> dict[str, ReceptiveField | None]:
    """Return the receptive field of each value."""
    fields: dict[str, ReceptiveField | None] = {IMAGES: ReceptiveField(1, 1, (1, 1), (0, 0))}
    for node in nodes:
        before = [fields[value] for value in node.input if value in fields]
        if not before:
            continue
        field = before[0]
        for other in before[1:]:
            field = None if field is None or other is None else field.joined(other)
        operator = OPERATORS.get(node.op_type)
        sees = "all" if operator is None else operator.sees
        if field is not None and sees == "window":
            field = _through_window(field, node, weights)
        elif field is not None and node.op_type == "Pad":
            pads = weights.get(node.input[1])
            if pads is None or len(pads) != 8 or len(node.input) > 3:
                field = None
            else:
                (top, left), (down, across) = field.start, field.step
                start = (top - int(pads[2]) * down, left - int(pads[3]) * across)
                field = replace(field, start=start)
        elif field is not None and node.op_type == "Reshape":
            # A model without layers begins with means of squares of pixels.
            shape = weights[node.input[1]].tolist()
            field = None
            if len(shape) == 6:
                field = ReceptiveField(shape[2], shape[4], (shape[2], shape[4]), (0, 0))
        elif sees != "place":
            field = None
        fields.update(dict.fromkeys(node.output, field))
    return fields


def _through_window(
    field: ReceptiveField, node: onnx.NodeProto, weights: Mapping[str, NDArray[Any]]
) -> ReceptiveField | None:
    options = attributes(node)
    weight = weights.get(node.input[1]) if len(node.input) > 1 else None
    kernel = list(options.get("kernel_shape", () if weight is None else weight.shape[2:]))
    if len(kernel) != 2:
        return None
    stride = list(options.get("strides", (1, 1)))
    dilation = list(options.get("dilations", (1, 1)))
    # Exact if the maps' sides are multiples of the stride, as is usual.
    pads = padding(options, stride, kernel)
    reach = [(kernel[side] - 1) * dilation[side] * field.step[side] for side in (0, 1)]
    return ReceptiveField(
        field.height + reach[0],
        field.width + reach[1],
        (field.step[0] * stride[0], field.step[1] * stride[1]),
        (field.start[0] - pads[0] * field.step[0], field.start[1] - pads[1] * field.step[1]),
    )


class Subnetwork:
    """A piece of a network."""

    def __init__(self, content: bytes) -> None:
        self._session = cpu_session(content)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The outputs for some inputs, by name."""
        names = [output.name for output in self._session.get_outputs()]
        return dict(zip(names, self._session.run(names, dict(inputs)), strict=True))
