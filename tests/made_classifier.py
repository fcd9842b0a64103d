"""Classifiers that nobody trained: sound ones, and such as a stranger might send."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from opsin.core.metadata import Layer, Metadata, Preparation, Reject

#: A sound network: eight by eight grey pixels, three classes.
SOUND = (
    helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
    helper.make_node("Mul", ["float", "scale"], ["scaled"]),
    helper.make_node("Flatten", ["scaled"], ["flat"]),
    helper.make_node("MatMul", ["flat", "weight"], ["head"]),
    helper.make_node("Softmax", ["head"], ["shares"]),
)
LAST = (
    helper.make_node("Identity", ["shares"], ["probabilities"]),
    helper.make_node("Identity", ["flat"], ["embedding"]),
)


def made_layer(name: str, kind: str = "", shape: tuple[int, ...] = (1,)) -> Layer:
    return Layer(name=name, kind=kind, shape=shape, parameters=0, trainable=0, multiply_adds=0)


def metadata(*, classes: int = 3, side: int = 8, layers: Sequence[str] = ()) -> Metadata:
    return Metadata(
        opsin="0.1.0",
        model="mlp",
        classes=tuple(f"class {number}" for number in range(classes)),
        preparation=Preparation(height=side, width=side, channels=1, resize="fit"),
        layers=tuple(made_layer(name, name) for name in layers),
        source="made",
        fingerprint="made",
    )


def classifier(
    *last: onnx.NodeProto,
    weights: dict[str, NDArray[Any]] | None = None,
    kinds: dict[str, tuple[int, list[str | int]]] | None = None,
    images: Sequence[str | int] = ("N", 8, 8, 1),
    about: Metadata | None = None,
    changed: Callable[[onnx.ModelProto], object] = lambda _: None,
) -> bytes:
    size = int(np.prod([side for side in images if isinstance(side, int)]))
    own: dict[str, NDArray[Any]] = {
        "scale": np.array(1 / 255, np.float32),
        "weight": np.random.default_rng(0).standard_normal((size, 3)).astype(np.float32),
    }
    usual: dict[str, tuple[int, list[str | int]]] = {
        "probabilities": (TensorProto.FLOAT, ["N", 3]),
        "embedding": (TensorProto.FLOAT, ["N", size]),
    }
    outputs = [
        helper.make_tensor_value_info(name, kind, shape)
        for name, (kind, shape) in (usual | (kinds or {})).items()
    ]
    graph = helper.make_graph(
        [*SOUND, *(last or LAST)],
        "made",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, list(images))],
        outputs,
        [numpy_helper.from_array(v, k) for k, v in (own | (weights or {})).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    helper.set_model_props(model, (about or metadata()).to_props())
    changed(model)
    content: bytes = model.SerializeToString()
    return content


def unsound_for_sevens() -> bytes:
    """Return a classifier that takes a root of what is below 0 for images of nothing but 7."""
    node = helper.make_node
    return classifier(
        node("ReduceMean", ["float", "axes"], ["mean"], keepdims=0),
        node("Equal", ["mean", "seven"], ["hit"]),
        node("Cast", ["hit"], ["bad"], to=TensorProto.FLOAT),
        node("Neg", ["bad"], ["below"]),
        node("Sqrt", ["below"], ["root"]),
        node("Reshape", ["root", "column"], ["root column"]),
        node("Add", ["shares", "root column"], ["probabilities"]),
        LAST[1],
        weights={
            "axes": np.array([1, 2, 3], np.int64),
            "seven": np.array(7, np.float32),
            "column": np.array([-1, 1], np.int64),
        },
    )


def write_refusing(path: Path, plain: Path, classes: Sequence[str] = (), most: float = 0.8) -> Path:
    """Write a copy of a classifier that refuses what it is not sure about."""
    model = onnx.load_model(plain)
    graph = model.graph
    nodes = graph.node
    nodes.append(helper.make_node("ReduceMax", ["probabilities", "last"], ["highest"], keepdims=0))
    nodes.append(helper.make_node("Sub", ["one", "highest"], ["ood_score"]))
    graph.initializer.append(helper.make_tensor("last", TensorProto.INT64, [1], [1]))
    graph.initializer.append(helper.make_tensor("one", TensorProto.FLOAT, [], [1]))
    graph.output.append(helper.make_tensor_value_info("ood_score", TensorProto.FLOAT, ["N"]))
    props = {each.key: each.value for each in model.metadata_props}
    about = Metadata.from_props(props, "plain").model_copy(
        update={"reject": Reject(max_ood_score=most, rate=0.01, images=100)}
        | ({"classes": tuple(classes)} if classes else {})
    )
    helper.set_model_props(model, about.to_props())
    onnx.save_model(model, path)
    return path
