"""Description of a pretrained network: its input, its values, and its features."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

import numpy as np
import onnx
from pydantic import BaseModel, ConfigDict

from opsin.onnx_files.onnx_graph import attribute

# Elementwise operators between the last dense layer and the answers.
_AFTER_HEAD: Final = frozenset((
    "Softmax", "LogSoftmax", "Sigmoid", "Identity", "Cast", "Reshape", "Flatten", "Squeeze",
    "Unsqueeze", "Add", "Sub", "Mul", "Div", "Dropout", "DequantizeLinear", "QuantizeLinear",
))  # fmt: skip
# Operators between a last convolution and its pooled answers.
_POOLING: Final = frozenset(("GlobalAveragePool", "AveragePool", "ReduceMean", "Relu", "Clip"))
_ACTIVATIONS: Final = frozenset((
    "Relu", "Clip", "HardSwish", "HardSigmoid", "Sigmoid", "LeakyRelu", "Gelu", "Erf", "PRelu",
))  # fmt: skip
_BLOCK_ENDS: Final = frozenset(("Conv", "Add", "Relu", "Clip", "HardSwish", "Gelu", "Mul"))
# Number of values that may be joined with the last features.
_DEPTHS: Final = 5


class Value(BaseModel):
    """A value of the network that could serve as features."""

    model_config = ConfigDict(frozen=True)

    name: str
    op: str
    shape: tuple[int, ...]  # for one image
    patches: int = 0  # its patch tokens, if a class token comes first

    @property
    def units(self) -> int:
        """Number of features after pooling."""
        width = self.shape[-1] if len(self.shape) == 2 else self.shape[0]
        return 2 * width if self.patches else width


class Probed(BaseModel):
    """The description of a network."""

    model_config = ConfigDict(frozen=True)

    input: str
    side: tuple[int, int]
    channels: int
    channels_last: bool
    dtype: str
    features: str
    depths: tuple[str, ...]
    values: tuple[Value, ...]
    properties: dict[str, str]

    @property
    def usual(self) -> tuple[str, ...]:
        """The values that serve as features by default."""
        return tuple(dict.fromkeys((self.features, *self.depths)))


def values_of(graph: onnx.GraphProto, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Value]:
    """Return the values that could be features, in the order of the operators."""
    patches: dict[tuple[int, ...], int] = {}
    for node in graph.node:
        parts = [shapes.get(name, ()) for name in node.input]
        if node.op_type == "Concat" and all(len(part) == 2 for part in parts):
            rows, joined = [part[0] for part in parts], shapes.get(node.output[0], (0,))[:-1]
            if rows[0] == 1 and joined == (sum(rows),):
                patches[joined] = rows[-1]
    return {
        name: Value(
            name=name,
            op=node.op_type,
            shape=shapes[name],
            patches=patches.get(shapes[name][:-1], 0),
        )
        for node in graph.node
        for name in node.output[:1]
        if name in shapes
    }


def last_features(graph: onnx.GraphProto, values: Mapping[str, Value], static: set[str]) -> str:
    """Return the value before the last dense layer, or the last that could be features."""
    makers = {output: node for node in graph.node for output in node.output}
    outputs = [output.name for output in graph.output]
    if "backbone.embedding" in outputs:  # a classifier of ours names it
        return str(makers["backbone.embedding"].input[0])

    def undropped(name: str) -> str:
        while name in makers and makers[name].op_type in ("Dropout", "Identity", "Cast"):
            name = str(makers[name].input[0])
        return name if name in values else list(values)[-1]

    # Of several outputs the last one that is a vector: what is pooled comes after its maps.
    vectors = [name for name in outputs if name in values and len(values[name].shape) == 1]
    name = start = vectors[-1] if vectors else outputs[0]
    answers = pooled = activated = False
    while (node := makers.get(name)) is not None:
        moving = [value for value in node.input if value and value not in static]
        weighted = node.op_type in ("Gemm", "MatMul") and len(node.input) > 1 == len(moving)
        if weighted and moving[0] in values:
            return undropped(moving[0])
        if node.op_type == "Conv" and _is_pointwise(node, graph):
            source = moving[0]
            if source in values and values[source].shape[1:] == (1, 1):
                return undropped(source)
            # A last convolution before the mean is a head, but where an activation follows it
            # and no probabilities: there the network ends with its features.
            if pooled and (answers or not activated):
                return str(source)
            break
        if node.op_type not in _AFTER_HEAD | _POOLING or len(moving) != 1:
            break
        answers |= node.op_type in ("Softmax", "LogSoftmax", "Sigmoid")
        pooled |= node.op_type in ("GlobalAveragePool", "AveragePool", "ReduceMean")
        activated |= node.op_type in ("Relu", "Clip")
        name = moving[0]
    return start if start in values else list(values)[-1]


def _is_pointwise(node: onnx.NodeProto, graph: onnx.GraphProto) -> bool:
    kernel = attribute(node, "kernel_shape", None)
    if kernel is None:
        dims = {weight.name: weight.dims for weight in graph.initializer}
        kernel = dims.get(node.input[1], (0,))[2:]
    return set(kernel) == {1} and attribute(node, "group", 1) == 1


def depths_of(
    graph: onnx.GraphProto, values: Sequence[Value], features: str, side: tuple[int, int]
) -> list[str]:
    """Choose the widest value at a few depths from the first quarter on."""
    names = [value.name for value in values]
    before, last = values[: names.index(features)], values[names.index(features)]
    maps = [
        value
        for value in before
        if len(value.shape) == 3
        and value.shape[1] * value.shape[2] > 1
        # Others have their channels last, as within ConvNeXt, or are no maps.
        and (value.shape[1] == value.shape[2] or side[0] != side[1])
    ]
    if sum(value.op == "Conv" for value in maps) < _DEPTHS // 2:  # a transformer
        tokens = [value.name for value in before if len(value.shape) == 2 and value.op == "Add"]
        tokens = tokens[len(tokens) // 2 :]
        count = min(len(tokens), _DEPTHS - 1)
        return [tokens[at] for at in np.linspace(0, len(tokens) - 1, count).round().astype(int)]
    if maps and maps[-1].shape[0] == last.shape[0]:  # the same, but pooled
        maps.pop()
    users = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            users[name].append(node.op_type)
    # A value right before an activation is skipped: the activation's output says more.
    ends = [
        value
        for value in maps[len(maps) // 4 :]
        if value.op in _BLOCK_ENDS
        and not (len(users[value.name]) == 1 and users[value.name][0] in _ACTIVATIONS)
    ]
    cuts = np.linspace(0, len(ends), _DEPTHS + 1).round().astype(int)
    parts = [ends[start:stop] for start, stop in pairwise(cuts) if stop > start]
    # The last of equals: it has seen the most of the image.
    return [max(reversed(part), key=lambda value: value.shape[0]).name for part in parts]
