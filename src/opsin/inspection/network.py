"""A classifier.onnx as a graph of layers with their weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import MissingExtraError
from opsin.core.metadata import Layer

try:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from opsin.onnx_files.onnx_graph import parse
    from opsin.onnx_files.operators import OPERATORS
except ImportError as error:
    raise MissingExtraError("looking inside a network", "evaluate") from error

#: Name of what goes in: ``uint8[N, H, W, C]``.
IMAGES: Final = "images"


@dataclass(frozen=True)
class ReceptiveField:
    """The part of the image that one place of a map can see.

    Sizes and steps follow A. Araujo, W. Norris and J. Sim, "Computing receptive fields of
    convolutional neural networks", Distill 2019.

    Args:
        height: Rows of pixels that it covers.
        width: Columns of pixels.
        step: Pixels from one place of the map to the next, down and across.
        start: First row and column that the map's first place sees; below 0 where that is padding.
    """

    height: int
    width: int
    step: tuple[int, int]
    start: tuple[int, int]

    def box(self, y: int, x: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Return what place (y, x) of the map sees: top, left, bottom, right, the ends left out.

        Args:
            y: Row of the map.
            x: Column of the map.
            size: Height and width of the image; the box is cut to it.
        """
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


class Network:
    """The network in a classifier.onnx: which layer follows which, and what each holds.

    Args:
        content: The bytes of the file.
        layers: Its layers, as its metadata has them.

    Example:
        >>> import tempfile, opsin
        >>> run = opsin.train("digits", model="mlp", epochs=1, runs=tempfile.mkdtemp(), quiet=True)
        >>> file = run.classifier()
        >>> network = Network(file.content, file.metadata.layers)
        >>> network.parents("dense1"), network.weights_of("dense1")["weight"].shape
        (('flatten',), (128, 64))
    """

    def __init__(self, content: bytes, layers: Sequence[Layer]) -> None:
        self.model: onnx.ModelProto
        self.weights: dict[str, NDArray[Any]]
        self.model, self.weights = parse(content)
        self.layers: tuple[Layer, ...] = tuple(layers)
        graph = self.model.graph
        self._maker = {output: node for node in graph.node for output in node.output}
        self._names = {layer.name for layer in self.layers}

    def layer(self, name: str) -> Layer:
        """Return the layer of that name; a ``KeyError`` says that there is none."""
        return next((layer for layer in self.layers if layer.name == name), None) or _no(name)

    def parents(self, name: str) -> tuple[str, ...]:
        """Return the layers whose output a layer takes, or ``images``."""
        found: dict[str, None] = {}
        open_values = list(self._values_into(name))
        seen: set[str] = set()
        while open_values:
            value = open_values.pop(0)
            if value in seen:
                continue
            seen.add(value)
            if value in self._names or value == IMAGES:
                found[value] = None
            else:
                open_values += self._values_into(value)
        return tuple(found)

    def _values_into(self, value: str) -> list[str]:
        """Return what the operator behind a value takes, weights left out."""
        node = self._maker.get(value)
        return [] if node is None else [n for n in node.input if n and n not in self.weights]

    def weights_of(self, name: str) -> dict[str, NDArray[Any]]:
        """Return what a layer holds, such as ``weight``, ``bias`` and ``running_mean``."""
        start = f"{name}."
        return {
            key.removeprefix(start): value
            for key, value in self.weights.items()
            if key.startswith(start)
            and "." not in key.removeprefix(start)
            and value.dtype == np.float32
        }

    def receptive_field(self, name: str) -> ReceptiveField | None:
        """Return what a place of the layer's maps sees; ``None``: the whole image."""
        fields: dict[str, ReceptiveField | None] = {IMAGES: ReceptiveField(1, 1, (1, 1), (0, 0))}
        for node in self.model.graph.node:
            before = [fields[value] for value in node.input if value in fields]
            if not before:
                continue
            field = before[0]
            for other in before[1:]:
                field = None if field is None or other is None else field.joined(other)
            operator = OPERATORS.get(node.op_type)
            sees = "all" if operator is None else operator.sees
            if field is not None and sees == "window":
                field = _through_window(field, node)
            elif field is not None and node.op_type == "Reshape":
                field = self._squares(node)
            elif sees != "place":
                field = None
            fields.update(dict.fromkeys(node.output, field))
            if name in node.output:
                return field
        return None

    def _squares(self, node: onnx.NodeProto) -> ReceptiveField | None:
        """Return the squares of pixels whose mean a model without layers begins with."""
        shape = self.weights[node.input[1]].tolist()  # 0, rows, down, columns, across, channels
        if len(shape) != 6:
            return None
        return ReceptiveField(shape[2], shape[4], (shape[2], shape[4]), (0, 0))

    def after(self, name: str) -> tuple[bytes, list[str]]:
        """Return the rest of the network behind a layer, as a file of its own.

        Args:
            name: A layer, whose output goes in.

        Returns:
            An ONNX model with the output ``probabilities``, and the names of its inputs: the
            layer itself first, then other values that lead past it, such as a residual's.
        """
        follows, nodes = {name}, []
        inputs: dict[str, None] = {name: None}
        held = set(self.weights)
        needed = self._needed("probabilities")
        for node in self.model.graph.node:
            given = {value for value in node.input if value}
            if held.issuperset(given):  # made of weights alone, whatever the image
                held.update(node.output)
            elif name in node.output or not follows.intersection(given):
                continue
            else:
                follows.update(node.output)
            if needed.intersection(node.output):
                nodes.append(node)
        used: dict[str, None] = {}
        for node in nodes:
            for value in node.input:
                if value in self.weights:
                    used[value] = None
                elif value and value not in held and value not in follows - {name}:
                    inputs[value] = None
        graph = helper.make_graph(
            nodes,
            "rest",
            [helper.make_tensor_value_info(value, TensorProto.FLOAT, None) for value in inputs],
            [output for output in self.model.graph.output if output.name == "probabilities"],
            [weight for weight in self.model.graph.initializer if weight.name in used],
        )
        rest = helper.make_model(
            graph, opset_imports=self.model.opset_import, ir_version=self.model.ir_version
        )
        return rest.SerializeToString(), list(inputs)

    def _needed(self, value: str) -> set[str]:
        """Return all values that lead to a value, itself included."""
        needed: set[str] = set()
        open_values = [value]
        while open_values:
            one = open_values.pop()
            if one not in needed:
                needed.add(one)
                open_values += self._values_into(one)
        return needed

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


def _no(name: str) -> Layer:
    raise KeyError(name)


def _through_window(field: ReceptiveField, node: onnx.NodeProto) -> ReceptiveField:
    given = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    kernel = list(given["kernel_shape"])
    stride = list(given.get("strides", (1, 1)))
    dilation = list(given.get("dilations", (1, 1)))
    pads = list(given.get("pads", (0, 0, 0, 0)))
    reach = [(kernel[side] - 1) * dilation[side] * field.step[side] for side in (0, 1)]
    return ReceptiveField(
        field.height + reach[0],
        field.width + reach[1],
        (field.step[0] * stride[0], field.step[1] * stride[1]),
        (field.start[0] - pads[0] * field.step[0], field.start[1] - pads[1] * field.step[1]),
    )
