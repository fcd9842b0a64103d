"""Operators of published networks answer as ONNX Runtime does, and their weights go back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from opsin.core.errors import ModelFileError
from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.onnx_files.operators import OPERATORS
from tests.models.published_networks import BLOCKS, Graph

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

Array = NDArray[Any]


def by_onnxruntime(content: bytes, values: Array) -> Array:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    found: Array = session.run(None, {"x": values})[0]
    return found


def by_torch(content: bytes, values: Array) -> Array:
    from opsin.models.onnx_network import TorchNetwork

    with torch.inference_mode():
        network = TorchNetwork(content, source="x", target="y")
        found: Array = network(torch.from_numpy(values)).numpy()
    return found


def compare(content: bytes, values: Array) -> Array:
    expected, found = by_onnxruntime(content, values), by_torch(content, values)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-4 * max(1.0, np.abs(expected).max())
    return expected


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_of_published_networks_answer_as_onnx_runtime_does(name: str) -> None:
    compare(*BLOCKS[name]().network())


@pytest.mark.parametrize("name", BLOCKS)
def test_trained_weights_go_back_into_the_same_graph(name: str) -> None:
    from opsin.models.onnx_network import TorchNetwork

    content, values = BLOCKS[name]().network()
    before = by_onnxruntime(content, values)
    network = TorchNetwork(content, source="x", target="y", learns=True)
    optimizer = torch.optim.SGD(list(network.learnt().values()), lr=0.01)
    network(torch.from_numpy(values)).square().mean().backward()
    learnt = network.learnt()
    assert learnt and all(value.grad is not None for value in learnt.values())
    optimizer.step()
    again = OnnxGraph(content, layers=()).with_weights(network.weights())
    expected = compare(again, values)
    assert np.abs(expected - before).max() > 1e-5
    with torch.inference_mode():
        found = network(torch.from_numpy(values)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4 * max(1.0, np.abs(expected).max()))
    names = [[node.output[0] for node in OnnxGraph(each, ()).nodes] for each in (content, again)]
    assert names[0] == names[1]


RESIZED = [
    (mode, scales, antialias, coordinates)
    for mode, scales in (
        ("linear", [1, 1, 0.875, 0.5]),
        ("linear", [1, 1, 1.3, 2]),
        ("cubic", [1, 1, 0.6, 1.7]),
        ("nearest", [1, 1, 2, 0.5]),
    )
    for antialias in ((0,) if mode == "nearest" else (0, 1))
    for coordinates in ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners")
    if not antialias or coordinates in ("half_pixel", "pytorch_half_pixel")
]


@pytest.mark.parametrize(("mode", "scales", "antialias", "coordinates"), RESIZED)
def test_images_change_their_size_as_in_onnx_runtime(
    mode: str, scales: list[float], antialias: int, coordinates: str
) -> None:
    graph = Graph((2, 3, 16, 20))
    held = graph.constant(np.array(scales, np.float32))
    graph.node("Resize", "x", "", held, mode=mode, antialias=antialias,
               coordinate_transformation_mode=coordinates, nearest_mode="floor")  # fmt: skip
    compare(*graph.network())


def one(op: str, *inputs: Any, shape: Sequence[int] = (2, 6, 8, 8), **attributes: Any) -> Graph:
    """Return a graph of one operator; arrays are weights, ``...`` is an input left out."""
    graph = Graph(shape)
    names = ["" if each is ... else each if isinstance(each, str) else graph.constant(each)
             for each in inputs]  # fmt: skip
    graph.node(op, *names, **attributes)
    return graph


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


def floats(*shape: int) -> Array:
    return np.random.default_rng(3).normal(size=shape).astype(np.float32)


SINGLE: dict[str, Graph] = {
    "slice from the end": one("Slice", "x", ints(-1), ints(-9), ints(3), ints(-1)),
    "slice in steps": one("Slice", "x", ints(1, 0), ints(99, -1), ints(2, 3), ints(3, 2)),
    "gather one": one("Gather", "x", np.array(-1), axis=1),
    "gather some": one("Gather", "x", np.array([[0, 2], [1, -2]]), axis=2),
    "pad the edge": one("Pad", "x", ints(0, 0, 1, 2, 0, 0, 3, 0), mode="edge"),
    "pad by reflection": one("Pad", "x", ints(1, 2, 3, 1), ..., ints(2, 3), mode="reflect"),
    "pad by a number": one("Pad", "x", ints(0, 1, 0, 0, 0, 0, 0, 2), np.float32(3)),
    "conv like tensorflow": one("Conv", "x", floats(4, 6, 3, 3), auto_pad="SAME_UPPER",
                                strides=[2, 2]),
    "conv with lower pads": one("Conv", "x", floats(4, 6, 2, 2), auto_pad="SAME_LOWER"),
    "conv in groups, dilated": one("Conv", "x", floats(9, 2, 3, 3), floats(9), group=3,
                                   dilations=[2, 2], pads=[2, 2, 2, 2]),
    "conv along a line": one("Conv", "x", floats(4, 6, 3), pads=[0, 2], shape=(2, 6, 9)),
    "mean with pads": one("AveragePool", "x", kernel_shape=[3, 3], pads=[1, 1, 1, 1],
                          strides=[2, 2]),
    "mean with pads that count": one("AveragePool", "x", kernel_shape=[3, 3], pads=[0, 0, 1, 1],
                                     strides=[2, 2], count_include_pad=1),
    "mean with uneven pads": one("AveragePool", "x", kernel_shape=[3, 3], pads=[0, 0, 1, 1],
                                 strides=[2, 2]),
    "maximum like tensorflow": one("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2],
                                   auto_pad="SAME_UPPER"),
    "greatest place": one("GlobalMaxPool", "x"),
    "group norm": one("GroupNormalization", "x", floats(3), floats(3), num_groups=3),
    "instance norm": one("InstanceNormalization", "x", floats(6), floats(6)),
    "layer norm over maps": one("LayerNormalization", "x", floats(6, 8, 8), axis=1),
    "length one": one("LpNormalization", "x", axis=1, p=2),
    "reduce all": one("ReduceMean", "x", keepdims=0),
    "reduce nothing": one("ReduceMean", "x", ints(), noop_with_empty_axes=1),
    "length": one("ReduceL2", "x", ints(2, 3), keepdims=0),
    "product": one("ReduceProd", "x", ints(1, -1), keepdims=0),
    "flatten from 2": one("Flatten", "x", axis=2),
    "flatten all": one("Flatten", "x", axis=0),
    "expand": one("Expand", "x", ints(2, 1, 6, 4), shape=(1, 6, 4)),
    "tile": one("Tile", "x", ints(1, 2, 1, 3)),
    "reshape": one("Reshape", "x", ints(0, 2, -1, 4)),
    "transposed": one("Transpose", "x"),
    "squeeze": one("Squeeze", "x", ints(-1), shape=(2, 3, 1)),
    "unsqueeze": one("Unsqueeze", "x", ints(0, -1), shape=(2, 3)),
    "to depth": one("SpaceToDepth", "x", blocksize=2),
    "from depth": one("DepthToSpace", "x", blocksize=2, shape=(1, 8, 3, 3)),
    "from depth, columns first": one("DepthToSpace", "x", blocksize=2, mode="CRD",
                                     shape=(1, 8, 3, 3)),
    "leaky by channel": one("PRelu", "x", floats(6, 1, 1)),
    "hard sigmoid": one("HardSigmoid", "x", alpha=1 / 6),
    "power": one("Pow", "x", np.float32(3)),
    "products": one("Einsum", "x", floats(2, 6, 5), equation="bchw,bck->bhwk"),
    "gemm": one("Gemm", "x", floats(7, 5), floats(7), transB=1, alpha=0.5, beta=2.0, shape=(3, 5)),
    "clip below": one("Clip", "x", np.float32(0.1)),
    "clip above": one("Clip", "x", ..., np.float32(0.1)),
    "mean of several": one("Mean", "x", floats(6, 1, 1), floats(1)),
    "largest of several": one("Max", "x", floats(6, 1, 1), np.float32(0)),
    "smallest of several": one("Min", "x", floats(6, 1, 1), np.float32(0)),
    "smallest": one("ReduceMin", "x", ints(1), keepdims=0),
    "nothing is dropped": one("Dropout", "x"),
    "softmax of channels": one("Softmax", "x", axis=1),
    "log softmax": one("LogSoftmax", "x"),
    "bytes with scales": one("DequantizeLinear", np.arange(-6, 6, dtype=np.int8).reshape(2, 6),
                             np.array([0.5, 2], np.float32), np.array([1, -2], np.int8), axis=0),
}  # fmt: skip


@pytest.mark.parametrize("name", SINGLE)
def test_single_operators_answer_as_onnx_runtime_does(name: str) -> None:
    compare(*SINGLE[name].network())


@pytest.mark.parametrize("op", ["Abs", "Ceil", "Celu", "Cos", "Elu", "Erf", "Exp", "Floor", "Gelu",
                                "HardSwish", "LeakyRelu", "Mish", "Neg", "Relu", "Selu", "Sigmoid",
                                "Sin", "Softplus", "Tanh"])  # fmt: skip
def test_functions_of_one_number_answer_as_onnx_runtime_does(op: str) -> None:
    compare(*one(op, "x").network())


@pytest.mark.parametrize("op", ["Log", "Reciprocal", "Sqrt"])
def test_functions_of_positive_numbers_answer_as_onnx_runtime_does(op: str) -> None:
    graph = Graph((2, 6, 8, 8))
    graph.node(op, graph.node("Add", graph.node("Abs", "x"), graph.constant(np.float32(0.1))))
    compare(*graph.network())


@pytest.mark.parametrize("op", ["Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal"])
def test_comparisons_choose_as_in_onnx_runtime(op: str) -> None:
    graph = Graph((3, 5))
    chosen = graph.node(op, "x", graph.constant(np.float32(0.2)))
    other = graph.node("And", chosen, graph.node("Not", graph.node("Or", chosen, chosen)))
    both = graph.node("Where", other, graph.node("Neg", "x"), "x")
    graph.node("Where", chosen, both, graph.constant(np.float32(-1)))
    compare(*graph.network())


def test_sizes_are_computed_as_in_onnx_runtime() -> None:
    graph = Graph((2, 6, 4, 8))
    shape = graph.node("Shape", "x", start=1, end=3)
    channels = graph.node("Gather", shape, graph.constant(np.array(0)), axis=0)
    half = graph.node("Div", channels, graph.constant(np.array(4)))  # 6 / 4, whole
    rest = graph.node("Mod", channels, graph.constant(np.array(4)))
    total = graph.node("Mul", graph.node("Size", "x"), half)
    rows = graph.node("Div", total, graph.node("Mul", channels, graph.constant(np.array(8))))
    joined = graph.node("Concat", graph.node("Unsqueeze", rows, graph.constant(ints(0))),
                        graph.node("Unsqueeze", rest, graph.constant(ints(0))),
                        graph.constant(ints(-1)), axis=0)  # fmt: skip
    value = graph.node("Reshape", "x", joined)
    filled = graph.node("ConstantOfShape", graph.node("Shape", value),
                        value=numpy_helper.from_array(np.array([2.5], np.float32)))  # fmt: skip
    counted = graph.node("Range", *(graph.constant(np.array(each)) for each in (0, 24, 1)))
    counted = graph.node("Cast", counted, to=TensorProto.FLOAT)
    graph.node("Add", graph.node("Mul", value, filled), counted)
    compare(*graph.network())


def test_numbers_of_16_bits_are_computed_with_32() -> None:
    graph = Graph((2, 5))
    half = graph.node("Cast", "x", to=TensorProto.FLOAT16)
    product = graph.node("MatMul", half, graph.constant(floats(5, 3).astype(np.float16)))
    graph.node("Cast", product, to=TensorProto.FLOAT)
    content, values = graph.network()
    np.testing.assert_allclose(
        by_torch(content, values), by_onnxruntime(content, values), atol=0.02
    )


def test_every_operator_has_a_row_and_a_test() -> None:
    from opsin.models.torch_operators import COMPUTED

    assert set(COMPUTED) <= set(OPERATORS)
    here = Path(__file__).read_text("utf-8")
    contents = [BLOCKS[name]().network()[0] for name in BLOCKS]
    used = {node.op_type for each in contents for node in onnx.load_from_string(each).graph.node}
    elsewhere = {"Identity", "ReduceSum", "ReduceSumSquare", "ReduceMax"}  # test_onnx_network.py
    missing = {name for name in COMPUTED if f'"{name}"' not in here} - used - elsewhere
    assert not missing


def test_a_missing_operator_is_named() -> None:
    graph = Graph((2, 6, 8, 8))
    graph.node("Hardmax", "x")
    with pytest.raises(ModelFileError, match="its operator Hardmax has none"):
        by_torch(*graph.network())


def test_what_is_no_weight_stays_as_it_is() -> None:
    from opsin.models.onnx_network import TorchNetwork

    graph = Graph((2, 6, 8, 8))
    held = [graph.constant(each) for each in (*floats(2, 6), floats(6), np.ones(6, np.float32))]
    value = graph.node("BatchNormalization", "x", *held)
    value = graph.node("Clip", value, graph.constant(np.float32(0)), graph.constant(np.float32(6)))
    value = graph.node("Mul", value, graph.constant(np.array([0.5], np.float32)))
    graph.node("Sub", value, graph.constant(floats(6, 1, 1)))
    content, _ = graph.network()
    network = TorchNetwork(content, source="x", target="y", learns=True)
    assert list(network.learnt()) == held[:2]
    assert not TorchNetwork(content, source="x", target="y").learnt()
