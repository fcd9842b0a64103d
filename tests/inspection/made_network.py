"""A small network with a residual, random weights, and images for it; no PyTorch."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from opsin.data.lazy_images import ReferenceSet
from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.runtime.classifier import Classifier
from tests.made_classifier import made_layer, metadata
from tests.onnx_files.made_files import model_file

CLASSES = ("disc", "square", "cross <b>")
SIDE = 6


def write_network(path: Path, *, units: int = 4, side: int = SIDE, seed: int = 0) -> Path:
    random = np.random.default_rng(seed)

    def drawn(*shape: int) -> NDArray[np.float32]:
        return random.standard_normal(shape, np.float32) / np.float32(shape[-1] ** 0.5)

    weights: dict[str, Any] = {
        "scale": np.float32(1 / 255),
        "conv.weight": drawn(units, 1, 3, 3),
        "conv.bias": drawn(units) - np.float32(0.3),
        "conv2.weight": drawn(units, units, 3, 3),
        "conv2.bias": drawn(units),
        "dense.weight": drawn(5, units * side * side),
        "dense.bias": drawn(5),
        "head.weight": drawn(3, 5),
        "head.bias": np.zeros(3, np.float32),
    }
    conv = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    steps: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("Cast", ["images"], "float", {"to": TensorProto.FLOAT}),
        ("Mul", ["float", "scale"], "scaled", {}),
        ("Transpose", ["scaled"], "input", {"perm": [0, 3, 1, 2]}),
        ("Conv", ["input", "conv.weight", "conv.bias"], "conv", conv),
        ("Relu", ["conv"], "relu", {}),
        ("Conv", ["relu", "conv2.weight", "conv2.bias"], "conv2", conv),
        ("Add", ["relu", "conv2"], "add", {}),
        ("Flatten", ["add"], "flatten", {}),
        ("Gemm", ["flatten", "dense.weight", "dense.bias"], "dense", {"transB": 1}),
        ("Gemm", ["dense", "head.weight", "head.bias"], "head", {"transB": 1}),
        ("Softmax", ["head"], "probabilities", {"axis": 1}),
        ("Identity", ["dense"], "embedding", {}),
    ]
    nodes = [helper.make_node(kind, given, [out], **more) for kind, given, out, more in steps]
    images = ("images", TensorProto.UINT8, ["N", side, side, 1])
    ends = {"probabilities": ["N", 3], "embedding": ["N", 5]}
    inner = dict.fromkeys(("conv", "relu", "conv2", "add"), (units, side, side))
    last = {"flatten": (units * side * side,), "dense": (5,), "head": (3,)}
    shapes: dict[str, tuple[int, ...]] = {"input": (1, side, side), **inner, **last}
    layers = tuple(made_layer(name, name, shape) for name, shape in shapes.items())
    own = {"model": "made", "classes": CLASSES, "layers": layers}
    about = metadata(side=side).model_copy(update=own)
    path.write_bytes(model_file(nodes, weights, images, ends, about=about))
    return path


def made(
    folder: Path, *, count: int = 90, **options: Any
) -> tuple[Classifier, OnnxGraph, ReferenceSet]:
    """Return such a classifier, its graph, and random images, two thirds of them for training."""
    classifier = Classifier(write_network(folder / "classifier.onnx", **options))
    network = OnnxGraph(classifier.path.read_bytes(), classifier.metadata.layers)
    random = np.random.default_rng(1)
    like = classifier.metadata.preparation
    order = random.permutation(count)
    known = ReferenceSet(
        images=random.integers(0, 256, (count, like.height, like.width, 1), np.uint8),
        labels=random.integers(0, 3, count),
        names=[f"train/{row}" for row in range(count)],
        train=order[count // 3 :],
        val=order[: count // 3],
        source="made",
    )
    return classifier, network, known
