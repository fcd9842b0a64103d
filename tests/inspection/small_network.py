"""A small convolutional network as a file, of any size and weights, without PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from opsin.core.metadata import Layer
from opsin.onnx_files.onnx_graph import OnnxGraph
from tests.onnx_files.made_files import model_file

KINDS = {"input": "Normalise", "conv1": "Conv 3×3 same", "relu1": "ReLU", "norm": "BatchNorm",
         "conv2": "Conv 3×3 same", "dropout": "Dropout 0.1", "flatten": "Flatten",
         "head": "Dense"}  # fmt: skip


def small_weights(
    side: int = 8, channels: int = 3, filters: tuple[int, int] = (4, 6), classes: int = 5
) -> dict[str, NDArray[Any]]:
    random = np.random.default_rng(0)
    one, two = filters
    shapes = {
        "conv1.weight": (one, channels, 3, 3), "conv1.bias": (one,), "norm.weight": (one,),
        "norm.bias": (one,), "norm.running_mean": (one,), "norm.running_var": (one,),
        "conv2.weight": (two, one, 3, 3), "head.weight": (classes, two * side * side),
        "head.bias": (classes,),
    }  # fmt: skip
    weights = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    weights["norm.running_var"] **= 2
    return weights


def small_network(weights: Mapping[str, NDArray[Any]], side: int = 8) -> OnnxGraph:
    classes, _ = weights["head.weight"].shape
    one, channels = weights["conv1.weight"].shape[:2]
    two = weights["conv2.weight"].shape[0]
    norm = [f"norm.{name}" for name in ("weight", "bias", "running_mean", "running_var")]
    same: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    steps: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("Cast", ["images"], "input.float", {"to": TensorProto.FLOAT}),
        ("Transpose", ["input.float"], "input", {"perm": [0, 3, 1, 2]}),
        ("Conv", ["input", "conv1.weight", "conv1.bias"], "conv1", same),
        ("Relu", ["conv1"], "relu1", {}),
        ("BatchNormalization", ["relu1", *norm], "norm", {}),
        ("Conv", ["norm", "conv2.weight"], "conv2", same),
        ("Identity", ["conv2"], "dropout", {}),
        ("Flatten", ["dropout"], "flatten", {}),
        ("Gemm", ["flatten", "head.weight", "head.bias"], "head", {"transB": 1}),
        ("Softmax", ["head"], "probabilities", {}),
    ]
    nodes = [helper.make_node(kind, inputs, [out], **more) for kind, inputs, out, more in steps]
    images = ("images", TensorProto.UINT8, ["N", side, side, channels])
    content = model_file(nodes, weights, images, {"probabilities": ["N", classes]})
    units = {"input": channels, "conv1": one, "relu1": one, "norm": one, "conv2": two}
    shapes: dict[str, tuple[int, ...]] = {n: (u, side, side) for n, u in units.items()}
    shapes |= {"dropout": shapes["conv2"], "flatten": (two * side * side,), "head": (classes,)}
    layers = [
        Layer(
            name=name,
            kind=kind,
            shape=shapes[name],
            parameters=sum(v.size for key, v in weights.items() if key.startswith(f"{name}.")),
            trainable=0,
            multiply_adds=0,
        )
        for name, kind in KINDS.items()
    ]  # fmt: skip
    return OnnxGraph(content, layers)
