"""From prepared pixels to features, as operators and as a table of layers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from opsin.backbones.backbone import Backbone
from opsin.core.metadata import Layer, LayerOp, Preparation
from opsin.onnx_files.onnx_graph import attribute
from opsin.onnx_files.postprocessing import IMAGES, GraphWriter, model_of

#: Views of an image.
View = Literal["whole", "mirrored"]
_FLOAT: Final = TensorProto.FLOAT
_TYPES: Final = {
    "float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE, "float16": TensorProto.FLOAT16,
    "uint8": TensorProto.UINT8,
}  # fmt: skip


def usual_preparation(backbone: Backbone) -> Preparation:
    """Return a network's default preparation of images."""
    (height, width), channels = backbone.side, backbone.probed.channels
    return Preparation(height=height, width=width, channels=channels, resize="squash")


class FeatureGraph:
    """Operators from ``images: uint8[N, H, W, C]`` to the features of each view."""

    def __init__(
        self,
        backbone: Backbone,
        shape: tuple[int, int, int],
        views: Sequence[View],
        at: Sequence[str] | None = None,
    ) -> None:
        self.to = GraphWriter()
        self._backbone, self._shape, self._at = backbone, shape, tuple(at or backbone.at)
        graph = backbone.graph
        #: The network's operators that lead to its features.
        self.nodes = graph.leading_to(self._at)
        used = {name for node in self.nodes for name in node.input}
        self.to.weights.extend(
            weight for weight in graph.model.graph.initializer if weight.name in used
        )
        self._values = {name for node in self.nodes for name in node.output}
        # Its input may have 32 bits all the same.
        self._half = any(weight.data_type == TensorProto.FLOAT16 for weight in self.to.weights)
        self._double = backbone.probed.dtype == "float64"
        self._pixels()
        #: Name of each view's features, ``float32[N, D]``.
        self.outputs = [self._view(view, first=not index) for index, view in enumerate(views)]

    @property
    def units(self) -> int:
        """Numbers of an image's features, D."""
        return sum(self._backbone.value(name).units for name in self._at)

    def content(self) -> bytes:
        """Return a file of its own that answers with each view's features."""
        height, width, channels = self._shape
        images = (IMAGES, TensorProto.UINT8, (height, width, channels))
        model = model_of(
            self.to, "features", images, *((name, _FLOAT, (self.units,)) for name in self.outputs)
        )
        # The key of all cached features is the digest of this file.
        model.ClearField("producer_name")
        source = self._backbone.graph.model
        del model.opset_import[:]
        model.opset_import.extend(source.opset_import)
        model.ir_version = max(model.ir_version, source.ir_version)
        content: bytes = model.SerializeToString()
        return content

    def _pixels(self) -> None:
        """Write the part that all views share: the network's colours, channels first."""
        to, probed = self.to, self._backbone.probed
        kind = TensorProto.DOUBLE if self._double else _FLOAT
        value = to.node("Cast", [IMAGES], "input.float", to=kind)
        value = to.node("Transpose", [value], "input.maps", perm=[0, 3, 1, 2])
        channels = self._shape[2]
        if channels == 1 and probed.channels == 3:
            value = to.node("Concat", [value] * 3, "input.colours", axis=1)
        elif channels == 3 and probed.channels == 1:
            axis = to.weight("input.axis", [1], np.int64)
            value = to.node("ReduceMean", [value, axis], "input.grey", keepdims=1)
        elif self._backbone.pixels.bgr:
            order = to.weight("input.order", [2, 1, 0], np.int64)
            value = to.node("Gather", [value, order], "input.bgr", axis=1)
        self._maps = value

    def _view(self, view: View, *, first: bool) -> str:
        to, suffix, name = self.to, "" if first else f"@{view}", f"input.{view}"
        value, probed, width = self._resized(name), self._backbone.probed, self._backbone.side[1]
        if view == "mirrored":
            ends = {"start": [width - 1], "end": [-width - 1], "axis": [3], "step": [-1]}
            bounds = [to.weight(f"{name}.{end}", of, np.int64) for end, of in ends.items()]
            value = to.node("Slice", [value, *bounds], f"{name}.turned")
        value = self._scaled(value, f"input.values{suffix}")
        if probed.channels_last:
            value = to.node("Transpose", [value], f"input.last{suffix}", perm=[0, 2, 3, 1])
        if probed.dtype not in ("float32", "float64"):
            value = to.node("Cast", [value], f"input.cast{suffix}", to=_TYPES[probed.dtype])
        renamed = {name: f"{name}{suffix}" for name in self._values}
        renamed[probed.input] = value
        for node in self.nodes:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name = f"{node.output[0]}{suffix}/{node.op_type}"
            for names in (copy.input, copy.output):
                names[:] = [renamed.get(name, name) for name in names]
            to.nodes.append(copy)
        parts = [self.pooled(name, renamed[name], suffix) for name in self._at]
        if len(parts) == 1:
            return to.node("Identity", parts, f"features.joined{suffix}")
        return to.node("Concat", parts, f"features.joined{suffix}", axis=1)

    def _resized(self, name: str) -> str:
        to, value = self.to, self._maps
        (height, width), ours = self._backbone.side, self._shape[:2]
        if ours != (height, width):
            scales = [1.0, 1.0, height / ours[0], width / ours[1]]
            held = to.weight(f"{name}.scales", scales, np.float32)
            if self._double:  # ONNX Runtime resizes in single precision only
                value = to.node("Cast", [value], f"{name}.single", to=_FLOAT)
            value = to.node(
                "Resize",
                [value, "", held],
                f"{name}.resized",
                mode="linear",
                coordinate_transformation_mode="half_pixel",
                antialias=1,
            )
            if self._double:
                value = to.node("Cast", [value], f"{name}.double", to=TensorProto.DOUBLE)
        return value

    def _scaled(self, value: str, name: str) -> str:
        """Write ``(pixel * scale - mean) / deviation`` as one product and one sum."""
        pixels, to = self._backbone.pixels, self.to
        mean, deviation = np.array(pixels.mean), np.array(pixels.deviation)
        factor, shift = pixels.scale / deviation, -mean / deviation
        if pixels.bgr:
            factor, shift = factor[::-1], shift[::-1]
        if self._backbone.probed.channels == 1:
            factor, shift = factor.mean(keepdims=True), shift.mean(keepdims=True)
        shape, divisor = (-1, 1, 1), 1 / factor
        kind = np.float64 if self._double else np.float32
        if self._double and not shift.any() and (divisor == np.rint(divisor)).all():
            held = to.weight(f"{name}.divisor", divisor.reshape(shape), kind)
            return to.node("Div", [value, held], name)
        product = to.node(
            "Mul",
            [value, to.weight(f"{name}.factor", factor.reshape(shape), kind)],
            f"{name}.product",
        )
        held = to.weight(f"{name}.shift", shift.reshape(shape), kind)
        return to.node("Add", [product, held], name)

    def pooled(self, name: str, value: str, suffix: str = "") -> str:
        """Write a value as one row of numbers an image: the mean of maps or tokens."""
        to, source = self.to, self._backbone.value(name)
        shape = source.shape
        if self._half or self._double:
            value = to.node("Cast", [value], f"{name}.single{suffix}", to=_FLOAT)
        if len(shape) == 1:
            return value
        axes = to.weight(f"{name}.axes{suffix}", [2, 3] if len(shape) == 3 else [1], np.int64)
        if not source.patches:
            return to.node("ReduceMean", [value, axes], f"{name}.mean{suffix}", keepdims=0)
        sizes = to.weight(
            f"{name}.sizes{suffix}", [1, shape[0] - 1 - source.patches, source.patches], np.int64
        )
        parts = [f"{name}.{part}{suffix}" for part in ("class", "registers", "patches")]
        to.node("Split", [value, sizes], *parts, axis=1)
        means = [
            to.node("ReduceMean", [part, axes], f"{part}.mean", keepdims=0)
            for part in (parts[0], parts[2])
        ]
        return to.node("Concat", means, f"{name}.joined{suffix}", axis=1)


def layer_table(
    nodes: Sequence[onnx.NodeProto],
    weights: Mapping[str, NDArray[Any]],
    shapes: Mapping[str, tuple[int, ...]],
    *,
    times: int = 1,
) -> list[Layer]:
    """Return the rows of the summary table, one an operator."""
    rows, known = [], dict(weights)
    for node in nodes:
        taken = [name for name in node.input if name]
        held = [known[name] for name in taken if name in known]
        if len(held) == len(taken):
            if held:
                known[node.output[0]] = _unpacked(node, held[0])
            continue
        name = node.output[0]
        if name not in shapes:
            continue
        work = 0
        if held and node.op_type in ("Conv", "Gemm", "MatMul"):
            places = shapes[name][1:] if node.op_type == "Conv" else shapes[name][:-1]
            work = math.prod(places) * int(held[0].size)
        rows.append(
            Layer(
                name=name,
                kind=_kind(node, held, shapes.get(node.input[0])),
                shape=shapes[name],
                parameters=sum(weight.size for weight in held if weight.dtype.kind == "f"),
                trainable=0,
                multiply_adds=times * work,
            )
        )
    return rows


def _unpacked(node: onnx.NodeProto, weight: NDArray[Any]) -> NDArray[Any]:
    """Return an array of the shape that an operator gives a weight."""
    if node.op_type == "Transpose":
        return weight.transpose(attribute(node, "perm", None))
    if weight.dtype.kind == "f" or weight.size == 1:
        return weight
    return np.broadcast_to(np.float32(0), weight.shape)


def _kind(node: Any, held: list[NDArray[Any]], before: tuple[int, ...] | None) -> str:
    match node.op_type:
        case "Conv":
            kernel = held[0].shape[2:] if held else ()
            sides = "×".join(map(str, attribute(node, "kernel_shape", kernel)))
            groups = attribute(node, "group", 1)
            depthwise = " depthwise" if groups > 1 and before and groups == before[0] else ""
            return f"{LayerOp.CONV} {sides}{depthwise}"
        case "Gemm" | "MatMul" if held:
            return LayerOp.DENSE
        case "Clip":
            return f"{LayerOp.RELU} up to 6" if len(held) == 2 and held[1] == 6 else "Clip"
        case "GlobalAveragePool" | "ReduceMean" | "AveragePool":
            return f"{LayerOp.MEAN} over places"
        case "BatchNormalization":
            return LayerOp.BATCH_NORM
    named = {"Relu": LayerOp.RELU, "Add": LayerOp.ADD, "Flatten": LayerOp.FLATTEN}
    return str(named.get(node.op_type, node.op_type))
