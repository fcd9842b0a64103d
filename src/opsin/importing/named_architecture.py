"""Weights of Opsin's own convolutional networks, by the names that PyTorch gives them there."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from opsin.onnx_files.graph_writer import GraphWriter
from opsin.onnx_files.postprocessing import IR_VERSION, OPSET
from opsin.onnx_files.refusal import quoted, refused

# A side that every stage finds a half of.
_ANY: Final = 1 << 30

Tensors = Mapping[str, NDArray[Any]]


def cnn_of(file: str, tensors: Tensors) -> onnx.ModelProto:
    """Return the network ``cnn`` of `opsin.models.architectures.cnn`, with ReLU."""
    net = _Network(file, tensors)
    for number in itertools.count(1):
        block = f"block{number}"
        if not net.has(f"{block}.conv1.weight"):
            break
        net.conv(f"{block}.conv1", pad=1)
        net.activate(f"{block}.relu1", "Relu")
        net.norm(f"{block}.norm", epsilon=1e-3)
        net.conv(f"{block}.conv2", pad=0)
        net.activate(f"{block}.relu2", "Relu")
        net.pool(f"{block}.pool")
    net.value = net.to.node("Flatten", [net.value], "flatten")
    return net.finished()


def resnet_of(file: str, tensors: Tensors, side: int | None) -> onnx.ModelProto:
    """Return the network ``resnet`` of `opsin.models.architectures.resnet`, with GELU."""
    net = _Network(file, tensors)
    net.conv("whiten", pad=0)
    net.activate("whiten_gelu", "Gelu")
    left = _ANY if side is None else side - 1
    for number in itertools.count(1):
        stage, residual = f"stage{number}", f"residual{number}"
        if not net.has(f"{stage}.conv.weight"):
            break
        net.conv(f"{stage}.conv", pad=1)
        if left > 1:
            net.pool(f"{stage}.pool")
        left //= 2
        net.norm(f"{stage}.norm", epsilon=1e-5)
        net.activate(f"{stage}.gelu", "Gelu")
        before = net.value
        net.conv(f"{residual}.conv", pad=1)
        net.norm(f"{residual}.norm", epsilon=1e-5)
        net.activate(f"{residual}.act", "Gelu")
        net.value = net.to.node("Add", [before, net.value], residual)
    axes = net.to.weight("maximum.axes", [2, 3], np.int64)
    net.value = net.to.node("ReduceMax", [net.value, axes], "maximum", keepdims=0)
    return net.finished()


class _Network:
    """Writes layers behind each other, each with the weights of its name."""

    def __init__(self, file: str, tensors: Tensors) -> None:
        self._file = file
        # The network may be a part: of another module, or of a checkpoint of Opsin's.
        heads = [name for name in tensors if f".{name}".endswith(".head.weight")]
        start = heads[0].removesuffix("head.weight") if len(heads) == 1 else ""
        self._tensors = {
            name.removeprefix(start): held
            for name, held in tensors.items()
            if name.startswith(start) and not name.endswith("num_batches_tracked")
        }
        self._left = set(self._tensors)
        self._first = 0
        self.to = GraphWriter()
        self.value = "images"
        if self.has("input.mean"):
            for kind, name in (("Sub", "mean"), ("Div", "deviation")):
                held = self._take(f"input.{name}", 1).reshape(1, -1, 1, 1)
                weight = self.to.weight(f"input.{name}", held, np.float32)
                self.value = self.to.node(kind, [self.value, weight], f"input.{kind}")

    def has(self, name: str) -> bool:
        """Tell whether there is such a weight."""
        return name in self._tensors

    def conv(self, name: str, *, pad: int) -> None:
        """Add a convolution with steps of one."""
        weight = self._take(f"{name}.weight", 4)
        self._first = self._first or weight.shape[1]
        inputs = [self.value, self.to.weight(f"{name}.weight", weight, np.float32)]
        if self.has(f"{name}.bias"):
            bias = self._take(f"{name}.bias", 1)
            inputs.append(self.to.weight(f"{name}.bias", bias, np.float32))
        self.value = self.to.node("Conv", inputs, name, pads=[pad] * 4)

    def norm(self, name: str, *, epsilon: float) -> None:
        """Add a normalisation by what training has measured."""
        parts = ("weight", "bias", "running_mean", "running_var")
        held = [self.to.weight(f"{name}.{part}", self._take(f"{name}.{part}", 1), np.float32)
                for part in parts]  # fmt: skip
        self.value = self.to.node("BatchNormalization", [self.value, *held], name, epsilon=epsilon)

    def activate(self, name: str, kind: str) -> None:
        """Add a non-linearity."""
        self.value = self.to.node(kind, [self.value], name)

    def pool(self, name: str) -> None:
        """Add the maximum of each square of 2×2."""
        self.value = self.to.node(
            "MaxPool", [self.value], name, kernel_shape=[2, 2], strides=[2, 2]
        )

    def finished(self) -> onnx.ModelProto:
        """Add the head, and return the whole."""
        weight, bias = self._take("head.weight", 2), self._take("head.bias", 1)
        inputs = [self.to.weight("head.weight", weight, np.float32),
                  self.to.weight("head.bias", bias, np.float32)]  # fmt: skip
        self.value = self.to.node("Gemm", [self.value, *inputs], "head", transB=1)
        if self._left:
            raise self._others(min(self._left), "has no place in it")
        float32 = TensorProto.FLOAT
        images = helper.make_tensor_value_info("images", float32, ["N", self._first, "H", "W"])
        answers = helper.make_tensor_value_info(self.value, float32, ["N", len(weight)])
        graph = helper.make_graph(self.to.nodes, "network", [images], [answers], self.to.weights)
        return helper.make_model(
            graph, producer_name="weights", ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET)],
        )  # fmt: skip

    def _take(self, name: str, axes: int) -> NDArray[Any]:
        held = self._tensors.get(name)
        if held is None:
            raise self._others(name, "is missing")
        if held.ndim != axes or 0 in held.shape:
            raise self._others(name, f"has the shape {list(held.shape)}")
        self._left.discard(name)
        return held

    def _others(self, name: str, why: str) -> Exception:
        return refused(
            self._file,
            f"{quoted(name)} {why}, so its weights are not those of Opsin's network",
            "Give the network's graph beside them: --graph FILE.onnx. From PyTorch: "
            "torch.onnx.export(model.eval(), (images,), 'NAME.onnx', dynamo=True).",
        )
